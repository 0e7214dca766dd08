"""How is an MLflow asked, quietly and with short patience?"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.adapters.mlflow.schema import database_file, kept_before_migration

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""Read by MLflow when it is imported or used; what the user has set wins. A server that is down is told in seconds."""

NOISY = {"alembic": logging.ERROR, "urllib3.connectionpool": logging.ERROR, "mlflow.store.db.utils": logging.CRITICAL}
"""MLflow prints a traceback of whatever its database says; the error itself arrives, and is told in a sentence."""


def open_client(uri: str) -> Any:
    """MLflow's client. The first one fills a new database, which takes seconds; an old one is copied before that."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ["MLFLOW_ALLOW_MODEL_CODE_EXECUTION"] = "false"
    for noisy, level in NOISY.items():
        logging.getLogger(noisy).setLevel(level)
    file = database_file(uri)
    if file is None:
        return _client(uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    with kept_before_migration(file):
        return _client(uri)


@contextmanager
def asked_briefly(patience_s: float | None) -> Iterator[None]:
    """A tracking server that is asked in here has so long for an answer, once; None: as long as always.

    MLflow reads both from the environment at each request. What a user has set wins.
    """
    brief = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(math.ceil(patience_s or 0))}
    for key in list(brief):
        if patience_s is None or os.environ.get(key, ENVIRONMENT[key]) != ENVIRONMENT[key]:
            del brief[key]
    os.environ.update(brief)
    try:
        yield
    finally:
        os.environ.update({key: ENVIRONMENT[key] for key in brief})


def _client(uri: str) -> Any:
    """It opens the database at once, and migrates it."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)
