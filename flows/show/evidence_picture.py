"""How does the evidence look? Harm above, harmlessness below, each with its boundary, over the steps of the share."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput
from pipelines.records.evidence_series import BOUNDARY, EvidenceSeries, Line

FORMATS = (".svg", ".png")
PANELS = {
    "harm": "evidence of harm\nlog E / log 1/α",
    "harmlessness": "evidence of harmlessness\nlog E / log 1/α_promote",
}
AT_BOUNDARY = {
    "harm": "the mean of all, weighted by their parts of α, sends home here",
    "harmlessness": "every line beyond this: may be promoted",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette, which colour-blind people can tell apart; the dashes differ, too."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)), (0, (8, 3)), ":")
REST_STYLE = {"color": "#a0a0a0", "linestyle": "-", "linewidth": 0.8}
BAND, INK = "#4b6075", "#333333"
LOWEST, HIGHEST = -1.0, 2.0
"""Evidence beyond these is drawn at the edge: it changes nothing any more, and would flatten the rest."""
UNITS_S = {"s": 1.0, "minutes": 60.0, "hours": 3600.0}
OUTCOMES = {"promoted": "#009E73", "rolled_back": "#D55E00"}
WRAP = 118


def write_picture(series: EvidenceSeries, file: Path) -> None:
    """Draw to a file. BadInput for another kind of file than `FORMATS`, one that cannot be written, or no evidence."""
    if file.suffix not in FORMATS:
        reason = f"a picture is not written as {file.suffix[:20] or 'a file without an ending'!r}"
        raise BadInput(reason, code="E_PLOT", field="--plot", expected="a file that ends in .svg or .png")
    drawn = draw(series, file.suffix.removeprefix("."))
    try:
        file.write_bytes(drawn)
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}", code="E_PATH", field="--plot") from None


def draw(series: EvidenceSeries, kind: str) -> bytes:
    """The picture as `svg` or `png`. BadInput where there is nothing to draw, or nothing to draw with."""
    if not series.lines:
        raise BadInput(f"release {series.id} has met no user: there is no evidence", code="E_NO_EVIDENCE", field="ID")
    figure = _figure()
    axes = figure.subplots(2, 1, sharex=True)
    unit = _unit(series)
    places = _places(series)
    for panel, of in zip(axes, PANELS, strict=True):
        _draw_panel(panel, series, of, UNITS_S[unit], places)
    figure.align_ylabels(axes)
    axes[0].margins(x=0.01)
    _say_shares(axes[0], series, UNITS_S[unit])
    axes[1].set_xlabel(f"{unit} since the canary's first users")
    figure.suptitle(_title(series), x=0.01, ha="left", fontsize=10)
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _figure() -> Any:
    """No pyplot: `up` draws in threads."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        hint = 'pip install "shipway[release]"; the table and --json need nothing more'
        raise BadInput("there is no matplotlib to draw with", code="E_PLOT", field="--plot", hint=hint) from None
    return Figure(figsize=(11, 6), layout="constrained")


def _places(series: EvidenceSeries) -> dict[str, int]:
    """Which metrics have a colour of their own, the same in both panels: those with the most evidence."""
    by_size = sorted(series.lines, key=lambda line: -line.largest)
    kept = list(dict.fromkeys(line.metric for line in by_size))[: len(COLOURS)]
    return {metric: place for place, metric in enumerate(kept)}


def _draw_panel(axes: Any, series: EvidenceSeries, of: str, unit_s: float, places: Mapping[str, int]) -> None:
    lines = [line for line in series.lines if line.of == of]
    at, rest = [look_s / unit_s for look_s in series.looks_s], 0
    for line in sorted(lines, key=lambda line: places.get(line.metric, len(places))):
        place = places.get(line.metric)
        if place is None:
            rest += 1
            axes.plot(at, _clipped(line), zorder=2, **REST_STYLE)
            continue
        style = {"color": COLOURS[place], "linestyle": DASHES[place], "linewidth": 1.8}
        axes.plot(at, _clipped(line), label=_name(line), zorder=3, **style)
    if rest:
        axes.plot([], [], label=f"{rest} more", **REST_STYLE)
    axes.axhline(BOUNDARY, color=INK, linewidth=1.2, zorder=4)
    axes.text(0.003, BOUNDARY, f" {AT_BOUNDARY[of]}", transform=axes.get_yaxis_transform(), va="bottom", fontsize=8)
    _shade(axes, series, unit_s)
    axes.set_ylim(*_range(lines))
    axes.set_ylabel(PANELS[of], fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if lines:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, handlelength=3.2)


def _clipped(line: Line) -> list[float]:
    return [float("nan") if v is None else _within(v) for v in line.values]


def _within(value: float) -> float:
    return min(max(value, LOWEST), HIGHEST)


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    seen = [_within(v) for line in lines for v in line.values if v is not None]
    return min([-0.1, *seen]) - 0.05, max([1.25, *seen]) + 0.05


def _shade(axes: Any, series: EvidenceSeries, unit_s: float) -> None:
    """Each step of the share, the larger the darker; then the decision."""
    for share in series.shares:
        axes.axvspan(
            share.from_s / unit_s,
            share.to_s / unit_s,
            facecolor=BAND,
            alpha=0.04 + 0.16 * share.pct / 100,
            edgecolor="none",
            zorder=0,
        )
        axes.axvline(share.from_s / unit_s, color=BAND, linewidth=0.6, zorder=1)
    if series.ended_s is not None:
        colour = OUTCOMES.get(series.phase, INK)
        axes.axvline(series.ended_s / unit_s, color=colour, linewidth=2.2, zorder=5)


def _say_shares(axes: Any, series: EvidenceSeries, unit_s: float) -> None:
    """Above the steps: their shares, where there is room; above the end: what it was."""
    above, whole_s = axes.get_xaxis_transform(), max(share.to_s for share in series.shares) if series.shares else 1.0
    for share in series.shares:
        if share.to_s - share.from_s > 0.04 * whole_s:
            middle = (share.from_s + share.to_s) / 2 / unit_s
            axes.text(middle, 1.015, f"{share.pct:g} %", transform=above, ha="center", va="bottom", fontsize=8)
    if series.ended_s is not None:
        outcome = series.phase.replace("_", " ")
        axes.annotate(
            outcome,
            (series.ended_s / unit_s, 1.0),
            xycoords=above,
            xytext=(3, 4),
            textcoords="offset points",
            fontsize=8.5,
            fontweight="bold",
            color=OUTCOMES.get(series.phase, INK),
        )


def _unit(series: EvidenceSeries) -> str:
    whole_s = max((*series.looks_s, series.ended_s or 0.0))
    return "s" if whole_s <= 300 else "minutes" if whole_s <= 3 * 3600 else "hours"


def _name(line: Line) -> str:
    last = "not judged any more" if line.last is None else f"{line.last:.2f}" + (" ↑" if line.last > HIGHEST else "")
    share = f", {100 * line.alpha_share:.0f} % of α" if line.alpha_share is not None else ""
    return f"{_plain(line.metric)[:44]}  ({last}{share})"


def _title(series: EvidenceSeries) -> str:
    import textwrap

    canary, stable = series.canary_requests[-1], series.stable_requests[-1]
    head = f"{series.id}: {series.model} v{series.version}, {series.phase.replace('_', ' ')}"
    counted = f"n = {canary} canary and {stable} stable requests, {len(series.looks_s)} looks"
    reason = textwrap.shorten(_plain(series.why), 2 * WRAP, placeholder=" ...")
    return "\n".join([_plain(f"{head}; {counted}"), *textwrap.wrap(reason, WRAP)])


def _plain(text: str) -> str:
    """Text from anywhere as what every font has, and what is no formula."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown.encode("ascii", "backslashreplace").decode().replace("$", r"\$")
