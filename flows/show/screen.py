"""What does a person see while a release runs? A line per step with its evidence, and the live split."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from flows.show.address import curl_line
from pipelines.records.release import Release
from pipelines.records.view import why
from pipelines.rollout.decision import Hold
from pipelines.rollout.look import Look
from pipelines.stages.steps import Step, because
from pipelines.stages.workshop import Findings

QUIET_LOOKS_S = 5.0
"""Without a terminal a hold is repeated at most this often."""

QUIET_PROGRESS_S = 10.0
"""Without a terminal the rows of an evaluation are told this often."""

SILENT_AFTER_S = 3.0
"""A canary that has just begun has seen no traffic yet; after this it is worth saying."""

MARKS = {"promoted": "[green]✔[/]", "rejected": "[red]✘[/]", "rolled_back": "[red]↩[/]", "held": "[yellow]?[/]"}


class Screen:
    """Prints what happens to one release on standard error, so that `--json` has standard output for itself."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._now_s = now_s
        self._step_began = now_s()
        self._last_progress = self._step_began
        self._last_hold = 0.0
        self._told_silence = False
        self._bar: Progress | None = None
        self._live: Live | None = None

    def opened(self, release: Release, *, resumed: bool) -> None:
        """The first line: which bytes, for which service."""
        candidate = release.sealed
        verb = "going on with" if resumed else "release"
        self.console.print(
            f"[bold]{verb} {release.id}[/]  {candidate.model} v{candidate.version} → {release.service}  "
            f"[dim]{candidate.artifact_digest[:19]}[/]"
        )

    def without_homes_prefect(self, why: str) -> None:
        """Prefect costs more then, and shows this release only afterwards."""
        self.console.print(f"  [yellow]Prefect's server of shipway up is not used ({why}): this run has its own[/]")

    def progress(self, name: str, done: int, of: int) -> None:
        """How many rows a model was asked: a bar, or a line now and then where nobody could see it move."""
        if not self.console.is_terminal:
            self._say_progress(name, done, of)
            return
        if self._bar is None:
            columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.start()
            self._bar.add_task(name, total=of)
        self._bar.update(self._bar.task_ids[0], description=name, completed=done, total=of)

    def step_done(self, step: Step, release: Release, findings: Findings) -> None:
        """A step's line: what was found."""
        self._close_bar()
        took_s, self._step_began = self._now_s() - self._step_began, self._now_s()
        self._last_progress = self._step_began
        ended = release.is_ended
        mark = MARKS.get(str(release.phase), "[green]✔[/]") if ended else "[green]✔[/]"
        said = release.reason if ended else _said(step, findings)
        self.console.print(Text.from_markup(f" {mark} {step.name:<9} {took_s:6.1f} s  ").append(said), soft_wrap=True)
        if page := (findings.get("differences") or {}).get("page"):
            said = f"{findings['differences']['of']:,} rows differ from the champion: {page} in SHIPWAY_HOME"
            self.console.print(Text(f"   {said}"), soft_wrap=True)
        for doubt in findings.get("doubts", ()):
            self.console.print(Text.from_markup("   [yellow]doubtful:[/] ").append(doubt), soft_wrap=True)

    def looked(self, look: Look) -> None:
        """A line for each change of share; between changes one live line."""
        self._say_how_to_send(look)
        share, why = look.scene.split.canary_pct, look.decision.why
        line = f"{share:5.1f} %  {why}"
        if isinstance(look.decision, Hold) and self.console.is_terminal:
            self._show_live(line)
        elif not isinstance(look.decision, Hold) or self._hold_is_due():
            self._close_live()
            name = type(look.decision).__name__.lower()
            self.console.print(Text(f"   {name:<9} {line}"), soft_wrap=True)

    def ended(self, release: Release, where: Sequence[str]) -> None:
        """The last lines: how it ended, and why; where the service answers, whatever version that is now."""
        self._close_bar()
        self._close_live()
        mark = MARKS.get(str(release.phase), "[yellow]■[/]")
        took_s = (release.ended_at_s or release.phase_since_s) - release.started_at_s
        label = f" ({release.label})" if release.label else ""
        head = Text.from_markup(f" {mark} [bold]{release.phase}[/]{label} after {took_s:.0f} s: ")
        self.console.print(head.append(why(release)), soft_wrap=True)
        for line in where:
            self.console.print(Text(f"   {line}"), soft_wrap=True)

    def _say_progress(self, name: str, done: int, of: int) -> None:
        if self._now_s() - self._last_progress >= QUIET_PROGRESS_S:
            self._last_progress = self._now_s()
            self.console.print(Text(f"   asking    {name}: {done:,} of {of:,} rows"), soft_wrap=True)

    def _say_how_to_send(self, look: Look) -> None:
        """A release without traffic cannot decide: say once where requests go."""
        has_share = look.scene.split.canary_pct > 0 and isinstance(look.decision, Hold)
        silent = look.watch.step_requests == 0 and has_share
        if not silent or self._told_silence or self._now_s() - self._step_began < SILENT_AFTER_S:
            return
        self._told_silence = True
        self._close_live()
        api = look.release.spec.get("serve", {}).get("api", "inference")
        self.console.print("[yellow]   no traffic seen:[/] this release is judged on requests to the gateway")
        self.console.print(Text(f"   {curl_line(look.scene.url, look.release.service, api)}"), soft_wrap=True)

    def _hold_is_due(self) -> bool:
        due = self._now_s() - self._last_hold >= QUIET_LOOKS_S
        if due:
            self._last_hold = self._now_s()
        return due

    def _show_live(self, line: str) -> None:
        if self._live is None:
            self._live = Live(console=self.console, transient=True, refresh_per_second=4)
            self._live.start()
        self._live.update(Text(f"   {line}", overflow="ellipsis", no_wrap=True))

    def _close_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _said(step: Step, findings: Findings) -> str:
    match step.name:
        case "evaluate":
            return _metrics(findings)
        case "compress":
            rejected = "; ".join(f"{r['technique']} does not ship: {r['why']}" for r in findings["rejected"])
            return f"{findings['variant']} ships. {_metrics(findings)} {rejected}".strip()
        case "build":
            return (
                f"{findings['candidate']['bundle_digest'][:19]}, {findings['size_mb']:.0f} MB on {findings['engine']}"
            )
        case "stage":
            return f"ready in {findings['ready_s']:.1f} s"
        case _:
            way_back = findings.get("way_back_ms")
            return because(findings["verdict"]) + (f"; the way back takes {way_back:.0f} ms" if way_back else "")


def _metrics(findings: Mapping[str, Any]) -> str:
    evidence = findings.get("evidence") or {}
    drops = {c["metric"]: c for c in evidence.get("comparisons", ()) if c["slice"] == "all"}
    return ", ".join(_metric(m, drops) for m in evidence.get("measurements", ()) if m["slice"] == "all")


def _metric(measurement: Mapping[str, Any], drops: Mapping[str, Any]) -> str:
    value, drop = measurement["value"], drops.get(measurement["metric"], {}).get("drop")
    shown = f"{measurement['metric']} {value:.4g}" if value is not None else f"{measurement['metric']} missing"
    return shown + (
        f" ({-drop:+.3g})" if drop is not None and measurement["metric"] in {"accuracy", "macro_f1"} else ""
    )
