"""How do settings get from who starts a process to the process? As a file that only its owner may read.

`{"form": 1, "settings": {…}}` with every key of that form. A file that lacks one is refused as a damaged one is: nobody
serves with half of his settings. An older form lacks what was added since, and that is as usual.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pipelines.errors import BadInput
from pipelines.records.private_file import replace_whole
from pipelines.records.settings import FORM, GatewaySettings, ServerSettings

Settings = TypeVar("Settings", GatewaySettings, ServerSettings)


def settings_text(settings: GatewaySettings | ServerSettings) -> str:
    """The settings as they stand in a file."""
    return json.dumps({"form": FORM, "settings": settings.as_dict()}, sort_keys=True)


def write_settings(path: Path, settings: GatewaySettings | ServerSettings) -> None:
    """Replace the file whole. OSError where the disk refuses it; a file that says so already asks nothing of it."""
    text = settings_text(settings)
    try:
        if _private_bytes(path) == text.encode():
            return
    except (OSError, BadInput):
        pass  # it is made now
    replace_whole(path, text)


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """The settings in a file. BadInput E_SETTINGS_FILE where it cannot be read, E_SETTINGS_PRIVATE where others can.

    E_SETTINGS_JSON, E_SETTINGS_FORM, E_SETTINGS_KEYS and E_SETTINGS_VALUE are said of what stands in it.
    """
    try:
        text = _private_bytes(path)
    except OSError as error:
        raise BadInput(f"it cannot be read: {error.strerror}", code="E_SETTINGS_FILE", field=str(path)) from None
    return settings_in(text, kind, str(path))


def settings_in(text: bytes | str, kind: type[Settings], place: str) -> Settings:
    """The settings that a text says. BadInput as `read_settings`."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput("it is no JSON, or not all of it", code="E_SETTINGS_JSON", field=place) from None
    form = raw.get("form") if isinstance(raw, dict) else None
    if type(form) is not int or not 1 <= form <= FORM:
        is_newer = type(form) is int and form > FORM
        what = f"form {form} is of a newer Shipway" if is_newer else "it is no settings file of any form"
        raise BadInput(what, code="E_SETTINGS_FORM", field=place, expected=f"a form up to {FORM}")
    said = raw.get("settings")
    for code, what in _faults(said, kind, form, "settings"):
        raise BadInput(what, code=code, field=place)
    return kind.from_dict(said)


def _private_bytes(path: Path) -> bytes:
    """What stands in the file. BadInput where others can read it, too; OSError where we cannot."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe hangs nobody
        if os.fstat(file.fileno()).st_mode & 0o077:
            reason = "it can be read by others: chmod 600 is expected"
            raise BadInput(reason, code="E_SETTINGS_PRIVATE", field=str(path))
        return file.read()


def _faults(said: Any, kind: type[Any], form: int, name: str) -> Iterator[tuple[str, str]]:
    """What is wrong with the keys of a form, and with their values: a code and a reason each."""
    if not isinstance(said, Mapping):
        yield "E_SETTINGS_VALUE", f"{name} is no object"
        return
    known = {f.name: f.metadata.get("since", 1) for f in fields(kind)}
    lacking = sorted(key for key, since in known.items() if since <= form and key not in said)
    strange = sorted(key for key in said if known.get(key, form + 1) > form)
    if lacking or strange:
        wrong = f"lacks {', '.join(lacking)}" if lacking else f"says {', '.join(strange)[:200]!a}, which nobody knows"
        yield "E_SETTINGS_KEYS", f"{name} {wrong}"
        return
    hints = get_type_hints(kind)
    for key, value in said.items():
        part = next((part for part in get_args(hints[key]) if is_dataclass(part)), None)
        if part is not None and get_origin(hints[key]) is Mapping:
            for one, inner in value.items() if isinstance(value, Mapping) else [(key, value)]:
                yield from _faults(inner, part, form, one)  # type: ignore[arg-type]
        elif part is not None and value is not None:
            yield from _faults(value, part, form, key)  # type: ignore[arg-type]
        elif not _fits(value, hints[key]):
            yield "E_SETTINGS_VALUE", f"{key} is {value!a:.80}"


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is one of this type; no number of settings is negative."""
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if get_origin(hint) is Mapping:
        return isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())
    if hint is float:
        return type(value) in {int, float} and 0 <= value < math.inf
    if hint is int:
        return type(value) is int and value >= 0
    return isinstance(value, hint)
