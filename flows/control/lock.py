"""How does a controller keep a service's lock while it works?

A thread renews it. Where it is lost (this process was paused for too long), `lost` is set and `sleep` raises, so that
the controller stops; its writes are refused by the router's fence in any case.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flows.control.holders import living_holder, spoken
from flows.wiring import clock
from pipelines.errors import Busy, DependencyDown, ShipwayError, StaleWriter
from pipelines.ports import Ports, Token
from pipelines.records.reading import unfinished
from pipelines.records.release import Release

SLOW_TTL_S = 60.0
"""While no user meets the candidate nothing is urgent, and a long computation may starve the renewing thread."""

MIN_TTL_S = 2.0


class Held:
    """A lock that is being kept. `ttl_s` may be changed while it is held."""

    def __init__(self, ports: Ports, token: Token, ttl_s: float) -> None:
        self.token = token
        self.lost = threading.Event()
        self.wake = threading.Event()
        self._ports = ports
        self._ttl_s = ttl_s
        self._done = threading.Event()
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lock-{token.service}", daemon=True)
        self._thread.start()

    def keep_for(self, ttl_s: float) -> None:
        """From now on the lock is taken for `ttl_s` at each renewal."""
        self._ttl_s = ttl_s
        self._changed.set()

    def sleep(self, seconds: float) -> None:
        """Wait, or be woken; StaleWriter where the lock was lost."""
        self.wake.wait(seconds)
        self.wake.clear()
        if self.lost.is_set():
            raise StaleWriter(f"the lock of {self.token.service} was lost", code="E_FENCED")

    def close(self) -> None:
        """Give the lock back."""
        self._done.set()
        self._changed.set()
        self._thread.join()
        with suppress(ShipwayError):
            self._ports.lock.release(self.token)

    def _keep(self) -> None:
        while not self._done.is_set():
            try:
                self._ports.lock.renew(self.token, self._ttl_s, clock())
            except StaleWriter:
                self.lost.set()
                self.wake.set()
                return
            except DependencyDown:
                pass  # asked again in a moment; the lock runs out by itself where this lasts
            self._changed.wait(self._ttl_s / 3)
            self._changed.clear()


def exposed_ttl_s(lease_s: float) -> float:
    """A lock's time while users meet the canary: short enough for `up` to take over before the lease ends."""
    return max(MIN_TTL_S, lease_s / 4)


@contextmanager
def hold(ports: Ports, service: str, who: str, ttl_s: float = SLOW_TTL_S) -> Iterator[Held]:
    """Hold a service's lock. Busy where another release that is alive has it."""
    living_holder(ports, service, clock())
    try:
        token = ports.lock.acquire(service, who, ttl_s, clock())
    except Busy as error:
        raise _named(ports, service, error) from None
    held = Held(ports, token, ttl_s)
    try:
        yield held
    finally:
        held.close()


def busy(ports: Ports, release: Release, why: str = "") -> Busy:
    """The refusal that names who holds the service."""
    who = ports.lock.holder(release.service, clock()) or "nobody right now; shipway up takes it over"
    return Busy(
        f"release {release.id} of {release.service} is {release.phase}, held by {who}{why}",
        field="service",
        hint=f"shipway status {release.id}, shipway abort {release.id}, or wait for it: --on-busy queue",
    )


def _named(ports: Ports, service: str, error: Busy) -> Busy:
    """A lock knows the name of a process; people know releases."""
    with suppress(ShipwayError):
        for release in unfinished(ports.ledger, service):
            return busy(ports, release)
        if who := ports.lock.holder(service, clock()):
            hint = "say it again in a moment; shipway status shows what became of it"
            return Busy(f"{service} is held by {spoken(who)}, and no release of it runs", field="service", hint=hint)
    return error
