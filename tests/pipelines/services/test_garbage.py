"""Does only what nobody needs go?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records.release import Phase, Release
from pipelines.records.service import Deployment, Service
from pipelines.records.settings import GatewaySettings, Recording
from pipelines.records.summary import Summary, summary_of
from pipelines.services.garbage import DEFAULT_RETAIN_S, Inventory, Stored, Uses, decide_litter, needed_digests

NOW_S = 1_000_000.0
LONG_AGO_S = NOW_S - 2 * DEFAULT_RETAIN_S


def digest(n: int) -> str:
    """A bundle's digest."""
    return f"sha256:{n:064x}"


def lying(*names: str, age_s: float = 10.0) -> tuple[Stored, ...]:
    """Things of ten bytes."""
    return tuple(Stored(name, 10, age_s) for name in names)


def deployed(n: int) -> Deployment:
    """A deployment of a bundle."""
    return Deployment(digest(n), f"/bundles/{n}", "m", n, f"r{n}")


def release(n: int, *, sealed: int | None = None, champion: int | None = None, ended_s: float | None = None) -> Summary:
    """A release that chose a bundle, or not yet, and ended, or not yet."""
    candidate = {"model": "m", "version": n, "artifact_digest": "a", "bundle_digest": digest(sealed) if sealed else ""}
    found = Release().record(1.0, "opened", id=f"r{n}", service="s", spec={}, spec_digest="d")
    old = {"digest": digest(champion)} if champion else None
    found = found.record(1.0, "resolved", candidate=candidate, champion=old)
    return summary_of(found if ended_s is None else found.enter(Phase.REJECTED, ended_s, why="worse"))


THERE = Inventory(lying(*(digest(n) for n in range(1, 6))))
CASES = {
    "nobody needs anything": (Uses(), {1, 2, 3, 4, 5}),
    "a service's three deployments stay, a parked one past its time too": (
        Uses(
            (Service("s", stable=deployed(1), previous=replace(deployed(2), keep_until_s=1.0), candidate=deployed(3)),)
        ),
        {4, 5},
    ),
    "a service that was taken down keeps its bytes": (
        Uses((Service("s", wanted=False, stable=deployed(1)),)),
        {2, 3, 4, 5},
    ),
    "a running release keeps its candidate and its champion": (
        Uses(releases=(release(1, sealed=1, champion=2),)),
        {3, 4, 5},
    ),
    "one that ended a moment ago too": (
        Uses(releases=(release(1, sealed=1, champion=2, ended_s=NOW_S - 1),)),
        {3, 4, 5},
    ),
    "one that ended long ago keeps nothing": (
        Uses(releases=(release(1, sealed=1, ended_s=LONG_AGO_S),)),
        {1, 2, 3, 4, 5},
    ),
    "what a unit runs stays": (Uses(units=frozenset({digest(1)})), {2, 3, 4, 5}),
    "what a router points at stays": (Uses(routed=frozenset({digest(1)})), {2, 3, 4, 5}),
    "a router that nobody can ask keeps everything": (Uses(routed=None), set()),
    "a release that has not chosen may choose any": (Uses(releases=(release(1),)), set()),
    "a broken record that is not ended may be of any": (
        Uses(releases=(release(1, sealed=1).as_broken("torn"),)),
        set(),
    ),
    "a broken one that ended a moment ago keeps what its row names": (
        Uses(releases=(release(1, sealed=1, champion=2, ended_s=NOW_S - 1).as_broken("torn"),)),
        {3, 4, 5},
    ),
    "one that was set aside is as old as its beginning": (
        Uses(releases=(replace(release(1, sealed=1).as_broken("by a person"), is_ended=True),)),
        {1, 2, 3, 4, 5},
    ),
    "a service that cannot be read may need any": (Uses(unreadable=("s",)), set()),
}


@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
def test_bundles(case):
    """Which of five bundles go."""
    uses, gone = CASES[case]
    assert {b.name for b in decide_litter(THERE, uses, NOW_S).bundles} == {digest(n) for n in gone}


def test_a_spec_says_how_long_its_release_counts():
    """`retain` of the release, not the default."""
    short = Release().record(1.0, "opened", id="r1", service="s", spec={"retain": 5.0}, spec_digest="d")
    candidate = {"model": "m", "version": 1, "artifact_digest": "a", "bundle_digest": digest(1)}
    short = short.record(1.0, "resolved", candidate=candidate, champion=None).enter(Phase.REJECTED, NOW_S - 6, why="")
    assert needed_digests(Uses(releases=(summary_of(short),)), NOW_S) == frozenset()


def test_working_folders():
    """Of ended releases at once; of running ones never; of unknown ones after a day, because one may be opening now."""
    works = (*lying("r1", "r2", "unknown"), *lying("forgotten", age_s=DEFAULT_RETAIN_S + 1))
    uses = Uses(releases=(release(1, sealed=1), release(2, sealed=2, ended_s=NOW_S)))
    litter = decide_litter(Inventory(works=works), uses, NOW_S)
    assert [w.name for w in litter.works] == ["r2", "forgotten"]


def test_recorded_requests():
    """Of a service that records no more or was taken down at once; of an unknown one after a day."""
    recording = Service("recording", settings=GatewaySettings(record=Recording()))
    services = (recording, replace(recording, name="down", wanted=False), Service("no-more"))
    records = (*lying("recording", "down", "no-more", "beginning"), *lying("gone", age_s=DEFAULT_RETAIN_S + 1))
    litter = decide_litter(Inventory(records=records), Uses(services), NOW_S)
    assert [record.name for record in litter.records] == ["down", "no-more", "gone"]
    assert litter.size_bytes == 30


def test_what_is_freed_is_summed():
    """Bundles, folders and logs."""
    there = Inventory(lying(digest(1)), lying("forgotten", age_s=1e9), lying("up.log.1", "up.log.2"))
    assert decide_litter(there, Uses(), NOW_S).size_bytes == 40


SOME = st.integers(1, 8)
MAYBE = st.none() | SOME
SERVICES = st.builds(
    lambda stable, previous, candidate, wanted: Service(
        "s",
        wanted=wanted,
        stable=deployed(stable) if stable else None,
        previous=deployed(previous) if previous else None,
        candidate=deployed(candidate) if candidate else None,
    ),
    MAYBE,
    MAYBE,
    MAYBE,
    st.booleans(),
)
RELEASES = st.builds(
    lambda n, sealed, champion, ago: release(n, sealed=sealed, champion=champion, ended_s=ago and NOW_S - ago),
    SOME,
    MAYBE,
    MAYBE,
    st.none() | st.floats(1, 3 * DEFAULT_RETAIN_S),
)
DIGESTS = st.frozensets(SOME.map(digest))
USES = st.builds(Uses, st.lists(SERVICES).map(tuple), st.lists(RELEASES).map(tuple), DIGESTS, st.none() | DIGESTS)


@given(USES, DIGESTS)
def test_nothing_that_anybody_names_ever_goes(uses, there):
    """Whatever services, units, routers and unfinished releases there are, their bytes stay; the rest is decided."""
    litter = decide_litter(Inventory(lying(*there)), uses, NOW_S)
    gone = {b.name for b in litter.bundles}
    named = {d.digest for s in uses.services for d in (s.stable, s.previous, s.candidate) if d}
    running = [r for r in uses.releases if not r.is_ended]
    mine = {digest for r in running for digest in (r.bundle_digest, r.champion_digest) if digest}
    assert not gone & (named | mine | uses.units | (uses.routed or set()))
    assert gone <= there
    assert not gone or (uses.routed is not None and all(r.bundle_digest for r in running))


@pytest.mark.parametrize(
    ("name", "days", "goes"), [("r1", 31, True), ("r1", 29, False), ("r2", 31, False), ("r3", 31, True)]
)
def test_pages_go_a_month_after_their_release(name, days, goes):
    """Not those of one that still runs; of one without a record, too."""
    uses = Uses(releases=(release(1, ended_s=LONG_AGO_S), release(2)))
    litter = decide_litter(Inventory(pages=lying(name, age_s=days * 86_400.0)), uses, NOW_S)
    assert bool(litter.pages) == goes
    assert litter.size_bytes == 10 * goes
