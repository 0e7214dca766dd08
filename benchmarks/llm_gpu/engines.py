"""Which engines are measured, and how are they started and ended?

vLLM runs from a folder of its own (`--site`), on a model of random weights: speeds are right for the shape, and its
texts mean nothing. Every word "wN" of a prompt is one token. With `--engine llamacpp` the engine that Shipway brings
stands in for it, so that everything here can be tried where there is no GPU.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.gateway import free_port

SHAPES: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "tiny": (64, 2, 4, 2, 128, 512),
    "1b": (2048, 16, 16, 8, 8192, 32_768),
    "8b": (4096, 32, 32, 8, 14_336, 128_256),
}
"""Width, layers, heads, heads of keys and values, width of the feed-forward part, tokens."""

GIB = 2**30
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONSAFEPATH": "1",  # a folder of the repository's is no module of vLLM's
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # it has /reset_prefix_cache
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}
PROBE = "/v1/models"
STOP_S = 5.0


def make_model(shape: str, folder: Path) -> Path:
    """Config and tokenizer of a Llama without weights, for `--load-format dummy`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    width, layers, heads, kv_heads, inner, tokens = SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    size = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": tokens}
    size |= {"num_key_value_heads": kv_heads, "head_dim": width // heads, "intermediate_size": inner}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"}
    usual = {"max_position_embeddings": 16_384, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "hidden_act": "silu"}
    usual |= {"tie_word_embeddings": shape == "1b", "initializer_range": 0.02}
    (folder / "config.json").write_text(json.dumps({**kind, **size, **ids, **usual}))
    (folder / "generation_config.json").write_text(json.dumps(ids))
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number for number in range(3, tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 16_384}
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps({**kind, **named}))
    return folder


@dataclass
class Running:
    """One engine's process group."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    began_s: float
    ready_s: float = 0.0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self, until_s: float) -> bool:
        """Until it answers: whether it did before it ended, and before that time of the monotonic clock."""
        while self.process.poll() is None and time.monotonic() < until_s:
            with suppress(httpx.TransportError):
                if httpx.get(self.url + PROBE, trust_env=False, timeout=2.0).status_code == 200:
                    self.ready_s = round(time.monotonic() - self.began_s, 1)
                    return True
            time.sleep(0.25)
        return False

    def forget_prefixes(self) -> bool:
        """Make its cache of prompts cold; whether it can."""
        with suppress(httpx.TransportError):
            answer = httpx.post(self.url + "/reset_prefix_cache", trust_env=False, timeout=10.0)
            return answer.status_code == 200 and bool(answer.json()["success"])
        return False

    def kill(self) -> None:
        """End all of its processes at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, and then make it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        self.kill()

    def last_words(self) -> list[str]:
        """What its log says of errors, and its last lines."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line[:300] for line in [*[one for one in lines if "Error" in one][:5], *lines[-5:]]]


def start(name: str, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Running:
    """Start an engine in a process group of its own; it is not ready yet."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**environment}, start_new_session=True
        )
    return Running(name, port, process, log, time.monotonic())


class Vllm:
    """Starts vLLM from `site` on a model of random weights."""

    called = "m"

    def __init__(self, site: str, folder: Path, logs: Path) -> None:
        self._site, self._folder, self._logs = site, folder, logs

    def start(self, name: str, shape: str, *, kv_gib: float, flags: Sequence[str] = ()) -> Running:
        """Its cache has a size of its own, so that several fit one device and may start at one time."""
        model, port = make_model(shape, self._folder / f"model-{shape}"), free_port()
        said = {"served-model-name": self.called, "load-format": "dummy", "host": "127.0.0.1", "port": port}
        said |= {"max-model-len": 4096, "gpu-memory-utilization": 0.05, "kv-cache-memory-bytes": int(kv_gib * GIB)}
        told = [part for key, value in {**said, "max-num-seqs": 256}.items() for part in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), *told, *flags]
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        paths = {"PYTHONPATH": self._site} if self._site else {}
        return start(name, command, port, self._logs / f"{name}.log", {**kept, **ENVIRONMENT, **paths})

    @property
    def version(self) -> str:
        """As its folder says."""
        found = sorted(Path(self._site).glob("vllm-*.dist-info")) if self._site else []
        return found[0].name.removesuffix(".dist-info").replace("-", " ") if found else "vllm of this Python"


class LlamaCpp:
    """Starts Shipway's own server with llama.cpp on a tiny random model, whatever shape or flags are asked."""

    called = "m"
    version = "llama.cpp (stands in)"

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder, self._logs = folder, logs
        self._sealed: tuple[str, Path] | None = None

    def start(self, name: str, shape: str, *, kv_gib: float, flags: Sequence[str] = ()) -> Running:  # noqa: ARG002
        """The same model every time."""
        digest, path = self._sealed = self._sealed or self._seal()
        port = free_port()
        options = {"bundle": path, "digest": digest, "port": port, "model-name": self.called}
        told = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "pipelines.serving.server", *told]
        return start(name, command, port, self._logs / f"{name}.log", os.environ)

    def _seal(self) -> tuple[str, Path]:
        from benchmarks.llm import make_model as make_small_model
        from pipelines.compress.gguf.gguf import Gguf
        from pipelines.supply.bundle import seal

        source = make_small_model(self._folder / "source", 1)
        made = Gguf("f16").compress(source, self._folder / "f16", {"model": self.called})
        (self._folder / "bundles").mkdir(exist_ok=True)
        facts: dict[str, Any] = {"engine": "llamacpp", "context": 512, "slots": 8, "precision": "f16"}
        return seal(made.folder, {**facts, "model": self.called, "variant": "f16"}, self._folder / "bundles")
