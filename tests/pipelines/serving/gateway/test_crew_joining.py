"""A worker that joins a crew while an interval ends: is what it sees handed out?"""

from __future__ import annotations

import asyncio
import itertools
import mmap
from time import monotonic

import orjson
import pytest

from evals.signals.strata import ArmCounts, Stratum
from pipelines.records.settings import GatewaySettings
from pipelines.serving.gateway.crew import Crew, Hand
from pipelines.serving.gateway.options import options_of, serving_of
from pipelines.serving.gateway.worker import MEMORY_BYTES
from tests.pipelines.serving.gateway.test_crew_users import until


class Heard:
    """What a worker is told."""

    def __init__(self):
        self.messages = []

    def write(self, line):
        """One message."""
        self.messages.append(orjson.loads(line))

    def is_closing(self):
        """Never."""
        return False


@pytest.fixture
def crew(tmp_path):
    """A crew of one, without processes."""
    said = ["--service", "s", "--port", "1", "--admin-socket", str(tmp_path / "s.sock")]
    said += ["--snapshot", str(tmp_path / "split"), "--interval-s", "0.2"]
    return Crew(tmp_path / "split", serving_of(options_of(said), GatewaySettings()), said)


def test_an_interval_that_ends_before_it_has_confirmed_is_waited_for_from_it(crew, monkeypatch):
    """Both are handed out, with what it saw in them, and nothing is waited for that it never knew."""

    async def story():
        hand, clock = Hand(0, None, mmap.mmap(-1, MEMORY_BYTES)), itertools.count(monotonic() + 1.0)
        hand.writer = heard = Heard()
        hand.is_ready.set()

        async def started(_):
            return hand, asyncio.StreamReader()

        monkeypatch.setattr(crew, "_started", started)
        crew._door = object()
        hiring = asyncio.ensure_future(crew._hire())
        await until(lambda: heard.messages)
        crew.tick(next(clock))
        hand.answered({"done": heard.messages[0]["n"]})
        await hiring
        crew.tick(next(clock))
        begun = [message["interval"] for message in heard.messages]
        for number in begun[:-1]:
            seen = Stratum(number, crew.boot, 0.0, 1.0, 0.0, ArmCounts(10 + number), ArmCounts())
            crew._heard(hand, {"stratum": seen.as_dict()})
        for task in crew._tasks:
            task.cancel()
        return begun, [(one.interval, one.stable.routed) for one in crew._merging.decided_after(-1)]

    begun, handed_out = asyncio.run(story())
    assert begun == [0, 1, 2]
    assert handed_out == [(0, 10), (1, 11)]
