"""A real `mlflow models serve` on loopback, with a small scikit-learn model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pipelines.adapters.proxies.proxy_bench import until
from tests.ports import free_port
from tests.systems.mlflow_server import MlflowServer


def save_model(folder: Path) -> Path:
    """A classifier of one number: 0 below 1.5, 1 above."""
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    mlflow.sklearn.save_model(model, folder, pip_requirements=[])
    return folder


@contextmanager
def scoring_server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address and its process."""
    port = free_port()
    arguments = ["models", "serve", "--model-uri", str(save_model(folder / "model")), "--env-manager", "local"]
    arguments += ["--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )
    try:
        until(MlflowServer(folder, port=port).listens)
        yield f"http://127.0.0.1:{port}", process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
