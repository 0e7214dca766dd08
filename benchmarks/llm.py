"""How fast does the embedded engine generate, beside transformers, and what do its front and the gateway take?

    python -m benchmarks.llm [--json] [--rounds 3] [--tokens 32] [--threads 1] [--layers 12]

The model is a random Llama of width 1,024 (12 layers: 154 M parameters) with few tokens, so speeds are those of the
engines and of the memory. Every engine has the same number of threads, and is asked in turns with the others: one
stream, then eight. Servers are asked over HTTP, as streams; transformers is called in this process.

*Bandwidth share* is what one stream reads (the bytes of the file, once a token) over what torch reads of a large array
with as many threads, measured in the same rounds. The front's and the gateway's cost are their own CPU a token, so that
neighbours do not blur it: the gateway is a process, the front is the first thread of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import orjson
import psutil

from benchmarks import proxies
from benchmarks.gateway import free_port
from pipelines.compress.gguf.gguf import Gguf
from pipelines.records.settings import ServerSettings
from pipelines.serving.meter.asked import asked_by
from pipelines.serving.meter.generation import Generation
from pipelines.serving.settings_file import write_settings
from pipelines.supply.bundle import seal

PRECISIONS = ("f32", "f16", "q8_0")
STREAMS = (1, 8)
PROMPT = "The quick brown fox jumps over"
END, END_ID = "<|end|>", 0
ARRAY_NUMBERS = 64 * 2**20
EVENTS = 20_000

Found = dict[str, list[float]]


def make_model(folder: Path, layers: int) -> Path:
    """A random Llama whose tokens are bytes and a few words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=[END], initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator([PROMPT] * 2, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": layers, "num_attention_heads": 16}
    ids = {"vocab_size": tokenizer.get_vocab_size(), "eos_token_id": END_ID, "bos_token_id": END_ID}
    LlamaForCausalLM(LlamaConfig(**size, **ids, max_position_embeddings=2048)).save_pretrained(folder)
    return folder


async def stream(port: int, tokens: int) -> float:
    """One stream to its end; seconds to its first event."""
    asked = {"model": "m", "prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "stream": True}
    body = orjson.dumps({**asked, "logit_bias": [[END_ID, False]], "cache_prompt": False})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    began_s, first_s, tail = perf_counter(), 0.0, b""
    writer.write(head % len(body) + body)
    while b"[DONE]" not in tail:
        data = await reader.read(65536)
        if not data:
            raise ConnectionError("the stream broke off")
        first_s = first_s or (b"data: " in data and perf_counter() - began_s) or 0.0
        tail = (tail + data)[-200:]
    writer.close()
    return first_s


async def streams(port: int, count: int, tokens: int) -> tuple[float, float]:
    """Tokens a second of all, and the median of their times to the first token in ms."""
    began_s = perf_counter()
    firsts = await asyncio.gather(*(stream(port, tokens) for _ in range(count)))
    return count * tokens / (perf_counter() - began_s), statistics.median(firsts) * 1000


class Reference:
    """Transformers on torch, in fp32."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens_a_second(self, count: int, tokens: int) -> float:
        """Of so many rows at once."""
        import torch

        asked = self._tokenizer([PROMPT] * count, return_tensors="pt")
        began_s = perf_counter()
        with torch.inference_mode():
            self._model.generate(**asked, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
        return count * tokens / (perf_counter() - began_s)


def bandwidth_gb_s() -> float:
    """How fast torch reads an array, the best of three; its threads are set already."""
    import torch

    array, best_s = torch.ones(ARRAY_NUMBERS), float("inf")
    for _ in range(3):
        began_s = perf_counter()
        array.sum()
        best_s = min(best_s, perf_counter() - began_s)
    return array.nbytes / best_s / 1e9


def meter_us() -> float:
    """CPU that the meter takes for one event of a stream."""
    event = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    event += b'{"content":" word"},"finish_reason":null}]}\n\n'
    asked = asked_by(b"/v1/chat/completions", b'{"stream":true,"messages":[{"role":"user","content":"x"}]}')
    assert asked is not None
    generation, began_s = Generation(asked, is_stream=True), thread_time()
    for at in range(EVENTS):
        generation.heard(event, float(at))
    return (thread_time() - began_s) / EVENTS * 1e6


def cpu_s(process: psutil.Process, threads: str = "*") -> float:
    """CPU of a process, or of one of its threads, as the scheduler counts it: in ns, not in ticks."""
    tasks = Path(f"/proc/{process.pid}/task").glob(f"{threads}/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def front_cpu_s(server: psutil.Process) -> float:
    """CPU of a server's first thread, which is its front."""
    return cpu_s(server, str(server.pid))


class World:
    """The model in every precision, each behind a server, and a gateway before one of them."""

    def __init__(self, folder: Path, stack: ExitStack, layers: int, threads: int) -> None:
        source = make_model(folder / "source", layers)
        write_settings(folder / "settings", ServerSettings(cpus=float(threads)))
        self.ports, self.servers, self.file_bytes = {}, {}, {}
        for precision in PRECISIONS:
            made = Gguf(precision).compress(source, folder / precision, {"model": "m"})
            self.file_bytes[precision] = (made.folder / "model.gguf").stat().st_size
            facts = {"engine": "llamacpp", "context": 512, "slots": max(STREAMS), "precision": precision}
            digest, path = seal(made.folder, {**facts, "model": "m", "variant": precision}, folder / "bundles")
            self.ports[precision] = port = free_port()
            options = ("--bundle", path, "--digest", digest, "--port", port, "--model-name", "m")
            command = [sys.executable, "-m", "pipelines.serving.server", *map(str, options)]
            command += ["--settings", str(folder / "settings")]
            self.servers[precision] = stack.enter_context(proxies.started(command, port, folder / f"{precision}.out"))
        self.gateway_port = free_port()
        gateway = proxies.shipway(folder, self.gateway_port, self.ports["f16"])
        self.gateway = stack.enter_context(proxies.started(gateway, self.gateway_port, folder / "gateway.out"))
        proxies.give_arms(folder, self.ports["f16"])
        self.reference = Reference(source, threads)


def look(world: World, tokens: int, found: Found) -> None:
    """One round: everybody once with one stream, and once with eight."""

    def saw(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    saw("bandwidth_gb_s", bandwidth_gb_s())
    for count in STREAMS:
        saw(f"tok_s transformers-f32 {count}", world.reference.tokens_a_second(count, tokens))
        for precision in PRECISIONS:
            server = world.servers[precision]
            before_s = front_cpu_s(server)
            rate, first_ms = asyncio.run(streams(world.ports[precision], count, tokens))
            saw(f"tok_s llamacpp-{precision} {count}", rate)
            saw(f"ttft_ms llamacpp-{precision} {count}", first_ms)
            saw(f"front_us {count}", (front_cpu_s(server) - before_s) / (count * tokens) * 1e6)
        before_s = cpu_s(world.gateway)
        rate, first_ms = asyncio.run(streams(world.gateway_port, count, tokens))
        saw(f"tok_s gateway-f16 {count}", rate)
        saw(f"ttft_ms gateway-f16 {count}", first_ms)
        saw(f"gateway_us {count}", (cpu_s(world.gateway) - before_s) / (count * tokens) * 1e6)
    saw("meter_us_per_event", meter_us())


def summary(found: Found, file_bytes: dict[str, int]) -> dict[str, Any]:
    """The figures by name: medians, and means of what clocks count in ticks."""
    middle = {name: statistics.median(values) for name, values in found.items()}
    told: dict[str, Any] = {"tok_s": {}, "ttft_ms": {}}
    for name, value in middle.items():
        kind, _, rest = name.partition(" ")
        engine, _, count = rest.partition(" ")
        if kind in told:
            told[kind].setdefault(engine, {})[count] = value
    band = middle["bandwidth_gb_s"] * 1e9
    told["bandwidth_gb_s"] = band / 1e9
    told["bandwidth_share"] = {p: told["tok_s"][f"llamacpp-{p}"]["1"] * size / band for p, size in file_bytes.items()}
    for name in ("front", "gateway"):
        told[f"{name}_us_per_token"] = {str(n): statistics.mean(found[f"{name}_us {n}"]) for n in STREAMS}
        rates = {str(n): told["tok_s"]["llamacpp-f16"][str(n)] for n in STREAMS}
        told[f"{name}_overhead_pct"] = {n: told[f"{name}_us_per_token"][n] * rate / 1e4 for n, rate in rates.items()}
    return {**told, "meter_us_per_event": middle["meter_us_per_event"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=12)
    options = parser.parse_args()
    found: Found = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        world = World(Path(name), stack, options.layers, options.threads)
        for _ in range(options.rounds):
            look(world, options.tokens, found)
        told = summary(found, world.file_bytes)
    if options.json:
        print(json.dumps({**told, "rounds": options.rounds, "all": found}))
        return
    for name, values in sorted(found.items()):
        print(f"{name:28} {statistics.median(values):9.2f}  ({min(values):.2f} – {max(values):.2f}, n = {len(values)})")
    print(json.dumps({key: told[key] for key in told if key not in {"tok_s", "ttft_ms"}}, indent=1))


if __name__ == "__main__":
    main()
