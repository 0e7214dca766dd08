"""May these aliases move, or did somebody else move them meanwhile?"""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.errors import AliasMoved


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
