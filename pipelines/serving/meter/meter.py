"""What does the judge learn of an answer of a language model?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import orjson

from evals.signals.counting import COST, PAID
from pipelines.records.settings import Objective, Price, Promise
from pipelines.serving.evidence.attributes import OTHER, Attributes
from pipelines.serving.evidence.intervals import Story
from pipelines.serving.http1.answer import Refusal
from pipelines.serving.http1.request import Request
from pipelines.serving.meter.asked import UNREAD, TextRequest, asked_by
from pipelines.serving.meter.generation import Generation
from pipelines.serving.meter.measured import Measured

MOST_TOKENS = 2**20
"""Of an answer: what is shorter than this is told by how much."""
NANO_PER_MILLIONTH = 1000.0
"""Prices are of a million tokens, and costs are counted in billionths."""

NO_TENANT = "none"

UNKNOWN = "unknown"
"""The bin of requests whose engine does not say how many tokens they had."""


class MeteredAnswer:
    """One answer on its way: what passes is followed, and at its end the judge is told."""

    may_be_left = True

    def __init__(
        self,
        asked: TextRequest,
        objective: Promise | None,
        named: Callable[[str], None],
        price: Price | None = None,
        traffic: str = "",
        *,
        is_stream: bool,
    ) -> None:
        self.generation = Generation(asked, is_stream=is_stream, named=named if asked.kind == "responses" else None)
        self.is_stream, self._objective, self._price = is_stream, objective, price
        self._asked, self._traffic = asked, traffic
        self.heard = self.generation.heard

    @property
    def is_midway(self) -> bool:
        """Whether an event has begun that has no end yet."""
        return self.generation.is_midway

    @property
    def has_begun(self) -> bool:
        """Whether anything was generated."""
        return self.generation.has_begun

    def ending(self, status: int, at_s: float, *, is_over: bool) -> tuple[str, Story | None]:
        """Why it is a failure, or "", and what it is counted as."""
        if status >= 400:
            return "", Story({}, is_bad={"rejected": True})
        found = self.generation.measured(at_s, is_over=is_over)
        story = story_of(found, self._objective, is_over=is_over)
        costs = costs_of(found, self._price) if is_over and self._price is not None else {}
        return found.why_failed, replace(story, costs=costs, traffic=self._traffic, tenant=self._asked.tenant)


class Declined(Refusal):
    """A refusal in the shape of OpenAI's errors, which is what the caller's library reads."""

    @property
    def body(self) -> bytes:
        """The error."""
        error = {"message": self.reason, "type": "invalid_request_error", "param": self.field, "code": self.code}
        return orjson.dumps({"error": error})


class Meter:
    """Follows the answers of one gateway; requests that engines answer differently may be refused here."""

    def __init__(
        self, objective: Objective | None, borderline: str = "pass", price: Price | None = None, tenant: str = ""
    ) -> None:
        self._objective, self._refuses, self._price = objective, borderline == "refuse", price
        self._classes = Attributes((objective.by,)) if objective is not None and objective.by else None
        self._known = frozenset(objective.classes) if objective is not None else frozenset()
        self._tenants = Attributes((tenant,)) if tenant else None

    def asked(self, request: Request) -> TextRequest | None:
        """What a request asks for; None where it asks for no text."""
        asked = asked_by(request.target, request.body) if request.method == b"POST" else None
        if asked is None or self._classes is self._tenants is None:
            return asked
        tenant = (_value(self._tenants, request) or NO_TENANT) if self._tenants is not None else ""
        return replace(asked, traffic=_value(self._classes, request), tenant=tenant)

    def declines(self, asked: TextRequest | None) -> Refusal | None:
        """Why a request goes to neither arm: engines differ in what they answer. What was not read is passed on."""
        if not self._refuses or asked is None or asked.odd in {"", UNREAD}:
            return None
        return Declined(400, "borderline", f"this request is answered by no engine alike: {asked.odd}")

    def follow(self, asked: TextRequest, named: Callable[[str], None], *, is_stream: bool) -> MeteredAnswer:
        """An answer that begins; `named` hears what a response is called that may be asked for again."""
        objective = self._objective.of(asked.traffic) if self._objective is not None else None
        traffic = "" if self._classes is None else asked.traffic if asked.traffic in self._known else OTHER
        return MeteredAnswer(asked, objective, named, self._price, traffic, is_stream=is_stream)


def _value(attribute: Attributes | None, request: Request) -> str:
    """What a request says of an attribute; "" where it says nothing."""
    named = attribute.slices_of(request.headers, request.body) if attribute is not None else ()
    return named[0].partition("=")[2] if named else ""


def story_of(found: Measured, objective: Promise | None, *, is_over: bool) -> Story:
    """What is counted of an answer, or of the part of it that came in time."""
    timings = {"first_token": found.first_token_ms, "between_tokens": found.per_token_ms}
    is_bad = {"rejected": False}
    if objective is not None:
        is_bad["goodput"] = misses(objective, found)
    if is_over:
        is_bad |= {what: what in found.marks for what in sorted(found.could_be)}
    timed = {name: ms for name, ms in timings.items() if ms is not None}
    lengths = lengths_of(found.tokens_out) if is_over and found.tokens_out else {}
    tokens = {"in": found.tokens_in, "cached": found.tokens_cached, "out": found.tokens_out} if is_over else {}
    return Story(timed, lengths, is_bad, tokens, found.finish if is_over else (), bin_of(found))


def lengths_of(tokens: int) -> dict[str, float]:
    """How long an answer is: in tokens, and by how much it is shorter than the longest."""
    return {"longer": float(tokens), "shorter": MOST_TOKENS / tokens}


def costs_of(found: Measured, price: Price) -> dict[str, float]:
    """What an answer costs, in billionths of money; nothing where the engine does not say how many tokens it had.

    `cost` is judged, and leaves the cache out: a canary with a small share finds less in its cache for its whole life,
    which says nothing of what it will cost with all users. `paid` is what the cache left of it.
    """
    if not found.tokens_in or not found.is_counted_by_engine:
        return {}
    made = found.tokens_out * price.output
    fresh = found.tokens_in * price.input + made
    paid = (found.tokens_in - found.tokens_cached) * price.input + found.tokens_cached * price.cached + made
    return {COST: fresh * NANO_PER_MILLIONTH, PAID: paid * NANO_PER_MILLIONTH}


def misses(objective: Promise, found: Measured) -> bool:
    """Whether an answer was later than its service promises; what came in one piece has an end only.

    A first token that has not come is late when its time is over.
    """
    first_ms = found.first_delta_ms if found.first_token_ms is None else found.first_token_ms
    waited_ms = found.whole_ms if first_ms is None and found.is_stream else first_ms
    pairs = ((objective.ttft_s, waited_ms), (objective.tpot_s, found.per_token_ms), (objective.e2e_s, found.whole_ms))
    return any(limit_s is not None and ms is not None and ms > limit_s * 1000 for limit_s, ms in pairs)


def bin_of(found: Measured) -> str:
    """Which requests may it be compared with? Those with as many uncached tokens, within a factor of two."""
    if not found.tokens_in:
        return UNKNOWN
    uncached = found.tokens_in - found.tokens_cached
    return str(1 << (uncached.bit_length() - 1)) if uncached >= 32 else "0"
