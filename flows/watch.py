"""A Prefect flow that looks after services and releases on a schedule, where nobody wants a long-lived `up`.

One run does one round: every service is reconciled, and every orphaned release that users may meet is taken over.
"""

from __future__ import annotations

from prefect import flow, task

from flows.holders import holder
from flows.holding import hold
from flows.wiring import clock, home_path, wire
from flows.working import is_exposed, take_over
from pipelines.errors import Busy
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.reconcile import reconcile
from pipelines.records import unfinished


@task(name="reconcile")
def reconcile_service(ports: Ports, name: str) -> None:
    """Make what runs match what should run."""
    reconcile(ports, ports.services.load(name), holder("watch"), clock())


@task(name="take over")
def take_over_release(ports: Ports, release_id: str) -> str:
    """Look on at a release whose controller is gone; one that has a controller is left alone."""
    release = ports.ledger.load(release_id)
    try:
        with hold(ports, release.service, holder("watch")) as held:
            return str(take_over(release, ports, held).phase)
    except Busy:
        return str(release.phase)


@flow(name="watch")
def watch() -> list[str]:
    """One round over all services and unfinished releases; returns the phases of the releases."""
    ports = wire(Home.open(home_path()))
    for name in ports.services.names():
        reconcile_service(ports, name)
    orphans = [r.id for r in unfinished(ports.ledger) if is_exposed(r)]
    return [take_over_release(ports, release_id) for release_id in orphans]
