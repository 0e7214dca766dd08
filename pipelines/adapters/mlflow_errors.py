"""What do MLflow's errors mean to a person?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import BadInput, DependencyDown, ShipwayError

_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})
_PASSWORD = re.compile(r"//[^/@\s]+@")


@contextmanager
def mapped(doing: str, uri: str) -> Iterator[None]:
    """BadInput or DependencyDown, both E_REGISTRY, for whatever MLflow, its database or its disk raises."""
    try:
        yield
    except ShipwayError:
        raise
    except Exception as error:
        raise _translated(error, doing, uri) from error


def is_absent(error: Exception) -> bool:
    """Whether MLflow says that what was asked for does not exist."""
    return getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"


def is_race(error: Exception) -> bool:
    """Whether two writers inserted the same row at once: the second try finds it there."""
    text = str(error)
    return "IntegrityError" in text or "UNIQUE constraint" in text


def _translated(error: Exception, doing: str, uri: str) -> ShipwayError:
    text, code = _PASSWORD.sub("//", " ".join(str(error).split()))[:240], getattr(error, "error_code", "")
    if code in _REFUSED:
        return BadInput(f"MLflow refused to {doing}: {text}", code="E_REGISTRY", field="model")
    return DependencyDown(
        f"MLflow at {_PASSWORD.sub('//', uri)} could not {doing}: {text or type(error).__name__}",
        code="E_REGISTRY",
        expected="a registry that answers",
        hint="start it, or set MLFLOW_TRACKING_URI; then run the same command again",
    )
