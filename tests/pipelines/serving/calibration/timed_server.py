"""A language model that keeps time: `python timed_server.py PORT`. Each of its tokens has a moment, and none drifts.

`GET /kept` tells how it was kept: of each stream the ms from the question to the first token, and from there to the
last one, by this process's own clock. Every other GET is answered by a list of models, for who looks before he asks.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIRST_MS, EACH_MS, TOKENS, READ = 100.0, 20.0, 32, 8
"""When the first token comes, how far apart all are, how many there are; how many were read."""

WORD = " good"
"""What each token says; to the tokenizer of the tests' tiny generator it is two."""

MODEL = "timed"
KEPT_MS: list[tuple[float, float]] = []


def events(path: str) -> list[bytes]:
    """The stream: a token an event, and the engine's own count at the end of the last one."""
    is_chat = path.endswith("/chat/completions")
    said = {"id": "1", "object": "chat.completion.chunk" if is_chat else "text_completion", "model": MODEL}
    what = {"delta": {"content": WORD}} if is_chat else {"text": WORD}
    found = []
    for turn in range(TOKENS):
        is_last = turn == TOKENS - 1
        choice = {"index": 0, **what, "finish_reason": "length" if is_last else None}
        usage = {"prompt_tokens": READ, "completion_tokens": TOKENS, "total_tokens": READ + TOKENS}
        found.append(json.dumps({**said, "choices": [choice], **({"usage": usage} if is_last else {})}).encode())
    return found


class Timed(BaseHTTPRequestHandler):
    """Answers every question with the same stream."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """How time was kept, or which models there are."""
        told = KEPT_MS if self.path == "/kept" else {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """The head at once, as engines do, and then each token at its moment."""
        self.rfile.read(int(self.headers.get("content-length", "0")))
        began_s = time.monotonic()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        sent_s = []
        for turn, event in enumerate(events(self.path)):
            time.sleep(max(0.0, began_s + (FIRST_MS + turn * EACH_MS) / 1000 - time.monotonic()))
            sent_s.append(time.monotonic())
            self._chunk(b"data: " + event + b"\n\n")
        KEPT_MS.append(((sent_s[0] - began_s) * 1000, (sent_s[-1] - sent_s[0]) * 1000))
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Timed).serve_forever()
