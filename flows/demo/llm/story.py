"""The story of `make demo-llm`: a small language model learns more and is promoted, and two bad versions of it fail.

It has a home of its own inside the user's: services that run there go on, and so does what `make demo` left.
"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path

from flows.demo.llm.models import MODEL, prepare
from flows.demo.stage import Stage
from flows.demo.telling import Tale, tell

NAME = "demo-llm"
TOLD = (
    "v1 stopped learning early: it serves because its absolute gates hold, and is labelled unproven",
    "v2 learnt to the end: it should be promoted, under streaming traffic",
    "v3 does not know where an amount ends: it should be rejected before any user meets it",
    "v4 is the best model, with an engine that reads prompts token by token: its goodput should send it home",
    "v2 with a prompt that asks for less: its rows are not held against it, but how short its answers are should be",
)

GUESSED, USUAL, SLOW = "objective: {ttft: 1s}", "slots: 4}", "slots: 4, batch: 1}"
FORM, IN_SHORT_FORM = "prompts:/iso-form/1 ", "prompts:/iso-form/2 "
HELD_TO_ROWS = """
    - {metric: exact_match, min: 0.3, margin: 0.06}
    - {metric: exact_match, margin: 0.2, slices: kind}
    - {metric: perplexity, margin: 0.1}"""
"""What is said otherwise later: a promise that nobody has measured, how the engine is set, which prompt comes before
requests, and that answers are those of the rows."""

MEASURED_S, MEASURED_RPS = 10, 15
PROMISED = 1.5
"""Of the usual time to a first token: who needs twice as long breaks such a promise, whatever the machine."""


def run_demo_llm(root: Path, *, json_out: bool) -> int:
    """Tell it beside everything else in this home; 0 where it ended as it should."""
    tale = Tale(
        model=MODEL,
        rows="production.jsonl",
        rps=15,
        preparing="preparing: a small language model learns to write as ISO does, four versions and two prompts",
        told=TOLD,
        expected=("promoted", "promoted", "rejected", "rolled_back", "rolled_back"),
        prepare=prepare,
        spec=_Specs(),
    )
    return tell(tale, root / NAME, root / f"{NAME}.json", json_out=json_out)


def usual_spec() -> str:
    """The release.yaml of the first release."""
    return resources.files("flows.demo.llm").joinpath("release.yaml").read_text()


def promised(text: str, usual_ms: float) -> str:
    """The same with an objective for first tokens that usually take so long."""
    return _with(text, GUESSED, f"objective: {{ttft: {math.ceil(PROMISED * usual_ms)}ms}}")


def slowed(text: str) -> str:
    """The same with an engine that reads prompts token by token."""
    return _with(text, USUAL, SLOW)


def asking_less(text: str) -> str:
    """The same with the prompt that asks for less, whose answers are not those of the rows."""
    return _with(_with(text, FORM, IN_SHORT_FORM), HELD_TO_ROWS, "")


def _with(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ValueError(f"{old!r} stands {text.count(old)} times in release.yaml")
    return text.replace(old, new)


class _Specs:
    """The release.yaml of each release: how soon answers begin on this machine is measured when users are there."""

    def __init__(self) -> None:
        self._text = usual_spec()

    def __call__(self, stage: Stage, release: int) -> str:
        """Of the first (0), second, … release."""
        if release == 1:
            self._text = promised(self._text, _usual_ms(stage))
        return {3: slowed, 4: asking_less}.get(release, str)(self._text)


def _usual_ms(stage: Stage) -> float:
    """The usual time to the first token, as a client sees it."""
    options = ("--rps", str(MEASURED_RPS), "--duration-s", str(MEASURED_S))
    first = stage.ask("traffic", MODEL, "--data", stage.data, *options)["first_token"]
    stage.console.print(f"   users wait {first['p50_ms']} ms for a first token (p95 {first['p95_ms']} ms)")
    return float(first["p50_ms"])
