"""By chance, by user or by choice: who gets which arm, and who counts as evidence?"""

from __future__ import annotations

import asyncio
import math
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records.split import Arm, TrafficSplit
from pipelines.serving.evidence.intervals import Intervals
from pipelines.serving.evidence.users import Users
from pipelines.serving.gateway.options import TokenRefused, token_in
from pipelines.serving.http1.request import Request
from pipelines.serving.requests.assignment import Assignment, NotAllowed, Rule
from tests.pipelines.serving.plane import OK, Plane, saying, status_of

STABLE, CANARY, OTHER = (Arm(f"sha256:{n}", (f"http://127.0.0.1:{n}",)) for n in (1, 2, 3))


def asked(*headers: tuple[bytes, bytes]) -> Request:
    """A request with these headers."""
    return Request(b"GET", b"/", list(headers), dict(headers), is_http11=True)


def split_at(pct: float, canary: Arm = CANARY, release: str = "r-1") -> TrafficSplit:
    """A split with this share."""
    return TrafficSplit((1, 1), STABLE, canary, pct, 60.0, release)


def sticky(rule: str = "header:x-user", **how) -> Assignment:
    """An assignment by user, whose chance always says canary."""
    return Assignment(lambda: (0.0, True), Rule.from_text(rule), **how)


def arms_of(n: int, pct: float, canary: Arm = CANARY, release: str = "r-1") -> list[str]:
    """The arms of users 0 to n."""
    assignment, split = sticky(), split_at(pct, canary, release)
    return [assignment.of(asked((b"x-user", b"%d" % i)), split).arm for i in range(n)]


@pytest.mark.parametrize("pct", [1.0, 5.0, 25.0, 50.0])
def test_shares_of_users_are_kept(pct):
    """Of 100,000 users within half a point."""
    assert abs(arms_of(100_000, pct).count("canary") / 1000 - pct) <= 0.5


@given(st.binary(min_size=1, max_size=50), st.floats(0, 100), st.floats(0, 100))
def test_who_is_in_the_canary_stays_in_it_at_a_larger_share(user, one, other):
    """Shares are nested."""
    small, large = sorted((one, other))
    arms = [sticky().of(asked((b"x-user", user)), split_at(pct)).arm for pct in (small, large)]
    assert arms != ["canary", "stable"]


@pytest.mark.parametrize("later", [(OTHER, "r-1"), (CANARY, "r-2")])
def test_another_release_meets_other_users(later):
    """Not the same ones bear every first step, also where the same bytes are released again."""
    first, second = arms_of(2000, 10.0), arms_of(2000, 10.0, *later)
    both = sum(a == b == "canary" for a, b in zip(first, second, strict=True))
    assert both < 60


def test_who_does_not_say_who_he_is_gets_his_arm_by_chance():
    """And is no user."""
    found = sticky().of(asked(), split_at(50.0))
    assert (found.arm, found.user) == ("canary", None)


def test_a_cookie_names_a_user():
    """Wherever it stands among others."""
    rule = Rule.from_text("cookie:id")
    requests = [asked((b"cookie", b"a=b; id=me; c=d")), asked((b"cookie", b"ids=x")), asked((b"cookie", b"id=me"))]
    assert [rule.user_of(request) for request in requests] == [b"me", None, b"me"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"chat": {"id": "c-1"}}', b"c-1"),
        (b'{"chat": {"id": 7}}', b"7"),
        (b'{"chat": {"id": "\\ud800"}}', None),
        (b'{"chat": {"id": ""}}', None),
        (b'{"chat": {"id": [1]}}', None),
        (b'{"chat": 1}', None),
        (b"{", None),
        (b"", None),
    ],
)
def test_a_field_of_the_body_names_a_conversation(body, expected):
    """Its turns stay at one arm."""
    request = Request(b"POST", b"/", [], {}, is_http11=True, body=body)
    assert Rule.from_text("body:chat.id").user_of(request) == expected


@pytest.mark.parametrize("text", ["", "header", "header:", "query:x", "cookie:é", "header:a\nb"])
def test_a_rule_that_is_none_is_refused(text):
    """By name."""
    with pytest.raises(ValueError, match="header:NAME, cookie:NAME or body:PATH"):
        Rule.from_text(text)


CHOICE = (b"x-shipway-arm-override", b"canary")


def test_a_smoke_test_chooses_its_arm_with_the_token():
    """And is no evidence; without the token, or for an arm that is not there, it is refused."""
    assignment = Assignment(lambda: (0.9, False), None, "secret")
    found = assignment.of(asked(CHOICE, (b"x-shipway-override-token", b"secret")), split_at(1.0))
    assert (found.arm, found.is_evidence) == ("canary", False)
    home, right = TrafficSplit((1, 1), STABLE), (b"x-shipway-override-token", b"secret")
    odd = (b"x-shipway-arm-override", b"best")
    for request, split, status in (
        (asked(CHOICE), split_at(1.0), 403),
        (asked(CHOICE, (b"x-shipway-override-token", b"guess")), split_at(1.0), 403),
        (asked(CHOICE, right), home, 409),
        (asked(odd, right), split_at(1.0), 409),
    ):
        with pytest.raises(NotAllowed) as refused:
            assignment.of(request, split)
        assert refused.value.refusal.status == status


def test_without_a_token_nobody_chooses():
    """An empty one opens nothing."""
    with pytest.raises(NotAllowed):
        Assignment(lambda: (0.9, False)).of(asked(CHOICE, (b"x-shipway-override-token", b"")), split_at(1.0))


def test_a_token_is_made_private_and_kept(tmp_path):
    """And is refused where others can read it."""
    path = tmp_path / "token"
    token = token_in(path)
    assert (len(token), stat.S_IMODE(path.stat().st_mode), token_in(path)) == (32, 0o600, token)
    path.chmod(0o644)
    with pytest.raises(TokenRefused, match="chmod 600"):
        token_in(path)


ROUTES = split_at(10.0).routes


def test_a_user_counts_once_when_his_minute_is_over():
    """However busy he is; one failure in it is enough, one after it is nothing."""
    intervals = Intervals("b", 1e9, 0.0)
    users = Users(intervals, 60.0)
    good = users.met(b"good", "canary", ROUTES, 0.0, in_control=False)
    bad = users.met(b"bad", "canary", ROUTES, 1.0, in_control=False)
    users.met(b"at home", "stable", ROUTES, 1.0, in_control=True)
    assert good is users.met(b"good", "canary", ROUTES, 30.0, in_control=False)
    bad.failed(30.0)
    users.expire(ROUTES, 59.0)
    assert intervals.current.arms["canary"].users is None
    users.expire(ROUTES, 61.0)
    good.failed(61.0)
    counted = {name: arm.counts().users for name, arm in intervals.current.arms.items()}
    assert {name: (u.routed, u.errors) for name, u in counted.items()} == {
        "canary": (2, 1),
        "stable": (1, 0),
        "control": (1, 0),
    }
    assert users.met(b"good", "canary", ROUTES, 70.0, in_control=False) is None


def test_a_user_counts_again_in_the_next_step():
    """And one whose step ends before his minute does not count in it."""
    intervals, later = Intervals("b", 1e9, 0.0), split_at(25.0).routes
    users = Users(intervals, 60.0)
    users.met(b"early", "canary", ROUTES, 0.0, in_control=False)
    users.expire(ROUTES, 60.0)
    users.met(b"late", "canary", ROUTES, 61.0, in_control=False)
    assert users.met(b"early", "canary", later, 70.0, in_control=False) is not None
    users.expire(later, 200.0)
    assert intervals.current.arms["canary"].counts().users.routed == 2


def test_users_and_smoke_tests_through_a_gateway(tmp_path):
    """A user always meets the same arm; a failure is his; a smoke test counts nowhere, and its token stays here."""
    seen = []

    async def failing(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")

    async def run():
        async with Plane(tmp_path) as plane:
            plane.gateway.proxy.assignment = sticky(token="secret")
            plane.split([await plane.upstream(saying(OK))], [await plane.upstream(failing)], 50.0)
            head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            of_users = [
                {status_of(await plane.say(head + b"x-user: %d\r\n\r\n" % n)) for _ in range(3)} for n in range(12)
            ]
            routed = sum(plane.counts(arm)[0] for arm in ("stable", "canary"))
            choice = b"x-shipway-arm-override: canary\r\nx-shipway-override-token: secret\r\n\r\n"
            chosen = status_of(await plane.say(head + choice))
            after = sum(plane.counts(arm)[0] for arm in ("stable", "canary"))
            failed = [math.isfinite(user.failed_s) for user in plane.gateway.proxy.users._waiting.values()]
            refused = status_of(await plane.say(head + choice.replace(b"secret", b"guess")))
            return of_users, (routed, after), chosen, failed, refused

    of_users, routed, chosen, failed, refused = asyncio.run(run())
    assert {frozenset(statuses) for statuses in of_users} == {frozenset({200}), frozenset({500})}
    assert failed == [statuses == {500} for statuses in of_users]
    assert (routed, chosen, refused) == ((36, 36), 500, 403)
    assert not [head for head in seen if b"override" in head]
