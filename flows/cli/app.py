"""Which commands are there, and how does an error reach the terminal?

Only typer and rich are imported here: `shipway --help` must answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import adopt, create, feedback, operate, recover, release, show, simulate, trial, upkeep

if TYPE_CHECKING:
    from pipelines.errors import ShipwayError

app = typer.Typer(
    name="shipway",
    help="Takes a registered model version to production, and proves that it was safe to do so.",
    epilog="Exit codes: 0 promoted or done · 2 wrong input · 3 rejected by a gate · 4 rolled back · 5 held, could not "
    "decide · 6 aborted · 7 a service it depends on is down, or did not do its part · 8 another release holds the "
    "service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"shipway {version('shipway')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[  # noqa: ARG001  answered by its callback
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if debug:
        os.environ["SHIPWAY_DEBUG"] = "1"


for module in (create, adopt, release, simulate, show, operate, recover, upkeep, trial, feedback):
    module.add_to(app)


def main() -> None:
    """Run a command; an error is three short lines and an exit code, never a traceback."""
    from pipelines.errors import ShipwayError

    try:
        app()
    except ShipwayError as error:
        if os.environ.get("SHIPWAY_DEBUG"):
            raise
        _name_home(error)
        _show(error.as_dict(), error.lines())
        sys.exit(error.exit_code)


def _name_home(error: ShipwayError) -> None:
    """Where nothing was found, say where it was looked for: another shell may have another home."""
    from flows.wiring import home_path, ledger_name
    from pipelines.errors import NotFound
    from pipelines.home import Home

    if isinstance(error, NotFound) and error.field in {"ID", "SERVICE"}:
        error.reason += f" in {ledger_name(Home(home_path()))}"


def _show(facts: dict[str, str | None], lines: list[str]) -> None:
    if "--json" in sys.argv:
        print(json.dumps({"error": facts}))  # noqa: T201  the command's output
    print("\n".join(lines), file=sys.stderr)  # noqa: T201
