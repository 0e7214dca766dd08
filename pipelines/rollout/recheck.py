"""Do the recorded canary verdicts follow from the recorded counts?"""

from __future__ import annotations

import json

from evals.canary.judgement import judge_canary
from evals.signals.strata import Stratum
from pipelines.errors import LedgerBroken
from pipelines.records.release import Release
from pipelines.rollout.watch import Watch, canary_plan
from pipelines.spec.release_spec import ReleaseSpec


def recheck_verdicts(release: Release) -> str:
    """Recompute the verdict of every look from its strata. LedgerBroken names the first that differs."""
    looks = release.of_kind("looked")
    if not looks:
        return "no looks"
    plan = ReleaseSpec.model_validate_json(json.dumps(release.spec)).rollout
    watch = Watch()
    for event in release.events:
        if event.kind == "replayed":
            watch = watch.replayed(event.data)
        if event.kind != "looked":
            continue
        watch = watch.absorb(plan, [Stratum.from_dict(raw) for raw in event.data["strata"]])
        recorded, computed = event.data["verdict"], judge_canary(canary_plan(plan, release), watch.judge).as_dict()
        if (recorded["roll_back"], recorded["promote"]) != (computed["roll_back"], computed["promote"]):
            raise LedgerBroken(f"look {event.seq} does not follow from its counts", code="E_VERDICT", field=release.id)
    return f"{len(looks)} looks recomputed"
