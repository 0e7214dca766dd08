"""Which headers go from a client to an arm and back, and what is said besides?"""

from __future__ import annotations

from pipelines.records.split import Rewrite
from pipelines.serving.http1.answer import HOP_BY_HOP, end_to_end
from pipelines.serving.http1.request import Request
from pipelines.serving.http1.upstream import AnswerHead
from pipelines.serving.requests.assignment import OVERRIDE, TOKEN

VERSION = b"x-shipway-model-version"
PROMPT = b"x-shipway-prompt"
"""Which prompt an answer was given with; and, where applications write it, which one a request has."""

_NOT_ASKED = HOP_BY_HOP | {b"host", b"content-length", b"x-request-id", b"expect", OVERRIDE, TOKEN, PROMPT}
_NOT_REWRITTEN = _NOT_ASKED | {b"content-encoding"}
_NOT_ANSWERED = HOP_BY_HOP | {b"x-request-id", b"x-shipway-arm", PROMPT}
_LENGTH = frozenset({b"content-length"})
_OURS = {arm: f"x-shipway-arm: {arm}\r\nx-request-id: ".encode() for arm in ("stable", "canary")}
_LESS = dict.fromkeys(_OURS, b"x-request-id: ")


def asked_lines(request: Request, request_id: bytes, rewritten_bytes: int | None = None) -> bytes:
    """The lines that an arm gets after its own name, and the end of the head; a body that was rewritten is plain."""
    dropped = _NOT_ASKED if rewritten_bytes is None else _NOT_REWRITTEN
    lines = end_to_end(request.headers, request.named.get(b"connection"), dropped)
    if rewritten_bytes is not None:
        lines.append(b"content-length: %d" % rewritten_bytes)
    elif request.body or b"content-length" in request.named or b"transfer-encoding" in request.named:
        lines.append(b"content-length: %d" % len(request.body))
    lines.append(b"x-request-id: " + request_id + b"\r\n\r\n")
    return b"\r\n".join(lines)


class AnswerLines:
    """The lines, not yet ended, that clients get of an arm's answers; `names_arms` says whether they hear whose."""

    def __init__(self, *, names_arms: bool) -> None:
        self.names_arms = names_arms
        self._ours = _OURS if names_arms else _LESS
        self._dropped = _NOT_ANSWERED if names_arms else _NOT_ANSWERED | {VERSION}

    def of(self, answer: AnswerHead, arm: str, request_id: bytes, rewrite: Rewrite | None = None) -> list[bytes]:
        """Those of one answer."""
        dropped = self._dropped | _LENGTH if answer.status == 204 else self._dropped
        lines = end_to_end(answer.headers, answer.named.get(b"connection"), dropped)
        lines.append(self._ours[arm] + request_id)
        if rewrite is not None and self.names_arms:
            lines.append(PROMPT + b": " + rewrite.known_as.encode())
        return lines
