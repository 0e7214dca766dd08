"""Does the judge send equal canaries home, and what becomes of a release whose controller or engine is killed?

Both arms are the same weights behind two engines. Before each release the candidate's cache of prompts is made cold,
as that of a new replica is; people chat all the time, with prefixes that stable's cache knows.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.live_service import wait
from benchmarks.llm_gpu.chats import Habit, chatting, seen_in, told
from benchmarks.llm_gpu.engines import Running
from benchmarks.llm_gpu.record import Record, spread
from benchmarks.llm_gpu.world import NAME, Adopted, adopted, spec_of
from flows.wiring import clock
from pipelines.records.release import Phase, Release
from pipelines.records.split import TrafficSplit
from pipelines.rollout.look import Controller, drive

EQUAL: Mapping[str, Any] = {
    "steps": [10, 50],
    "hold": "3s",
    "bake": "3s",
    "look": "500ms",
    "lease": "6s",
    "deadline": "40s",
    "gates": {"goodput": {}, "answers": {}},
}
"""Usual gates, alpha and warm-up; only the times are short. What is undecided at the deadline is held, not accused."""

KILLED: Mapping[str, Any] = {**EQUAL, "steps": [50], "hold": "5s", "lease": "10s"}
WARM_S, ENDS_S = 6.0, 60.0
WATCHED_S = 12.0
"""Longer than the lease: a share that is still there then was renewed."""

FORGET_S = 5.0


@dataclass
class Arms:
    """Two engines that serve the same model, and who chats with them."""

    engines: Sequence[Running]
    model: str
    habit: Habit
    folder: Path

    def other_than(self, url: str) -> Running:
        """The one that is not stable."""
        return next(engine for engine in self.engines if engine.url != url)

    def cold(self, engine: Running) -> bool:
        """Whether its cache is empty now; it may first have to finish what it still writes."""
        until_s = time.monotonic() + FORGET_S
        while not engine.forget_prefixes():
            if time.monotonic() > until_s:
                return False
            time.sleep(0.25)
        return True


def equal(record: Record, arms: Arms, most: int, until_s: float) -> None:
    """A/A releases one after another, each of which may be promoted, until the time is over."""
    file, ends, took_s = arms.folder / "chats.jsonl", [], []
    with (
        adopted(arms.folder / "aa", spec_of(EQUAL), arms.engines[0].url) as service,
        chatting(service.gateway_url, file, arms.model, arms.habit),
    ):
        time.sleep(WARM_S)
        for _ in range(most):
            if time.monotonic() + 1.1 * max(took_s, default=20.0) > until_s:
                break
            began_s, engine = time.monotonic(), arms.other_than(service.stable_url)
            ends.append(_one(record, service, engine, arms, file))
            took_s.append(time.monotonic() - began_s)
    counted = Counter(str(end) for end in ends)
    home = sum(end in {Phase.ROLLED_BACK, Phase.REJECTED} for end in ends)
    about = {"releases": len(ends), "ends": dict(counted), "sent_home": home, "took_s": spread(took_s, 1)}
    record.say("aa", what="all", **about, sent_home_upper_95=upper_limit(home, len(ends)), rollout=dict(EQUAL))


def _one(record: Record, service: Adopted, engine: Running, arms: Arms, file: Path) -> Phase:
    is_cold, began_s = arms.cold(engine), time.time()
    release = service.begin(engine.url)
    token = service.take_lock(release.id)
    try:
        spec = service.spec
        controller = Controller(service.ports, spec.rollout, token, clock, timeout_s=spec.serve.timeout_s)
        ended = drive(controller, release, time.sleep, leave=frozenset())
    finally:
        service.ports.lock.release(token)
    chats = told(seen_in(file, began_s))
    record.say("aa", what="release", id=ended.id, end=str(ended.phase), why=ended.reason, cold=is_cold, **chats)
    return ended.phase


def upper_limit(hits: int, of: int) -> float | None:
    """Of the part that is sent home, one-sided, 95 %, after Clopper and Pearson; by bisection, as n is small."""
    if not of:
        return None
    low, high = hits / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        within = sum(math.comb(of, k) * middle**k * (1 - middle) ** (of - k) for k in range(hits + 1))
        low, high = (middle, high) if within > 0.05 else (low, middle)
    return round(high, 4)


def kills(record: Record, arms: Arms, until_s: float) -> None:
    """A controller that nobody replaces before its lease has ended, one that is replaced at once, and an engine."""
    file = arms.folder / "chats-kills.jsonl"
    with (
        adopted(arms.folder / "kills", spec_of(KILLED), arms.engines[0].url) as service,
        chatting(service.gateway_url, file, arms.model, arms.habit),
    ):
        time.sleep(WARM_S)
        stories: tuple[Callable[[], None], ...] = (
            lambda: _controller(record, service, arms, file, is_replaced=False),
            lambda: _controller(record, service, arms, file, is_replaced=True),
            lambda: _engine(record, service, arms, file),
        )
        for story in stories:
            if time.monotonic() > until_s:
                record.say("kills", what="out of time")
                return
            story()


class Flight:
    """A release that a process of its own drives."""

    def __init__(self, service: Adopted, engine: Running) -> None:
        self._service, self.engine = service, engine
        self.release_id, self._pilots = service.begin(engine.url).id, list[subprocess.Popen[bytes]]()

    def take_off(self) -> None:
        """Give it a controller."""
        command = [sys.executable, "-m", "benchmarks.llm_gpu.pilot", str(self._service.home.root), self.release_id]
        self._pilots.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    def lose_pilot(self) -> None:
        """SIGKILL."""
        self._pilots[-1].kill()
        self._pilots[-1].wait()

    def end(self) -> None:
        """No controller outlives the measurement."""
        self.lose_pilot()

    @property
    def share(self) -> float:
        """The canary's share, as the gateway has it."""
        return self.split.canary_pct

    @property
    def split(self) -> TrafficSplit:
        """What the gateway has."""
        return self._service.ports.router.read(NAME)

    @property
    def release(self) -> Release:
        """As it is recorded."""
        return self._service.ports.ledger.load(self.release_id)

    def wait_share(self, holds: Callable[[float], bool], what: str) -> None:
        """Until the gateway shows such a share."""
        wait(lambda: holds(self.share), what, ENDS_S)

    def wait_end(self) -> Release:
        """Until it has ended."""
        wait(lambda: self.release.is_ended, f"{self.release_id} has ended", ENDS_S)
        return self.release


def _controller(record: Record, service: Adopted, arms: Arms, file: Path, *, is_replaced: bool) -> None:
    """Killed while users meet the canary."""
    engine = arms.other_than(service.stable_url)
    is_cold, flight = arms.cold(engine), Flight(service, engine)
    began_s = time.time()
    flight.take_off()
    try:
        flight.wait_share(lambda share: share >= 50, "the canary has its share")
        time.sleep(2.0)
        flight.lose_pilot()
        said = _replaced(flight) if is_replaced else _left_alone(flight)
        ended = flight.wait_end()
    finally:
        flight.end()
    said |= {"interrupted": len(list(ended.of_kind("interrupted"))), "cold": is_cold}
    what = "controller killed, replaced at once" if is_replaced else "controller killed, lease ends"
    record.say("kills", what=what, end=str(ended.phase), why=ended.reason, **said, **told(seen_in(file, began_s)))


def _left_alone(flight: Flight) -> dict[str, float]:
    """Nobody comes before the lease has ended; then somebody goes on with the release."""
    killed_s = time.monotonic()
    flight.wait_share(lambda share: share == 0, "the lease has ended")
    home_s = time.monotonic() - killed_s
    flight.take_off()
    return {"all_to_stable_after_s": round(home_s, 2)}


def _replaced(flight: Flight) -> dict[str, float | None]:
    """Somebody comes at once: when he first wrote the split, and the lowest share meanwhile."""
    killed_s, before = time.monotonic(), flight.split
    lowest, fence, took_over_s = before.canary_pct, before.generation[0], None
    flight.take_off()
    while time.monotonic() < killed_s + WATCHED_S and not flight.release.is_ended:
        split = flight.split
        lowest = min(lowest, split.canary_pct if split.canary or took_over_s is None else lowest)
        if took_over_s is None and split.generation[0] > fence:
            took_over_s = round(time.monotonic() - killed_s, 2)
        time.sleep(0.05)
    return {"taken_over_after_s": took_over_s, "lowest_share": lowest}


def _engine(record: Record, service: Adopted, arms: Arms, file: Path) -> None:
    """All of the canary's processes, killed while users meet it."""
    engine = arms.other_than(service.stable_url)
    is_cold, flight = arms.cold(engine), Flight(service, engine)
    began_s = time.time()
    flight.take_off()
    try:
        flight.wait_share(lambda share: share >= 50, "the canary has its share")
        time.sleep(2.0)
        killed_s, killed_at_s = time.monotonic(), time.time()
        engine.kill()
        flight.wait_share(lambda share: share == 0, "the canary is home")
        home_s = time.monotonic() - killed_s
        ended = flight.wait_end()
    finally:
        flight.end()
    time.sleep(2.0)
    chats = seen_in(file, began_s)
    cut = [one for one in chats if one.began_s <= killed_at_s < one.ended_s and not one.is_ok]
    later = [one for one in chats if one.began_s > killed_at_s and not one.is_ok]
    said = {"all_to_stable_after_s": round(home_s, 2), "open_and_lost": len(cut), "begun_later_and_lost": len(later)}
    said |= {"begun_later": sum(one.began_s > killed_at_s for one in chats), "cold": is_cold}
    record.say("kills", what="engine killed", end=str(ended.phase), why=ended.reason, **said, **told(chats))
