"""Is a release exactly what its record says, and does it move only as declared?"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import LedgerBroken
from pipelines.records.release import ENDS, EXPOSED, MOVES, Candidate, Event, Phase, Release
from pipelines.records.summary import summary_of

CANDIDATE = Candidate("m", 3, "sha256:a", bundle_digest="sha256:b")


def opened() -> Release:
    """A new release."""
    return Release().record(10.0, "opened", id="r1", service="s", spec={"model": "models:/m/3"}, spec_digest="sha256:0")


def path_to(phase: Phase) -> tuple[Phase, ...]:
    """The shortest allowed way from OPEN to a phase."""
    ways: dict[Phase, tuple[Phase, ...]] = {Phase.OPEN: ()}
    waiting = [Phase.OPEN]
    for here in waiting:
        for there in sorted(MOVES[here]):
            if there not in ways:
                ways[there] = (*ways[here], there)
                waiting.append(there)
    return ways[phase]


def at(phase: Phase) -> Release:
    """A release that got there by allowed moves."""
    release = opened()
    for step in path_to(phase):
        release = release.enter(step, release.phase_since_s + 1.0, why=f"to {step}")
    return release


# Written out by hand: the table in the code is the subject, so it cannot be its own witness.
ON_THE_WAY = (
    *("open", "evaluated", "compressed", "built", "staged", "qualified"),
    *("canary", "baking", "promoting", "promoted"),
)
FORWARD = {
    *pairwise(ON_THE_WAY),
    ("canary", "canary"),
    ("baking", "canary"),
    ("canary", "promoting"),
    ("qualified", "promoting"),
    ("open", "promoting"),
}
UNSEEN = ("open", "evaluated", "compressed", "built", "staged", "qualified")
BACK = {
    *product(UNSEEN, ("rejected", "aborted", "held")),
    *product(("canary", "baking"), ("rolled_back", "aborted", "held")),
    *product(("promoting",), ("rolled_back", "aborted")),
}


@pytest.mark.parametrize(("before", "after"), list(product(Phase, Phase)), ids=str)
def test_every_pair_of_phases(before, after):
    """The whole product: what is declared is done and changes what it says, everything else is refused."""
    release = at(before)
    if (str(before), str(after)) in FORWARD | BACK:
        moved = release.enter(after, 99.0, why="because")
        assert (moved.phase, moved.phase_since_s, moved.reason) == (after, 99.0, "because")
        assert moved.ended_at_s == (99.0 if after in ENDS else None)
        assert moved.version == release.version + 1
    else:
        with pytest.raises(ValueError, match=f"may not move from {before} to {after}"):
            release.enter(after, 99.0)


@pytest.mark.parametrize("phase", Phase, ids=str)
def test_an_end_is_an_end(phase):
    """Nothing leaves one, and only ends have an outcome."""
    release = at(phase)
    assert release.is_ended == (not MOVES[phase])
    assert release.outcome == (str(phase) if phase in ENDS else None)


def test_every_phase_can_reach_an_end():
    """No phase is a trap."""
    reach = {phase: {phase} for phase in Phase}
    for _ in Phase:
        reach = {a: seen.union(*(reach[b] for b in MOVES[a])) for a, seen in reach.items()}
    assert all(seen & ENDS for seen in reach.values())


def test_users_are_met_only_after_qualification():
    """Except by a person's return to the version that served before, which is qualified by having served."""
    entries = {(a, b) for a, targets in MOVES.items() for b in targets if b in EXPOSED and a not in EXPOSED}
    assert entries == {
        (Phase.QUALIFIED, Phase.CANARY),
        (Phase.QUALIFIED, Phase.PROMOTING),
        (Phase.OPEN, Phase.PROMOTING),
    }


def test_rejected_means_that_no_user_saw_it():
    """What users may have met is rolled back, never rejected."""
    assert not {phase for phase, targets in MOVES.items() if Phase.REJECTED in targets} & EXPOSED


def test_opening_says_what_was_asked():
    """The first event."""
    release = opened()
    assert (release.id, release.service, release.phase, release.version) == ("r1", "s", Phase.OPEN, 1)
    assert (release.started_at_s, release.phase_since_s, release.ended_at_s) == (10.0, 10.0, None)
    assert release.candidate is None
    with pytest.raises(ValueError, match="has no candidate yet"):
        _ = release.sealed


def test_a_candidate_is_resolved_and_sealed():
    """Sealing keeps the champion that resolving named."""
    release = opened().record(11.0, "resolved", candidate=vars(replace(CANDIDATE, bundle_digest="")), champion={"v": 2})
    release = release.record(12.0, "sealed", candidate=vars(CANDIDATE))
    assert (release.sealed, release.champion) == (CANDIDATE, {"v": 2})


def test_exposure_is_intended_then_confirmed_then_gone():
    """Recorded before it is raised; it lasts from the first confirmed share."""
    release = at(Phase.QUALIFIED).record(20.0, "exposing", pct=5)
    assert (release.intended_pct, release.confirmed_pct, release.exposed_since_s) == (5, 0, None)
    release = release.record(21.0, "exposed", pct=5).record(25.0, "exposing", pct=25).record(26.0, "exposed", pct=25)
    assert (release.intended_pct, release.confirmed_pct, release.exposed_since_s) == (25, 25, 21.0)
    for kind in ("went_home", "interrupted"):
        home = release.record(30.0, kind)
        assert (home.intended_pct, home.confirmed_pct, home.exposed_since_s) == (0, 0, None)


def test_words_of_people_are_kept():
    """Pause, resume, approvals and a conviction."""
    release = at(Phase.CANARY).record(20.0, "paused", on=True).record(21.0, "approved", step=1)
    release = release.record(22.0, "approved", step=2).record(23.0, "convicted", why="errors")
    assert (release.paused, release.approved, release.convicted) == (True, frozenset({1, 2}), "errors")
    assert release.record(24.0, "paused", on=False).paused is False


def test_an_unknown_kind_changes_nothing_but_the_record():
    """A note of a later Shipway."""
    release = opened()
    assert replace(release.record(11.0, "hummed", tune="la"), events=release.events) == release


def test_events_are_found_by_kind():
    """All, the last, and none."""
    release = opened().record(11.0, "note", n=1).record(12.0, "note", n=2)
    assert [e.data["n"] for e in release.of_kind("note")] == [1, 2]
    assert release.last("note").data["n"] == 2
    assert (release.of_kind("x"), release.last("x")) == ((), None)


def test_the_summary_is_the_line_of_the_list():
    """Exactly the design's keys; the model is known before the candidate is."""
    assert summary_of(opened()).line() == {
        "id": "r1",
        "service": "s",
        "model": "models:/m/3",
        "version": None,
        "phase": "open",
        "outcome": None,
        "started_at": 10.0,
        "ended_at": None,
    }
    known = at(Phase.ABORTED).events
    ended = summary_of(Release.fold(known).record(50.0, "resolved", candidate=vars(CANDIDATE)))
    assert (ended.model, ended.version, ended.outcome) == ("m", 3, "aborted")


KINDS = st.sampled_from(["note", "exposing", "exposed", "went_home", "interrupted", "paused", "approved", "convicted"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
LINES = st.lists(st.tuples(st.floats(0, 1e10), KINDS, st.integers(0, 100), JSON), max_size=12)


def written(lines: list[tuple[float, str, int, object]]) -> Release:
    """A release with these lines after its opening."""
    release = opened()
    for at_s, kind, n, extra in lines:
        release = release.record(at_s, kind, pct=n, on=bool(n % 2), step=n, why=str(n), extra=extra)
    return release


@given(LINES)
def test_folding_the_record_gives_the_release(lines):
    """Everything that is known follows from the events, and each prefix is the release as it was."""
    release = written(lines)
    assert Release.fold(release.events) == release
    assert Release.fold(release.events[:-1]).events == release.events[:-1]


@given(LINES, st.data())
def test_no_changed_event_verifies(lines, data):
    """Whatever is altered in whichever event, the chain breaks."""
    release = written(lines)
    n = data.draw(st.integers(0, release.version - 1))
    event = release.events[n]
    altered = data.draw(
        st.sampled_from(
            [
                replace(event, seq=event.seq + 1),
                replace(event, at_s=math.nextafter(event.at_s, math.inf)),
                replace(event, kind=event.kind + "x"),
                replace(event, data={**event.data, "extra key": 1}),
                replace(event, prev="0" * 64),
                replace(event, hash="0" * 64),
            ]
        )
    )
    with pytest.raises(LedgerBroken):
        Release.fold((*release.events[:n], altered, *release.events[n + 1 :]))


@given(LINES, st.data())
def test_no_missing_doubled_or_swapped_event_verifies(lines, data):
    """The chain knows its order; only its end can be cut unnoticed, which is why ledgers count."""
    events = written([(1.0, "note", 0, None), *lines]).events
    n = data.draw(st.integers(0, len(events) - 2))
    damaged = [
        events[:n] + events[n + 1 :],
        events[: n + 1] + events[n:],
        (*events[:n], events[n + 1], events[n], *events[n + 2 :]),
    ]
    for chain in damaged:
        with pytest.raises(LedgerBroken):
            Release.fold(chain)


def test_events_of_another_release_do_not_fit():
    """A chain that continues somebody else's is broken where they meet."""
    ours = opened().record(11.0, "note")
    theirs = Release().record(10.0, "opened", id="r2", service="t", spec={}, spec_digest="")
    with pytest.raises(LedgerBroken):
        Release.fold((*ours.events, Event.after(theirs.events[-1], 12.0, "note", {})))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_event_holds_what_json_cannot_say(value):
    """A number that is none never enters the record."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        opened().record(11.0, "note", p=value)
