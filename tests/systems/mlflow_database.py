"""A database of MLflow that is migrated already: a new one costs a second of CPU, and most tests are not about that."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

_folders: list[TemporaryDirectory[str]] = []
"""Removed when the session ends."""


def lay_database(path: Path) -> str:
    """Put a fresh one there; its address."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_template(), path)
    return f"sqlite:///{path}"


@cache
def _template() -> Path:
    from pipelines.adapters.mlflow.client import open_client

    _folders.append(TemporaryDirectory(prefix="shipway-mlflow-"))
    path = Path(_folders[-1].name) / "mlflow.db"
    open_client(f"sqlite:///{path}").search_experiments()
    return path
