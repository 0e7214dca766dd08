"""What an admin socket answers, whoever holds the split: every status, once."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from evals.signals.strata import ArmCounts, Stratum
from pipelines.records.split import Arm, Generation, TrafficSplit
from pipelines.serving.split.contract import AdminAnswer, health_of, put_split, strata_of
from pipelines.serving.split.store import Refused, Unconfirmed

STABLE = Arm("sha256:a", ("http://127.0.0.1:1",))
SPLIT = TrafficSplit((1, 2), STABLE)
BODY = orjson.dumps({**SPLIT.as_dict(), "expected": [1, 1]})


async def takes(wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
    """As asked."""
    return wanted


def put(body: bytes = BODY, change=takes, **check) -> AdminAnswer:
    """The answer of a `PUT /split`."""
    return asyncio.run(put_split(body, change, **check))


def test_what_is_in_force_is_answered():
    """The split, as its wire form."""
    assert put() == (200, SPLIT.as_dict())


def test_what_was_expected_is_handed_on():
    """As numbers, whatever JSON made of them."""
    heard = []

    async def hears(wanted: TrafficSplit, expected: Generation) -> TrafficSplit:
        heard.append((wanted, expected))
        return wanted

    put(change=hears)
    assert heard == [(SPLIT, (1, 1))]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"split"',
        orjson.dumps(SPLIT.as_dict()),
        orjson.dumps({**SPLIT.as_dict(), "expected": [1]}),
        orjson.dumps({**SPLIT.as_dict(), "expected": None}),
        orjson.dumps({**SPLIT.as_dict(), "expected": [1, 1], "stable": {"digest": "x", "url": "http://10.0.0.1:80"}}),
        orjson.dumps({**SPLIT.as_dict(), "expected": [1, 1], "generation": [1e999, 0]}),
    ],
)
def test_what_is_no_split_is_refused(body):
    """400, with the reason, and nothing is changed."""

    async def never(*_: object) -> TrafficSplit:
        raise AssertionError("it was changed")

    status, said = put(body, never)
    assert (status, said["reason"].startswith("not a split: ")) == (400, True)


def test_a_split_that_the_router_cannot_carry_out_is_refused():
    """Before it is tried."""

    def refuse(_: TrafficSplit) -> None:
        raise ValueError("no TLS")

    assert put(check=refuse) == (400, {"reason": "not a split: ValueError('no TLS')"})


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Refused("too old", SPLIT), (409, {"reason": "too old", "split": SPLIT.as_dict()})),
        (Unconfirmed("1 of 2 workers"), (503, {"reason": "1 of 2 workers"})),
        (OSError(28, "full"), (507, {"reason": "the snapshot cannot be written: [Errno 28] full"})),
    ],
)
def test_every_refusal_has_its_status(error, answer):
    """A stale writer hears what holds."""

    async def refuses(*_: object) -> TrafficSplit:
        raise error

    assert put(change=refuses) == answer


class Three:
    """Holds three decided intervals."""

    boot = "b"

    def decided_after(self, number: int) -> tuple[Stratum, ...]:
        """Those after a number."""
        whole = (Stratum(n, "b", float(n), n + 1.0, 0.0, ArmCounts(1), ArmCounts()) for n in range(3))
        return tuple(stratum for stratum in whole if stratum.interval > number)


@pytest.mark.parametrize(
    ("query", "intervals"),
    [
        ({}, [0, 1, 2]),
        ({"after": "1"}, [2]),
        ({"after": "1", "boot": ""}, [2]),
        ({"after": "1", "boot": "b"}, [2]),
        ({"after": "1", "boot": "another"}, [0, 1, 2]),
    ],
)
def test_evidence_is_given_from_where_it_was_read(query, intervals):
    """Of another boot, everything."""
    status, said = strata_of(Three(), query)
    assert (status, said["boot"], [s["interval"] for s in said["strata"]]) == (200, "b", intervals)


@pytest.mark.parametrize("boot", ["", "another"])
def test_evidence_after_no_number_is_refused(boot):
    """400."""
    assert strata_of(Three(), {"after": "x", "boot": boot})[0] == 400


def test_health_names_the_boot():
    """So that a restart is noticed."""
    assert health_of("b") == (200, {"boot": "b", "live": True})
