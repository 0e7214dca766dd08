"""The truth table of `decide`: every kind of situation, and the one decision that is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ports import Command
from pipelines.records.asking import Asked
from pipelines.records.release import EXPOSED, MOVES, Candidate, Phase, Release
from pipelines.rollout.decision import Advance, Hold, Promote, RollBack, Situation, decide, share_of
from pipelines.spec.gates import DriftGate, RolloutGates
from pipelines.spec.rollout import RolloutSpec, StepSpec

PLAN = RolloutSpec(
    steps=(StepSpec(pct=5), StepSpec(pct=50)), hold_s=10.0, bake_s=20.0, look_s=1.0, lease_s=10.0, deadline_s=100.0
)


@dataclass(frozen=True)
class Verdict:
    """What a judge may say."""

    roll_back: bool = False
    promote: bool = False
    sentence: str = "errors: canary 0 of 10, stable 0 of 90"
    void: str = ""
    shifted: str = ""
    confounded: bool = False
    excess_bound: float = 1.0
    canary_requests: int = 10
    canary_errors: int = 0
    stable_requests: int = 90
    stable_errors: int = 0
    progress: Mapping[str, float] = field(default_factory=dict)


def release_in(
    phase: Phase, *, step: int = 0, confirmed: float = 5.0, since_s: float = 1000.0, paused: bool = False
) -> Release:
    """A release that entered `phase` at `since_s` with a confirmed share."""
    base = Release().record(900.0, "opened", id="r", service="s", spec={}, spec_digest="d")
    base = base.record(900.0, "resolved", candidate=vars(Candidate("m", 1, "sha256:a", bundle_digest="sha256:b")))
    if phase is not Phase.QUALIFIED:
        base = replace(base, phase=Phase.QUALIFIED).enter(Phase.CANARY, since_s, step=0)
    return replace(base, phase=phase, phase_since_s=since_s, step=step, confirmed_pct=confirmed, paused=paused)


def seen(**facts: object) -> Situation:
    """A healthy look, five seconds into a step at 5 %, with some facts changed."""
    healthy = Situation(now_s=1005.0, observed_pct=5.0, verdict=Verdict(), step_requests=50, url="http://127.0.0.1:1")
    return replace(healthy, **facts)


def ordered(verb: str) -> Command:
    """A person's word."""
    return Command("c", "r", verb, "ada", "because")


TABLE = [
    (
        "what load may explain goes home",
        Phase.CANARY,
        {},
        {"verdict": Verdict(roll_back=True, confounded=True)},
        RollBack,
        Phase.ROLLED_BACK,
    ),
    ("it begins at the first step", Phase.QUALIFIED, {"confirmed": 0.0}, {"observed_pct": 0.0}, Advance, 5.0),
    (
        "no user meets it while recorded requests are replayed",
        Phase.QUALIFIED,
        {"confirmed": 0.0},
        {"observed_pct": 0.0, "replaying": "50 of 400"},
        Hold,
        None,
    ),
    (
        "a replay that never ends is held",
        Phase.QUALIFIED,
        {"confirmed": 0.0},
        {"observed_pct": 0.0, "replaying": "50 of 400", "now_s": 1e6},
        RollBack,
        Phase.HELD,
    ),
    ("a step is held for its time", Phase.CANARY, {}, {}, Hold, None),
    ("after its time comes the next step", Phase.CANARY, {}, {"now_s": 1010.0}, Advance, 50.0),
    ("after the last step comes the bake", Phase.CANARY, {"step": 1}, {"now_s": 1010.0}, Advance, 95.0),
    ("too few requests hold a step", Phase.CANARY, {}, {"now_s": 1010.0, "step_requests": 3}, Hold, None),
    ("no traffic holds a step", Phase.CANARY, {}, {"now_s": 1010.0, "step_requests": 0}, Hold, None),
    ("a bake is held for its time", Phase.BAKING, {"step": 2}, {"verdict": Verdict(promote=True)}, Hold, None),
    (
        "a baked and proven canary is promoted",
        Phase.BAKING,
        {"step": 2},
        {"now_s": 1020.0, "verdict": Verdict(promote=True)},
        Promote,
        None,
    ),
    ("a baked canary without proof waits", Phase.BAKING, {"step": 2}, {"now_s": 1020.0}, Hold, None),
    ("without fresh evidence nothing is raised", Phase.CANARY, {}, {"now_s": 1010.0, "blind": "away"}, Hold, None),
    (
        "without fresh evidence nothing is promoted",
        Phase.BAKING,
        {"step": 2},
        {"now_s": 1020.0, "verdict": Verdict(promote=True), "blind": "away"},
        Hold,
        None,
    ),
    ("without fresh evidence nothing begins", Phase.QUALIFIED, {"confirmed": 0.0}, {"blind": "away"}, Hold, None),
    (
        "without fresh evidence an abort goes home",
        Phase.CANARY,
        {},
        {"command": ordered("abort"), "blind": "away"},
        RollBack,
        Phase.ABORTED,
    ),
    ("a void comparison raises nothing", Phase.CANARY, {}, {"now_s": 1010.0, "verdict": Verdict(void="x")}, Hold, None),
    (
        "a void comparison ends at the deadline",
        Phase.BAKING,
        {"step": 2},
        {"now_s": 1100.0, "verdict": Verdict(void="sample-ratio mismatch")},
        RollBack,
        Phase.HELD,
    ),
    (
        "shifted predictions wait for a person",
        Phase.CANARY,
        {},
        {"now_s": 1010.0, "verdict": Verdict(shifted="'good' twice as often")},
        Hold,
        None,
    ),
    (
        "shifted predictions are not promoted at the deadline",
        Phase.BAKING,
        {"step": 2},
        {"now_s": 1100.0, "verdict": Verdict(promote=True, shifted="'good' twice as often")},
        RollBack,
        Phase.HELD,
    ),
    ("proven harm goes home", Phase.CANARY, {}, {"verdict": Verdict(roll_back=True)}, RollBack, Phase.ROLLED_BACK),
    (
        "proven harm outranks proven harmlessness",
        Phase.BAKING,
        {"step": 2},
        {"now_s": 1020.0, "verdict": Verdict(roll_back=True, promote=True)},
        RollBack,
        Phase.ROLLED_BACK,
    ),
    ("a crashed canary goes home", Phase.CANARY, {}, {"canary_down": "exited"}, RollBack, Phase.ROLLED_BACK),
    (
        "a canary that never served is rejected",
        Phase.QUALIFIED,
        {"confirmed": 0.0},
        {"canary_down": "x"},
        RollBack,
        Phase.REJECTED,
    ),
    (
        "traffic does not move to a dead stable",
        Phase.CANARY,
        {},
        {"stable_down": "exited", "verdict": Verdict(roll_back=True)},
        Hold,
        None,
    ),
    (
        "a person cannot move traffic to a dead stable either",
        Phase.CANARY,
        {},
        {"stable_down": "exited", "command": ordered("abort")},
        Hold,
        None,
    ),
    ("no user is given without a way home", Phase.CANARY, {}, {"now_s": 1010.0, "stable_down": "exited"}, Hold, None),
    (
        "what has no users ends although stable is dead",
        Phase.CANARY,
        {},
        {"stable_down": "exited", "observed_pct": 0.0, "command": ordered("abort")},
        RollBack,
        Phase.ABORTED,
    ),
    (
        "a proven canary takes over from a dead stable",
        Phase.BAKING,
        {"step": 2},
        {"now_s": 1020.0, "stable_down": "exited", "verdict": Verdict(promote=True)},
        Promote,
        None,
    ),
    ("a lost share begins again", Phase.CANARY, {"step": 1, "confirmed": 50.0}, {"observed_pct": 0.0}, Advance, 5.0),
    ("a lost bake begins again", Phase.BAKING, {"step": 2, "confirmed": 95.0}, {"observed_pct": 0.0}, Advance, 5.0),
    ("without fresh evidence nobody advances", Phase.CANARY, {}, {"now_s": 1010.0, "silent_s": 11.0}, Hold, None),
    (
        "without fresh evidence nobody is promoted",
        Phase.BAKING,
        {"step": 2},
        {"now_s": 1020.0, "silent_s": 11.0, "verdict": Verdict(promote=True)},
        Hold,
        None,
    ),
    ("a long silence goes home, unaccused", Phase.CANARY, {}, {"silent_s": 51.0}, RollBack, Phase.HELD),
    (
        "what was proven before the silence counts",
        Phase.CANARY,
        {},
        {"silent_s": 51.0, "verdict": Verdict(roll_back=True)},
        RollBack,
        Phase.ROLLED_BACK,
    ),
    ("a pause holds", Phase.CANARY, {"paused": True}, {"now_s": 1010.0}, Hold, None),
    ("a pause holds at once", Phase.CANARY, {}, {"now_s": 1010.0, "command": ordered("pause")}, Hold, None),
    (
        "a paused release goes on at once",
        Phase.CANARY,
        {"paused": True},
        {"now_s": 1010.0, "command": ordered("resume")},
        Advance,
        50.0,
    ),
    (
        "a pause does not hide harm",
        Phase.CANARY,
        {"paused": True},
        {"verdict": Verdict(roll_back=True)},
        RollBack,
        Phase.ROLLED_BACK,
    ),
    ("an abort goes home", Phase.CANARY, {}, {"command": ordered("abort")}, RollBack, Phase.ABORTED),
    ("an ordered roll back convicts", Phase.CANARY, {}, {"command": ordered("rollback")}, RollBack, Phase.ROLLED_BACK),
    ("an ordered promotion skips the rest", Phase.CANARY, {}, {"command": ordered("promote")}, Promote, None),
    ("undecided at the deadline is held", Phase.BAKING, {"step": 2}, {"now_s": 1100.0}, RollBack, Phase.HELD),
    (
        "proven just before the deadline is promoted",
        Phase.BAKING,
        {"step": 2},
        {"now_s": 1100.0, "verdict": Verdict(promote=True)},
        Promote,
        None,
    ),
]


@pytest.mark.parametrize(("why", "phase", "past", "facts", "kind", "detail"), TABLE, ids=[row[0] for row in TABLE])
def test_truth_table(why, phase, past, facts, kind, detail):
    """Each situation has exactly one right decision."""
    decision = decide(PLAN, release_in(phase, **past), seen(**facts))
    assert isinstance(decision, kind), why
    if isinstance(decision, Advance):
        assert decision.pct == detail
    if isinstance(decision, RollBack):
        assert decision.end == detail


@pytest.mark.parametrize(("policy", "end"), [("hold", Phase.HELD), ("rollback", Phase.ROLLED_BACK)])
def test_the_spec_says_how_not_knowing_ends(policy, end):
    """At the deadline `on_inconclusive` decides, and the reason says that nothing was decided."""
    plan = PLAN.model_copy(update={"on_inconclusive": policy})
    decision = decide(plan, release_in(Phase.BAKING, step=2), seen(now_s=1100.0, step_requests=0))
    assert isinstance(decision, RollBack)
    assert decision.end is end
    assert "no traffic seen" in decision.why


def test_asking_waits_until_its_own_end():
    """`ask` holds the share after the deadline, and is held at the end of the time to answer."""
    plan = PLAN.model_copy(update={"on_inconclusive": "ask", "ask_timeout_s": 50.0})
    assert isinstance(decide(plan, release_in(Phase.BAKING, step=2), seen(now_s=1120.0)), Hold)
    assert decide(plan, release_in(Phase.BAKING, step=2), seen(now_s=1150.0)).end is Phase.HELD


def test_a_person_may_mean_the_shift():
    """Approved, it goes on; where the spec only warns, it never waits."""
    shifted = seen(now_s=1010.0, verdict=Verdict(shifted="'good' twice as often"))
    assert decide(PLAN, release_in(Phase.CANARY), shifted).asks == Asked("drift", 0)
    approved = release_in(Phase.CANARY).record(1006.0, "approved", what="drift", step=0)
    assert isinstance(decide(PLAN, approved, shifted), Advance)
    warned = PLAN.model_copy(update={"gates": RolloutGates(drift=DriftGate(action="warn"))})
    assert isinstance(decide(warned, release_in(Phase.CANARY), shifted), Advance)


EARNED = PLAN.model_copy(update={"advance": "earned", "harm_budget": 20})


@pytest.mark.parametrize(
    ("excess", "requests_per_s", "failed", "expected"),
    [
        (1.0, 10.0, 0, Advance),  # found after about fourteen requests, ten of them between two looks
        (1.0, 100.0, 0, Hold),  # a hundred fail before anybody looks
        (0.2, 100.0, 0, Hold),  # 28
        (0.05, 100.0, 0, Advance),  # 16
        (0.05, 100.0, 8, Hold),  # 12 are left
        (0.02, 1000.0, 0, Hold),  # 36
        (0.01, 1000.0, 0, Advance),  # within the margin: the spec would promote it
    ],
)
def test_a_share_is_earned_by_what_it_may_cost(excess, requests_per_s, failed, expected):
    """What may fail at the next share until it is found there fits into what is left of the budget, or it waits."""
    counts = {"canary_requests": 200, "canary_errors": failed, "stable_requests": 900, "stable_errors": 0}
    verdict = Verdict(excess_bound=excess, **counts)
    looked = seen(now_s=1001.0, verdict=verdict, requests_per_s=requests_per_s)
    assert type(decide(EARNED, release_in(Phase.CANARY), looked)) is expected


def test_what_is_not_earned_says_why():
    """In requests."""
    looked = seen(verdict=Verdict(), requests_per_s=100.0)
    why = decide(EARNED, release_in(Phase.CANARY), looked).why
    assert "up to 104 more requests might fail before that is found, and 20 of harm_budget 20" in why


def test_no_share_is_raised_while_the_evidence_leans_to_harm():
    """Long before it would convict; what is proven harmless can afford any share."""
    leaning = seen(verdict=Verdict(excess_bound=0.01, progress={"errors": 0.2, "errors_noninferior": 0.9}))
    assert (
        "while the evidence on errors leans to harm (20% of the way"
        in decide(EARNED, release_in(Phase.CANARY), leaning).why
    )
    proven = seen(verdict=Verdict(promote=True), requests_per_s=1000.0)
    assert isinstance(decide(EARNED, release_in(Phase.CANARY), proven), Advance)


@given(st.floats(0.01, 1.0), st.floats(1.0, 1000.0), st.integers(1, 1000))
def test_less_to_fear_earns_no_less(excess, requests_per_s, budget):
    """A step that is granted is granted as well at less traffic, with a larger budget, and with a smaller bound."""
    plan = PLAN.model_copy(update={"advance": "earned", "harm_budget": budget})

    def granted(**changed):
        facts = {"excess": excess, "rps": requests_per_s, "more": 0} | changed
        looked = seen(verdict=Verdict(excess_bound=facts["excess"]), requests_per_s=facts["rps"])
        larger = plan.model_copy(update={"harm_budget": budget + facts["more"]})
        return isinstance(decide(larger, release_in(Phase.CANARY), looked), Advance)

    if granted():
        assert granted(excess=excess / 2)
        assert granted(rps=requests_per_s / 2)
        assert granted(more=10)


MARKED = PLAN.model_copy(
    update={"steps": (StepSpec(pct=5, approve=True), StepSpec(pct=50, approve=True)), "ask_timeout_s": 50.0}
)
BEGINNING = ("it begins", Phase.QUALIFIED, {"confirmed": 0.0}, {"observed_pct": 0.0}, 0)
SECOND = ("the second step", Phase.CANARY, {}, {"now_s": 1010.0}, 1)
LOST = ("a lost step begins again", Phase.CANARY, {"step": 1, "confirmed": 50.0}, {"observed_pct": 0.0}, 0)
LOST_BAKE = ("a lost bake begins again", Phase.BAKING, {"step": 2, "confirmed": 95.0}, {"observed_pct": 0.0}, 0)
INTERRUPTED = ("what was interrupted begins again", Phase.CANARY, {"confirmed": 0.0}, {"observed_pct": 0.0}, 0)
ENTRIES = (BEGINNING, SECOND, LOST, LOST_BAKE, INTERRUPTED)


@pytest.mark.parametrize(("why", "phase", "past", "facts", "step"), ENTRIES, ids=[row[0] for row in ENTRIES])
def test_every_way_into_a_marked_step_asks(why, phase, past, facts, step):
    """The beginning, the next step, and the way back to the first one after an interruption."""
    release = release_in(phase, **past)
    decision = decide(MARKED, release, seen(**facts))
    assert (type(decision), decision.asks) == (Hold, Asked("step", step)), why
    assert f"step {step + 1} waits for approval: shipway approve r" in decision.why
    another = replace(release, approved=frozenset({1 - step}), approved_drift=frozenset({step, release.step}))
    assert decide(MARKED, another, seen(**facts)).asks == Asked("step", step)


@pytest.mark.parametrize(("why", "phase", "past", "facts", "step"), [BEGINNING, SECOND, INTERRUPTED])
def test_an_approved_step_is_entered(why, phase, past, facts, step):
    """At the next look."""
    approved = replace(release_in(phase, **past), approved=frozenset({step}))
    assert decide(MARKED, approved, seen(**facts)).step == step


@pytest.mark.parametrize(("why", "phase", "past", "facts", "step"), [LOST, LOST_BAKE])
def test_what_was_approved_before_an_interruption_is_not_approved_after_it(why, phase, past, facts, step):
    """The exposure that it was approved for is over."""
    approved = replace(release_in(phase, **past), approved=frozenset({0, 1}))
    assert decide(MARKED, approved, seen(**facts)).asks == Asked("step", 0)


def test_an_approved_share_that_was_never_confirmed_is_asked_for_again():
    """Its controller died between the router and the record, and the lease ended: users may have met it."""
    met = replace(release_in(Phase.QUALIFIED, confirmed=0.0), approved=frozenset({0}), intended_pct=10.0)
    assert decide(MARKED, met, seen(observed_pct=0.0)).asks == Asked("step", 0)
    unmarked = replace(release_in(Phase.QUALIFIED, confirmed=0.0), intended_pct=10.0)
    assert decide(PLAN, unmarked, seen(observed_pct=0.0)).step == 0


def test_the_deadline_does_not_count_while_a_first_step_waits_again():
    """People have `ask_timeout_s` for it, as the first time, and nobody is convicted for their silence."""
    waits = replace(release_in(Phase.CANARY, confirmed=0.0), asks=Asked("step", 0), asked_since_s=99_000.0)
    assert isinstance(decide(MARKED, waits, seen(observed_pct=0.0, now_s=99_010.0)), Hold)


def test_an_approved_step_is_no_approved_drift():
    """And the other way round."""
    shifted = seen(now_s=1010.0, verdict=Verdict(shifted="'good' twice as often"))
    stepped = replace(release_in(Phase.CANARY), approved=frozenset({1}))
    assert decide(MARKED, stepped, shifted).asks == Asked("drift", 0)
    meant = replace(release_in(Phase.CANARY), approved_drift=frozenset({0}))
    assert decide(MARKED, meant, shifted).asks == Asked("step", 1)
    later = replace(release_in(Phase.CANARY, step=1), approved_drift=frozenset({0}))
    assert decide(MARKED, later, shifted).asks == Asked("drift", 1)


def test_the_first_step_does_not_wait_for_ever():
    """Held, and it says for what; a canary that cannot serve, and a person's word, are heard meanwhile."""
    waits = replace(release_in(Phase.QUALIFIED, confirmed=0.0), asks=Asked("step", 0), asked_since_s=1000.0)
    unseen = {"observed_pct": 0.0, "now_s": 1050.0}
    assert isinstance(decide(MARKED, waits, seen(**unseen | {"now_s": 1049.0})), Hold)
    expected = RollBack("nobody approved step 1 within 50 s", Phase.HELD)
    assert decide(MARKED, waits, seen(**unseen)) == expected
    assert decide(MARKED, waits, seen(**unseen, command=ordered("abort"))).end is Phase.ABORTED
    assert decide(MARKED, waits, seen(observed_pct=0.0, canary_down="exited")).end is Phase.REJECTED


def test_an_approved_canary_that_is_not_ready_meets_no_user():
    """Everything was stopped and started again while it waited."""
    approved = replace(release_in(Phase.QUALIFIED, confirmed=0.0), approved=frozenset({0}))
    assert isinstance(decide(MARKED, approved, seen(observed_pct=0.0, canary_starting="starting")), Hold)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "step 2 waits for approval"),
        ({"verdict": Verdict(shifted="'good' twice as often")}, "drift in step 1 waits for approval"),
        ({"observed_pct": 0.0}, "step 1 waits for approval"),
    ],
)
def test_the_deadline_says_that_a_person_did_not_answer(facts, said):
    """It counts on while a step waits, and nobody may think that evidence was missing."""
    decision = decide(MARKED, release_in(Phase.CANARY), seen(now_s=1100.0, **facts))
    assert decision.end is Phase.HELD
    assert decision.why.startswith(f"undecided at the deadline of 100 s: {said}; errors: ")


@pytest.mark.parametrize(
    ("plan", "end"),
    [({}, Phase.HELD), ({"on_inconclusive": "rollback"}, Phase.ROLLED_BACK), ({"on_inconclusive": "ask"}, None)],
)
def test_an_approval_that_never_came_ends_as_the_spec_says(plan, end):
    """At the deadline; where a person is asked, `ask_timeout` later."""
    asked = MARKED.model_copy(update=plan)
    decision = decide(asked, release_in(Phase.CANARY), seen(now_s=1100.0))
    late = decide(asked, release_in(Phase.CANARY), seen(now_s=1150.0))
    assert (getattr(decision, "end", None), "step 2 waits for approval" in decision.why) == (end, True)
    assert late.end is (end or Phase.HELD)


def test_what_is_seen_while_a_step_waits_counts():
    """A harm takes the canary home, and an approval at the last moment is obeyed on what came meanwhile."""
    harmed = seen(now_s=1050.0, verdict=Verdict(roll_back=True))
    assert decide(MARKED, release_in(Phase.CANARY), harmed).end is Phase.ROLLED_BACK
    approved = replace(release_in(Phase.CANARY), approved=frozenset({1}))
    assert decide(MARKED, approved, seen(now_s=1099.0)).step == 1
    assert decide(MARKED, approved, seen(now_s=1100.0)).end is Phase.HELD


situations = st.builds(
    Situation,
    now_s=st.floats(900, 1300),
    observed_pct=st.sampled_from([0.0, 5.0, 50.0, 95.0]),
    verdict=st.builds(Verdict, roll_back=st.booleans(), promote=st.booleans()),
    step_requests=st.integers(0, 100),
    canary_down=st.sampled_from(["", "exited"]),
    stable_down=st.sampled_from(["", "exited"]),
    silent_s=st.sampled_from([0.0, 11.0, 51.0]),
    replaying=st.sampled_from(["", "50 of 400"]),
    command=st.sampled_from([None, *(ordered(v) for v in ("abort", "rollback", "promote", "pause", "approve"))]),
)
releases = st.builds(
    release_in,
    st.sampled_from([Phase.QUALIFIED, Phase.CANARY, Phase.BAKING]),
    step=st.integers(0, 2),
    confirmed=st.sampled_from([0.0, 5.0, 50.0, 95.0]),
    paused=st.booleans(),
)


@given(releases, situations)
def test_no_decision_breaks_a_rule(release, situation):
    """Over the whole product: moves are allowed, shares are the plan's, and nothing unproven is promoted."""
    decision = decide(PLAN, release, situation)
    match decision:
        case Advance():
            assert decision.pct == share_of(PLAN, decision.step)
            assert not situation.canary_down
            assert not situation.stable_down
            assert situation.silent_s == 0 or situation.observed_pct == 0
            assert not situation.verdict.roll_back
        case Promote():
            commanded = situation.command is not None and situation.command.verb == "promote"
            assert commanded or (situation.verdict.promote and not situation.verdict.roll_back)
        case RollBack():
            assert decision.end in MOVES[release.phase]
            assert situation.observed_pct == 0 or not situation.stable_down
        case Hold():
            assert decision.why


@given(releases, situations, st.frozensets(st.integers(0, 1)), st.frozensets(st.integers(0, 2)))
def test_no_step_is_entered_unapproved(release, situation, approved, meant):
    """Over the whole product, where every step is marked: what was approved is entered, and nothing else."""
    release = replace(release, approved=approved, approved_drift=meant)
    decision = decide(MARKED, release, situation)
    if isinstance(decision, Advance) and decision.step < 2:
        assert decision.step in approved
        assert release.confirmed_pct == 0 or situation.observed_pct >= release.confirmed_pct


@given(releases, situations)
def test_harm_is_never_held(release, situation):
    """Proven harm ends the exposure at the same look, whatever else is seen, unless home is dead or a person spoke."""
    harmed = replace(situation, verdict=Verdict(roll_back=True), stable_down="", command=None)
    assert isinstance(decide(PLAN, release, harmed), RollBack)
    assert release.phase not in EXPOSED or decide(PLAN, release, harmed).end is Phase.ROLLED_BACK


@pytest.mark.parametrize("confounded", [False, True])
def test_what_load_may_explain_accuses_nobody(confounded):
    """Traffic goes home either way; the bytes are convicted only where nothing else may be the reason."""
    verdict = Verdict(roll_back=True, confounded=confounded)
    decision = decide(PLAN, release_in(Phase.CANARY), seen(verdict=verdict))
    assert decision == RollBack(verdict.sentence, convicts=not confounded)
