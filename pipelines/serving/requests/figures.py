"""Does a request ask for what is counted here?

Shares and outcomes of arms are their operator's, not users'. What an arm would take for its own `/metrics` is never
passed on, however it is spelt: its counts tell one arm from the other, too.
"""

from __future__ import annotations

import re

from pipelines.serving.http1.answer import Refusal


def _spelt(letter: str) -> str:
    """A letter, or the two hexadecimal digits that stand for it in a path."""
    digits = f"{ord(letter):02x}"
    return f"(?:{letter}|%{digits[0]}[{digits[1]}{digits[1].upper()}])"


_DOT = "(?:[.]|%2[eE])"
METRICS = f"/(?:(?:{_DOT}{_DOT}?)?/)*{''.join(map(_spelt, 'metrics'))}(?:/.*)?"
"""Paths that ask for counts: with letters as percent signs, with idle slashes and dots, and whatever lies below."""

KIND = b"text/plain; version=0.0.4; charset=utf-8"
NOT_YOURS = Refusal(404, "E_NOT_FOUND", "nothing is answered here; what a gateway counts is on /metrics of shipway up")
READ_ONLY = Refusal(405, "E_METHOD", "counts are read by GET or HEAD", headers=b"allow: GET, HEAD\r\n")

_ASKED = re.compile(f"{METRICS}([?].*)?".encode(), re.DOTALL)


def are_asked(target: bytes) -> bool:
    """Whether a target asks for counts."""
    return _ASKED.fullmatch(target) is not None
