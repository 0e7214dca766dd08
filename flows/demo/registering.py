"""How does a trained model become a version in MLflow? As users do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flows.wiring import tracking_uri
from pipelines.home import Home


def register(home: Home, model: str, task: str, parts: Mapping[str, Any], run: str, say: Callable[[str], None]) -> int:
    """Log and register a model with its tokenizer; the number of the new version."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(home))
    if mlflow.get_experiment_by_name("training") is None:
        mlflow.create_experiment("training", artifact_location=(home.root / "mlartifacts").as_uri())
    mlflow.set_experiment("training")
    with mlflow.start_run(run_name=run):
        logged = mlflow.transformers.log_model(
            dict(parts),
            name="model",
            task=task,
            registered_model_name=model,
            pip_requirements=["transformers", "torch"],
        )
    version = int(logged.registered_model_version)
    say(f"registered {model} version {version} ({run})")
    return version
