"""Do the figures of the meter make what load tools have reported of streams of the same timing?

`record_reports.py` says how they were recorded. Here the clock is made, so that the meter's figures are exact.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.serving.meter.asked import asked_by
from pipelines.serving.meter.generation import Generation
from tests.pipelines.serving.calibration.reports import Figures, Report
from tests.pipelines.serving.calibration.running import TOOLS
from tests.pipelines.serving.calibration.timed_server import EACH_MS, FIRST_MS, TOKENS, WORD, events

REPORTS = Path(__file__).parents[3] / "data" / "load_tools"
ASKED = b'{"model": "timed", "stream": true, "messages": [{"role": "user", "content": "hello"}]}'


def metered(first_ms: float = FIRST_MS, each_ms: float = EACH_MS) -> Figures:
    """What the meter says of a stream whose tokens come at exactly these times."""
    path = "/v1/chat/completions"
    asked = asked_by(path.encode(), ASKED)
    assert asked is not None
    generation, at_s = Generation(asked, is_stream=True), 0.0
    for turn, event in enumerate(events(path)):
        at_s = (first_ms + turn * each_ms) / 1000
        generation.heard(b"data: " + event + b"\n\n", at_s)
    found = generation.measured(at_s)
    assert (found.why_failed, found.is_counted_by_engine) == ("", True)
    assert found.first_token_ms is not None
    assert found.per_token_ms is not None
    return Figures(found.tokens_out, found.first_token_ms, found.per_token_ms)


def counted_by(tool: str, tokenizer: Path) -> int:
    """How many tokens a tool counts in the answer: the server's, or those of the text by a tokenizer of its own."""
    if tool != "aiperf":
        return TOKENS
    from tokenizers import Tokenizer

    return len(Tokenizer.from_file(str(tokenizer / "tokenizer.json")).encode(WORD * TOKENS).ids)


def test_the_meter_says_what_the_clock_says():
    """To the microsecond."""
    assert tuple(metered()) == pytest.approx((TOKENS, FIRST_MS, EACH_MS), abs=1e-3)


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_load_tool_reported_follows_from_the_meter(tool, tiny_generator):
    """Each by its own definitions, and not from another timing nor from another tool's definition."""
    report, counted = Report.read(REPORTS / f"{tool}.json"), counted_by(tool, tiny_generator)
    assert report.disagreements(metered(), counted) == []
    for other in (metered(first_ms=88.0), metered(first_ms=112.0), metered(each_ms=18.0), metered(each_ms=22.0)):
        assert report.disagreements(other, counted)
    assert replace(report, itl_ms=report.tpot_ms or report.itl_ms / 2).disagreements(metered(), counted)
    assert report.disagreements(metered(), counted + 1)


def test_tools_differ_by_a_factor_of_two_where_the_meter_says_one_thing():
    """The same streams of the same server: what is called a time between tokens needs its definition."""
    found = {tool: Report.read(REPORTS / f"{tool}.json") for tool in TOOLS}
    assert found["guidellm"].itl_ms > 1.9 * found["aiperf"].itl_ms
    assert found["aiperf-server-tokens"].itl_ms == pytest.approx(found["guidellm"].itl_ms, abs=1.0)
    assert (found["guidellm"].tpot_ms or 0) > found["guidellm"].itl_ms + 2
