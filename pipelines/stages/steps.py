"""What happens between opening a release and its first user?

Five steps, each from one phase to the next: evaluate → compress → build → stage → qualify. A step computes `Findings`
(plain JSON, so that a finished step need not be repeated after a kill) and `conclude` records them: one place decides
that only PASS lets a release go on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evals.gate import Outcome, Reason, Verdict
from pipelines.records.release import Phase, Release
from pipelines.rollout.ending import tell_registry
from pipelines.services.change import forget_candidate
from pipelines.stages.build import build
from pipelines.stages.compress import compress
from pipelines.stages.evaluate import evaluate
from pipelines.stages.qualify import qualify
from pipelines.stages.stage import stage
from pipelines.stages.workshop import Findings, Workshop


@dataclass(frozen=True)
class Step:
    """One step of the plan: `run` computes, `repeatable` says whether its findings outlive the process."""

    name: str
    before: Phase
    after: Phase
    run: Callable[[Workshop, Release], Findings]
    repeatable: bool = True


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


def discard_work(shop: Workshop) -> None:
    """Remove a release's working files; its bundle and record stay."""
    shutil.rmtree(shop.work, ignore_errors=True)
