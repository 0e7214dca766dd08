"""Controllers that can be stopped anywhere: each runs in a thread of its own, and only one thread runs at a time.

A pilot gives control back when it sleeps, when it is stopped in the middle of an effect (SIGSTOP), and when it ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pipelines.errors import ShipwayError, StaleWriter
from pipelines.ports import Token
from tests.faults.recording import Journal, Killed


class Pilot:
    """One controller process. `act` gets the pilot; its lock is renewed by `renew` while it is not stopped."""

    def __init__(self, name: str, journal: Journal, act: Callable[[Pilot], Any]) -> None:
        self.name = name
        self.is_over, self.is_stopped, self.is_lost = False, False, False
        self.token: Token | None = None
        self.ttl_s = 0.0
        self.surprise: BaseException | None = None
        self._journal = journal
        self._act = act
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def runs(self) -> bool:
        """Whether it goes on when it is let."""
        return not self.is_over and not self.is_stopped

    def go_on(self) -> None:
        """Let it run until it sleeps, is stopped, or ends. An error that no controller may die of is raised here."""
        before, self._journal.actors = self._journal.actors, [self.name]
        self._go.release()
        self._done.acquire()
        self._journal.actors = before
        if self.surprise is not None:
            raise self.surprise

    def wait(self) -> None:
        """Called in the pilot's thread: give control back until `go_on`."""
        self._done.release()
        self._go.acquire()
        if self.name in self._journal.dead:
            raise Killed(self.name)

    def stop(self) -> None:
        """Called in the pilot's thread, in the middle of an effect: SIGSTOP until somebody continues it."""
        self.is_stopped = True
        self.wait()

    def kill(self) -> None:
        """SIGKILL, whether it sleeps or is stopped."""
        self._journal.dead.add(self.name)
        self.is_stopped = False
        if not self.is_over:
            self.go_on()

    # What `flows.control.lock.Held` is to a controller:

    def keep_for(self, ttl_s: float) -> None:
        """From now on the lock is taken for `ttl_s`."""
        self.ttl_s = ttl_s

    def sleep(self, seconds: float) -> None:
        """Until the world lets it look again; StaleWriter where the lock was lost meanwhile."""
        self.wait()
        if self.is_lost:
            raise StaleWriter("the lock was lost", code="E_FENCED")

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._act(self)
        except (ShipwayError, Killed):
            pass  # the process ends; what it left is what is tested
        except BaseException as error:
            self.surprise = error
        finally:
            self.is_over = True
            self._done.release()
