"""What would the canary answer to the requests of stable's users?

A part of them is sent to the canary as well, and its answers are read and dropped. No user waits for that or meets it,
and no live evidence comes of it: it is counted apart. It does give the canary more to do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pipelines.serving.http1_request import Request
from pipelines.serving.http1_upstream import Answer
from pipelines.serving.recorder import INFERENCE
from pipelines.serving.replicas import Call, Replicas
from pipelines.serving.split import Arm

HEADER = b"x-shipway-shadow: 1\r\n"
CLASS = b"x-shipway-class"


@dataclass(frozen=True)
class Shadowing:
    """Which part of stable's requests the canary is asked, too, and how many of them at one time by one process."""

    pct: float = 10.0
    max_in_flight: int = 16

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> Shadowing | None:
        """The shadowing of plain JSON data; None where there is none."""
        return cls(**raw) if raw else None


Count = Callable[[str, str, float], None]
"""Told of each: what the canary did (ok, error, timeout, skipped), how it compares with stable, and the ms it took."""


class Shadow:
    """Asks the canary for its own sake."""

    def __init__(self, shadowing: Shadowing, replicas: Replicas, timeout_s: float, count: Count) -> None:
        self._shadowing, self._replicas, self._timeout_s = shadowing, replicas, timeout_s
        self.count = count
        self._random = random.Random().random  # noqa: S311  a sample, not a secret
        self.asked: set[Mirrored] = set()

    def mirror(self, request: Request, lines: bytes, canary: Arm) -> Mirrored | None:
        """Ask the canary what stable was just asked; None where it is not in the sample, or one too many."""
        if self._random() * 100 >= self._shadowing.pct or not _is_inference(request):
            return None
        if len(self.asked) >= self._shadowing.max_in_flight:
            self.count("skipped", "", 0.0)
            return None
        replica = self._replicas.pick(canary.urls)
        head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b" % (
            request.method,
            request.target,
            replica.authority,
            HEADER,
            lines,
        )
        mirrored = Mirrored(self, monotonic() + self._timeout_s)
        mirrored.call = Call(replica, mirrored, request.method, head, request.body)
        self.asked.add(mirrored)
        mirrored.call.begin()
        return mirrored

    def sweep(self, now_s: float) -> None:
        """Wait no longer for what is overdue."""
        for mirrored in tuple(self.asked):
            mirrored.check(now_s)


class Mirrored:
    """One request that the canary was asked, too; counted when both answers are known."""

    def __init__(self, shadow: Shadow, due_s: float) -> None:
        self._shadow, self._due_s, self._began_s = shadow, due_s, monotonic()
        self.call: Call | None = None
        self._answer: Answer | None = None
        self._outcome, self._took_ms = "", 0.0
        self._stable: tuple[bool, bytes | None] | None = None

    # What the canary does.

    def answer_began(self, answer: Answer, now_s: float) -> None:
        """Its head says what it predicted."""
        self._answer = answer
        if answer.is_whole:
            self.answer_ended(now_s)

    def answer_piece(self, data: bytes, now_s: float) -> None:
        """Dropped."""

    def answer_ended(self, now_s: float) -> None:
        """The answer is whole."""
        self._over("ok" if self._answer is not None and self._answer.status < 500 else "error", now_s)

    def answer_failed(self, reason: str) -> None:  # noqa: ARG002  it is counted
        """It could not be reached, or broke off."""
        self._over("error", monotonic())

    def not_asked(self) -> None:
        """The gateway could not ask."""
        self._over("skipped", monotonic())

    def check(self, now_s: float) -> None:
        """Whether the answer is overdue."""
        if now_s >= self._due_s and self.call is not None:
            self.call.cancel(is_hung=self._answer is None)
            self._over("timeout", now_s)

    def _over(self, outcome: str, now_s: float) -> None:
        self._shadow.asked.discard(self)
        self._outcome, self._took_ms = outcome, (now_s - self._began_s) * 1000
        self._compare()

    # What stable does.

    def stable_answered(self, status: int, predicted: bytes | None) -> None:
        """The user's own answer has begun."""
        self._stable = status < 500, predicted
        self._compare()

    def stable_over(self) -> None:
        """The user's request has ended, perhaps without an answer."""
        if self._stable is None:
            self.stable_answered(500, None)

    def _compare(self) -> None:
        if self._outcome and self._stable is not None:
            self._shadow.count(self._outcome, self._agreement(*self._stable), self._took_ms)

    def _agreement(self, is_well: bool, predicted: bytes | None) -> str:
        """Same or other class, or that one failed; "" where no class was said, or the canary was not asked."""
        if self._outcome == "skipped":
            return ""
        if self._outcome != "ok" or not is_well or self._answer is None:
            return "failed"
        mine = self._answer.named.get(CLASS)
        if mine is None or predicted is None:
            return ""
        return "same" if mine == predicted else "other"


def _is_inference(request: Request) -> bool:
    path = request.target.partition(b"?")[0].decode(errors="replace")
    return request.method == b"POST" and INFERENCE.fullmatch(path) is not None
