"""How long after the decision does a client still meet the convicted version, and how many users were harmed?

Each trial is a release of a version that fails on some texts. The real controller looks at real traffic until its judge
convicts. At that moment another connection locks the ledger; MLflow and Prefect do not run at all.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.live_service import SPEC, Call, LiveService, calling, live_service
from flows.wiring import clock
from pipelines.records.release import Phase
from pipelines.rollout.decision import RollBack
from pipelines.rollout.look import Controller, Look, look
from pipelines.rollout.watch import Watch

CALLS_PER_S = 120.0
LOCKED_S = 0.4
SEEN_AFTER_S = 0.5


@dataclass(frozen=True)
class Trial:
    """Milliseconds from the decision to the last answer of the candidate, and what its users met."""

    rollback_ms: float
    harm_s: float
    harmed: int


def rollback_trials(root: Path, n: int, say: Callable[[str], None]) -> list[Trial]:
    """Release and roll back n times."""
    trials = []
    with live_service(root, is_candidate_broken=True) as service, calling(service, CALLS_PER_S) as seen:
        for number in range(n):
            trials.append(_trial(service, f"r-{number}", seen))
            say(f"roll back {number + 1} of {n}: {trials[-1].rollback_ms:.0f} ms")
    return trials


def _trial(service: LiveService, release_id: str, seen: Callable[[], list[Call]]) -> Trial:
    began_s, decided_s = time.time(), 0.0

    def on_look(seen_now: Look) -> None:
        nonlocal decided_s
        if isinstance(seen_now.decision, RollBack):
            decided_s = time.time()
            _lock_ledger(service)

    controller = Controller(service.ports, SPEC.rollout, service.token, clock, on_look)
    release, watch = service.release(release_id), Watch()
    while not release.is_ended:
        release, watch = look(controller, release, watch)
        time.sleep(SPEC.rollout.look_s)
    assert release.phase is Phase.ROLLED_BACK, release.reason
    time.sleep(SEEN_AFTER_S)
    mine = [call for call in seen() if call.began_s > began_s and call.version == "2"]
    failed = [call for call in mine if call.failed]
    last_s = max(call.ended_s for call in mine)
    harm_s = max(c.ended_s for c in failed) - min(c.began_s for c in failed)
    return Trial(max(0.0, last_s - decided_s) * 1000, harm_s, len(failed))


def _lock_ledger(service: LiveService) -> None:
    """Nobody can write the ledger for a while; it is locked when this returns."""
    locked = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(service.home.root / "ledger.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            locked.set()
            time.sleep(LOCKED_S)
            database.execute("ROLLBACK")

    threading.Thread(target=hold).start()
    locked.wait()
