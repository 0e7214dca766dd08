"""How is a story told by the real commands: some releases of one service, one after the other, under one client?"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import ndiff
from pathlib import Path
from typing import Any

from rich.rule import Rule
from rich.table import Table

from flows.demo.stage import NOT_THE_USERS, Stage
from flows.wiring import quiet_environment, wire
from pipelines.home import Home

COUNTED = ("requests", "failed", "failed_by_version", "by_version", "p50_ms", "p95_ms")
COUNTED_OF_STREAMS = ("first_token", "first_token_by_version", "tokens", "tokens_by_version")
OF_A_RELEASE = (
    "id",
    "version",
    "outcome",
    "label",
    "reason",
    "phase_seconds",
    "canary_requests",
    "canary_errors",
    "ended_at",
)


@dataclass(frozen=True)
class Tale:
    """What is released, what is said of it, and how it should end.

    `spec` is the text of the release.yaml of each release in turn; the client runs from the second one on.
    """

    model: str
    rows: str
    rps: int
    preparing: str
    told: Sequence[str]
    expected: Sequence[str]
    prepare: Callable[[Home, Callable[[str], None]], list[int]]
    spec: Callable[[Stage, int], str]


def tell(tale: Tale, home: Path, result: Path, *, json_out: bool) -> int:
    """Tell it; 0 where it ended as it should. Whatever happens, what was started is stopped."""
    for name in NOT_THE_USERS:
        os.environ.pop(name, None)
    stage = Stage(Home.open(home), tale.model, tale.rows, tale.rps, result)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        stage.begin_again()
        facts = _releases(stage, tale)
    except KeyboardInterrupt:
        stage.console.print("[yellow]stopped[/]")
        return 130
    finally:
        stage.leave()
        signal.signal(signal.SIGTERM, previous)
    return _conclude(stage, tale, facts, json_out=json_out)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _releases(stage: Stage, tale: Tale) -> dict[str, Any]:
    spec, said = stage.folder / "release.yaml", ""
    stage.folder.mkdir(exist_ok=True)
    spec.touch()  # by which the next demo knows this home
    quiet_environment(stage.home)
    stage.console.print(Rule(tale.preparing))
    versions = tale.prepare(stage.home, lambda line: stage.console.print(f"   {line}"))
    for i, (version, told) in enumerate(zip(versions, tale.told, strict=True)):
        text = tale.spec(stage, i)
        show_spec(stage, said, text)
        spec.write_text(text)
        said = text
        stage.console.print(Rule(told))
        stage.shipway("release", str(spec), "--model", f"models:/{tale.model}/{version}")
        if i == 0:
            stage.start_traffic()
    stage.stop_traffic()
    return _facts(stage)


def show_spec(stage: Stage, before: str, text: str) -> None:
    """All of it, or the lines that are others now."""
    changed = [line for line in ndiff(before.splitlines(), text.splitlines()) if line[0] in "+-"]
    if changed:
        stage.console.print(Rule("release.yaml"))
        stage.console.print("\n".join(changed) if before else text, markup=False)


def _facts(stage: Stage) -> dict[str, Any]:
    """What the releases recorded, and what the client counted."""
    ids = [line["id"] for line in reversed(stage.ask("list"))]
    traffic = json.loads((stage.folder / "traffic.json").read_text())
    failed = traffic["failed_by_version"]
    releases = [_release_facts(stage.ask("status", release_id), failed) for release_id in ids]
    counted = (*COUNTED, *(key for key in COUNTED_OF_STREAMS if key in traffic))
    return {
        "releases": releases,
        "traffic": {key: traffic[key] for key in counted},
        "champion": _champion(stage),
    }


def _release_facts(status: Mapping[str, Any], failed_by_version: Mapping[str, int]) -> dict[str, Any]:
    serving = (status["candidate"] or {}).get("serving_version")
    told = {key: status[key] for key in OF_A_RELEASE}
    return {**told, "serving_version": serving, "failed_requests": failed_by_version.get(str(serving), 0)}


def _champion(stage: Stage) -> dict[str, Any]:
    """What the registry's alias names at the end."""
    version = wire(stage.home).registry.resolve(f"models:/{stage.service}@champion")
    return {"model": version.name, "version": version.version, "derived_from": version.tags.get("derived_from")}


def _conclude(stage: Stage, tale: Tale, facts: dict[str, Any], *, json_out: bool) -> int:
    outcomes = tuple(r["outcome"] for r in facts["releases"])
    stage.result.write_text(json.dumps(facts, indent=2))
    stage.console.print(_summary(facts))
    if json_out:
        with suppress(BrokenPipeError):
            print(json.dumps(facts, indent=2))  # noqa: T201  the command's output
    if outcomes == tale.expected:
        return 0
    stage.console.print(f"[red]expected {tale.expected}, seen {outcomes}[/]")
    return 1


def _summary(facts: Mapping[str, Any]) -> Table:
    table = Table("version", "outcome", "canary requests", "failed requests", "why")
    for release in facts["releases"]:
        cells = (
            f"v{release['version']}",
            release["outcome"] or "?",
            release["canary_requests"],
            release["failed_requests"],
        )
        table.add_row(*map(str, cells), release["reason"])
    traffic, champion = facts["traffic"], facts["champion"]
    table.caption = (
        f"{traffic['requests']} requests, {traffic['failed']} failed; champion is version {champion['version']} "
        f"(derived from {champion['derived_from']})"
    )
    return table
