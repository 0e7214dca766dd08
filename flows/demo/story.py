"""The story of `make demo`: a text classifier learns more and is promoted, and two bad versions of it fail."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from flows.demo.models import MODEL, prepare
from flows.demo.stage import Stage
from flows.demo.telling import Tale, tell

TOLD = (
    "v1 is the first: it serves because its absolute gates hold, and is labelled unproven",
    "v2 learnt from all rows: it should be promoted, under live traffic",
    "v3 looks fine on average, and is broken on one topic: it should be rejected before any user meets it",
    "v4 passes everything offline, and fails on what only production sends: traffic should go home by itself",
)


def run_demo(root: Path, *, json_out: bool) -> int:
    """Tell it in this home; 0 where it ended as it should."""
    tale = Tale(
        model=MODEL,
        rows="production.csv",
        rps=40,
        preparing="preparing: real tweets, a real transformer, four versions",
        told=TOLD,
        expected=("promoted", "promoted", "rejected", "rolled_back"),
        prepare=prepare,
        spec=_spec,
    )
    return tell(tale, root, root / "demo.json", json_out=json_out)


def _spec(stage: Stage, release: int) -> str:  # noqa: ARG001  it is the same everywhere and for all four
    return resources.files("flows.demo").joinpath("release.yaml").read_text()
