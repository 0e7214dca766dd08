"""Draws docs/release.png from what a demo left: which version answered, second by second, as the client counted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
HOME = Path(os.environ.get("SHIPWAY_HOME") or ".shipway")
COLOURS = ("#4c78a8", "#59a14f", "#e15759", "#b07aa1", "#f28e2b")


def main() -> None:
    """Read the demo's report and record, and draw."""
    traffic = json.loads((HOME / "demo" / "traffic.json").read_text())
    demo = json.loads((HOME / "demo.json").read_text())
    seconds = traffic["timeline"]
    times = [s["t_s"] for s in seconds]
    versions = sorted(traffic["by_version"])
    shares = [
        [100 * s["by_version"].get(v, 0) / max(1, sum(s["by_version"].values())) for s in seconds] for v in versions
    ]
    figure, axes = plt.subplots(figsize=(10, 3.6), dpi=140)
    labels = [_label(v, demo) for v in versions]
    axes.stackplot(times, shares, labels=labels, colors=COLOURS[: len(versions)], alpha=0.85)
    failed = [s["t_s"] for s in seconds if s["failed"]]
    name = f"failed requests ({traffic['failed']})"
    axes.scatter(failed, [50] * len(failed), color="black", marker="x", s=30, zorder=3, label=name)
    for release in demo["releases"][1:]:
        _mark_end(axes, release, traffic["started_at_s"])
    axes.set(xlabel="seconds", ylabel="share of answers, %", ylim=(0, 100), xlim=(0, times[-1]))
    axes.set_title(f"{traffic['requests']} requests, {traffic['failed']} failed", loc="left", fontsize=9, pad=16)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False, fontsize=8)
    figure.savefig(HERE / "release.png", bbox_inches="tight")


def _label(version: str, demo: dict) -> str:
    """The version that the user released, for the version that answered."""
    for release in demo["releases"]:
        if str(release["serving_version"]) == version:
            return f"v{release['version']} ({release['outcome'].replace('_', ' ')})"
    return f"version {version}"


def _mark_end(axes: plt.Axes, release: dict, started_at_s: float) -> None:
    """A line where a release ended."""
    at_s = release["ended_at"] - started_at_s
    axes.axvline(at_s, color="black", linewidth=0.8, linestyle=":")
    axes.text(at_s, 102, f"v{release['version']} {release['outcome'].replace('_', ' ')}", fontsize=7, ha="right")


if __name__ == "__main__":
    main()
