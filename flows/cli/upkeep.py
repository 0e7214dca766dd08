"""`shipway gc | backup | restore | forget`: a home stays small, its records safe, and nobody in it for ever."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import AsJson, find_home, look_into_ports, open_home, open_known_ports, print_json

if TYPE_CHECKING:
    from flows.orders.forgetting import Forgotten
    from flows.up.ledger_backup import Contents
    from pipelines.services.garbage import Litter


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (gc, backup, restore, forget):
        app.command()(command)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove bundles, recorded requests and old pages that nobody needs, folders of ended releases, rotated logs."""
    from flows.up.housekeeping import collect
    from pipelines.services.garbage import Litter

    home, ports = open_known_ports()
    litter = collect(home, ports, dry_run=dry_run) if home.root.exists() else Litter(why_kept=f"{home.root} is no home")
    facts = {
        "dry_run": dry_run,
        "bundles": [b.name for b in litter.bundles],
        "works": [w.name for w in litter.works],
        "rotated_logs": [log.name for log in litter.rotated_logs],
        "records": [record.name for record in litter.records],
        "pages": [page.name for page in litter.pages],
        "bytes_freed": litter.size_bytes,
        "why_bundles_kept": litter.why_kept,
    }
    print_json(facts) if as_json else typer.echo(_litter_text(litter, dry_run))


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    as_json: AsJson = False,
) -> None:
    """Copy the ledger to a file while it is in use; every record's chain is checked, and a broken one is named."""
    from flows.up.ledger_backup import back_up

    _tell("backed up to", file, back_up(find_home(), file), as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `shipway backup` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Put a backup into an empty home; every record's chain is checked, and a broken one is named."""
    from flows.up.ledger_backup import restore as put_back

    _tell("restored from", file, put_back(open_home(), file), as_json=as_json)


def forget(
    who: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST_ID|USER",
            help="The x-request-id of an answer, or a user as rollout.assign tells users apart; - reads it from stdin.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Remove every text that is kept of one request, or of one user; says what was removed, and what stays."""
    from dataclasses import asdict

    from flows.orders import forgetting

    found = forgetting.forget(find_home(), sys.stdin.read().strip() if who == "-" else who, _recording())
    if as_json:
        places = [asdict(one) for one in found]
        print_json({"requests": sum(o.requests for o in found), "places": places, "stays": forgetting.STAYS})
        return
    typer.echo("\n".join([*_lines(found), *(f"stays: {what}" for what in forgetting.STAYS)]))


def _litter_text(litter: Litter, dry_run: bool) -> str:
    verb = "would go" if dry_run else "removed"
    items = (
        ("bundle", litter.bundles),
        ("work", litter.works),
        ("log", litter.rotated_logs),
        ("record", litter.records),
        ("pages", litter.pages),
    )
    lines = [
        f"{verb}  {kind:<6} {item.name}  {item.size_bytes / 1e6:.1f} MB" for kind, found in items for item in found
    ]
    if litter.why_kept:
        lines.append(f"all bundles stay: {litter.why_kept}")
    freed = "would be freed" if dry_run else "freed"
    return "\n".join([*lines, f"{litter.size_bytes} bytes {freed}"])


def _tell(verb: str, file: Path, contents: Contents, *, as_json: bool) -> None:
    facts: dict[str, Any] = {"file": str(file), **vars(contents), "chain": "broken" if contents.broken else "ok"}
    if as_json:
        print_json(facts)
        return
    chains = f"{len(contents.broken)} of them broken" if contents.broken else "every chain verified"
    typer.echo(f"{verb} {file}: {contents.releases} releases, {contents.services} services, {chains}")
    for name, why in contents.broken.items():
        typer.echo(f"  broken: {name}: {why}")
    for digest in contents.missing_bundles:
        typer.echo(f"  not on this machine: bundle {digest}; copy it into bundles/ before shipway up")


def _recording() -> list[str]:
    """Services that keep requests now: one that was asked, and is not written yet, is not written any more.

    Where the ledger does not answer, what lies in the files is forgotten all the same.
    """
    from pipelines.errors import ShipwayError
    from pipelines.records.reading import read_services

    try:
        services = read_services(look_into_ports().services).services
    except ShipwayError:
        return []
    return [service.name for service in services if service.settings.record]


def _lines(found: tuple[Forgotten, ...]) -> list[str]:
    lines = [f"removed  {one.requests} of {one.file}" for one in found if one.requests]
    lines = lines or ["nothing is kept of it"]
    return lines + [
        f"{one.unnamed} requests in {one.file} name no user: the service does not tell users apart (rollout.assign)"
        for one in found
        if one.unnamed
    ]
