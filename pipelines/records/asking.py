"""What does a release wait for a person to approve: a step of its plan, or a drift that was seen in one?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipelines.errors import BadInput

_NAME = re.compile(r"(?P<drift>drift in )?step (?P<number>[1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Asked:
    """One question. `step` counts from 0, as in the record; people read it from 1.

    A step and a drift are never approved by the same word; a drift belongs to the step in which it was seen.
    """

    what: Literal["step", "drift"]
    step: int

    def __str__(self) -> str:
        return f"{'drift in ' if self.what == 'drift' else ''}step {self.step + 1}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def of(cls, raw: Mapping[str, Any] | None) -> Asked | None:
        """The question of `as_dict`; a record of before names a step only."""
        return cls("drift" if raw.get("what") == "drift" else "step", int(raw["step"])) if raw else None

    @classmethod
    def named(cls, name: str) -> Asked | None:
        """The question of its name, or None where it is none."""
        found = _NAME.fullmatch(name)
        return cls("drift" if found["drift"] else "step", int(found["number"]) - 1) if found else None


def answered(release_id: str, asks: Asked | None, step: int | None, why: str, *, drift: bool) -> Asked:
    """What `shipway approve` approves: what is asked, and nothing else. BadInput E_NOT_ASKED; `step` counts from 1."""
    if step is not None and drift:
        raise BadInput("a step and a drift are approved by a word each", field="--drift", expected="--step or --drift")
    if asks is None:
        raise BadInput(
            f"{release_id} does not wait for an approval: {why}",
            code="E_NOT_ASKED",
            field="ID",
            hint=f"shipway status {release_id}",
        )
    named = "drift" if drift else f"step {step}" if step is not None else ""
    if named and named != ("drift" if asks.what == "drift" else str(asks)):
        raise BadInput(
            f"{release_id} does not wait for the approval of {named}",
            code="E_NOT_ASKED",
            field="--drift" if drift else "--step",
            expected=f"what it waits for: {asks}",
        )
    return asks
