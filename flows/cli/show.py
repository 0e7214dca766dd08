"""`shipway status | list | evidence | verify`: what serves which share and why, what speaks for it, is it true?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import AsJson, find_release, look_into_ports, print_json

if TYPE_CHECKING:
    from pipelines.ports import Ports
    from pipelines.records.queue import Ticket
    from pipelines.records.release import Release

ReleaseId = Annotated[str | None, typer.Argument(metavar="[ID]", help="The release; without it the newest.")]
WATCH_S = 1.0


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command("list")(list_releases)
    app.command()(evidence)
    app.command()(verify)


def status(
    release_id: ReleaseId = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until the release has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say where a release is, what share its candidate has, and why, in one sentence."""
    from flows.show.address import address_lines

    ports = look_into_ports()
    while True:
        ticket = next((ticket for ticket in ports.queue.tickets() if ticket.id == release_id), None)
        if ticket is not None:
            print_json(ticket.summary()) if as_json else typer.echo(_queued(ticket))
            if not watch:
                return
            time.sleep(WATCH_S)
            continue
        found = find_release(ports, release_id)
        view = _view(ports, found)
        print_json(view) if as_json else typer.echo(_text(view, address_lines(ports, found.service)))
        if found.is_ended or not watch:
            return
        time.sleep(WATCH_S)


def list_releases(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many.")] = 50,
    before: Annotated[str | None, typer.Option("--before", metavar="ID", help="Go on after this release.")] = None,
    broken: Annotated[bool, typer.Option("--broken", help="Only records that cannot be used.")] = False,
    as_json: AsJson = False,
) -> None:
    """List releases, newest first, fifty at a time, what is queued before them; a broken record is named as such."""
    from pipelines.records.reading import broken_records

    ports = look_into_ports()
    named = {row.id: row for row in broken_records(ports.ledger)}
    rows = ports.ledger.summaries(limit=limit + 1, before=before, broken=broken)
    queued = [] if before or broken else [ticket.summary() for ticket in ports.queue.tickets()]
    found = [*queued, *(named.get(row.id, row).line() for row in rows[:limit])]
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join([*map(_line, found), *_addresses(ports)]) or _nothing(before, broken=broken))
    if len(rows) > limit:
        options = f"--limit {limit} --before {rows[limit - 1].id}" + (" --broken" if broken else "")
        typer.echo(f"there are more: shipway list {options}", err=as_json)
    if named.keys() - {line["id"] for line in found}:
        typer.echo(f"{len(named)} broken in all: shipway list --broken", err=as_json)


def _line(line: dict[str, Any]) -> str:
    """One release of the list."""
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(line["started_at"]))
    if "broken" in line:
        return f"{line['id']}  {line['service']}  broken       {started}Z  {line['broken']}"
    return f"{line['id']}  {_model(line)}  {line['outcome'] or line['phase']:<12} {started}Z"


def _addresses(ports: Ports) -> list[str]:
    """Where each service answers."""
    from flows.show.address import address_lines

    return [line for name in ports.services.names() for line in address_lines(ports, name)]


def _nothing(before: str | None, *, broken: bool) -> str:
    if broken:
        return "no broken record"
    from flows.wiring import home_path

    return "no more" if before else f"no release yet in {home_path()}: shipway release release.yaml"


def evidence(
    release_id: ReleaseId = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw it, too: a file that ends in .svg or .png.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the evidence on a canary against its boundaries: now, at its largest, and when it crossed."""
    from flows.show.evidence_text import evidence_text
    from pipelines.records.evidence_series import evidence_series

    ports = look_into_ports()
    series = evidence_series(find_release(ports, release_id))
    if plot is not None:
        from flows.show.evidence_picture import write_picture

        write_picture(series, plot)
    print_json(series.as_dict()) if as_json else typer.echo(evidence_text(series))


def verify(release_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Check a release's record: the hash chain, the bytes of its bundle, and every canary verdict, recomputed."""
    from pipelines.rollout.recheck import recheck_verdicts
    from pipelines.supply.bundle import verify_bundle

    ports = look_into_ports()
    found = ports.ledger.load(release_id)
    checked = {"id": found.id, "events": found.version, "chain": "ok", "verdicts": recheck_verdicts(found)}
    candidate = found.candidate
    if candidate is not None and candidate.bundle and Path(candidate.bundle).exists():
        verify_bundle(Path(candidate.bundle), candidate.bundle_digest)
        checked |= {"bundle": candidate.bundle_digest, "bytes": "ok"}
    if as_json:
        print_json(checked)
    else:
        typer.echo("\n".join(f"{name:<9} {value}" for name, value in checked.items()))


def _view(ports: Ports, release: Release) -> dict[str, Any]:
    from flows.show.address import address_of
    from flows.show.traffic_now import live_of
    from pipelines.records.reading import broken_records
    from pipelines.records.view import release_view

    view = release_view(release)
    view["queued"] = next((t.summary() for t in ports.queue.tickets() if t.service == release.service), None)
    view["live"] = live_of(ports, release.service)
    view["serves_at"] = address_of(ports, release.service)
    view["broken_records"] = [row.line() for row in broken_records(ports.ledger)]
    return view


def _text(view: dict[str, Any], where: list[str]) -> str:
    from flows.show.traffic_now import traffic_line

    why = view.get("reason") or "running"
    lines = [
        f"{view['id']}  {view['model']} v{view['version']} → {view['service']}",
        f"  phase    {view['phase']}" + (f" ({view['label']})" if view["label"] else ""),
        f"  traffic  {traffic_line(view['live'])}",
        f"  why      {why}",
        *([f"  said     {view['said']}"] if view["said"] and view["said"] not in why else []),
        *([f"  cost     {_cost(view['cost'])}"] if view.get("cost") else []),
        *(f"  broken   {line['id']} of {line['service']}: {line['broken']}" for line in view["broken_records"]),
    ]
    if view["queued"]:
        lines.append(f"  queued   {view['queued']['id']}  {view['queued']['model']}")
    return "\n".join([*lines, *where])


def _cost(cost: dict[str, Any]) -> str:
    """What a thousand answers of each arm cost."""
    money = cost["currency"] or ""
    said = [
        f"{arm} {'unknown' if cost[arm]['per_1000'] is None else format(cost[arm]['per_1000'], '.4g')} {money}".strip()
        + f" ({cost[arm]['answers']} answers)"
        for arm in ("canary", "stable")
    ]
    return f"of 1,000 answers: {', '.join(said)}" + (", at the shares they had" if cost["by"] == "gpu_hour" else "")


def _queued(ticket: Ticket) -> str:
    who = "the command that asked, which waits" if ticket.waiter else "shipway up"
    lines = [
        f"{ticket.id}  {ticket.spec.get('model')} → {ticket.service}",
        "  phase    queued",
        f"  why      begins when {ticket.service} is free; begun by {who}",
    ]
    return "\n".join(lines)


def _model(line: dict[str, Any]) -> str:
    return str(line["model"]) if line["version"] is None else f"{line['model']} v{line['version']}"
