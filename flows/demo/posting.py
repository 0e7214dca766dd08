"""What does a row ask, and what comes back of it? One request, sent once, and heard to its end.

A row with `messages` or a `prompt` is asked as OpenAI's API has it, and its answer streams; one with a text is a
request of the Open Inference Protocol. A stream is an answer only where it ends as one: cleanly, with a finish reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from flows.demo.counting import Received
from pipelines.serving.meter.asked import Kind, TextRequest
from pipelines.serving.meter.generation import Generation
from pipelines.supply.table import Table, wrong

TEXT, MESSAGES, PROMPT = "text", "messages", "prompt"
WISHES = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "tools",
    "tool_choice",
    "response_format",
    "user",
)
"""What a row of JSON lines may ask for besides, in OpenAI's words."""

WHOLE = aiohttp.ClientTimeout(total=30.0)
STREAMED = aiohttp.ClientTimeout(total=600.0, sock_connect=30.0, sock_read=60.0)
"""A stream may take long while something comes."""

VERSION = "x-shipway-model-version"


@dataclass(frozen=True)
class Post:
    """One request to a service; `kind` says what streams back, None where the answer comes whole."""

    path: str
    body: Mapping[str, Any]
    kind: Kind | None = None

    async def send(self, session: aiohttp.ClientSession, url: str) -> Received:
        """Ask once, and hear the answer to its end. Nothing is tried again, and no redirect followed."""
        began_s, version, is_whole = monotonic(), "none", False
        generation = Generation(TextRequest(self.kind, is_stream=True), is_stream=True) if self.kind else None
        timeout = STREAMED if self.kind else WHOLE
        try:
            async with session.post(url + self.path, json=self.body, allow_redirects=False, timeout=timeout) as answer:
                version = answer.headers.get(VERSION, "none")
                async for data in answer.content.iter_any():
                    if generation is not None:
                        generation.heard(data, monotonic() - began_s)
                is_whole = answer.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # whatever came, the user has no answer
        took_s = monotonic() - began_s
        if generation is None:
            return Received(version, took_s * 1000, not is_whole)
        found = generation.measured(took_s)
        failed = not is_whole or bool(found.why_failed)
        return Received(version, took_s * 1000, failed, found.first_token_ms, found.tokens_out)


def read_posts(path: Path, service: str, column: str = "") -> list[Post]:
    """The requests of a CSV or JSONL file, by the column that is named, or what its rows hold. BadInput E_DATASET."""
    table, asked = Table(path), (column,) if column else (MESSAGES, PROMPT, TEXT)
    wanted = (*asked, *(() if table.is_csv else WISHES))
    rows = list(table.rows((), tuple(dict.fromkeys(wanted))))
    if not any(name in row for _, row in rows for name in asked):
        deque(table.rows(asked[-1:]), 0)  # says what it has instead
        raise wrong("there is no row", path)
    return [_post(row, number, asked, service, path) for number, row in rows]


def _post(row: Mapping[str, Any], number: int, asked: Sequence[str], service: str, path: Path) -> Post:
    name = next((name for name in asked if row.get(name) is not None), asked[-1])
    said = row.get(name)
    wishes = {key: row[key] for key in WISHES if row.get(key) is not None}
    streamed = {"model": service, **wishes, "stream": True, "stream_options": {"include_usage": True}}
    if isinstance(said, list) and said and all(isinstance(message, dict) for message in said):
        return Post("/v1/chat/completions", {**streamed, "messages": said}, "chat")
    if not isinstance(said, str) or name == MESSAGES:
        raise wrong(f"row {number} asks nothing in {name!r}", path, "a text, or a list of messages")
    if name == PROMPT:
        return Post("/v1/completions", {**streamed, "prompt": said}, "completions")
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [said]}
    return Post(f"/v2/models/{service}/infer", {"inputs": [tensor]})
