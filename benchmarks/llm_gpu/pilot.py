"""The controller of one release as a process that can be killed: `python -m benchmarks.llm_gpu.pilot HOME RELEASE`.

It takes the service's lock where that is free, goes on from what is recorded, and says how the release ended.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.llm_gpu.world import LOCK_S, NAME, ports_of
from flows.control.holders import holder
from flows.control.lock import hold
from flows.control.opening import spec_of
from flows.wiring import clock
from pipelines.errors import Busy
from pipelines.home import Home
from pipelines.rollout.look import Controller, drive


def fly(home: Home, release_id: str) -> str:
    """Drive it to its end; the phase that it ended in."""
    stable = ports_of(home, 1).services.load(NAME).stable
    ports = ports_of(home, stable.version if stable else 1)
    while True:
        try:
            with hold(ports, NAME, holder("pilot"), LOCK_S) as held:
                release = ports.ledger.load(release_id)
                spec = spec_of(release)
                controller = Controller(ports, spec.rollout, held.token, clock, timeout_s=spec.serve.timeout_s)
                return str(drive(controller, release, held.sleep, leave=frozenset()).phase)
        except Busy:
            time.sleep(0.1)


if __name__ == "__main__":
    print(fly(Home.open(Path(sys.argv[1])), sys.argv[2]))
