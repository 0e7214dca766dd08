"""`shipway approve | pause | abort | promote | up | down`: a person's word, and who obeys it."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, find_home, open_home, open_known_ports, print_json

if TYPE_CHECKING:
    from pipelines.errors import DependencyDown
    from pipelines.ports import Ports
    from pipelines.records.release import Release

ReleaseId = Annotated[str, typer.Argument(metavar="ID", help="The release.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded with your name.")]
OBEY_TIMEOUT_S = 30.0


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (approve, pause, abort, promote, up, down):
        app.command()(command)


def approve(
    release_id: ReleaseId,
    step: Annotated[int | None, typer.Option("--step", metavar="N", min=1, help="Only if it waits for step N.")] = None,
    drift: Annotated[bool, typer.Option("--drift", help="Only if it waits because predictions shifted.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Approve what a release waits for: a step that is marked `approve: true`, or predictions that shifted."""
    from pipelines.records.asking import answered
    from pipelines.records.view import why

    _, ports = open_known_ports()
    found = ports.ledger.load(release_id)
    about = "" if found.is_ended else str(answered(found.id, found.asks, step, why(found), drift=drift))
    order(ports, found, "approve", reason, about=about, as_json=as_json)


def pause(release_id: ReleaseId, reason: Reason = "", as_json: AsJson = False) -> None:
    """Keep the share as it is (the lease is renewed) until `shipway resume`."""
    _order(release_id, "pause", reason, as_json=as_json)


def abort(release_id: ReleaseId, reason: Reason = "", as_json: AsJson = False) -> None:
    """Take traffic home and end the release as aborted, or take one that is queued out of its queue."""
    from flows.orders.queueing import withdraw
    from flows.wiring import actor

    _, ports = open_known_ports()
    why = f"taken out of the queue by {actor()}" + (f": {reason}" if reason else "")
    ticket = withdraw(ports, release_id, why)
    if ticket is None:
        return order(ports, ports.ledger.load(release_id), "abort", reason, as_json=as_json)
    return print_json(ticket.summary()) if as_json else typer.echo(f"{ticket.id}  {why}")


def promote(
    release_id: ReleaseId,
    reason: Annotated[str, typer.Option("--reason", help="Why the remaining evidence is skipped.")],
    as_json: AsJson = False,
) -> None:
    """Promote a canary now, without the remaining evidence; recorded as such."""
    from pipelines.errors import BadInput

    if not reason.strip():
        raise BadInput("promoting without evidence needs a reason", code="E_REASON", field="--reason")
    _order(release_id, "promote", reason, as_json=as_json)


def up(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The API's port on loopback; 0 chooses.")] = 0,
) -> None:
    """Reconcile services: gateways, servers, leases, orphaned releases, and the read-only API on loopback."""
    from flows.up.up import run_up

    run_up(open_home(), port)


def down(
    service: Annotated[
        str | None, typer.Argument(help="Only this service; without it, everything and `up` itself.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stop what `up` started."""
    from flows.control.background import stop_up
    from pipelines.services.change import update_service

    if service is not None:
        update_service(open_known_ports()[1], service, lambda s: s.changed(wanted=False))
        stopped = True
    else:
        stopped = stop_up(find_home())
    print_json({"stopped": stopped}) if as_json else typer.echo("stopped" if stopped else "nothing was running")


def order(ports: Ports, release: Release, verb: str, reason: str, *, as_json: bool, about: str = "") -> None:
    """Leave a command, wait until it is obeyed, and say where the release is then."""
    tell(obeyed(ports, release, verb, reason, about), as_json=as_json)


def obeyed(ports: Ports, release: Release, verb: str, reason: str, about: str = "") -> Release:
    """The release after a command was obeyed, or when it ended first; without a living controller this one acts."""
    from flows.control.holders import living_holder
    from flows.orders.commands import obey_now
    from flows.wiring import actor, clock
    from pipelines.errors import BadInput, DependencyDown
    from pipelines.ports import Command
    from pipelines.rollout.words import HOMEWARD_VERBS

    if release.is_ended:
        hint = f"shipway rollback {release.service} takes its service back" if verb == "rollback" else None
        raise BadInput(f"release {release.id} has ended: {release.phase}", code="E_ENDED", field="ID", hint=hint)
    command = Command(uuid.uuid4().hex, release.id, verb, actor(), reason, about)
    try:
        ports.inbox.send(command)
    except DependencyDown as error:
        raise _without_a_record(ports, release, verb, error) from error
    if living_holder(ports, release.service, clock()) is None and verb in HOMEWARD_VERBS:
        return obey_now(ports, release)
    return _wait_obeyed(ports, command)


def _without_a_record(ports: Ports, release: Release, verb: str, error: DependencyDown) -> DependencyDown:
    """A ledger that cannot be written keeps nobody at a canary: act at the gateway, and say what is missing."""
    from pipelines.rollout.obeying import home_unrecorded
    from pipelines.rollout.words import HOMEWARD_VERBS

    if verb not in HOMEWARD_VERBS or not release.is_exposed:
        return error
    home_unrecorded(ports, release.service)
    reason = f"all traffic is at stable, but that could not be recorded: {error.reason}"
    return type(error)(reason, code="E_UNRECORDED", hint=f"shipway {verb} {release.id} again, when it can be")


def _order(release_id: str, verb: str, reason: str, *, as_json: bool) -> None:
    _, ports = open_known_ports()
    order(ports, ports.ledger.load(release_id), verb, reason, as_json=as_json)


def _wait_obeyed(ports: Ports, command: object) -> Release:
    from pipelines.errors import DependencyDown
    from pipelines.ports import Command

    assert isinstance(command, Command)  # noqa: S101  narrows the lazily imported type
    deadline = time.monotonic() + OBEY_TIMEOUT_S
    while time.monotonic() < deadline:
        release = ports.ledger.load(command.release_id)
        if release.is_ended or all(c.id != command.id for c in ports.inbox.pending(release.id)):
            return release
        time.sleep(0.1)
    hint = "it waits; shipway status shows when it is obeyed"
    raise DependencyDown(f"the controller has not obeyed within {OBEY_TIMEOUT_S:g} s", code="E_CONTROLLER", hint=hint)


def tell(release: Release, *, as_json: bool) -> None:
    """Say where a release is now, and why."""
    from pipelines.records.view import answer, release_view

    if as_json:
        print_json(release_view(release))
    else:
        typer.echo(f"{release.id}  {release.phase}  {answer(release)}")
