"""`shipway rollback | resolve | remove`: the ways out, whatever state a service or a release is in."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, open_known_ports, print_json

if TYPE_CHECKING:
    from pipelines.home import Home
    from pipelines.ports import Ports
    from pipelines.records.release import Release
    from pipelines.records.service import Service

NOT_ALL_DONE = 7
"""The registry did not do its part: traffic is where it should be, and something is named that is not."""

Force = Annotated[str, typer.Option("--force", metavar="REASON", help="Do it all the same, and why; recorded.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded with your name.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (rollback, resolve, remove):
        app.command()(command)


def rollback(
    target: Annotated[str, typer.Argument(metavar="ID|SERVICE", help="A running release, or a service.")],
    reason: Reason = "",
    force: Annotated[
        str, typer.Option("--force", metavar="REASON", help="Bring back what a person took away, and why.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Take a running release home, or a service back to its previous version, after promotion too.

    Traffic moves whatever the registry says. Exit 7 where the registry's alias could not follow: the answer says why.
    """
    from flows.cli.operate import obeyed, tell
    from pipelines.errors import NotFound
    from pipelines.records.reading import unfinished

    home, ports = open_known_ports()
    try:
        service = ports.services.load(target)
        running = next(iter(unfinished(ports.ledger, target)), None)
    except NotFound:
        running = ports.ledger.load(target)
        service = None
    if running is not None and not running.is_way_home:
        running = obeyed(ports, running, "rollback", reason)
        if str(running.phase) != "promoted":
            return tell(running, as_json=as_json)
        # Its promotion was faster than this word, which means the service all the same.
        service, running = ports.services.load(running.service), None
    service = service or ports.services.load(running.service if running else target)
    return _tell_home(home, ports, _went_home(home, ports, service, running, reason, force), as_json=as_json)


def _went_home(home: Home, ports: Ports, service: Service, running: Release | None, reason: str, force: str) -> Release:
    """The order that is under way already, or a new one."""
    from flows.control.background import start_up
    from flows.orders.going_back import CARRIED_OUT_S, order_home, wait_ended
    from flows.wiring import clock

    if running is None:
        return order_home(home, ports, service, reason, force)
    start_up(home)
    return wait_ended(ports, running, clock().mono_s + CARRIED_OUT_S)


def _tell_home(home: Home, ports: Ports, release: Release, *, as_json: bool) -> None:
    from flows.control.background import start_up
    from pipelines.errors import ShipwayError
    from pipelines.records.view import release_view, why
    from pipelines.rollout.way_home import named

    stable = ports.services.load(release.service).stable
    serves = named(stable) if stable else "nobody"
    if as_json:
        print_json({**release_view(release), "serves": serves})
    else:
        typer.echo(f"{release.id}  {release.service} is served by {serves} now  {why(release)}")
    with suppress(ShipwayError):  # traffic is home already; whoever looks after it next finds everything in the record
        start_up(home)
    if release.alias not in {"", "set"} or str(release.phase) != "promoted":
        raise typer.Exit(NOT_ALL_DONE)


def resolve(
    release_id: Annotated[str, typer.Argument(metavar="ID", help="A release that nothing else ends.")],
    force: Force = "",
    as_json: AsJson = False,
) -> None:
    """End a release that is stuck: as the router shows it, with its traffic home where it was not promoted.

    An ended one whose registry entries are still owed is told to the registry once more; with --force they are dropped.
    A record that cannot be read is set aside. A living controller is only shut out with --force.
    """
    from flows.orders.resolving import resolve_release
    from pipelines.records.view import release_view, why

    _, ports = open_known_ports()
    resolved = resolve_release(ports, release_id, force)
    if isinstance(resolved, str):
        print_json({"id": release_id, "outcome": None, "broken": resolved}) if as_json else typer.echo(resolved)
    elif as_json:
        print_json(release_view(resolved))
    else:
        typer.echo(f"{resolved.id}  {resolved.phase}  {why(resolved)}")


def remove(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service that shall be no more.")],
    force: Force = "",
    as_json: AsJson = False,
) -> None:
    """Stop a service and forget it; its releases stay in the record. One that serves is only removed with --force."""
    from flows.control.up_file import find_up
    from flows.orders.resolving import remove_service

    home, ports = open_known_ports()
    removed = remove_service(home, ports, service, force)
    facts = {"removed": service, "stopped": list(removed.units), "left_in_registry": removed.alias}
    if as_json:
        print_json(facts)
        return
    when = "are stopped" if find_up(home) else "end with the next shipway up"
    typer.echo(f"{service} is removed: {len(removed.units)} processes {when}")
    if removed.alias:
        typer.echo(f"  the registry still says {removed.alias}")
