"""Whose answer was that, and how good was it? Labels and ratings come late, by the id of the request.

Bookkeeping of one gateway boot: which arm answered which request, for as long as it may be labelled. A label counts in
the interval in which it *arrives*, and only while requests are routed as they were when that one was: then both arms'
labels are of the same time. When the time of an interval's requests is over, it is said how many of each arm were
labelled (a cohort), so that the judge sees where one arm's labels are missing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson

from evals.signals.counting import GRID
from evals.signals.strata import Cohort
from pipelines.serving.evidence.counters import GatewayCounters
from pipelines.serving.evidence.intervals import CountTicket, Interval, Intervals
from pipelines.serving.http1.answer import Refusal
from pipelines.serving.http1.request import Request

LONGEST_ID = 200
"""Bytes of a request's id and characters of a version; an answer to a longer id cannot be labelled."""

MOST_REQUESTS = 100_000
"""Answers that can be labelled at one time; the oldest are forgotten first, of both arms alike."""


class LabelRefused(ValueError):
    """A label that cannot be evidence, with a stable code and the status of the answer."""

    def __init__(self, status: int, code: str, field_name: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.code, self.field = status, code, field_name


@dataclass(eq=False, slots=True)
class _Source:
    """What many answers have in common: their interval, who gave them, and where they are counted."""

    interval: Interval
    arm: str
    said: bytes
    version: str
    answered: dict[str, int]


@dataclass
class _Waiting:
    """The answered requests of an interval, by arm: how many, and how many are labelled."""

    interval: Interval
    answered: dict[str, int] = field(default_factory=lambda: {"canary": 0, "stable": 0})
    labelled: dict[str, int] = field(default_factory=lambda: {"canary": 0, "stable": 0})

    def cohort(self) -> Cohort:
        """What it says once its time is over."""
        counts = [counted[arm] for arm in ("canary", "stable") for counted in (self.answered, self.labelled)]
        return Cohort(self.interval.split.canary_pct, *counts)


class Labels:
    """The answers that may still be labelled. `patience_s` is how long they wait, `most` how many.

    An answer only joins a queue, because every request pays for that. An index is made when the first label comes, and
    kept from then on: a service without labels never needs one.
    """

    def __init__(self, intervals: Intervals, patience_s: float, most: int = MOST_REQUESTS) -> None:
        self._intervals, self._patience_s, self._most = intervals, patience_s, most
        # A hundred thousand answers must fit beside everything else: an id, and whose it is, is all that is kept.
        self._new: deque[bytes] = deque(maxlen=most)
        self._sources_of_new: deque[_Source] = deque(maxlen=most)
        self._answers: dict[bytes, _Source] = {}
        self._in_turn: deque[bytes] = deque()
        self._is_labelled: set[bytes] = set()
        self._last: dict[str, _Source] = {}
        self._waiting: dict[int, _Waiting] = {}

    def answered(self, request_id: bytes, ticket: CountTicket, version: bytes) -> None:
        """An arm answered this request. An id that was used before keeps its first answer."""
        if len(request_id) > LONGEST_ID:
            return
        arm = ticket.arm
        source = self._last.get(arm)
        if source is None or source.interval is not ticket.interval or source.said != version:
            source = self._last[arm] = self._source(ticket.interval, arm, version)
        source.answered[arm] += 1
        self._new.append(request_id)
        self._sources_of_new.append(source)

    def labelled(self, request_id: str, score: float, version: str | None) -> bool:
        """A label came: whether it is evidence, or came after the shares had changed. LabelRefused where it is none."""
        self._index()
        key = request_id.encode()
        answer = self._answers.get(key)
        if answer is None:
            raise LabelRefused(404, "E_LABEL_UNKNOWN", "request_id", "no request with this id waits for a label")
        if version is not None and version != answer.version:
            reason = f"version {answer.version} answered this request, not {version[:40]}"
            raise LabelRefused(409, "E_LABEL_VERSION", "model_version", reason)
        if key in self._is_labelled:
            raise LabelRefused(409, "E_LABEL_TWICE", "request_id", "this request has a label already")
        self._is_labelled.add(key)
        interval, arm = answer.interval, answer.arm
        self._of(interval).labelled[arm] += 1
        is_evidence = interval.split.routes == self._intervals.current.split.routes
        if is_evidence:
            self._intervals.scored(arm, round(score * GRID))
        return is_evidence

    def expire(self, now_s: float) -> None:
        """Say what became of the intervals whose time is over, and forget their requests."""
        if self._answers:
            self._index()  # a few at a time, so that no label waits for many
        for number in [n for n, waiting in self._waiting.items() if self._is_over(waiting.interval, now_s)]:
            self._intervals.due(self._waiting.pop(number).cohort())
            self._last.clear()
        while self._in_turn and self._is_over(self._answers[self._in_turn[0]].interval, now_s):
            self._forget_oldest()
        while self._new and self._is_over(self._sources_of_new[0].interval, now_s):
            self._new.popleft()
            self._sources_of_new.popleft()

    def _index(self) -> None:
        """Make the answers that came since the last time known by their ids."""
        answers = self._answers
        for request_id, source in zip(self._new, self._sources_of_new, strict=True):
            if request_id in answers:
                source.answered[source.arm] -= 1
                continue
            answers[request_id] = source
            self._in_turn.append(request_id)
            if len(answers) > self._most:
                self._forget_oldest()
        self._new.clear()
        self._sources_of_new.clear()

    def _forget_oldest(self) -> None:
        oldest = self._in_turn.popleft()
        del self._answers[oldest]
        self._is_labelled.discard(oldest)

    def _source(self, interval: Interval, arm: str, version: bytes) -> _Source:
        text = version.decode(errors="replace")[:LONGEST_ID]
        return _Source(interval, arm, version, text, self._of(interval).answered)

    def _is_over(self, interval: Interval, now_s: float) -> bool:
        return interval.ended_s is not None and now_s - interval.ended_s > self._patience_s

    def _of(self, interval: Interval) -> _Waiting:
        waiting = self._waiting.get(interval.number)
        if waiting is None:
            waiting = self._waiting[interval.number] = _Waiting(interval)
        return waiting


def label_of(raw: Any) -> tuple[str, float, str | None]:
    """The request's id, its score in [0, 1] and the version, of a body. LabelRefused names the field that is wrong."""
    if not isinstance(raw, dict):
        raise LabelRefused(422, "E_LABEL", "body", "a JSON object is expected")
    request_id, version = raw.get("request_id"), raw.get("model_version")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= LONGEST_ID:
        raise LabelRefused(422, "E_LABEL", "request_id", "the x-request-id of an answer is expected")
    if version is not None and not isinstance(version, str):
        raise LabelRefused(422, "E_LABEL", "model_version", "the x-shipway-model-version of the answer is expected")
    named = [name for name in ("score", "correct") if raw.get(name) is not None]
    if len(named) != 1:
        raise LabelRefused(422, "E_LABEL", "score", "one of score (0 to 1) and correct (true or false) is expected")
    return request_id, _score(named[0], raw[named[0]]), version


def _score(name: str, value: Any) -> float:
    if name == "correct":
        if not isinstance(value, bool):
            raise LabelRefused(422, "E_LABEL", "correct", "true or false is expected")
        return float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        raise LabelRefused(422, "E_LABEL", "score", "a number from 0 to 1 is expected")
    return float(value)


def is_feedback(request: Request) -> bool:
    """Whether a POST is a label, not a question to an arm."""
    return request.target.partition(b"?")[0] == b"/feedback"


def answer_of(body: bytes, labels: Labels, counters: GatewayCounters) -> tuple[int, bytes]:
    """The status and body that answer a label: 200 with whether it is evidence, 4xx where it is none."""
    try:
        request_id, score, version = label_of(orjson.loads(body))
        is_evidence = labels.labelled(request_id, score, version)
    except orjson.JSONDecodeError:
        return 400, Refusal(400, "E_BODY", "the body is not JSON", "body").body
    except LabelRefused as error:
        return error.status, Refusal(error.status, error.code, str(error), error.field).body
    counters.labelled += 1
    return 200, orjson.dumps({"request_id": request_id, "evidence": is_evidence})
