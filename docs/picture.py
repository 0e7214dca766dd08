"""Draws docs/release.png: which version answered, second by second, as the demo's client counted it.

`python docs/picture.py [HOME] [FILE]` reads the client's report and the releases that a demo left in its home.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "release.png"
COLOURS = {1: "#9aa5b1", 2: "#2b6cb0", 3: "#805ad5", 4: "#dd6b20"}
OTHER, FAILED, BAND = "#c3dafe", "#c53030", "#f2efe6"
WORDS = {"promoted": "promoted", "rejected": "rejected offline", "rolled_back": "rolled back"}


@dataclass(frozen=True)
class Told:
    """One release on the client's clock, in seconds."""

    version: int
    outcome: str
    began_s: float
    ended_s: float
    steps: tuple[tuple[float, float], ...]
    """When users met the candidate, and at which share in percent."""


@dataclass(frozen=True)
class Story:
    """What is drawn: answers per second by model version, failures per second, and the releases."""

    seconds: tuple[int, ...]
    answers: Mapping[int, Sequence[float]]
    failed: Sequence[int]
    releases: tuple[Told, ...]


def read(home: Path) -> Story:
    """The story that a demo left in its home."""
    report = json.loads((home / "demo" / "traffic.json").read_text())
    views = [_status(home, line["id"]) for line in json.loads((home / "demo.json").read_text())["releases"]]
    model_version = {str((v["candidate"] or {}).get("serving_version")): v["version"] for v in views}
    timeline = report["timeline"]
    versions = sorted(
        {model_version[name] for second in timeline for name in second["by_version"] if name in model_version}
    )
    answers = {
        version: [
            sum(n for name, n in second["by_version"].items() if model_version.get(name) == version)
            for second in timeline
        ]
        for version in versions
    }
    began_s = report["started_at_s"]
    return Story(
        tuple(second["t_s"] for second in timeline),
        answers,
        [second["failed"] for second in timeline],
        tuple(_told(view, began_s) for view in views if view["ended_at"] > began_s),
    )


def _status(home: Path, release_id: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "flows.cli", "status", release_id, "--json"]
    env = {**os.environ, "SHIPWAY_HOME": str(home)}
    return json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)


def _told(view: Mapping[str, Any], began_s: float) -> Told:
    steps = tuple((step["at"] - began_s, step["pct"]) for step in view["steps"])
    return Told(view["version"], view["outcome"], view["started_at"] - began_s, view["ended_at"] - began_s, steps)


def draw(story: Story, target: Path) -> None:
    """Shares above, failures below, releases as bands behind both."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (shares, failures) = plt.subplots(
        2, 1, figsize=(11, 4.6), sharex=True, height_ratios=(4, 1), layout="constrained"
    )
    _draw_shares(shares, story)
    failures.bar(story.seconds, story.failed, width=1.0, color=FAILED)
    failures.set_ylabel("failed\nper second")
    failures.set_xlabel("seconds since the client began")
    failures.set_ylim(0, max(4, *story.failed))
    for release in story.releases:
        for axes in (shares, failures):
            axes.axvspan(max(0.0, release.began_s), release.ended_s, color=BAND, zorder=0)
        _mark(shares, release)
    figure.savefig(target, dpi=160)
    plt.close(figure)


def _draw_shares(axes: Any, story: Story) -> None:
    totals = [max(1, sum(counts)) for counts in zip(*story.answers.values(), strict=True)]
    layers = [[100 * n / of for n, of in zip(counts, totals, strict=True)] for counts in story.answers.values()]
    colours = [COLOURS.get(version, OTHER) for version in story.answers]
    names = [f"v{version}" for version in story.answers]
    axes.stackplot(story.seconds, layers, labels=names, colors=colours, step="mid", zorder=2, alpha=0.95)
    axes.set_ylabel("answered by, %")
    axes.set_ylim(0, 100)
    axes.set_xlim(story.seconds[0], story.seconds[-1])
    axes.legend(loc="lower left", frameon=True, ncols=len(names))


def _mark(axes: Any, release: Told) -> None:
    """Above the shares: how the release ended; within: the shares it was given."""
    middle_s = (max(0.0, release.began_s) + release.ended_s) / 2
    text = f"release of v{release.version}\n{WORDS.get(release.outcome, release.outcome)}"
    above = axes.get_xaxis_transform()
    axes.text(middle_s, 1.03, text, transform=above, ha="center", va="bottom", fontweight="bold")
    for at_s, pct in release.steps:
        axes.axvline(at_s, color="black", linewidth=0.7, linestyle=":", zorder=3)
        axes.text(at_s, 99, f" {pct:g} %", va="top", fontsize=7, rotation=90, zorder=4)


def main() -> None:
    """Draw what the home holds."""
    home, target = (*map(Path, sys.argv[1:3]), *(Path(".shipway"), TARGET)[len(sys.argv[1:3]) :])
    draw(read(home.absolute()), target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
