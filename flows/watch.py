"""A Prefect flow that looks after services and releases on a schedule, where nobody wants a long-lived `up`.

One run does one round: every service is reconciled, and every orphaned release that users may meet is taken over.
What fails in one of them holds up no other; afterwards the run fails with the names, so that somebody hears of it.
"""

from __future__ import annotations

from prefect import flow, task

from flows.control.holders import holder
from flows.control.lock import hold
from flows.control.passing_prefect import end_with_this_process
from flows.wiring import clock, home_path, wire
from flows.working import take_over
from pipelines.errors import Busy, DependencyDown
from pipelines.home import Home
from pipelines.ports import Ports
from pipelines.records.reading import broken_record, read_unfinished
from pipelines.services.paying import pay_debts
from pipelines.services.reconcile import reconcile

end_with_this_process()


@task(name="reconcile")
def reconcile_service(ports: Ports, name: str) -> None:
    """Make what runs match what should run, and tell the registry what it has not been told."""
    reconcile(ports, ports.services.load(name), holder("watch"), clock())
    pay_debts(ports, ports.services.load(name), clock())


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
    ports, failed, phases = wire(Home.open(home_path())), [], []
    for name in ports.services.names():
        try:
            reconcile_service(ports, name)
        except Exception as error:  # noqa: BLE001  the others have their turn, then it is told
            failed.append(f"service {name}: {error}")
    found = read_unfinished(ports.ledger)
    failed += [str(broken_record(row)) for row in found.broken]
    for release in (release for release in found.releases if release.is_exposed):
        try:
            phases.append(take_over_release(ports, release.id))
        except Exception as error:  # noqa: BLE001
            failed.append(f"release {release.id}: {error}")
    if failed:
        raise DependencyDown("; ".join(failed), code="E_WATCH", hint="what is not named was looked after")
    return phases
