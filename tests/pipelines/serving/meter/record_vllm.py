"""How are vLLM's streams recorded anew? `SHIPWAY_VLLM=… python -m tests.pipelines.serving.meter.record_vllm`, by hand.

The files are like those of `record_llamacpp.py`, of the same model in a width that vLLM computes.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from pipelines.serving.engines.streaming import EnginePlace
from pipelines.serving.engines.vllm import VllmEngine, vllm_version
from tests.pipelines.model_folders import make_generator
from tests.pipelines.serving.meter.record_llamacpp import CHAT, HELLO, LOOK, TOOLS, USAGE, WHERE, WORDS, record, teach

STREAMS = Path(__file__).parents[3] / "data" / "streams" / "vllm"
TALK, WRITE = "/v1/chat/completions", "/v1/completions"
ENDLESS = {"ignore_eos": True, "temperature": 1.0, "seed": 7}
SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "where", "schema": WHERE}}}
OFTEN = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
LONG = "The quick brown fox jumps over the lazy dog. " * 16

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (TALK, {"messages": HELLO, "max_tokens": 8, **ENDLESS, **USAGE}),
    "chat-no-usage": (TALK, {"messages": HELLO, "max_tokens": 8, **ENDLESS}),
    "chat-usage-often": (TALK, {"messages": HELLO, "max_tokens": 8, **ENDLESS, **OFTEN}),
    "chat-n2": (TALK, {"messages": HELLO, "max_tokens": 8, "n": 2, **ENDLESS, **USAGE}),
    "chat-stop": (TALK, {"messages": HELLO, "max_tokens": 80, "stop": ["e", "o", "a"], **ENDLESS, **USAGE}),
    "chat-tool": (TALK, {"messages": LOOK, "tools": TOOLS, "temperature": 0, **USAGE}),
    "chat-json": (TALK, {"messages": HELLO, "max_tokens": 60, "temperature": 0, **SCHEMA, **USAGE}),
    "completion": (WRITE, {"prompt": "The quick", "max_tokens": 8, **ENDLESS, **USAGE}),
    "completion-no-usage": (WRITE, {"prompt": "The quick", "max_tokens": 8, **ENDLESS}),
    "completion-n2": (WRITE, {"prompt": "The quick", "max_tokens": 8, "n": 2, **ENDLESS, **USAGE}),
    "completion-2-prompts": (WRITE, {"prompt": ["The quick", "fox"], "max_tokens": 5, **ENDLESS, **USAGE}),
    "completion-first": (WRITE, {"prompt": LONG, "max_tokens": 4, **ENDLESS, **USAGE}),
    "completion-cached": (WRITE, {"prompt": LONG, "max_tokens": 4, **ENDLESS, **USAGE}),
    "response": ("/v1/responses", {"input": "Hello", "max_output_tokens": 8, "temperature": 1.0}),
}
FLAGS = {
    "enable-auto-tool-choice": True,
    "enable-prompt-tokens-details": True,
    "enforce-eager": True,
    "kv-cache-memory-bytes": 64 << 20,
    "tool-call-parser": "hermes",
}


def main() -> None:
    """Write every file anew."""
    python = os.environ["SHIPWAY_VLLM"]
    version = vllm_version(python)
    facts = {"context": 2048, "precision": "float32", "version": version, "flags": FLAGS}
    STREAMS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = make_generator(Path(name), positions=2048, width=128, chat=CHAT, words=WORDS)
        teach(folder)
        engine = VllmEngine(folder, facts, EnginePlace(1, python), "tiny")
        url = engine.start(0)
        engine.complete("Hello", 8)
        for file, (path, more) in ASKED.items():
            asked = {"model": "tiny", "stream": True, **more}
            status, pieces = asyncio.run(record(url, path, asked))
            head = {"engine": "vLLM", "by": version, "path": path, "status": status}
            lines = [{**head, "request": asked}, *([at_ms, text] for at_ms, text in pieces), {"end": "clean"}]
            (STREAMS / f"{file}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        engine.stop()


if __name__ == "__main__":
    main()
