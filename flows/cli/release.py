"""`shipway plan | release | resume`: what would happen, and making it happen."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import EXIT_OF, AsJson, look_into_ports, open_known_ports, open_ports, print_json
from flows.show.needs import plan_lines

if TYPE_CHECKING:
    from flows.control.lock import Held
    from flows.working import Stop
    from pipelines.home import Home
    from pipelines.ports import Ports
    from pipelines.records.queue import Ticket
    from pipelines.records.release import Release

Spec = Annotated[Path, typer.Argument(help="The release.yaml.")]
Model = Annotated[
    str | None, typer.Option("--model", help="models:/NAME/VERSION or models:/NAME@ALIAS instead of the spec's.")
]


class OnBusy(StrEnum):
    """What a release does while another one of its service runs."""

    REFUSE = "refuse"
    QUEUE = "queue"
    SUPERSEDE = "supersede"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(plan)
    app.command()(release)
    app.command(hidden=True)(begin)
    app.command()(resume)


def plan(
    spec: Spec,
    model: Model = None,
    rps: Annotated[
        float | None, typer.Option("--rps", min=0.001, max=100_000, help="Requests per second, instead of measured.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a release would do: resolved versions, gates, steps, and requests needed to decide. Changes nothing."""
    from flows.control.opening import inspect
    from flows.wiring import clock
    from pipelines.forecast.outlook import outlook
    from pipelines.forecast.usual_traffic import measured
    from pipelines.spec.spec_file import read_spec
    from pipelines.stages.intake import AlreadyLive

    asked = read_spec(spec, model=model)
    ports = look_into_ports()
    try:
        intake = inspect(asked, ports, spec.parent)
    except AlreadyLive as live:
        _say_live(live, as_json)
        return
    recorded = len(ports.replays.recorded(asked.service)) if asked.rollout.replay else 0
    facts = outlook(asked, intake, measured(ports, asked.service, clock()), rps, recorded)
    print_json(facts) if as_json else typer.echo(_plan_text(facts))


def release(
    spec: Spec,
    model: Model = None,
    detach: Annotated[bool, typer.Option("--detach", help="Hand the release to `shipway up` and return.")] = False,
    force: Annotated[
        str, typer.Option("--force", metavar="REASON", help="Release quarantined bytes again, and why.")
    ] = "",
    on_busy: Annotated[
        OnBusy | None,
        typer.Option("--on-busy", help="While another release runs, instead of the spec's on_busy."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take a model version to production, or end with the reason why not. Ctrl-C takes traffic home first."""
    from flows.control.background import start_up
    from flows.control.prefect_choice import refuse_silent_prefect
    from flows.orders.queueing import in_turn, line_up
    from pipelines.records.view import release_view
    from pipelines.spec.spec_file import read_spec
    from pipelines.stages.intake import AlreadyLive

    asked = read_spec(spec, model=model)
    refuse_silent_prefect()
    home, ports = open_ports()
    stop = _stop_on_signals()
    try:
        turn = line_up(asked, str(on_busy or asked.on_busy), ports, spec.parent, force, detach=detach)
        if turn.ticket is not None:
            start_up(home)  # what it waits for may have nobody else who goes on with it
            if not turn.ticket.waiter:
                return _leave(ports, turn.ticket, as_json)
        with in_turn(turn, ports, home, spec.parent, force, stop.asked, _say) as (begun, held):
            start_up(home)
            if not detach:
                _work(begun, ports, home, held, stop, as_json=as_json)
    except AlreadyLive as live:
        return _say_live(live, as_json)
    return print_json(release_view(begun)) if as_json else typer.echo(begun.id)


def begin(ticket_id: Annotated[str, typer.Argument(metavar="ID", help="The ticket.")]) -> None:
    """Begin a release that waited in a queue: what `up` runs when its service is free."""
    from flows.orders.queueing import begun
    from pipelines.stages.intake import AlreadyLive

    home, ports = open_ports()
    stop = _stop_on_signals()
    ticket = next((ticket for ticket in ports.queue.tickets() if ticket.id == ticket_id), None)
    if ticket is None:
        return
    try:
        with begun(ticket, ports, home) as (found, held):
            _work(found, ports, home, held, stop, as_json=False)
    except AlreadyLive as live:
        _say_live(live, as_json=False)


def resume(
    release_id: Annotated[str, typer.Argument(metavar="ID", help="The release.")],
    work: Annotated[bool, typer.Option("--work", help="Work on it in this process, even where `up` would.")] = False,
    reason: Annotated[str, typer.Option("--reason")] = "",
    as_json: AsJson = False,
) -> None:
    """Let a paused release go on, or take over one whose controller is gone."""
    from flows.cli.operate import order
    from flows.control.background import start_up
    from flows.control.holders import holder, living_holder
    from flows.control.lock import hold
    from flows.wiring import clock

    home, ports = open_known_ports()
    found = ports.ledger.load(release_id)
    if found.is_ended:
        return _finish(found, as_json)
    if living_holder(ports, found.service, clock()) is not None and not work:
        return order(ports, found, "resume", reason, as_json=as_json)
    stop = _stop_on_signals()
    with hold(ports, found.service, holder("resume")) as held:
        start_up(home)
        return _work(ports.ledger.load(release_id), ports, home, held, stop, as_json=as_json)


def _work(begun: Release, ports: Ports, home: Home, held: Held, stop: Stop, *, as_json: bool) -> None:
    """Work in a thread, so that this one is free for signals; then say how it ended and exit."""
    from flows.control.prefect_choice import use_homes_prefect
    from flows.show.address import address_lines
    from flows.show.screen import Screen
    from flows.working import Listener, work_on

    screen = Screen()
    screen.opened(begun, resumed=begun.version > 2)
    # Who looks on at a canary needs no Prefect.
    if why := "" if begun.is_exposed else use_homes_prefect(home, stop.asked.is_set):
        screen.without_homes_prefect(why)
    listener = Listener(screen.step_done, screen.looked, screen.progress)
    ended = _in_thread(lambda: work_on(begun, ports, home, held, listener, stop), lambda: _abort(ports, begun, stop))
    screen.ended(ended, address_lines(ports, ended.service))
    _finish(ended, as_json)


def _finish(ended: Release, as_json: bool) -> None:
    from pipelines.records.view import release_view

    if as_json:
        print_json(release_view(ended))
    raise typer.Exit(EXIT_OF.get(str(ended.phase), 7))


def _in_thread(work: Callable[[], Release], on_stop: Callable[[], None]) -> Release:
    """Run `work` in a thread and call `on_stop` once a signal came. Raises what `work` raises."""
    results: list[Release] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  carried to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, name="release")
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        on_stop()
    if failures:
        raise failures[0]
    return results[0]


def _stop_on_signals() -> Stop:
    """SIGINT and SIGTERM ask; asking again changes nothing."""
    from flows.working import Stop

    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.ask())
    return stop


def _abort(ports: Ports, begun: Release, stop: Stop) -> None:
    """Once a stop is asked: leave the controller an abort, which it obeys at its next look."""
    from flows.wiring import actor
    from pipelines.ports import Command

    if stop.asked.is_set() and not stop.sent:
        stop.sent = True
        ports.inbox.send(Command(f"{begun.id}-signal", begun.id, "abort", actor(), "interrupted"))
        stop.ask()


def _say(line: str) -> None:
    """On standard error, so that `--json` has standard output for itself."""
    typer.echo(line, err=True)


def _leave(ports: Ports, ticket: Ticket, as_json: bool) -> None:
    """Leave the ticket to `up`."""
    ports.queue.put(ticket)
    _say(f"queued: shipway up begins it when {ticket.service} is free; shipway abort {ticket.id} takes it back")
    print_json(ticket.summary()) if as_json else typer.echo(ticket.id)


def _say_live(live: Exception, as_json: bool) -> None:
    if as_json:
        print_json({"outcome": None, "code": "E_NOOP", "reason": str(live)})
    else:
        typer.echo(f"{live}: nothing to do")


def _plan_text(facts: dict[str, Any]) -> str:
    lines = [
        f"{facts['model']} v{facts['version']} → {facts['service']}",
        f"  files     {facts['artifact_digest'][:19]}",
        *([f"  weights   {facts['weights']['uri']}, as registered"] if facts["weights"] else []),
        *(f"  converted {said}" for said in facts["converted"]),
        *(f"  doubtful  {said}" for said in facts["doubts"]),
    ]
    lines += [f"  memory    {facts['memory']['sentence']}"] if facts["memory"] else []
    lines += [f"  asked     {facts['rewrite']['sentence']}"] if facts["rewrite"] else []
    lines.append(f"  champion  {facts['champion'] or 'none yet (bootstrap)'}")
    lines += [f"  gate      {gate}" for gate in facts["gates"]]
    lines += [f"  {step['name']:<9} {step['what']}" for step in facts["steps"]]
    return "\n".join([*lines, *plan_lines(facts)])
