"""The story of the demo, told by the real commands: four releases of one service under one client's traffic."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from flows.demo.models import MODEL, prepare
from flows.wiring import quiet_environment, wire
from pipelines.errors import BadInput
from pipelines.home import FOLDERS, Home

EXPECTED = ("promoted", "promoted", "rejected", "rolled_back")
RPS = 40
STOP_TIMEOUT_S, HOME_TIMEOUT_S = 35.0, 60.0

NOT_THE_USERS = ("MLFLOW_TRACKING_URI", "SHIPWAY_LEDGER_URL")
"""The demo has a registry and a ledger of its own."""

TOLD = (
    "v1 is the first: it serves because its absolute gates hold, and is labelled unproven",
    "v2 learnt from all rows: it should be promoted, under live traffic",
    "v3 looks fine on average, and is broken on one topic: it should be rejected before any user meets it",
    "v4 passes everything offline, and fails on what only production sends: traffic should go home by itself",
)


@dataclass
class Stage:
    """The demo's home, its screen, and the processes it must end."""

    home: Home
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    traffic: subprocess.Popen[bytes] | None = None

    def shipway(self, *arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would; its progress goes to the terminal."""
        errors = subprocess.PIPE if quiet else None
        child = subprocess.Popen(
            _command(*arguments), env=self._environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            said, complained = child.communicate()
        except KeyboardInterrupt:
            child.terminate()  # a release takes its traffic home before it ends
            try:
                child.communicate(timeout=HOME_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
        return subprocess.CompletedProcess(child.args, child.returncode, said, complained)

    def ask(self, *arguments: str) -> Any:
        """The JSON of a command."""
        done = self.shipway(*arguments, "--json", quiet=True)
        if done.returncode != 0:
            raise RuntimeError(f"shipway {' '.join(arguments)} failed: {done.stderr[-500:]}")
        return json.loads(done.stdout)

    def start_traffic(self) -> None:
        """Begin to send production rows, in a process of its own."""
        folder = self.home.root / "demo"
        report, data = str(folder / "traffic.json"), str(folder / "production.csv")
        command = _command("traffic", MODEL, "--data", data, "--rps", str(RPS), "--report", report)
        self.traffic = subprocess.Popen(
            command,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop_traffic(self) -> None:
        """End the client; it writes its report."""
        if self.traffic is not None and self.traffic.poll() is None:
            self.traffic.send_signal(signal.SIGTERM)
            try:
                self.traffic.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.traffic.kill()

    def _environment(self) -> dict[str, str]:
        """This home with its own registry and ledger, whatever the user's are."""
        kept = {name: value for name, value in os.environ.items() if name not in NOT_THE_USERS}
        return {**kept, "SHIPWAY_HOME": str(self.home.root)}


def run_demo(root: Path, *, json_out: bool) -> int:
    """Tell the story; 0 where it ended as it should. Whatever happens, what was started is stopped."""
    for name in NOT_THE_USERS:
        os.environ.pop(name, None)
    stage = Stage(Home.open(root))
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _begin_again(stage)
        facts = _tell(stage)
    except KeyboardInterrupt:
        stage.console.print("[yellow]stopped[/]")
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stage.stop_traffic()
        stage.shipway("down", quiet=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, previous)
    return _conclude(stage, facts, json_out=json_out)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _begin_again(stage: Stage) -> None:
    """An earlier demo of this home is cleared away; its trained models are kept. Anything else is left alone."""
    home = stage.home.root
    marker = home / "demo.json"
    if (home / "ledger.db").exists() and set(wire(stage.home).services.names()) - {MODEL}:
        reason = "this home holds services that are not the demo's"
        raise BadInput(reason, code="E_DEMO", field="SHIPWAY_HOME", hint="name another folder for the demo")
    if not (home / "demo" / "release.yaml").exists():
        return
    stage.shipway("down", quiet=True)
    marker.unlink(missing_ok=True)
    for name in (*FOLDERS, "prefect"):
        shutil.rmtree(home / name, ignore_errors=True)
    for file in (*home.glob("ledger.db*"), *home.glob("mlflow.db*")):
        file.unlink()
    Home.open(home)


def _tell(stage: Stage) -> dict[str, Any]:
    spec = stage.home.root / "demo" / "release.yaml"
    spec.parent.mkdir(exist_ok=True)
    text = resources.files("flows.demo").joinpath("release.yaml").read_text()
    spec.write_text(text)
    quiet_environment(stage.home)
    stage.console.print(Rule("preparing: real tweets, a real transformer, four versions"))
    versions = prepare(stage.home, lambda said: stage.console.print(f"   {said}"))
    stage.console.print(Rule("release.yaml"))
    stage.console.print(text)
    for i, (version, told) in enumerate(zip(versions, TOLD, strict=True)):
        stage.console.print(Rule(told))
        stage.shipway("release", str(spec), "--model", f"models:/{MODEL}/{version}")
        if i == 0:
            stage.start_traffic()
    stage.stop_traffic()
    return _facts(stage)


def _facts(stage: Stage) -> dict[str, Any]:
    """What the releases recorded, and what the client counted."""
    ids = [line["id"] for line in reversed(stage.ask("list"))]
    traffic = json.loads((stage.home.root / "demo" / "traffic.json").read_text())
    failed = traffic["failed_by_version"]
    releases = [_release_facts(stage.ask("status", release_id), failed) for release_id in ids]
    return {
        "releases": releases,
        "traffic": {
            k: traffic[k] for k in ("requests", "failed", "failed_by_version", "by_version", "p50_ms", "p95_ms")
        },
        "champion": _champion(stage.home),
    }


def _release_facts(status: Mapping[str, Any], failed_by_version: Mapping[str, int]) -> dict[str, Any]:
    kept = (
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
    serving = (status["candidate"] or {}).get("serving_version")
    told = {k: status[k] for k in kept}
    return {**told, "serving_version": serving, "failed_requests": failed_by_version.get(str(serving), 0)}


def _champion(home: Home) -> dict[str, Any]:
    """What the registry's alias names at the end."""
    version = wire(home).registry.resolve(f"models:/{MODEL}@champion")
    return {"model": version.name, "version": version.version, "derived_from": version.tags.get("derived_from")}


def _conclude(stage: Stage, facts: dict[str, Any], *, json_out: bool) -> int:
    outcomes = tuple(r["outcome"] for r in facts["releases"])
    (stage.home.root / "demo.json").write_text(json.dumps(facts, indent=2))
    stage.console.print(_summary(facts))
    if json_out:
        with suppress(BrokenPipeError):
            print(json.dumps(facts, indent=2))  # noqa: T201  the command's output
    if outcomes == EXPECTED:
        return 0
    stage.console.print(f"[red]expected {EXPECTED}, seen {outcomes}[/]")
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


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments]
