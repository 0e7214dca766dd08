"""What would the canary answer to the requests of stable's users?

A part of them is sent to the canary as well, and its answers are read and dropped. No user waits for that or meets it,
and no live evidence comes of it: it is counted apart. It does give the canary more to do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic

from pipelines.records.settings import Shadowing
from pipelines.records.split import Arm
from pipelines.serving.evidence.agreement import Said, agreement
from pipelines.serving.evidence.streams import is_event_stream
from pipelines.serving.http1.request import Request
from pipelines.serving.http1.upstream import AnswerHead
from pipelines.serving.meter.rewriting import Unfit
from pipelines.serving.requests.lines import asked_of
from pipelines.serving.requests.repeats import is_inference
from pipelines.serving.requests.replicas import Call, Replicas

HEADER = b"x-shipway-shadow: 1\r\n"
MOST_KEPT = 256 * 1024
"""Bytes of an answer that are kept until it is compared; of a longer one nothing is."""


Count = Callable[[str, str, float], None]
"""Told of each: what the canary did (ok, error, timeout, skipped), how it compares with stable, and the ms it took."""


class Shadow:
    """Asks the canary for its own sake."""

    def __init__(self, shadowing: Shadowing, replicas: Replicas, timeout_s: float, count: Count) -> None:
        self._shadowing, self._replicas, self._timeout_s = shadowing, replicas, timeout_s
        self.tolerance, self.count = shadowing.tolerance, count
        self._random = random.Random().random  # noqa: S311  a sample, not a secret
        self.asked: set[Mirrored] = set()

    def mirror(self, request: Request, request_id: bytes, lines: bytes, canary: Arm) -> Mirrored | None:
        """Ask the canary what stable was just asked; None where it is not in the sample, or one too many."""
        if self._random() * 100 >= self._shadowing.pct or not is_inference(request.method, request.target):
            return None
        if len(self.asked) >= self._shadowing.max_in_flight:
            self.count("skipped", "", 0.0)
            return None
        body = request.body
        if canary.rewrite is not None:
            try:
                lines, body = asked_of(canary.rewrite, request, request_id)
            except Unfit:
                self.count("error", "failed", 0.0)
                return None
        replica = self._replicas.pick(canary.urls, ca_file=canary.ca_file)
        head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b" % (
            request.method,
            request.target,
            replica.authority,
            HEADER,
            lines,
        )
        mirrored = Mirrored(self, monotonic() + self._timeout_s)
        mirrored.call = Call(replica, mirrored, request.method, head, body)
        self.asked.add(mirrored)
        mirrored.call.begin()
        return mirrored

    def sweep(self, now_s: float) -> None:
        """Wait no longer for what is overdue."""
        for mirrored in tuple(self.asked):
            mirrored.check(now_s)


class Heard:
    """One arm's answer as it comes."""

    def __init__(self) -> None:
        self._answer: AnswerHead | None = None
        self._body: bytearray | None = bytearray()

    def began(self, answer: AnswerHead) -> None:
        """Its head, and what came with it. What is a stream, or encoded, is compared by its head alone."""
        self._answer = answer
        if is_event_stream(answer.named) or b"content-encoding" in answer.named:
            self._body = None
        self.piece(answer.begun)

    def piece(self, data: bytes) -> None:
        """Some of its body."""
        if self._body is not None and len(self._body) + len(data) <= MOST_KEPT:
            self._body += data
        else:
            self._body = None

    @property
    def has_begun(self) -> bool:
        """Whether its head has come."""
        return self._answer is not None

    def said(self, *, is_whole: bool) -> Said:
        """All of it; one that broke off, or never began, is a failure."""
        if self._answer is None or not is_whole:
            return Said(502, {}, None)
        return Said(self._answer.status, self._answer.named, bytes(self._body) if self._body is not None else None)


class Mirrored:
    """One request that the canary was asked, too; counted when both answers are known."""

    def __init__(self, shadow: Shadow, due_s: float) -> None:
        self._shadow, self._due_s, self._began_s = shadow, due_s, monotonic()
        self.call: Call | None = None
        self._canary = Heard()
        self.stable = Heard()
        """The user's own answer, told by who passes it on."""
        self._outcome, self._took_ms = "", 0.0
        self._stable_said: Said | None = None
        self._canary_said: Said | None = None

    # What the canary does.

    def answer_began(self, answer: AnswerHead, now_s: float) -> None:
        """Its head has come, and perhaps all the rest."""
        self._canary.began(answer)
        if answer.is_whole:
            self.answer_ended(now_s)

    def answer_piece(self, data: bytes, now_s: float) -> None:  # noqa: ARG002  only the end's time counts
        """Kept until it is compared, and dropped."""
        self._canary.piece(data)

    def answer_ended(self, now_s: float) -> None:
        """The answer is whole."""
        said = self._canary.said(is_whole=True)
        self._over("ok" if said.status < 500 else "error", said, now_s)

    def answer_failed(self, reason: str, *, was_asked: bool) -> None:  # noqa: ARG002  it is counted
        """It could not be reached, or broke off."""
        self._over("error", self._canary.said(is_whole=False), monotonic())

    def not_asked(self) -> None:
        """The gateway could not ask."""
        self._over("skipped", None, monotonic())

    def check(self, now_s: float) -> None:
        """Whether the answer is overdue."""
        if now_s >= self._due_s and self.call is not None:
            self.call.cancel(is_hung=not self._canary.has_begun)
            self._over("timeout", self._canary.said(is_whole=False), now_s)

    def _over(self, outcome: str, said: Said | None, now_s: float) -> None:
        self._shadow.asked.discard(self)
        self._outcome, self._canary_said = outcome, said
        self._took_ms = (now_s - self._began_s) * 1000
        self._count()

    # What stable does.

    def stable_over(self, *, is_whole: bool) -> None:
        """The user's request has ended, perhaps without an answer."""
        self._stable_said = self.stable.said(is_whole=is_whole)
        self._count()

    def _count(self) -> None:
        """Once, when both are over."""
        if self._outcome and self._stable_said is not None:
            mine, shadow = self._canary_said, self._shadow
            compared = agreement(self._stable_said, mine, shadow.tolerance) if mine is not None else ""
            shadow.count(self._outcome, compared, self._took_ms)
