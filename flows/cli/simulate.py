"""`shipway simulate`: the spec's own gates, steps and times, played on releases that were never made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import AsJson, print_json

if TYPE_CHECKING:
    from pipelines.forecast.scenarios import Scenario
    from pipelines.forecast.simulation import Played
    from pipelines.spec.rollout import RolloutSpec

Names = Annotated[list[str] | None, typer.Option("--scenario", help="Only this one; may be repeated. Default: all.")]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(simulate)


def simulate(
    spec: Annotated[Path, typer.Argument(help="The release.yaml.")],
    scenario: Names = None,
    releases: Annotated[int, typer.Option("--releases", min=1, max=100_000, help="Of each scenario.")] = 100,
    rps: Annotated[float, typer.Option("--rps", min=0.001, max=100_000, help="Requests per second.")] = 50.0,
    labels: Annotated[float, typer.Option("--labels", min=0, max=1, help="Part of the requests with a score.")] = 0.2,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32, help="Release i is played with SEED + i.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=0, max=1024, help="Processes; 0: as many as cores.")] = 0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw outcomes and evidence: FILE.svg or .png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how releases of this spec would end: good ones, bad ones, and some that are hard to judge."""
    from flows.cli.simulating import refuse_unplayable
    from pipelines.forecast.advice import advice
    from pipelines.forecast.scenarios import chosen
    from pipelines.forecast.simulation_summary import summary
    from pipelines.spec.spec_file import read_spec

    plan = read_spec(spec).rollout
    refuse_unplayable(plot)
    worlds = chosen(plan, scenario or (), rps, labels)
    played = _play(plan, worlds, releases, seed, jobs or os.cpu_count() or 1)
    rows = [summary(world, played[world.name], seed) for world in worlds]
    for row, world in zip(rows, worlds, strict=True):
        row["helps"] = advice(plan, world, row["promoted"]["share"])
    if plot is not None:
        from flows.show.simulation_picture import draw

        draw(rows, played, plot)
    print_json({"rps": rps, "labels": labels, "scenarios": rows}) if as_json else typer.echo(_text(rows, rps))


def _play(
    plan: RolloutSpec, worlds: Sequence[Scenario], releases: int, seed: int, jobs: int
) -> dict[str, list[Played]]:
    """With a bar on standard error, where somebody sees it."""
    from rich.console import Console
    from rich.progress import Progress

    from flows.cli.simulating import play_all

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("simulate", total=releases * len(worlds))
        return play_all(plan, worlds, releases, seed, jobs, lambda name: bar.update(task, advance=1, description=name))


def _text(rows: Sequence[Mapping[str, Any]], rps: float) -> str:
    first, last = rows[0]["seeds"]
    title = f"{rows[0]['releases']} simulated releases of each scenario at {rps:g} requests/s, seeds {first} to {last}"
    return "\n".join([f"{title}; 95 % intervals", *("\n".join(_lines(row)) for row in rows)])


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    """What one scenario showed: the wrong ends first, then all of them, then times and harm."""
    yield f"{row['scenario']}: {row['says']}" + ("" if row["is_judged"] else " (this spec has no gate for it)")
    wrong = row.get("wrong_promotions") or row["false_roll_backs"]
    interval = f"{wrong['share']:.1%} ({wrong['low']:.2%} – {wrong['high']:.2%})"
    yield f"  wrong     {'promoted' if row['harm'] else 'rolled back'} {interval}"
    ends = ", ".join(f"{name.replace('_', ' ')} {row[name]['n']}" for name in ("rolled_back", "promoted", "held"))
    yield f"  ends      {ends}{_after('; decided after', row['decision_s'])}"
    if row["harm"]:
        failed, slowed = (max(0.0, row[f"{what}_beyond_stable"]["mean"]) for what in ("failed", "slowed"))
        harm = f"{failed:.0f} failed and {slowed:.0f} slowed requests beyond stable's"
        yield f"  harm      {harm}, on average{_after('; found after', row['detection_s'])}"
    if row["helps"]:
        yield f"  helps     {row['helps']}"
    if row["confounded"]:
        yield f"  load      {row['confounded']} of the roll backs say that load may explain it (confounded)"


def _after(words: str, spread: Mapping[str, float] | None) -> str:
    if spread is None:
        return ""
    return f"{words} {spread['median'] / 60:.1f} min (95th percentile {spread['p95'] / 60:.1f})"
