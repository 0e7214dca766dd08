"""What do the gateway and a server's front take of an engine's throughput, and what does fp8 give?

All ways are asked in turns, round by round, in an order that turns round; each ratio is of two passes of one round.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.llm_gpu.load import Asked, Loaded, load
from benchmarks.llm_gpu.record import Record, spread
from benchmarks.llm_gpu.ways import Metered, Way

QUESTIONS: Mapping[int, int] = {1: 4, 8: 16, 64: 128, 256: 512}
"""How many questions a pass has at so many streams; another number of streams has two for each."""

FIRST_TOKENS, FIRST_QUESTIONS = 4, 40
"""The time to the first token at one stream has a pass of its own: short answers, and many of them."""

Figures = dict[str, float]
Found = dict[tuple[int, str], list[Figures]]


@dataclass
class Plan:
    """What is asked, at how many streams each, for how many rounds at most, and until when."""

    asked: Asked
    streams: Sequence[int]
    rounds: int
    until_s: float
    share: float = 1.0
    found: Found = field(default_factory=dict)

    def questions(self, streams: int) -> int:
        """In one pass."""
        return max(streams, round(self.share * QUESTIONS.get(streams, 2 * streams)))


def one_pass(record: Record, part: str, way: Way, streams: int, questions: int, asked: Asked) -> Figures:
    """Ask by one way; what clients, the meter and the processor's clock say of it."""
    spent_s, before = way.spent_s(), way.metered()
    loaded = load(way.port, streams, questions, asked)
    figures = loaded.figures()
    if way.processes:
        figures["cpu_us_per_event"] = (way.spent_s() - spent_s) / loaded.events * 1e6
    if way.admin:
        figures |= _by_meter(loaded, way, before)
    if {answer.tokens for answer in loaded.answers} - {asked.new}:
        figures["answers_of_other_length"] = sum(answer.tokens != asked.new for answer in loaded.answers)
    told = {name: round(value, 4) for name, value in figures.items()}
    counted = {"requests": len(loaded.answers), "events": loaded.events, "usage_tokens": loaded.tokens}
    record.say(part, what="pass", way=way.name, streams=streams, **counted, wall_s=round(loaded.wall_s, 3), **told)
    return figures


def _by_meter(loaded: Loaded, way: Way, before: Metered) -> Figures:
    """What the gateway's meter says of the same answers, and how far it is from the clients' count and clock.

    The last answers are counted when their connection is at rest again, a moment after their client has read them.
    """
    until_s = time.monotonic() + 2.0
    while (seen := way.metered().since(before)).answers < len(loaded.answers) and time.monotonic() < until_s:
        time.sleep(0.02)
    by_clients_s = sum(answer.between_ms for answer in loaded.answers) / 1000
    return {
        "meter_tokens": seen.tokens,
        "meter_off_tokens": seen.tokens - loaded.tokens,
        "meter_tok_s_ratio": by_clients_s / seen.between_s if seen.between_s else float("nan"),
    }


def rounds(record: Record, part: str, ways: Sequence[Way], plan: Plan) -> None:
    """Whole rounds until the time is over: what each took says whether another one fits."""
    for number in range(plan.rounds):
        began_s = time.monotonic()
        for way in _turned(ways, number):
            first = Asked(plan.asked.model, plan.asked.prompt, FIRST_TOKENS, plan.asked.tokens)
            questions = max(2, round(plan.share * FIRST_QUESTIONS))
            plan.found.setdefault((0, way.name), []).append(one_pass(record, part, way, 1, questions, first))
        for streams in plan.streams:
            for way in _turned(ways, number):
                figures = one_pass(record, part, way, streams, plan.questions(streams), plan.asked)
                plan.found.setdefault((streams, way.name), []).append(figures)
        took_s = time.monotonic() - began_s
        if time.monotonic() + 1.1 * took_s > plan.until_s:
            return


def _turned(ways: Sequence[Way], number: int) -> list[Way]:
    by = number % len(ways)
    return [*ways[by:], *ways[:by]]


def compared(record: Record, part: str, plan: Plan, base: str, names: Sequence[str]) -> None:
    """Each way beside the base: medians, and ratios and differences of the same rounds."""
    for streams in (0, *plan.streams):
        alone = plan.found.get((streams, base), [])
        told = {"what": "first token" if streams == 0 else "figures", "streams": streams or 1}
        if alone:
            record.say(part, **told, way=base, **_spreads(alone))
        for name in names:
            mine = plan.found.get((streams, name), [])
            if mine:
                record.say(part, **told, way=name, **_spreads(mine), **{f"beside_{base}": _beside(mine, alone)})


def _spreads(passes: Sequence[Figures]) -> dict[str, Any]:
    return {name: spread([one[name] for one in passes if name in one]) for name in passes[0]}


def _beside(mine: Sequence[Figures], base: Sequence[Figures]) -> dict[str, Any]:
    """Of the rounds that both have."""
    pairs = list(zip(mine, base, strict=False))
    added = {f"added_{name}": spread([a[name] - b[name] for a, b in pairs]) for name in ("ttft_p50_ms", "gap_p99_ms")}
    return {"tok_s_ratio": spread([a["tok_s"] / b["tok_s"] for a, b in pairs], 4), **added}


def words_counted(record: Record, way: Way, asked: Asked, streams: int) -> None:
    """Are there as many words in what clients read as the usage and the meter say? Special tokens have no text."""
    before = way.metered()
    loaded = load(way.port, streams, 2 * streams, asked)
    seen = _by_meter(loaded, way, before)
    words = sum(answer.words for answer in loaded.answers)
    counted = {"words": words, "usage_tokens": loaded.tokens, "meter_tokens": seen["meter_tokens"]}
    record.say("through", what="counts", way=way.name, streams=streams, requests=len(loaded.answers), **counted)
