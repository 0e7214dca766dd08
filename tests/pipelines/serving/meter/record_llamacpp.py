"""How are llama.cpp's streams recorded anew? `python -m tests.pipelines.serving.meter.record_llamacpp`, by hand.

Each file holds a line that says which engine was asked what, a line for each piece that came, with its time in ms since
the request, and a line that says how it ended. The model is tiny, and has learnt nothing but one call of a tool.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from pipelines.compress.gguf.gguf import Gguf
from pipelines.serving.engines.llamacpp import LlamaCppEngine
from tests.pipelines.model_folders import MARKERS, make_generator

STREAMS = Path(__file__).parents[3] / "data" / "streams" / "llamacpp"
WORDS = ("<tool_call>", "</tool_call>")
CHAT = """{%- if tools %}<|system|># Tools

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>

For each function call, return a json object within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|end|>
{%- endif %}
{%- for message in messages %}<|{{ message.role }}|>
{%- if message.content %}{{ message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}
{%- set call = call.function or call %}
<tool_call>
{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}
</tool_call>
{%- endfor %}<|end|>
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{%- endif %}"""

LOOK: Any = [{"role": "user", "content": "Look."}]
HELLO: Any = [{"role": "user", "content": "Hello"}]
WHERE = {"type": "object", "properties": {"where": {"enum": ["here", "there"]}}, "required": ["where"]}
TOOLS: Any = [{"type": "function", "function": {"name": "look", "description": "d", "parameters": WHERE}}]
CALL = '<tool_call>\n{"name": "look", "arguments": {"where": "there"}}\n</tool_call><|end|>'
ENDLESS = {"logit_bias": [[number, False] for number in range(len(MARKERS) + 1)], "temperature": 1.0, "seed": 7}
USAGE = {"stream_options": {"include_usage": True}}

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 8, **ENDLESS, **USAGE}),
    "chat-no-usage": ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 8, **ENDLESS}),
    "chat-n2": ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 8, "n": 2, **ENDLESS, **USAGE}),
    "chat-stop": ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 80, "stop": ["e"], **ENDLESS, **USAGE}),
    "chat-tool": ("/v1/chat/completions", {"messages": LOOK, "tools": TOOLS, "temperature": 0, **USAGE}),
    "completion": ("/v1/completions", {"prompt": "The quick", "max_tokens": 8, **ENDLESS}),
    "completion-n2": ("/v1/completions", {"prompt": "The quick", "max_tokens": 8, "n": 2, **ENDLESS}),
    "completion-2-prompts": ("/v1/completions", {"prompt": ["The quick", "fox"], "max_tokens": 5, **ENDLESS}),
    "completion-empty": ("/v1/completions", {"prompt": "", "max_tokens": 8}),
    "response": ("/v1/responses", {"input": "Hello", "max_output_tokens": 8, **ENDLESS}),
}


def teach(folder: Path) -> None:
    """Learn by heart how the tool is called."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(LOOK, tools=TOOLS, tokenize=False, add_generation_prompt=True)
    ids, known = torch.tensor([tokenizer(asked + CALL).input_ids]), len(tokenizer(asked).input_ids)
    labels = ids.clone()
    labels[:, :known] = -100
    learning = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        model(ids, labels=labels).loss.backward()
        learning.step()
        learning.zero_grad()
    model.save_pretrained(folder)


async def record(url: str, path: str, asked: dict[str, Any]) -> tuple[int, list[tuple[float, str]]]:
    """The status, and the pieces as they came, without HTTP's own chunks."""
    import httpx

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        began_s = perf_counter()
        async with client.stream("POST", path, json=asked) as answer:
            pieces = [(perf_counter() - began_s, data) async for data in answer.aiter_raw()]
    in_ms = [(round(at_s * 1000, 3), data.decode("utf-8", "surrogateescape")) for at_s, data in pieces]
    return answer.status_code, in_ms


def main() -> None:
    """Write every file anew."""
    with tempfile.TemporaryDirectory() as name:
        folder = make_generator(Path(name) / "source", positions=2048, chat=CHAT, words=WORDS)
        teach(folder)
        Gguf("f16").compress(folder, Path(name) / "made", {"model": "tiny"})
        engine = LlamaCppEngine(Path(name) / "made", {"context": 2048, "slots": 4}, 1, "tiny")
        url = engine.start(0)
        for file, (path, more) in ASKED.items():
            asked = {"model": "tiny", "stream": True, **more}
            status, pieces = asyncio.run(record(url, path, asked))
            head = {"engine": "llama.cpp", "by": f"xllamacpp {version('xllamacpp')}", "path": path, "status": status}
            lines = [{**head, "request": asked}, *([at_ms, text] for at_ms, text in pieces), {"end": "clean"}]
            (STREAMS / f"{file}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        engine.stop()


if __name__ == "__main__":
    main()
