"""Options and openings that several commands share."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipelines.home import Home
    from pipelines.ports import Ports
    from pipelines.records.release import Release

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

EXIT_OF = {"promoted": 0, "rejected": 3, "rolled_back": 4, "held": 5, "aborted": 6}
"""Exit codes of commands that wait for a release."""


def open_home() -> Home:
    """The home that the environment names, made where it is missing. What this process makes is for its user alone."""
    from flows.wiring import home_path, quiet_environment
    from pipelines.home import Home

    os.umask(0o077)  # ledgers, logs and splits are made by libraries and children, too
    home = Home.open(home_path())
    quiet_environment(home)
    return home


def open_ports() -> tuple[Home, Ports]:
    """The home and everything outside it."""
    home = open_home()
    return home, _ports_of(home)


def look_into_ports() -> Ports:
    """The same for a command that only reads: nothing is made, and where nothing was ever recorded there is nothing."""
    return _ports_of(find_home(), only_reading=True)


def open_known_ports() -> tuple[Home, Ports]:
    """The same for a command about what must be there already: where nothing was ever recorded, nothing is made."""
    home = find_home()
    return (home, _ports_of(home, only_reading=True)) if not home.root.exists() else open_ports()


def find_home() -> Home:
    """The home that the environment names, made or not."""
    from flows.wiring import home_path, quiet_environment
    from pipelines.home import Home

    home = Home.find(home_path())
    quiet_environment(home)
    return home


def _ports_of(home: Home, *, only_reading: bool = False) -> Ports:
    from flows.control.up_file import refuse_other_ledger
    from flows.wiring import wire

    refuse_other_ledger(home)
    return wire(home, only_reading=only_reading)


def find_release(ports: Ports, release_id: str | None) -> Release:
    """The release of an id, or the newest one that can be read. NotFound."""
    from pipelines.errors import NotFound
    from pipelines.records.reading import broken_record, broken_records, readable

    if release_id is not None:
        return ports.ledger.load(release_id)
    newest = next(readable(ports.ledger), None)
    if newest is None:
        for row in broken_records(ports.ledger):
            raise broken_record(row)
        from flows.wiring import home_path

        reason = f"there is no release yet in {home_path()}"
        raise NotFound(reason, code="E_NOT_FOUND", hint="shipway release release.yaml, or set SHIPWAY_HOME")
    return newest


def gateway_url(service: str) -> str:
    """Where a service's gateway listens. DependencyDown where it does not run."""
    from flows.show.address import address_of
    from pipelines.errors import DependencyDown

    ports = look_into_ports()
    url = address_of(ports, ports.services.load(service).name)
    if not url:
        raise DependencyDown(f"the gateway of {service} does not run", code="E_NOT_READY", hint="shipway up")
    return url


def seconds_of(duration: str, field: str) -> float:
    """How many seconds are `90s`, `5m`, `2h` or `1d`? BadInput E_DURATION."""
    from pydantic import TypeAdapter, ValidationError

    from pipelines.errors import BadInput
    from pipelines.spec.values import Seconds

    try:
        return float(TypeAdapter(Seconds).validate_python(duration))
    except ValidationError as error:
        raise BadInput(str(error.errors()[0]["ctx"]["error"]), code="E_DURATION", field=field) from None


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, default=str))
