"""Which arm does a request belong to: by chance, by who asks, or because a smoke test says so?

By chance is the default. With a rule a user stays at his arm: his name gives him a place in [0, 1), salted
by the release, and the canary has the places below its share. So whoever is in the canary at 5 % is in it at 25 %, and
other users meet the next release first.
"""

from __future__ import annotations

import hmac
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from pipelines.records.split import TrafficSplit
from pipelines.serving.evidence.attributes import scalar_in
from pipelines.serving.http1.answer import Refusal
from pipelines.serving.http1.request import Request

OVERRIDE, TOKEN = b"x-shipway-arm-override", b"x-shipway-override-token"
ARMS = {b"canary": "canary", b"stable": "stable"}


class NotAllowed(Exception):  # what happened, not a programming error
    """A smoke test without the right token, or for an arm that is not there; with what is answered."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(status, code, reason, OVERRIDE.decode())


@dataclass(frozen=True)
class Rule:
    """Who counts as one user: everybody with the same value of a header, a cookie, or a field of a JSON body.

    A chat's turns stay together where the user is the conversation.
    """

    by: str
    name: str

    @classmethod
    def from_text(cls, text: str) -> Rule:
        """The rule of `header:NAME`, `cookie:NAME` or `body:DOTTED.PATH`. ValueError for anything else."""
        by, _, name = text.partition(":")
        if by not in {"header", "cookie", "body"} or not name.isascii() or not name.isprintable() or not name:
            raise ValueError(f"header:NAME, cookie:NAME or body:PATH is expected, not {text!r}")
        return cls(by, name)

    def user_of(self, request: Request) -> bytes | None:
        """Who asks; None where the request does not say."""
        if self.by == "body":
            value = scalar_in(request.body, self.name.split("."))
            return str(value).encode(errors="replace") or None if value is not None else None
        wanted = self.name.encode()
        if self.by == "header":
            wanted = wanted.lower()
            return next((value for name, value in request.headers if name == wanted and value), None)
        return self._in_cookies(request, wanted)

    @staticmethod
    def _in_cookies(request: Request, wanted: bytes) -> bytes | None:
        for name, value in request.headers:
            if name == b"cookie":
                pairs = (pair.strip().partition(b"=") for pair in value.split(b";"))
                found = next((value for key, _, value in pairs if key == wanted and value), None)
                if found is not None:
                    return found
        return None


def rule_of(text: str) -> Rule | None:
    """The rule of a text; None where each request is given its arm by chance. ValueError for what is no rule."""
    return Rule.from_text(text) if text else None


class Assigned(NamedTuple):
    """The arm of a request, whether it belongs to stable's control half, and who asked where users stay."""

    arm: str
    in_control: bool
    user: bytes | None = None
    is_evidence: bool = True


_BY_CHANCE = tuple(tuple(Assigned(arm, in_control) for in_control in (False, True)) for arm in ("stable", "canary"))
"""By whether it is the canary, and by whether it is in stable's control half."""


class Assignment:
    """Gives each request its arm. `chance` draws from [0, 1), and tosses a coin; `token` allows to choose."""

    def __init__(self, chance: Callable[[], tuple[float, bool]], rule: Rule | None = None, token: str = "") -> None:
        self._chance, self._rule, self._token = chance, rule, token.encode()

    @property
    def keeps_users(self) -> bool:
        """Whether users stay at their arm."""
        return self._rule is not None

    def of(self, request: Request, split: TrafficSplit) -> Assigned:
        """The arm of one request. NotAllowed where it chose one and may not."""
        if OVERRIDE in request.named:
            return self._chosen(request, split, request.named[OVERRIDE])
        if self._rule is not None and split.canary is not None:
            user = self._rule.user_of(request)
            if user is not None:
                user, place, half = _places(user, f"{split.reason} {split.canary.digest}")
                return Assigned("canary" if place * 100 < split.canary_pct else "stable", half < 0.5, user)
        place, in_control = self._chance()
        return _BY_CHANCE[place * 100 < split.canary_pct][in_control]  # the share is 0 without a canary

    def _chosen(self, request: Request, split: TrafficSplit, wanted: bytes) -> Assigned:
        said = request.named.get(TOKEN, b"")
        if not self._token or not hmac.compare_digest(said, self._token):
            raise NotAllowed(403, "E_OVERRIDE", "choosing an arm needs the token of this gateway")
        if wanted not in ARMS or (wanted == b"canary" and split.canary is None):
            raise NotAllowed(409, "E_OVERRIDE", "there is no such arm now")
        return Assigned(ARMS[wanted], in_control=False, is_evidence=False)


def _places(user: bytes, salt: str) -> tuple[bytes, float, float]:
    """A user's name that says nothing about him, and two places in [0, 1) that are independent of each other."""
    hashed = blake2b(user, key=blake2b(salt.encode()).digest(), digest_size=16).digest()
    first, second = int.from_bytes(hashed[:8]), int.from_bytes(hashed[8:])
    return hashed, (first >> 11) * 2.0**-53, (second >> 11) * 2.0**-53


DRAWN = 1024
"""Draws, or names, for one system call."""


NAME_BYTES = 16


def draws() -> Iterator[tuple[float, bool]]:
    """A place in [0, 1), like `random.SystemRandom().random()`, and the toss of a coin; nobody can foresee either.

    A place takes 53 bits of 64; the coin is one of the others, so that neither says anything about the other.
    """
    while True:
        for bits in array("Q", os.urandom(8 * DRAWN)):
            yield (bits >> 11) * 2.0**-53, bits & 1 == 0


def names() -> Iterator[bytes]:
    """Names for requests that are never given twice: 16 random bytes, written as hex digits."""
    while True:
        block = os.urandom(DRAWN * NAME_BYTES).hex().encode()
        for begin in range(0, len(block), 2 * NAME_BYTES):
            yield block[begin : begin + 2 * NAME_BYTES]
