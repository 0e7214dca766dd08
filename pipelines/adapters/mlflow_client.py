"""How is an MLflow asked, quietly and with short patience?"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""Read by MLflow when it is imported or used; what the user has set wins. A server that is down is told in seconds."""

SQLITE = "sqlite:///"


def open_client(uri: str) -> Any:
    """MLflow's client; the first one migrates a new database, which takes seconds."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ["MLFLOW_ALLOW_MODEL_CODE_EXECUTION"] = "false"
    for noisy in ("alembic", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if uri.startswith(SQLITE):
        Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)
