"""What does a controller remember between two looks?

Everything here is rebuilt from the record (`replay`), so a controller that takes a release over knows what the last
one knew. Strata of the declared warm-up are recorded like all others, and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evals.canary.absorb import absorb
from evals.canary.plan import CanaryPlan
from evals.canary.state import CanaryState
from evals.signals.replay import ReplayState
from evals.signals.shadowing import ShadowState
from evals.signals.strata import Stratum
from pipelines.records.release import Release
from pipelines.spec.rollout import RolloutSpec


@dataclass(frozen=True)
class Watch:
    """The judge's state, and how far into the gateway's strata it has read."""

    judge: CanaryState = field(default_factory=CanaryState)
    boot: str = ""
    after: int = -1
    step_requests: int = 0
    step_routed: int = 0
    step_s: float = 0.0
    """What reached both arms in this step, and for how long that was counted."""
    labels: int = 0
    """Scores that arrived at this service, for any release or none."""
    shadow: ShadowState = field(default_factory=ShadowState)
    """Copies of stable's requests: reported, and not judged."""
    warm_from_s: Mapping[str, float] = field(default_factory=dict)
    unready_looks: int = 0
    """Looks in a row at which the canary could not serve."""
    is_hung: bool = False
    """Whether users met it at the first of them: then what follows, the end of its lease too, is its own doing."""
    heard_at_s: float | None = None
    """When the last stratum came, on the controller's monotonic clock; None before its first look."""

    def read(self, plan: RolloutSpec, release: Release, strata: Sequence[Stratum], now_s: float) -> Watch:
        """The watch after what the gateway has decided since: all of it is read, and what is this release's counts."""
        heard = self.heard(now_s, anything=bool(strata)).labelled(strata)
        watch = heard.absorb(plan, [stratum for stratum in strata if belongs(release, stratum)])
        return replace(watch, boot=strata[-1].boot, after=strata[-1].interval) if strata else watch

    def absorb(self, plan: RolloutSpec, strata: Sequence[Stratum]) -> Watch:
        """The watch after more strata, in order."""
        watch = self
        for stratum in strata:
            watch = watch._after(plan, stratum)
        return watch

    def _after(self, plan: RolloutSpec, stratum: Stratum) -> Watch:
        """The watch after one more; what was read before, or comes out of order, is no evidence a second time."""
        if stratum.boot == self.boot and stratum.interval <= self.after:
            return self
        read = replace(self, boot=stratum.boot, after=stratum.interval, shadow=self.shadow.plus(stratum.shadow))
        if stratum.canary_pct <= 0:
            return read
        warm = {stratum.boot: stratum.routed_from_s, **self.warm_from_s}
        read = replace(
            read,
            warm_from_s=warm,
            step_requests=self.step_requests + stratum.canary.routed,
            step_routed=self.step_routed + stratum.canary.routed + stratum.stable.routed,
            step_s=self.step_s + stratum.routed_to_s - stratum.routed_from_s,
        )
        if stratum.routed_from_s < warm[stratum.boot] + plan.warmup_s:
            return read
        return replace(read, judge=absorb(canary_plan(plan), self.judge, stratum))

    def replayed(self, part: Mapping[str, Any]) -> Watch:
        """The watch after a recorded part of the replay."""
        counts = self.judge.replay.plus(ReplayState.from_dict(part["counts"]))
        return replace(self, judge=replace(self.judge, replay=counts))

    def heard(self, now_s: float, *, anything: bool) -> Watch:
        """The watch after the gateway was asked: silence counts from the first question on."""
        return replace(self, heard_at_s=now_s) if anything or self.heard_at_s is None else self

    def labelled(self, strata: Sequence[Stratum]) -> Watch:
        """The watch after the labels of these strata, whoever they were routed for."""
        arrived = sum(sum(arm.scores.values()) for s in strata for arm in (s.stable, s.canary))
        return replace(self, labels=self.labels + arrived)

    def silent_s(self, now_s: float) -> float:
        """For how long nothing was heard, in seconds."""
        return now_s - self.heard_at_s if self.heard_at_s is not None else 0.0

    @property
    def requests_per_s(self) -> float:
        """The service's traffic in this step."""
        return self.step_routed / self.step_s if self.step_s else 0.0

    def seen(self, *, ready: bool, has_users: bool) -> Watch:
        """The watch after the canary was asked whether it is ready."""
        if ready:
            return replace(self, unready_looks=0, is_hung=False)
        is_hung = self.is_hung or (has_users and self.unready_looks == 0)
        return replace(self, unready_looks=self.unready_looks + 1, is_hung=is_hung)

    def after_trouble(self, last: Watch) -> Watch:
        """A watch that was rebuilt from the record, with what only the last one saw."""
        return replace(self, heard_at_s=last.heard_at_s, unready_looks=last.unready_looks, is_hung=last.is_hung)

    def new_step(self) -> Watch:
        """The watch at the beginning of another step."""
        return replace(self, step_requests=0, step_routed=0, step_s=0.0)


def canary_plan(plan: RolloutSpec, release: Release | None = None) -> CanaryPlan:
    """The judge's plan of a spec, with what was declared when the release met its first users."""
    drift = plan.gates.drift
    declared = release.last("judging") if release else None
    return CanaryPlan.of(
        plan.gates.gates(),
        alpha=plan.alpha,
        alpha_promote=plan.alpha_promote,
        alpha_shares=dict(plan.alpha_shares),
        drift_ratio=drift.max_ratio if drift else None,
        has_slices=bool(plan.slices),
        labels_arrive=bool(declared.data["labels_arrive"]) if declared else True,
        has_replay=bool(declared.data.get("replayed_pairs")) if declared else False,
        replicas=(1, 1),  # both arms have as many
        unit="user" if plan.assign is not None else "request",
        periods=len(plan.steps) + 1,  # the bake is the last step
    )


def declaration(plan: RolloutSpec, watch: Watch, replayed_pairs: int = 0) -> dict[str, Any]:
    """How this release will be judged, said before its first users: nobody can change it once something is seen."""
    labels_arrive = watch.labels > 0
    judged = replace(canary_plan(plan), labels_arrive=labels_arrive)
    handed = "no label has arrived at this service: the share of quality is handed to the other metrics"
    return {
        "alpha": plan.alpha,
        "alpha_shares": judged.shares,
        "labels_arrive": labels_arrive,
        "handed": handed if judged.quality_margin is not None and not labels_arrive else "",
        "warmup_s": plan.warmup_s,
        "replayed_pairs": replayed_pairs,
        "weights": {"live": 0.5, "replayed": 0.5} if replayed_pairs else {"live": 1.0},
    }


def replay(plan: RolloutSpec, release: Release) -> Watch:
    """The watch that a controller had after the last recorded look."""
    watch = Watch()
    for event in release.events:
        if event.kind == "looked":
            watch = watch.absorb(plan, [Stratum.from_dict(raw) for raw in event.data["strata"]])
        elif event.kind == "replayed":
            watch = watch.replayed(event.data)
        elif event.kind in {"exposed", "interrupted"}:
            watch = watch.new_step()
    return watch


def belongs(release: Release, stratum: Stratum) -> bool:
    """Whether a stratum was routed under this release's own exposure."""
    first = next(iter(release.of_kind("exposed")), None)
    return first is not None and stratum.generation >= tuple(first.data["generation"])
