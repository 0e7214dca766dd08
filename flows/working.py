"""How does this process work on a release? It takes the lock, sets the desk, and runs the flow to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from flows.control.lock import Held, exposed_ttl_s
from flows.control.opening import data_dir_of, rollout_of, spec_of, timeout_of, work_dir
from flows.wiring import builder, clock
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.release import Release
from pipelines.rollout.look import Controller, Look, drive
from pipelines.rollout.obeying import abort_unseen
from pipelines.rollout.words import HOMEWARD_VERBS
from pipelines.stages.steps import Step, discard_work
from pipelines.stages.workshop import Findings, Interrupted, Workshop


class Stopped(Interrupted):
    """A person asked this release to stop while no user had met the candidate."""


@dataclass
class Listener:
    """What the screen wants to hear."""

    step_done: Callable[[Step, Release, Findings], None] = lambda _step, _release, _findings: None
    looked: Callable[[Look], None] = lambda _: None
    progress: Callable[[str, int, int], None] = lambda _name, _done, _of: None


@dataclass
class Stop:
    """A request to stop, from a signal; the controller meets it at its next look or batch."""

    asked: threading.Event = field(default_factory=threading.Event)
    sent: bool = False
    held: Held | None = None

    def ask(self) -> None:
        """Ask; safe to call again."""
        self.asked.set()
        if self.held is not None:
            self.held.wake.set()


def work_on(release: Release, ports: Ports, home: Home, held: Held, listener: Listener, stop: Stop) -> Release:
    """Take a release whose lock is held to its end."""
    stop.held = held
    if release.is_exposed:
        return take_over(release, ports, held, listener.looked)
    return _run(release, ports, home, held, listener, stop)


def take_over(release: Release, ports: Ports, held: Held, on_look: Callable[[Look], None] = lambda _: None) -> Release:
    """Look on at a release whose controller is gone: no Prefect, no torch and no registry before the first look."""
    ctl = Controller(ports, rollout_of(release), held.token, clock, on_look, timeout_of(release))
    held.keep_for(exposed_ttl_s(ctl.plan.lease_s))
    return drive(ctl, release, held.sleep, leave=frozenset())


def _run(release: Release, ports: Ports, home: Home, held: Held, listener: Listener, stop: Stop) -> Release:
    from flows.release import Desk, run_release

    def check_stop() -> None:
        if stop.asked.is_set() or _ordered_home(ports, release):
            raise Stopped

    def abort(stopped: Release) -> Release:
        return abort_unseen(ports, ports.ledger.load(stopped.id), clock())

    def progress(name: str, done: int, of: int) -> None:
        check_stop()
        listener.progress(name, done, of)

    spec = spec_of(release)
    shop = Workshop(
        ports,
        builder(home, spec.package),
        held.token,
        spec,
        data_dir_of(release),
        work_dir(home, release.id),
        clock,
        held.sleep,
        progress,
        home.root,
    )
    ctl = Controller(ports, spec.rollout, held.token, clock, listener.looked, spec.serve.timeout_s)
    desk = Desk(shop, ctl, held, release, listener.step_done, check_stop, abort)
    ended = run_release(desk)
    if ended.is_ended:
        discard_work(shop)
    return ended


def _ordered_home(ports: Ports, release: Release) -> bool:
    return any(command.verb in HOMEWARD_VERBS for command in ports.inbox.pending(release.id))
