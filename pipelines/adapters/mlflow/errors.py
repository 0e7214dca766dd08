"""Which of the registry's answers is it that MLflow, its database or its disk gave?

| answer | error | what MLflow says |
|---|---|---|
| not found | NotFound | RESOURCE_DOES_NOT_EXIST |
| refused | BadInput E_REGISTRY | INVALID_PARAMETER_VALUE, a value that the database cannot hold, other HTTP 4xx |
| forbidden | Forbidden | HTTP 401 and 403, a database or a file that this user may not write |
| raced | Raced | the database's words for two writers of one row, after the retries |
| down | DependencyDown E_REGISTRY | no connection, time-outs, HTTP 404 by no MLflow, 408, 429 and 5xx, whatever else |
| newer | NewerDatabase | a schema that this MLflow's migrations do not know |

The seventh, AliasMoved, is nothing that MLflow says: `registry.py` reads it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.adapters.mlflow.schema import database_file, schema_error
from pipelines.adapters.sql.shown_address import hide, shown_address
from pipelines.adapters.sql.words import answer_of
from pipelines.errors import BadInput, DependencyDown, Forbidden, NotFound, Raced, ShipwayError

_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS", "NOT_IMPLEMENTED"})
_FORBIDDEN = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"})
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_AGAIN_LATER = frozenset({404, 408, 425, 429, 499})
"""404 without MLflow's words: the address, or a proxy on the way, leads to no MLflow now."""

_STATUS = re.compile(
    r"failed with error code (\d{3}) != "
    r"|\b(\d{3}) (?:Client|Server) Error: "  # requests
    r"|An error occurred \((\d{3})\) when calling"  # botocore
)
_OF_THE_STORE = re.compile(r"An error occurred \(AccessDenied\) when calling|\[Errno (?:1|13|30)\]")
_GIVEN_UP = re.compile(r"(?:[A-Z_]+: )?Model Version creation error \(.*\)\. Giving up after \d+ attempts\.")
_OF_A_PROXY = re.compile(
    r"[A-Z_]+: (?:Response: \{['\"]\w+['\"]: ['\"])?(?:forbidden|unauthori[sz]ed|access ?denied)\b", re.IGNORECASE
)
"""What stands between MLflow and its users answers in words of its own, and without a code of MLflow's."""
LONGEST = 240


@contextmanager
def mapped(doing: str, uri: str) -> Iterator[None]:
    """One of the errors above for whatever is raised; Shipway's own pass through."""
    try:
        yield
    except ShipwayError:
        raise
    except Exception as error:
        raise _translated(error, doing, uri) from error


def is_absent(error: BaseException) -> bool:
    """Whether MLflow itself says that what was asked for does not exist; a 404 of somebody else says nothing."""
    return _code(error) == "RESOURCE_DOES_NOT_EXIST"


def is_there_already(error: BaseException) -> bool:
    """Whether MLflow says that what was to be made exists: somebody else made it."""
    return _code(error) == "RESOURCE_ALREADY_EXISTS"


def is_race(error: BaseException) -> bool:
    """Whether two writers wrote the same row at once: the second try finds it there."""
    if _code(error) in _REFUSED:
        return False
    answer = answer_of(error)
    if answer is not None:
        return answer.is_race
    return _code(error) == "ABORTED" or _GIVEN_UP.fullmatch(str(error)) is not None


def _translated(error: Exception, doing: str, uri: str) -> ShipwayError:
    text = hide(" ".join(str(error).split()), uri)[:LONGEST] or type(error).__name__
    if (of_schema := schema_error(str(error), uri)) is not None:
        return of_schema
    if is_race(error):
        return Raced(f"others wrote at the same time, again and again: MLflow could not {doing}: {text}", hint=_AGAIN)
    if _is_refused(error):
        return BadInput(f"MLflow refused to {doing}: {text}", code="E_REGISTRY", field="model")
    if _is_forbidden(error, uri):
        return Forbidden(f"MLflow at {shown_address(uri)} does not let you {doing}: {text}", hint=_rights(uri))
    if is_absent(error):
        return NotFound(f"MLflow does not know what was to {doing}: {text}", field="model")
    return DependencyDown(
        f"MLflow at {shown_address(uri)} could not {doing}: {text}",
        code="E_REGISTRY",
        expected="a registry that answers",
        hint="start it, or set MLFLOW_TRACKING_URI; then run the same command again",
    )


_AGAIN = "run the same command again; if it stays so, look who writes to this model all the time"


def _rights(uri: str) -> str:
    file = database_file(uri)
    if file is not None:
        return f"let this user write to {file} and its folder"
    if uri.startswith("http"):
        return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of one who may"
    return "look at the user in MLFLOW_TRACKING_URI, and at the rights that the database gives him"


def _is_refused(error: BaseException) -> bool:
    """Would the same again be refused again?"""
    code = _code(error)
    if code in _REFUSED:
        return True
    answer = answer_of(error)
    if answer is not None:
        # MLflow says BAD_REQUEST of nearly everything that its database says, so that code alone means nothing.
        return answer.is_about_a_value
    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in {401, 403, *_AGAIN_LATER}
    return code == "BAD_REQUEST"


def _is_forbidden(error: BaseException, uri: str) -> bool:
    if _code(error) in _FORBIDDEN or _status(error) in {401, 403}:
        return True
    answer = answer_of(error)
    if answer is not None:
        return answer.is_forbidden or (answer.said.startswith("unable to open") and _is_closed(database_file(uri)))
    if isinstance(error, OSError) and error.errno in _NO_RIGHT:
        return True
    said = _OF_A_PROXY.match(str(error)) or _OF_THE_STORE.search(str(error))
    return _code(error) in {"", "INTERNAL_ERROR"} and said is not None


def _is_closed(file: Path | None) -> bool:
    """SQLite has one sentence for a file that it may not open and for one that is not there."""
    if file is None or not file.parent.is_dir():
        return False
    return not os.access(file.parent, os.R_OK | os.W_OK | os.X_OK) or (file.exists() and not os.access(file, os.R_OK))


def _code(error: BaseException) -> str:
    return str(getattr(error, "error_code", ""))


def _status(error: BaseException) -> int | None:
    """The HTTP status in MLflow's words, or of what caused the error: requests' and botocore's answers carry it."""
    if said := _STATUS.search(str(error)):
        return int(next(filter(None, said.groups())))
    seen: BaseException | None = error
    while seen is not None:
        response: Any = getattr(seen, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status, int):
            return status
        seen = seen.__cause__
    return None
