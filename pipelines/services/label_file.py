"""Which labels does a file hold?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput
from pipelines.services.labels import Label
from pipelines.supply.table import Table

COLUMNS = ("request_id", "score", "correct", "model_version")


def read_labels(path: Path) -> list[Label]:
    """The labels of a CSV or JSONL file with `request_id`, `score` or `correct`, and `model_version` where known.

    A value that is no label stays as it is and is refused by name, alone; a file that is none is BadInput E_DATASET.
    The key of a row is what it says: a file that has grown is sent again without what was sent before.
    """
    table = Table(path)
    found = table.rows(("request_id",) if table.is_csv else (), COLUMNS)
    labels = [_label(number, _typed(row) if table.is_csv else row) for number, row in found]
    if not labels:
        raise BadInput("there is no row", code="E_DATASET", field=path.name)
    return labels


def _label(number: int, row: Mapping[str, Any]) -> Label:
    body = {name: row[name] for name in COLUMNS if row.get(name) is not None}
    return Label(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32], body, f"row {number}")


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    """The cells of a row as what they say; an empty one says nothing."""
    given = {name: text.strip() for name, text in row.items() if text.strip()}
    typed = {name: _value(text) for name, text in given.items() if name in {"score", "correct"}}
    return {**given, **typed}


def _value(text: str) -> Any:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return float(text) if text.isascii() and "_" not in text else text
    except ValueError:
        return text
