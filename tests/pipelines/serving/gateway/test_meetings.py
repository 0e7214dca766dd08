"""A user who comes through several workers counts once, as if one process had met him."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.evidence.intervals import Intervals
from pipelines.serving.evidence.users import Users
from pipelines.serving.gateway.meetings import LATE_S, Meeting, Meetings, Met

STABLE, CANARY = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2))
SPLITS = [TrafficSplit((1, n), STABLE, CANARY, pct, 60.0) for n, pct in enumerate((5.0, 25.0, 50.0))]
ROUTES = SPLITS[0].routes
WORKERS = 3


class Tally:
    """Counts the outcomes of users."""

    def __init__(self) -> None:
        self.users: Counter[tuple[str, bool, bool]] = Counter()

    def user_over(self, arm: str, *, has_failed: bool, in_control: bool) -> None:
        """One more."""
        self.users[arm, has_failed, in_control] += 1


class Together:
    """Some workers and their keeper; what a worker says arrives when the test wants."""

    def __init__(self) -> None:
        self.intervals = [Intervals("b", math.inf, 0.0) for _ in range(WORKERS)]
        self.workers = [Meetings(intervals) for intervals in self.intervals]
        self.tally = Tally()
        self.keeper = Met(self.tally)
        self.step = 0

    def say(self, worker: int) -> list[Meeting]:
        """What one of them says, over the wire."""
        return [Meeting(**said.as_dict()) for said in self.workers[worker].news()]

    def next_step(self, now_s: float) -> None:
        """Another share is in force, at the keeper first."""
        self.step += 1
        self.keeper.step(SPLITS[self.step].routes, self.step)
        for intervals, worker in zip(self.intervals, self.workers, strict=True):
            intervals.begin(self.step, now_s, SPLITS[self.step])
            worker.begin(SPLITS[self.step].routes)


ASKED = st.tuples(
    st.integers(0, WORKERS - 1),  # the worker
    st.integers(0, 5),  # the user
    st.floats(0, 40),  # seconds since the last one
    st.booleans(),  # whether it fails
    st.permutations(range(WORKERS)),  # in which order the workers say what they know
    st.sampled_from([False] * 9 + [True]),  # whether another step begins first
)


@given(st.lists(ASKED, max_size=40))
def test_counting_through_workers_is_counting_through_one(events):
    """Whoever is met where, whoever speaks first, and over steps."""
    alone, together, now_s = Tally(), Together(), 0.0
    users, late = Users(alone), []
    for worker, user, gap_s, has_failed, order, is_next in events:
        now_s += gap_s
        routes = SPLITS[together.step].routes
        users.expire(routes, now_s)
        together.keeper.expire(routes, now_s)
        if is_next and together.step + 1 < len(SPLITS):
            together.next_step(now_s)
        routes, arm = SPLITS[together.step].routes, "canary" if user % 2 else "stable"
        together.keeper.heard(late, routes)
        for table in (users, together.workers[worker]):
            table.expire(routes, now_s)
            met = table.met(b"%d" % user, arm, routes, now_s, in_control=user == 2)
            if met is not None and has_failed:
                met.failed(now_s)
        said = [one for number in order for one in together.say(number)]
        together.keeper.heard(said, routes)
        late = said  # and once more
    routes = SPLITS[together.step].routes
    users.expire(routes, now_s + 60.0)
    together.keeper.expire(routes, now_s + 60.0)
    assert together.tally.users == alone.users


def test_what_comes_in_another_order_changes_nothing():
    """The earliest meeting begins the minute, and a failure after its end is none, whoever says so first."""
    together, name = Together(), b"user"
    first, second, third = (
        worker.met(name, "canary", ROUTES, since_s, in_control=False)
        for worker, since_s in zip(together.workers, (0.0, 30.0, 50.0), strict=True)
    )
    second.failed(80.0)
    for worker in (1, 2, 0):
        together.keeper.heard(together.say(worker), ROUTES)
    together.keeper.expire(ROUTES, 59.0)
    assert together.tally.users == Counter()
    third.failed(59.9)
    first.failed(70.0)
    for worker in (0, 2):
        together.keeper.heard(together.say(worker), ROUTES)
    together.keeper.expire(ROUTES, 60.0 + LATE_S)
    assert together.tally.users == Counter({("canary", True, False): 1})


def test_a_worker_says_each_thing_once():
    """A first meeting and a first failure; a dead worker has said all but the last moment."""
    together = Together()
    user = together.workers[0].met(b"user", "canary", ROUTES, 1.0, in_control=False)
    assert together.say(0) == [Meeting(0, b"user".hex(), "canary", in_control=False, since_s=1.0)]
    together.workers[0].met(b"user", "canary", ROUTES, 2.0, in_control=False)
    assert together.say(0) == []
    user.failed(3.0)
    user.failed(4.0)
    assert [said.failed_s for said in together.say(0)] == [3.0]
    assert together.say(0) == []


def test_what_was_said_of_an_earlier_step_is_dropped():
    """Also where the share is what it was before: each step counts its own users."""
    together = Together()
    user = together.workers[0].met(b"user", "canary", ROUTES, 1.0, in_control=False)
    user.failed(1.5)
    said = together.say(0)
    together.next_step(2.0)
    together.keeper.heard(said, SPLITS[1].routes)
    together.keeper.expire(SPLITS[1].routes, 100.0)
    assert together.tally.users == Counter()
