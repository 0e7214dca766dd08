"""Plays a spec's plan many times, on all cores, and says how it went."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from pipelines.errors import BadInput
from pipelines.forecast.scenarios import Scenario
from pipelines.forecast.simulation import Played, simulate_release
from pipelines.spec.rollout import RolloutSpec

FORMATS = (".svg", ".png")

DRAWN = 12
"""Releases of a scenario whose evidence is drawn; more would be a cloud."""


def play_all(
    plan: RolloutSpec,
    scenarios: Sequence[Scenario],
    releases: int,
    seed: int,
    jobs: int,
    on_played: Callable[[str], None] = lambda _: None,
) -> dict[str, list[Played]]:
    """`releases` of each scenario by its name, in the order of their seeds; `on_played` hears of each."""
    played: dict[str, list[Played]] = {scenario.name: [] for scenario in scenarios}
    todo = [(scenario, number) for scenario in scenarios for number in range(releases)]
    if jobs == 1:
        for scenario, number in todo:
            played[scenario.name].append(_play(plan, scenario, seed, number))
            on_played(scenario.name)
        return played
    pool = ProcessPoolExecutor(min(jobs, len(todo)), get_context("spawn"), initializer=_leave_signals)
    waiting = {pool.submit(_play, plan, scenario, seed, number): scenario for scenario, number in todo}
    try:
        for done in as_completed(waiting):
            on_played(waiting[done].name)
        for ended, scenario in waiting.items():
            played[scenario.name].append(ended.result())
    finally:
        pool.shutdown(cancel_futures=True)
    return played


def _play(plan: RolloutSpec, scenario: Scenario, seed: int, number: int) -> Played:
    """Only the first ones keep what was seen at each look: nobody looks at more, and it is large."""
    ended = simulate_release(plan, scenario.world, seed + number)
    return ended if number < DRAWN else replace(ended, glances=())


def _leave_signals() -> None:
    """Ctrl-C is the command's; its workers are told when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def refuse_unplayable(plot: Path | None) -> None:
    """BadInput before anything is played: a library that is missing, a picture that could not be written."""
    if find_spec("scipy") is None:
        raise BadInput("scipy is not installed", code="E_EXTRA", hint="pip install 'shipway[release]'")
    if plot is None:
        return
    if plot.suffix not in FORMATS:
        expected = f"a file that ends in {' or '.join(FORMATS)}"
        raise BadInput(f"{plot.name} is no picture", code="E_PATH", field="--plot", expected=expected)
    if not plot.absolute().parent.is_dir() or plot.is_dir():
        expected = "a file in a folder that exists"
        raise BadInput(f"{plot} cannot be written", code="E_PATH", field="--plot", expected=expected)
    if find_spec("matplotlib") is None:
        hint = "pip install 'shipway[release]'"
        raise BadInput("matplotlib is not installed", code="E_EXTRA", field="--plot", hint=hint)
