"""What stands before an engine that generates? It passes OpenAI's routes through.

Engines answer to any model's name, tell no version, and end without waiting for their open answers: all of that is done
here, and nothing is read of an answer while it passes.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import Any

import orjson

from pipelines.errors import BadInput
from pipelines.serving.engines.streaming import Habits
from pipelines.serving.http1.answer import HOP_BY_HOP, JSON, end_to_end
from pipelines.serving.http1.client import ClientConnection, Clients
from pipelines.serving.http1.encodings import decoded
from pipelines.serving.http1.limits import Limits, Load
from pipelines.serving.http1.request import Request
from pipelines.serving.http1.upstream import AnswerHead
from pipelines.serving.requests.replicas import Call, Replica

_OPENAI = (b"/v1/chat/completions", b"/v1/completions", b"/v1/responses")
ROUTES: Mapping[bytes, bytes] = {
    **dict.fromkeys((*_OPENAI, b"/tokenize", b"/detokenize", b"/apply-template"), b"POST"),
    b"/metrics": b"GET",
}
"""What is passed on, and how it is asked: nothing that changes an engine."""

NOT_ASKED = HOP_BY_HOP | {b"host", b"content-encoding", b"content-length", b"expect"}
NOT_ANSWERED = HOP_BY_HOP | {b"x-request-id", b"server", b"access-control-allow-origin"}
TEXT = b"text/plain; charset=utf-8"
RETRY = b"retry-after: 1\r\n"


class Front:
    """Everybody who asks the engine at `url`, by the first of the `names` or another one."""

    def __init__(self, url: str, names: Sequence[str], version: str, habits: Habits, now_unix: int = 0) -> None:
        limits, context = Limits(), habits.context
        self.limits, self.habits = replace(limits, in_flight=min(limits.in_flight, habits.most_open)), habits
        self.replica, self.names, self.version = Replica(url), frozenset(names), version
        self.clients = Clients(self.limits, Load(), self.serve)
        self.open: set[Passing] = set()
        self.our_line = b"x-shipway-model-version: %b" % version.encode()
        self._names, self._stem = itertools.count(), uuid.uuid4().hex[:20].encode()
        facts = {"object": "model", "created": now_unix, "owned_by": "shipway", "max_model_len": context}
        models, name = [{"id": model, **facts} for model in names], names[0].encode()
        self._own: Mapping[bytes, tuple[bytes, bytes]] = {
            b"/ping": (b'{"ready":true}', JSON),
            b"/v1/models": (orjson.dumps({"object": "list", "data": models}), JSON),
            **{b"/v1/models/" + model.encode(): (orjson.dumps({"id": model, **facts}), JSON) for model in names},
            b"/v2": (b'{"name":"shipway","version":"2","extensions":[]}', JSON),
            b"/v2/health/live": (b'{"live":true}', JSON),
            b"/v2/health/ready": (b'{"ready":true}', JSON),
            b"/v2/models/" + name: (
                orjson.dumps({"name": names[0], "versions": [version], "platform": "shipway"}),
                JSON,
            ),
            b"/v2/models/%b/ready" % name: (b'{"ready":true}', JSON),
            b"/version": (version.encode(), TEXT),
        }

    def serve(self, client: ClientConnection, request: Request) -> Passing | None:
        """Answer, or pass on."""
        request_id = request.named.get(b"x-request-id") or b"%b%012x" % (self._stem, next(self._names))
        answer = Reply(client, request_id, self.our_line + b"\r\n")
        path = request.target.partition(b"?")[0]
        method = ROUTES.get(path, b"GET" if path in self._own else b"")
        if not method:
            answer.error(404, f"there is no route {path[:200].decode(errors='replace')}", "not_found")
        elif method != request.method and not (method == b"GET" and request.method == b"HEAD"):
            answer.error(405, f"{method.decode()} is expected", "method_not_allowed", headers=b"allow: %b\r\n" % method)
        elif path in self._own:
            answer.own(200, *self._own[path])
        elif len(self.open) >= self.limits.in_flight:
            answer.error(503, "as many requests are open as may be", "busy", headers=RETRY)
        else:
            return self._pass(request, answer)
        return None

    def _pass(self, request: Request, answer: Reply) -> Passing | None:
        """Ask the engine what is a question for it."""
        encoding = request.named.get(b"content-encoding", b"").decode(errors="replace")
        try:
            body = decoded(request.body, encoding, self.limits.body_bytes)
            # It is nested no deeper, either, than an engine can bear.
            said = orjson.loads(body) if request.method == b"POST" else {}
        except (BadInput, orjson.JSONDecodeError) as error:
            answer.error(400, f"the body is no JSON that can be read: {error}"[:300], "invalid_json")
            return None
        asked = said if isinstance(said, dict) else {}
        name, long = asked.get("model"), self._too_long(asked)
        if name is not None and not (isinstance(name, str) and name in self.names):
            answer.error(404, f"The model `{str(name)[:200]}` does not exist.", "model_not_found", "model")
        elif long:
            answer.error(400, f"{long} is longer than {self.habits.most_bytes[long]} bytes", "too_long", long)
        else:
            passing = Passing(self, request, self._as_called(body, asked), answer)
            self.open.add(passing)
            passing.begin()
            return passing
        return None

    def _as_called(self, body: bytes, asked: Mapping[str, Any]) -> bytes:
        """The body, with the name that the engine itself has for the model."""
        called = self.habits.called
        if not called or not asked or asked.get("model") == called:
            return body
        with suppress(orjson.JSONEncodeError):  # deeper than can be written: the engine says what it thinks of it
            return orjson.dumps({**asked, "model": called})
        return body

    def _too_long(self, asked: Mapping[str, Any]) -> str:
        """The key of a request of which the engine bears no more, or ""."""
        bounds = self.habits.most_bytes.items()
        return next((key for key, most in bounds if key in asked and not _is_within(asked[key], most)), "")

    def sweep(self, now_s: float) -> None:
        """Whoever has left, or does not read, holds no slot of the engine."""
        for passing in tuple(self.open):
            passing.check(now_s)

    def cut(self) -> int:
        """End what is open; how much that was. The engine's connections are closed, too."""
        cut = len(self.open)
        for passing in tuple(self.open):
            passing.cut()
        self.clients.cut()
        self.replica.close_idle(monotonic())
        return cut


class Reply:
    """How one request is answered: with our lines, and errors in OpenAI's shape."""

    __slots__ = ("client", "lines", "request_id")

    def __init__(self, client: ClientConnection, request_id: bytes, lines: bytes) -> None:
        self.client, self.request_id, self.lines = client, request_id, lines

    def own(self, status: int, body: bytes, kind: bytes, headers: bytes = b"") -> None:
        """A whole answer of ours."""
        self.client.reply(status, body, self.request_id, self.lines + headers, kind)

    def error(self, status: int, message: str, code: str, param: str | None = None, headers: bytes = b"") -> None:
        """An error of ours."""
        kind = "invalid_request_error" if status < 500 else "server_error"
        error = {"message": message, "type": kind, "param": param, "code": code}
        self.own(status, orjson.dumps({"error": error}), JSON, headers)


class Passing:
    """One request at the engine, and its answer on the way back."""

    __slots__ = ("_answer", "_asked_s", "_call", "_front", "_has_begun", "_waits_since_s")

    def __init__(self, front: Front, request: Request, body: bytes, answer: Reply) -> None:
        self._front, self._answer, self._has_begun = front, answer, False
        self._waits_since_s: float | None = None
        self._asked_s = monotonic()
        lines = end_to_end(request.headers, request.named.get(b"connection"), NOT_ASKED)
        asked = (b"%b %b HTTP/1.1" % (request.method, request.target), b"host: " + front.replica.authority, *lines)
        # A connection that the engine may be about to close is worth nothing: a new one on loopback costs little. Kept
        # open, each would hold a thread of llama.cpp for seconds, and there are as many as a container may have.
        head = b"\r\n".join((*asked, b"connection: close", b"content-length: %d\r\n\r\n" % len(body)))
        self._call = Call(front.replica, self, request.method, head, body, may_repeat=False)

    def begin(self) -> None:
        """Ask."""
        self._call.begin()

    def answer_began(self, answer: AnswerHead, now_s: float) -> None:
        """The head, and perhaps all the rest."""
        if answer.status == 500 and any(fault in answer.begun for fault in self._front.habits.clients_faults):
            self._call.cancel()
            self._front.open.discard(self)
            self._answer.error(400, _message(answer.begun), "invalid_request")
            return
        self._has_begun = True
        lines = end_to_end(answer.headers, answer.named.get(b"connection"), NOT_ANSWERED)
        lines += (self._front.our_line, b"x-request-id: " + self._answer.request_id)
        self._answer.client.begin_answer(answer, lines)
        if answer.is_whole:
            self.answer_ended(now_s)

    def answer_piece(self, data: bytes, now_s: float) -> None:  # noqa: ARG002  nobody asks when
        """Some of the body."""
        self._answer.client.send(data)

    def answer_ended(self, now_s: float) -> None:  # noqa: ARG002  nobody asks when
        """It is whole."""
        self._front.open.discard(self)
        self._answer.client.end_answer()

    def answer_failed(self, reason: str, *, was_asked: bool) -> None:  # noqa: ARG002  it is not asked again
        """The engine broke off: what has begun is broken off, too."""
        self._front.open.discard(self)
        if self._has_begun:
            self._answer.client.abort()
        else:
            self._answer.error(502, f"the engine gave no answer: {reason}"[:300], "engine_failed")

    def not_asked(self) -> None:
        """There was no connection to be had."""
        self._front.open.discard(self)
        self._answer.error(503, "there is no connection to the engine to be had", "busy", headers=RETRY)

    def client_left(self) -> None:
        """The engine stops generating when its own client is gone."""
        self._front.open.discard(self)
        self._call.cancel()

    def client_waits(self) -> None:
        """The engine is not heard while the client does not read."""
        self._waits_since_s = monotonic()
        self._call.pause()

    def client_reads(self) -> None:
        """It goes on."""
        self._waits_since_s = None
        self._call.resume()

    def check(self, now_s: float) -> None:
        """Whether the client has left, or has read nothing for too long."""
        client, waits_s = self._answer.client, self._waits_since_s
        is_gone = not self._has_begun and client.has_gone_silent(now_s, self._asked_s)
        if is_gone or (waits_s is not None and now_s - waits_s >= self._front.limits.stalled_s):
            client.abort()

    def cut(self) -> None:
        """A broken connection is the only honest end of a broken answer."""
        self.client_left()
        self._answer.client.abort()


def _is_within(value: Any, most_bytes: int) -> bool:
    """Whether a value is short, and can be written again: one that is nested deeper is no less work."""
    try:
        return len(orjson.dumps(value)) <= most_bytes
    except orjson.JSONEncodeError:
        return False


def _message(body: bytes) -> str:
    """What an engine said was wrong."""
    with suppress(orjson.JSONDecodeError, KeyError, TypeError):
        return str(orjson.loads(body)["error"]["message"])[:300]
    return body[:300].decode(errors="replace")
