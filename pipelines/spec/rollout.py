"""How do users meet the candidate?"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipelines.records.settings import GatewaySettings, Shadowing
from pipelines.spec.gates import AlphaShares, RolloutGates
from pipelines.spec.values import Attributes, Number, Part, Seconds, SpecProblem


class ReplaySpec(Part):
    """Recorded requests that are asked of both versions before the first users, and judged pair by pair."""

    requests: Annotated[int, Field(ge=2, le=100_000, description="each is asked once; fewer where fewer are kept")] = (
        500
    )
    concurrency: Annotated[int, Field(ge=1, le=16, description="pairs at one time; stable has its users meanwhile")] = 2


class StepSpec(Part):
    """One step of the plan: a share, and whether a person must approve it first."""

    pct: Number
    approve: bool = False


def _as_step(value: Any) -> Any:
    """A bare number is a step that nobody needs to approve."""
    return value if isinstance(value, dict | StepSpec) else {"pct": value}


_Step = Annotated[StepSpec, BeforeValidator(_as_step, json_schema_input_type=Number | StepSpec)]


def _steps(value: tuple[StepSpec, ...]) -> tuple[StepSpec, ...]:
    shares = [step.pct for step in value]
    rising = all(a < b for a, b in pairwise(shares))
    if not shares or not rising or not all(0 < share < 100 for share in shares):
        raise SpecProblem("E_STEPS", f"steps {shares} must rise strictly within (0, 100)")
    return value


class AssignSpec(Part):
    """Who is one user: everybody with the same value of a header, cookie or field of a JSON body stays at his arm."""

    by: Literal["header", "cookie", "body"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]

    @property
    def rule(self) -> str:
        """As a gateway is told."""
        return f"{self.by}:{self.name}"


class ShadowSpec(Part):
    """Which part of stable's requests the canary is asked, too, while it has its share; its answers are dropped."""

    pct: Annotated[Number, Field(gt=0, le=100)] = Shadowing.pct
    max_in_flight: Annotated[int, Field(ge=1, le=1024, description="at one time, of each gateway process")] = (
        Shadowing.max_in_flight
    )
    tolerance: Annotated[
        Number, Field(ge=0, lt=1, description="numbers and embeddings within this part of their length are the same")
    ] = Shadowing.tolerance

    def shadowing(self) -> Shadowing:
        """The same for the gateway."""
        return Shadowing(self.pct, self.max_in_flight, self.tolerance)


class RolloutSpec(Part):
    """How users meet the candidate."""

    steps: Annotated[tuple[_Step, ...], AfterValidator(_steps)] = (
        StepSpec(pct=5),
        StepSpec(pct=25),
        StepSpec(pct=50),
    )
    hold_s: Seconds = 300.0
    look_s: Seconds = 5.0
    lease_s: Seconds = 60.0
    holdback_pct: Annotated[Number, Field(gt=0, lt=100)] = 5.0
    bake_s: Seconds = 900.0
    deadline_s: Seconds = 7200.0
    warmup_s: Seconds = 5.0
    replay: ReplaySpec | None = Field(default=None, description="ask both versions recorded requests before any user")
    min_step_requests: Annotated[int, Field(ge=1)] = Field(
        default_factory=lambda said: 1 if said.get("replay") else 20,
        description="canary requests that a step must have seen: 20, or 1 where recorded requests were replayed",
    )
    on_inconclusive: Literal["hold", "rollback", "ask"] = "hold"
    ask_timeout_s: Seconds = 86400.0
    on_undecidable: Annotated[
        Literal["warn", "refuse"],
        Field(description="what happens where the service's traffic is too little to decide before the deadline"),
    ] = "warn"
    advance: Annotated[
        Literal["timetable", "earned"],
        Field(description="timetable: after hold · earned: as soon as the next share's harm is affordable"),
    ] = "timetable"
    harm_budget: Annotated[int, Field(ge=1, description="for earned: requests that may fail beyond stable's")] = 20
    slices: Annotated[
        Attributes,
        Field(description="request headers, or body.PATH of a JSON body: errors and latency are judged for each value"),
    ] = ()
    assign: Annotated[
        AssignSpec | None,
        Field(description="users stay at their arm, and are counted instead of requests; null: each request by chance"),
    ] = None
    shadow: Annotated[
        ShadowSpec | None,
        Field(description="ask the canary copies of stable's requests; compared and reported, never judged"),
    ] = None
    label_s: Annotated[Seconds, Field(description="for how long an answer may be given a label at /feedback")] = (
        GatewaySettings.label_s
    )
    alpha: Annotated[Number, Field(gt=0, le=0.5)] = 0.01
    alpha_promote: Annotated[Number, Field(gt=0, le=0.5)] = 0.05
    alpha_shares: AlphaShares = AlphaShares()
    gates: RolloutGates = RolloutGates()

    @model_validator(mode="after")
    def _times_fit(self) -> RolloutSpec:
        if not self.look_s >= 0.2:
            raise SpecProblem("E_DURATION", "look must be at least 200ms")
        if self.lease_s < 6 * self.look_s:
            raise SpecProblem(
                "E_DURATION", f"lease {self.lease_s:g} s must be at least 6 looks ({6 * self.look_s:g} s)"
            )
        if self.steps[-1].pct > 100 - self.holdback_pct:
            raise SpecProblem("E_STEPS", f"the last step leaves less than holdback_pct {self.holdback_pct:g}")
        if self.deadline_s < len(self.steps) * self.hold_s + self.bake_s:
            raise SpecProblem("E_DURATION", "deadline is shorter than all steps and the bake together")
        return self
