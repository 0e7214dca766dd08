"""Is this model good enough, beside the champion, on the same rows?

The suite asks through a `predict` callable, so a folder, a variant and later a staged server answer the same questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evals.evidence import Evidence
from evals.gate import Outcome, Verdict, judge
from evals.offline.contract import ModelContract, judge_contract
from evals.offline.suite import Answers, Suite, ask, measure
from pipelines.compress.search import depends_on_batch
from pipelines.records.release import Release
from pipelines.records.service import Deployment
from pipelines.serving.engines import load_engine
from pipelines.serving.engines.engine import Engine
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.stages.agreement import check_tokens
from pipelines.stages.workshop import Findings, Progress, Workshop, seconds
from pipelines.supply.bundle import verify_bundle
from pipelines.supply.dataset import Rows, doubts_about
from pipelines.supply.layout import read_layout

GOLDEN_ROWS = 24
"""How many rows the staged server must later answer exactly as it did here."""


@dataclass(frozen=True)
class Subject:
    """A model that can be asked: its files, and the facts that its engine needs."""

    name: str
    folder: Path
    facts: dict[str, Any]

    @property
    def size_mb(self) -> float:
        """The files' size in MB."""
        return sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file()) / 1e6

    def contract(self) -> ModelContract:
        """What its callers rely on."""
        labels = tuple(self.facts["labels"])
        return ModelContract(labels, ("text",), len(labels), int(self.facts["max_length"]))


@dataclass(frozen=True)
class Judged:
    """A verdict with the evidence behind it, and the golden answers of the judged model."""

    verdict: Verdict
    evidence: Evidence | None
    golden: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data for the ledger."""
        evidence = self.evidence.as_dict() if self.evidence else None
        return {"verdict": self.verdict.as_dict(), "evidence": evidence, "golden": self.golden}


def suite_of(spec: ReleaseSpec, rows: Rows) -> Suite:
    """The suite of a spec's data, metrics and slices."""
    plan = spec.evaluate
    columns = {name: rows.columns[name] for name in plan.slices}
    return Suite(rows.texts, rows.labels, columns, plan.metrics, plan.slices, plan.batch_size, plan.confidence)


def asked_as(subject: Subject, suite: Suite) -> Suite:
    """How is this one asked? In the suite's batches, or one row at a time where its answers depend on the batch.

    Users ask alone: what they get is what is judged.
    """
    return replace(suite, batch_size=1) if depends_on_batch(subject.facts) else suite


def source_subject(folder: Path, model: str) -> Subject:
    """The candidate as it was registered, on the reference engine."""
    layout = read_layout(folder)
    facts = {
        "engine": "torch",
        "labels": list(layout.labels),
        "max_length": layout.max_length,
        "model": model,
        "variant": "source",
    }
    return Subject("candidate", folder, facts)


def champion_subject(stable: Deployment) -> Subject:
    """The champion as it serves: its verified bundle."""
    manifest = verify_bundle(Path(stable.bundle), stable.digest)
    return Subject(f"champion v{stable.version}", Path(stable.bundle), dict(manifest["facts"]))


def judge_model(
    spec: ReleaseSpec,
    rows: Rows,
    subject: Subject,
    champion: Subject | None,
    clock: Callable[[], float],
    progress: Progress,
) -> Judged:
    """The contract first, then every gate on the same rows as the champion."""
    contract = judge_contract(subject.contract(), champion.contract() if champion else None)
    if contract.outcome is not Outcome.PASS:
        return Judged(contract, None, {})
    suite = suite_of(spec, rows)
    answers, golden = _answers(suite, subject, clock, progress)
    base = _answers(suite, champion, clock, progress)[0] if champion else None
    size = champion.size_mb if champion else None
    evidence = measure(suite, answers, subject.name, subject.size_mb, base, size)
    verdict = judge(spec.offline_gates(), evidence, has_champion=champion is not None)
    return Judged(verdict, evidence, golden)


def _answers(
    suite: Suite, subject: Subject, clock: Callable[[], float], progress: Progress
) -> tuple[Answers, dict[str, Any]]:
    engine = load_engine(subject.folder, subject.facts)
    batch = partial(engine.predict, whole=True)
    asked = asked_as(subject, suite)
    answers = ask(asked, batch, engine.labels, lambda done, of: progress(subject.name, done, of), clock)
    return answers, golden_answers(engine, suite.texts)


def golden_answers(engine: Engine, texts: Sequence[str]) -> dict[str, Any]:
    """Some rows asked one by one, as a user would: their labels and probabilities, by row."""
    step = max(1, len(texts) // GOLDEN_ROWS)
    chosen = list(range(0, len(texts), step))[:GOLDEN_ROWS]
    logits = np.concatenate([engine.predict([texts[i]]) for i in chosen]).astype(np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    digest = hashlib.sha256("\0".join(texts[i] for i in chosen).encode()).hexdigest()
    finite = np.nan_to_num(probabilities, nan=-1.0)
    return {
        "rows": chosen,
        "texts_sha256": digest,
        "labels": [engine.labels[int(k)] for k in logits.argmax(axis=1)],
        "probabilities": np.round(finite, 6).tolist(),
    }


def evaluate(shop: Workshop, release: Release) -> Findings:
    """Is the candidate as it was registered good enough? Judged on tokens that are those of transformers."""
    subject, rows = source_of(shop), shop.rows(release)
    resolved = release.last("resolved")
    if not (resolved and resolved.data.get("compared_rows")):  # of a Shipway that did not compare at intake
        check_tokens(subject.folder, int(subject.facts["max_length"]), rows)
    doubts = doubts_about(rows)
    judged = judge_subject(shop, release, subject).as_dict()
    return {**judged, "doubts": list(doubts)} if doubts else judged


def judge_subject(shop: Workshop, release: Release, subject: Subject) -> Judged:
    """The verdict on one model, beside what serves."""
    rows = shop.rows(release)
    return judge_model(shop.spec, rows, subject, champion_of(release), seconds(shop), shop.progress)


def source_of(shop: Workshop) -> Subject:
    """The candidate as it was registered."""
    return source_subject(shop.source, shop.spec.model_name)


def champion_of(release: Release) -> Subject | None:
    """What served when the release began; None on a first release, and where it is an endpoint without files."""
    champion = release.champion
    if not champion or not champion["bundle"]:
        return None
    bundle, digest = str(champion["bundle"]), str(champion["digest"])
    return champion_subject(Deployment(digest, bundle, "", int(champion["version"]), ""))
