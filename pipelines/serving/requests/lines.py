"""Which headers go from a client to an arm and back, and what is said besides?"""

from __future__ import annotations

from pipelines.errors import BadInput
from pipelines.records.split import Arm, Rewrite
from pipelines.serving.http1.answer import HOP_BY_HOP, end_to_end
from pipelines.serving.http1.encodings import decoded
from pipelines.serving.http1.limits import MAX_BODY_BYTES
from pipelines.serving.http1.request import Request
from pipelines.serving.http1.upstream import AnswerHead
from pipelines.serving.meter.asked import PATHS
from pipelines.serving.meter.rewriting import Unfit, rewritten
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


def asked_of(rewrite: Rewrite, request: Request, request_id: bytes) -> tuple[bytes, bytes]:
    """The lines and the body of a request for text as a version gets it. Unfit where its prompt has no place there."""
    kind = PATHS.get(request.target.partition(b"?")[0])
    if kind is None or request.method != b"POST":
        return asked_lines(request, request_id), request.body
    encoding = request.named.get(b"content-encoding", b"").decode(errors="replace")
    try:
        body = rewritten(kind, decoded(request.body, encoding, MAX_BODY_BYTES), rewrite)
    except BadInput as error:
        raise Unfit(str(error), "body") from error
    return asked_lines(request, request_id, len(body)), body


def is_fit(arm: Arm, request: Request) -> bool:
    """Whether this arm could be asked."""
    try:
        if arm.rewrite is not None:
            asked_of(arm.rewrite, request, b"")
    except Unfit:
        return False
    return True


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
        if self.names_arms and rewrite is not None and rewrite.has_prompt:
            lines.append(PROMPT + b": " + rewrite.known_as.encode())
        return lines
