"""Which registered version does a `models:/` URI ask for, and may an alias move?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.errors import AliasMoved, BadInput, NotFound

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_VERSION = re.compile(r"[1-9][0-9]{0,9}")
_RESERVED_ALIAS = re.compile(r"latest|v[0-9]+", re.IGNORECASE)
SCHEME = "models:/"


@dataclass(frozen=True)
class ModelRef:
    """A model's name with a version or an alias: exactly one of the two."""

    name: str
    version: int | None = None
    alias: str | None = None


def parse_model_uri(uri: str) -> ModelRef:
    """What does the URI name? BadInput with E_NAME, E_VERSION or E_ALIAS where it is not one."""
    rest = uri.removeprefix(SCHEME)
    if not uri.startswith(SCHEME):
        raise _bad("E_NAME", f"{uri[:80]!r} does not begin with {SCHEME}", "models:/NAME/VERSION or models:/NAME@ALIAS")
    if "@" in rest:
        name, _, alias = rest.partition("@")
        return ModelRef(check_model_name(name), alias=check_alias(alias))
    name, _, version = rest.partition("/")
    check_model_name(name)
    if not _VERSION.fullmatch(version):
        raise _bad("E_VERSION", f"{version[:40]!r} is not a version", "a positive whole number")
    return ModelRef(name, version=int(version))


def check_model_name(name: str) -> str:
    """The name itself, or BadInput E_NAME."""
    if not NAME.fullmatch(name) or ".." in name:
        raise _bad("E_NAME", f"{name[:60]!r} is not a model name", "1-128 of A-Z a-z 0-9 . _ - without '..'")
    return name


def check_alias(alias: str) -> str:
    """The alias itself, or BadInput E_ALIAS. MLflow keeps `latest` and `v1` for itself."""
    if not NAME.fullmatch(alias) or _RESERVED_ALIAS.fullmatch(alias):
        raise _bad("E_ALIAS", f"{alias[:60]!r} is not an alias", "letters, digits, . _ - and neither 'latest' nor 'v3'")
    return alias


def no_such_version(ref: ModelRef, versions: tuple[int, ...], asked_at: str) -> NotFound:
    """The error that names the registry that was asked, and the newest three versions there are."""
    newest = ", ".join(str(version) for version in sorted(versions, reverse=True)[:3])
    asked = f"alias {ref.alias}" if ref.alias else f"version {ref.version}"
    if not newest:
        return NotFound(
            f"there is no registered model {ref.name} in {asked_at}",
            field="model",
            hint="register it there, look at its name, or set MLFLOW_TRACKING_URI to where it is",
        )
    return NotFound(
        f"{ref.name} has no {asked} in {asked_at}", field="model", expected=f"one that exists; newest: {newest}"
    )


def made_again(ref: ModelRef) -> NotFound:
    """The error where another registration has the number now."""
    return NotFound(
        f"version {ref.version} of {ref.name} is not the one that was released: the model was deleted and made again",
        field="model",
        expected="the registration that was released",
        hint="nothing was changed in the registry; the bytes of the release are kept in its bundle",
    )


def _bad(code: str, reason: str, expected: str) -> BadInput:
    return BadInput(reason, code=code, field="model", expected=expected)


def check_expected(
    name: str, found: Mapping[str, int], expected: Mapping[str, int | None], wanted: Mapping[str, int]
) -> None:
    """AliasMoved names both values where an alias is neither as expected nor already where it shall be.

    The second case is a controller that was killed after its write: going on is right.
    """
    for alias, number in expected.items():
        at = found.get(alias)
        if at not in {number, wanted.get(alias, number)}:
            raise alias_moved(name, alias, number, at)


def alias_moved(name: str, alias: str, expected: int | None, found: int | None) -> AliasMoved:
    """The error with both values."""
    return AliasMoved(
        f"{name}@{alias} is at {_said(found)}, not at {_said(expected)}: somebody else moved it",
        field=f"{name}@{alias}",
        expected=_said(expected),
        hint="look who moved it; nothing was overwritten",
    )


def _said(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
