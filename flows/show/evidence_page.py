"""How does the evidence look on Prefect's page? Best effort: a page that cannot be written stops nothing."""

from __future__ import annotations

import logging
import re
from typing import Any

from pipelines.records.release import Release
from pipelines.stages.steps import Step, because
from pipelines.stages.workshop import Findings

log = logging.getLogger("shipway.prefect")


def publish_step(release: Release, step: Step, findings: Findings) -> None:
    """A table of what a step measured, and a sentence on what was decided."""
    evidence = findings.get("evidence") or {}
    rows = [_row(m) for m in evidence.get("measurements", ())]
    verdict = findings.get("verdict") or {}
    said = f"**{verdict.get('outcome', 'done')}**: {because(verdict)}" if verdict else "done"
    if page := (findings.get("differences") or {}).get("page"):
        said += f"\n\nRows that differ from the champion: `{page}` in Shipway's home"
    _publish(_key(release, step.name), rows, f"## {release.id}: {step.name}\n\n{said}")


def publish_looks(release: Release) -> None:
    """How the release ended, and the shares it had on the way."""
    rows = [
        {"share_pct": e.data["pct"], "at_s": round(e.at_s - release.started_at_s, 1)}
        for e in release.of_kind("exposed")
    ]
    _publish(_key(release, "rollout"), rows, f"## {release.id}\n\n**{release.phase}**: {release.reason}")


def _row(measurement: dict[str, Any]) -> dict[str, Any]:
    kept = ("metric", "slice", "value", "unit", "n", "missing")
    return {k: measurement.get(k) for k in kept}


def _key(release: Release, name: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", f"{release.id}-{name}".lower())


def _publish(key: str, rows: list[dict[str, Any]], markdown: str) -> None:
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    try:
        create_markdown_artifact(markdown, key=key)
        if rows:
            create_table_artifact(rows, key=f"{key}-table")
    except Exception as error:  # noqa: BLE001  whatever Prefect's API raises, the release goes on
        log.warning("evidence page %s was not written: %s", key, error)
