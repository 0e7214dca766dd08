"""What happens between opening a release and its first user?

Five steps, each from one phase to the next: evaluate → compress → build → stage → qualify. A step computes `Findings`
(plain JSON, so that a finished step need not be repeated after a kill) and `conclude` records them: one place decides
that only PASS lets a release go on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evals.gate import Outcome, Reason, Verdict
from evals.offline.suite import SuiteFailed
from pipelines.compress.search import techniques_for
from pipelines.errors import BadInput, Busy, DependencyDown, LedgerBroken, NotFound, StaleWriter
from pipelines.ports import BUNDLE_TAG, Builder, Now, Ports, RegisteredVersion, Token
from pipelines.records.release import Candidate, Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.rollout.ending import tell_registry
from pipelines.services.change import deployment_of, update_service
from pipelines.services.marking import verdict_debts
from pipelines.services.outbox import with_debts
from pipelines.services.traffic import rehearse_way_back
from pipelines.services.units import arm_of, down_reason, exits_of, server_units, wanted_units
from pipelines.spec.release_spec import ReleaseSpec
from pipelines.stages.evaluate import Judged, Progress, Subject, champion_subject, judge_model, source_subject
from pipelines.stages.intake import read_evaluation_rows
from pipelines.stages.qualify import qualify_server
from pipelines.supply.dataset import Rows
from pipelines.supply.layout import read_layout

READY_TIMEOUT_S = 180.0
EXITS_AT_STAGING = 3
"""A server that ended this often before it was ready once is not waited for any longer."""

Findings = Mapping[str, Any]


class Interrupted(Exception):
    """Raised out of a step by whoever follows its progress, because a person asked it to stop."""


NOT_THE_STEPS_FAULT = (Interrupted, DependencyDown, StaleWriter, Busy, LedgerBroken)
"""What another try, or another controller, may find otherwise."""


@dataclass(frozen=True)
class Workshop:
    """Where the steps work and what they work with. `work` belongs to one release."""

    ports: Ports
    builder: Builder
    token: Token
    spec: ReleaseSpec
    data_dir: Path
    work: Path
    clock: Callable[[], Now]
    sleep: Callable[[float], None]
    progress: Progress = lambda _name, _done, _of: None

    @property
    def source(self) -> Path:
        """The candidate's private, verified files."""
        return self.work / "source"

    def rows(self, release: Release) -> Rows:
        """The evaluation rows. BadInput E_DATASET where they are not those that the release was opened with."""
        rows = read_evaluation_rows(self.spec, self.data_dir, read_layout(self.source).labels)
        resolved = release.last("resolved")
        if resolved and resolved.data.get("data_digest", rows.digest) != rows.digest:
            raise BadInput(
                f"{self.spec.evaluate.data} was changed after the release was opened",
                code="E_DATASET",
                field="evaluate.data",
                hint="release again, so that everything is judged on the same rows",
            )
        return rows


@dataclass(frozen=True)
class Step:
    """One step of the plan: `run` computes, `repeatable` says whether its findings outlive the process."""

    name: str
    before: Phase
    after: Phase
    run: Callable[[Workshop, Release], Findings]
    repeatable: bool = True


def evaluate(shop: Workshop, release: Release) -> Findings:
    """Is the candidate as it was registered good enough?"""
    return _judge(shop, release, _source(shop)).as_dict()


def compress(shop: Workshop, release: Release) -> Findings:
    """Is there a smaller or faster variant that the same gates accept? Where not, the source ships, and why."""
    rejected: list[dict[str, str]] = []
    for technique in techniques_for(shop.spec.compress):
        try:
            made = technique.compress(shop.source, shop.work / technique.name, dict(_source(shop).facts))
            recipe = {"engine": made.engine, "variant": technique.name, "recipe": dict(made.recipe)}
            facts = {**_source(shop).facts, **recipe}
            judged = _judge(shop, release, Subject(f"{technique.name} variant", made.folder, facts))
        except (RuntimeError, ValueError, OSError, SuiteFailed) as error:
            rejected.append({"technique": technique.name, "why": f"it failed: {error}"})
            continue
        if judged.verdict.outcome is Outcome.PASS:
            return {
                **judged.as_dict(),
                "variant": technique.name,
                "facts": facts,
                "folder": technique.name,
                "rejected": rejected,
            }
        rejected.append({"technique": technique.name, "why": judged.verdict.because()})
    golden = _entered(release, Phase.EVALUATED)["golden"]
    return {
        "variant": "source",
        "facts": _source(shop).facts,
        "folder": "source",
        "golden": golden,
        "rejected": rejected,
    }


def _judge(shop: Workshop, release: Release, subject: Subject) -> Judged:
    rows = shop.rows(release)
    return judge_model(shop.spec, rows, subject, _champion(release), _seconds(shop), shop.progress)


def build(shop: Workshop, release: Release) -> Findings:
    """Which bundle holds what was chosen, and which registry version names it?"""
    chosen = _entered(release, Phase.COMPRESSED)
    bundle = shop.builder.build(shop.work / str(chosen["folder"]), chosen["facts"])
    candidate = release.sealed
    sealed = replace(
        candidate,
        variant=str(chosen["variant"]),
        bundle_digest=bundle.digest,
        bundle=str(bundle.path),
        serving_version=candidate.version,
        serving_made=candidate.made,
        image=bundle.image,
    )
    findings = {"engine": bundle.engine, "size_mb": bundle.size_bytes / 1e6}
    if chosen["variant"] == "source":
        return {"candidate": asdict(sealed), **findings}
    try:
        made = _register_variant(shop, sealed)
    except NotFound as gone:
        return {"candidate": asdict(sealed), **findings, "unregistered": str(gone)}
    return {"candidate": asdict(replace(sealed, serving_version=made.version, serving_made=made.made)), **findings}


def _register_variant(shop: Workshop, sealed: Candidate) -> RegisteredVersion:
    """A version of its own. NotFound where its source is gone: nothing is made again that somebody deleted."""
    tags = {
        "derived_from": str(sealed.version),
        "shipway.variant": sealed.variant,
        BUNDLE_TAG: sealed.bundle_digest,
        "shipway.artifact_digest": sealed.artifact_digest,
    }
    shop.ports.registry.resolve(f"models:/{sealed.model}/{sealed.version}")
    return shop.ports.registry.register(sealed.model, Path(sealed.bundle), tags)


def stage(shop: Workshop, release: Release) -> Findings:
    """Does the candidate run, beside what serves, without any user?"""
    now = shop.clock()
    service = _record_candidate(shop, release, deployment_of(release, now.wall_s))
    for unit in wanted_units(service, now.wall_s):
        shop.ports.runtime.ensure(unit)
    for unit in server_units(service, deployment_of(release, now.wall_s)):
        shop.ports.runtime.ensure(unit)
    began_s = shop.clock().mono_s
    reason = _wait_ready(shop, release)
    exits = exits_of(shop.ports, release.service, release.sealed.bundle_digest)
    findings = {"exits": exits, "ready_s": round(shop.clock().mono_s - began_s, 3)}
    if reason:
        why = Reason(Outcome.ERROR, "ready", f"the staged server did not get ready: {reason}")
        return {**findings, "verdict": Verdict.of([why]).as_dict()}
    return findings


def _record_candidate(shop: Workshop, release: Release, deployment: Deployment) -> Service:
    serve = shop.spec.serve

    def with_candidate(service: Service) -> Service:
        return service.changed(
            model=release.sealed.model,
            candidate=deployment,
            replicas=serve.replicas,
            cpus=serve.cpus,
            port=serve.port or service.port,
            timeout_s=serve.timeout_s,
            workers=serve.gateway_workers,
            slices=shop.spec.rollout.slices,
            label_s=shop.spec.rollout.label_s,
            assign=shop.spec.rollout.assign.rule if shop.spec.rollout.assign else "",
            record=serve.record.recording() if serve.record else None,
            router=serve.router,
            drain_s=serve.drain_s,
            convicted_streams=serve.convicted_streams,
            idempotent=serve.idempotent,
            shadow=shop.spec.rollout.shadow.shadowing() if shop.spec.rollout.shadow else None,
            retain_s=shop.spec.retain,
            wanted=True,
        )

    try:
        return update_service(shop.ports, release.service, with_candidate)
    except NotFound:
        return shop.ports.services.save(with_candidate(Service(release.service)))


def _wait_ready(shop: Workshop, release: Release) -> str:
    """Wait until every replica is ready; why they are not where that takes too long or they keep ending.

    DependencyDown where it is the gateway that does not answer: that says nothing about the candidate.
    """
    digest, began_s = release.sealed.bundle_digest, shop.clock().mono_s
    while True:
        reason, gateway = down_reason(shop.ports, release.service, digest), _gateway_down(shop, release.service)
        if not reason and not gateway:
            return ""
        is_late = shop.clock().mono_s - began_s > READY_TIMEOUT_S
        if reason and (is_late or exits_of(shop.ports, release.service, digest) >= EXITS_AT_STAGING):
            return reason
        if is_late:
            raise DependencyDown(f"the gateway does not answer: {gateway}", code="E_NOT_READY", field=release.service)
        shop.sleep(0.1)


def _gateway_down(shop: Workshop, service: str) -> str:
    try:
        shop.ports.router.read(service)
    except DependencyDown as error:
        return str(error)
    return ""


def qualify(shop: Workshop, release: Release) -> Findings:
    """Does the staged server answer as it was evaluated, and is the way back open?"""
    arm = arm_of(shop.ports, release.service, release.sealed.bundle_digest)
    golden = _entered(release, Phase.COMPRESSED)["golden"]
    qualified = qualify_server(arm.urls, release.service, shop.rows(release).texts, golden, _seconds(shop))
    way_back_ms = rehearse_way_back(shop.ports, release, shop.token, shop.spec.rollout.lease_s, _seconds(shop))
    return {**qualified.as_dict(), "way_back_ms": way_back_ms}


STEPS = (
    Step("evaluate", Phase.OPEN, Phase.EVALUATED, evaluate),
    Step("compress", Phase.EVALUATED, Phase.COMPRESSED, compress),
    Step("build", Phase.COMPRESSED, Phase.BUILT, build),
    Step("stage", Phase.BUILT, Phase.STAGED, stage, repeatable=False),
    Step("qualify", Phase.STAGED, Phase.QUALIFIED, qualify, repeatable=False),
)


def conclude(shop: Workshop, release: Release, step: Step, findings: Findings) -> Release:
    """Record what a step found: the next phase on PASS, an end otherwise."""
    before, at_s = release, shop.clock().wall_s
    verdict = findings.get("verdict") or {"outcome": Outcome.PASS}
    if verdict["outcome"] != Outcome.PASS:
        release = release.record(at_s, "judged", step=step.name, **findings)
        end = Phase.REJECTED if verdict["outcome"] == Outcome.FAIL else Phase.HELD
        release = release.enter(end, at_s, why=because(verdict))
    else:
        release = _with_facts(release, step, findings, at_s).enter(step.after, at_s, **findings)
    shop.ports.ledger.save(release, before.version)
    if release.is_ended:
        forget_candidate(shop.ports, release)
        shop.ports.notifier.send(release, f"{release.phase}: {release.reason}")
        return tell_registry(shop.ports, release, shop.clock())
    return release


def could_not(step: Step, error: Exception) -> Findings:
    """What is found where a step raised: nothing is known, which is no PASS."""
    return {"verdict": Verdict.of([Reason(Outcome.ERROR, step.name, f"{step.name} failed: {error}"[:600])]).as_dict()}


def _with_facts(release: Release, step: Step, findings: Findings, at_s: float) -> Release:
    if step.after is Phase.BUILT:
        return release.record(at_s, "sealed", candidate=findings["candidate"])
    if step.after is Phase.STAGED:
        return release.record(at_s, "staged", exits=findings["exits"])
    return release


def because(verdict: Mapping[str, Any]) -> str:
    """The sentences of the reasons that decided."""
    reasons = [r["sentence"] for r in verdict.get("reasons", ()) if r["outcome"] == verdict["outcome"]]
    return "; ".join(reasons) or "nothing was judged"


def forget_candidate(ports: Ports, release: Release) -> None:
    """A release that ended before any user: its servers are no longer wanted, and the registry is to hear of it."""

    def without(service: Service) -> Service:
        mine = service.candidate is not None and service.candidate.release_id == release.id
        owed = with_debts(service.owed, verdict_debts(release, release.phase))
        return service.changed(candidate=None if mine else service.candidate, owed=owed)

    try:
        update_service(ports, release.service, without)
    except NotFound:
        return


def discard_work(shop: Workshop) -> None:
    """Remove a release's working files; its bundle and record stay."""
    shutil.rmtree(shop.work, ignore_errors=True)


def _entered(release: Release, phase: Phase) -> Mapping[str, Any]:
    """What was recorded when the release entered a phase."""
    return next(e.data for e in reversed(release.of_kind("entered")) if e.data["phase"] == phase)


def _source(shop: Workshop) -> Subject:
    return source_subject(shop.source, shop.spec.model_name)


def _champion(release: Release) -> Subject | None:
    champion = release.champion
    if not champion or not champion["bundle"]:
        return None
    bundle, digest = str(champion["bundle"]), str(champion["digest"])
    return champion_subject(Deployment(digest, bundle, "", int(champion["version"]), ""))


def _seconds(shop: Workshop) -> Callable[[], float]:
    return lambda: shop.clock().mono_s
