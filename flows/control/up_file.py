"""Who is the running `shipway up` of a home, where is it, and which ledger does it work on?"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from flows.wiring import ledger_name
from pipelines.adapters.sql.engine import URL_VARIABLE
from pipelines.errors import BadInput
from pipelines.home import Home


def up_file(home: Home) -> Path:
    """Where a running `up` says who and where it is."""
    return home.root / "up.json"


def write_up_file(home: Home, port: int, error: str = "") -> None:
    """Say who and where this process is."""
    me = psutil.Process()
    facts = {
        "pid": me.pid,
        "create_time": me.create_time(),
        "url": f"http://127.0.0.1:{port}" if port else "",
        "ledger": ledger_name(home),
        "error": error,
        "prefect": "",
        "prefect_error": "",
    }
    _write(home, facts)


def say_in_up_file(home: Home, **facts: str) -> bool:
    """Say more of this process; False where it has not said yet who it is."""
    known = find_up(home)
    if known is None or known["pid"] != os.getpid():
        return False
    _write(home, {**known, **facts})
    return True


def _write(home: Home, facts: Mapping[str, object]) -> None:
    temp = up_file(home).with_suffix(".tmp")
    temp.write_text(json.dumps(facts))
    temp.replace(up_file(home))


def find_up(home: Home) -> dict[str, object] | None:
    """The running `up` of this home, or None."""
    try:
        facts: dict[str, object] = json.loads(up_file(home).read_text())
        process = psutil.Process(int(str(facts["pid"])))
        alive = (
            abs(process.create_time() - float(str(facts["create_time"]))) < 1
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
    return facts if alive else None


def refuse_other_ledger(home: Home) -> None:
    """A release that is recorded where the running `up` does not look would wait for ever. BadInput E_LEDGER_OTHER."""
    running = find_up(home) or {}
    theirs, ours = running.get("ledger", ledger_name(home)), ledger_name(home)
    if theirs != ours:
        raise BadInput(
            f"shipway up of this home works on the ledger {theirs}, this command on {ours}",
            code="E_LEDGER_OTHER",
            field=URL_VARIABLE,
            hint="set the same SHIPWAY_LEDGER_URL for both, or shipway down first",
        )
