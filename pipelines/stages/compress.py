"""Is there a smaller or faster variant that the same gates accept?"""

from __future__ import annotations

from evals.gate import Outcome
from evals.offline.suite import SuiteFailed
from pipelines.compress.search import techniques_for
from pipelines.records.release import Phase, Release
from pipelines.stages.evaluate import Subject, judge_subject, source_of
from pipelines.stages.workshop import Findings, Workshop, entered


def compress(shop: Workshop, release: Release) -> Findings:
    """Is there a smaller or faster variant that the same gates accept? Where not, the source ships, and why."""
    rejected: list[dict[str, str]] = []
    for technique in techniques_for(shop.spec.compress):
        try:
            made = technique.compress(shop.source, shop.work / technique.name, dict(source_of(shop).facts))
            recipe = {"engine": made.engine, "variant": technique.name, "recipe": dict(made.recipe)}
            facts = {**source_of(shop).facts, **recipe}
            judged = judge_subject(shop, release, Subject(f"{technique.name} variant", made.folder, facts))
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
    golden = entered(release, Phase.EVALUATED)["golden"]
    return {
        "variant": "source",
        "facts": source_of(shop).facts,
        "folder": "source",
        "golden": golden,
        "rejected": rejected,
    }
