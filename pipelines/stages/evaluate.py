"""Is this model good enough, beside the champion, on the same rows?

Its task measures, so a folder, a variant and the champion answer the same questions; whoever it is, the contract comes
first, and the same gates judge what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evals.evidence import Evidence
from evals.gate import Outcome, Verdict, judge
from pipelines.records.release import Release
from pipelines.records.service import Deployment
from pipelines.records.settings import ServerSettings
from pipelines.records.split import Rewrite
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.spec.serve import ServeSpec
from pipelines.stages.differences import keep_differences
from pipelines.stages.prompted import pinned
from pipelines.stages.workshop import Findings, Progress, Workshop, seconds
from pipelines.supply.bundle import verify_bundle
from pipelines.supply.layout import read_layout
from pipelines.tasks.known import task_for, task_of
from pipelines.tasks.task import Differences, Golden, Subject, TaskRows


@dataclass(frozen=True)
class Judged:
    """A verdict with the evidence behind it, and the golden answers of the judged model.

    `kept` says which page shows where it differs from the champion.
    """

    verdict: Verdict
    evidence: Evidence | None
    golden: Golden
    differences: Differences = field(default_factory=Differences)
    kept: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        evidence = self.evidence.as_dict() if self.evidence else None
        said = {"verdict": self.verdict.as_dict(), "evidence": evidence, "golden": self.golden}
        return {**said, "differences": dict(self.kept)} if self.kept else said


def source_subject(folder: Path, model: str, serve: ServeSpec, rewrite: Rewrite | None = None) -> Subject:
    """The candidate as it was registered, on the reference engine."""
    layout = read_layout(folder)
    task = task_for(layout.config_json)
    facts = {"engine": task.engine, **task.promises(layout, serve, rewrite), "model": model, "variant": "source"}
    return Subject("candidate", folder, facts, serve.place)


def champion_subject(stable: Deployment) -> Subject:
    """The champion as it serves: its verified bundle."""
    manifest = verify_bundle(Path(stable.bundle), stable.digest)
    return Subject(
        f"champion v{stable.version}", Path(stable.bundle), dict(manifest["facts"]), stable.settings.engine_at
    )


def judge_model(
    spec: ReleaseSpec,
    rows: TaskRows,
    subject: Subject,
    champion: Subject | None,
    clock: Callable[[], float],
    progress: Progress,
) -> Judged:
    """The contract first, then every gate on the same rows as the champion."""
    task = task_of(subject.facts)
    contract = task.judge_contract(subject.facts, champion.facts if champion else None)
    if contract.outcome is not Outcome.PASS:
        return Judged(contract, None, {})
    evidence, golden, differences = task.measure(spec.evaluate, rows, subject, champion, clock, progress)
    verdict = judge(spec.offline_gates(), evidence, has_champion=champion is not None)
    return Judged(verdict, evidence, golden, differences)


def evaluate(shop: Workshop, release: Release) -> Findings:
    """Is the candidate as it was registered good enough? Judged on tokens that are those of transformers."""
    subject, rows = source_of(shop, release), shop.rows(release)
    resolved = release.last("resolved")
    if not (resolved and resolved.data.get("compared_rows")):  # of a Shipway that did not compare at intake
        task_of(subject.facts).compare_tokens(subject.folder, subject.facts, rows)
    judged = judge_subject(shop, release, subject, rows).as_dict()
    return {**judged, "doubts": list(rows.doubts)} if rows.doubts else judged


def judge_subject(shop: Workshop, release: Release, subject: Subject, rows: TaskRows) -> Judged:
    """The verdict on one model, beside what serves; where they differ is kept for who wants to read it."""
    judged = judge_model(shop.spec, rows, subject, champion_of(release), seconds(shop), shop.progress)
    if shop.home is None or not judged.differences.total:
        return judged
    return replace(judged, kept=keep_differences(shop.home, release.id, subject.name, judged.differences))


def source_of(shop: Workshop, release: Release) -> Subject:
    """The candidate as it was registered, asked as the release asks."""
    return source_subject(shop.source, shop.spec.model_name, shop.spec.serve, pinned(release))


def champion_of(release: Release) -> Subject | None:
    """What served when the release began; None on a first release, and where it is an endpoint without files."""
    champion = release.champion
    if not champion or not champion["bundle"]:
        return None
    bundle, digest = str(champion["bundle"]), str(champion["digest"])
    settings = ServerSettings(engine_at=str(champion.get("engine_at", "")))
    return champion_subject(Deployment(digest, bundle, "", int(champion["version"]), "", settings=settings))
