"""Draws what became of simulated releases, and how their evidence grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput
from pipelines.forecast.simulation import Played

COLOURS = {"rolled_back": "#c53030", "promoted": "#2f855a", "held": "#a0aec0"}
HARM, HARMLESS, PROOF = "#c53030", "#2b6cb0", 1.0


def draw(rows: Sequence[Mapping[str, Any]], played: Mapping[str, Sequence[Played]], target: Path) -> None:
    """Outcomes above, evidence over time below, a panel a scenario. BadInput where the file cannot be written."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    across = min(3, len(rows))
    down = -(-len(rows) // across)
    figure = plt.figure(figsize=(4 * across, 1.2 + 0.16 * len(rows) + 2.2 * down), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.2 + 0.16 * len(rows), 2.2 * down))
    _draw_outcomes(above.subplots(), rows)
    panels = below.subplots(down, across, squeeze=False, sharey=True)
    for row, axes in zip(rows, panels.flat, strict=False):
        _draw_evidence(axes, row, played[row["scenario"]])
    for axes in panels.flat[len(rows) :]:
        axes.set_visible(False)
    panels[0][0].legend(loc="lower right", frameon=False)
    try:
        figure.savefig(target, dpi=140)
    except OSError as error:
        raise BadInput(f"cannot write {target}: {error.strerror}", code="E_PATH", field="--plot") from None
    finally:
        plt.close(figure)


def _draw_outcomes(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    names, begins = [row["scenario"] for row in rows], [0.0] * len(rows)
    for outcome, colour in COLOURS.items():
        shares = [100 * row[outcome]["share"] for row in rows]
        axes.barh(names, shares, left=begins, color=colour, label=outcome.replace("_", " "))
        begins = [begin + share for begin, share in zip(begins, shares, strict=True)]
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"% of {rows[0]['releases']} releases of each scenario, seeds from {rows[0]['seeds'][0]}")
    axes.invert_yaxis()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def _draw_evidence(axes: Any, row: Mapping[str, Any], played: Sequence[Played]) -> None:
    """As a fraction of what is a proof: 1 sends home, or promotes after the bake."""
    for number, release in enumerate(p for p in played if p.glances):
        minutes = [glance.at_s / 60 for glance in release.glances]
        for name, colour, values in (
            ("of harm", HARM, [g.harm for g in release.glances]),
            ("of harmlessness", HARMLESS, [g.harmless for g in release.glances]),
        ):
            axes.plot(minutes, values, color=colour, alpha=0.5, linewidth=0.8, label=None if number else name)
    axes.axhline(PROOF, color="black", linewidth=0.7, linestyle=":")
    axes.set_ylim(-1, 2)
    axes.set_title(f"{row['scenario']}: {row['says']}", fontsize=8)
    axes.set_xlabel("minutes")
    axes.set_ylabel("log E / log of proof")
