"""Generates with llama.cpp in this process: its own HTTP server on loopback, in threads that Python does not hold up.

What it does not do stands in `server/front.py`: it answers to any model's name, and ends without draining.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import orjson

from pipelines.errors import BadInput
from pipelines.serving.engines.api import EngineApi
from pipelines.serving.engines.streaming import Habits
from pipelines.serving.probes import answer_of

MODEL_FILE = "model.gguf"
QUEUED_PER_SLOT = 16
"""Requests that may wait for a slot: each holds a thread of the engine's HTTP server."""

BESIDES = 16
"""Threads of Python and of the engine that answer nobody; those that compute stand in two pools."""

CACHE_MB = 256
"""Of prompts whose slot another one has taken. llama.cpp would take 8 GiB."""

MOST_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("grammar", "json_schema", "response_format", "text"), 16 * 1024),
    "tools": 512 * 1024,
}
"""Grammars are made of these while every slot waits: an enum of 169 kB took 56 s, 2,000 properties of 57 kB 55 s."""

CLIENTS_FAULTS = (
    b"Failed to parse messages",
    b"Failed to parse tools",
    b"Unknown reasoning format",
    b"input is not supported - hint",
)
"""Which it answers with 500, as it would a fault of its own."""

MODELS_FAULTS = ("model produced output that does not match the expected",)
"""What it makes of an answer that was cut before its JSON, or its call of a tool, was whole: a 500."""

USUAL_SAMPLING: Mapping[str, Any] = {"temp": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""OpenAI's, where neither the request nor the file says it; llama.cpp's own are 0.8, 0.95, 40 and 0.05."""

FORCED = 1e4
"""A bias that outweighs any logit."""

SOME, ALL = 256, 2**30
"""Tokens of which it is asked how likely each one is."""

STOP_S = 5.0
ERRORS_ONLY = 1
_OPEN = re.compile(rb"^llamacpp:requests_(?:processing|deferred) (\d+)", re.MULTILINE)


def threads_of(slots: int, computing: int) -> int:
    """How many threads has a server with so many slots, of which so many compute? All of them from its start."""
    return slots * (1 + QUEUED_PER_SLOT) + 1 + 2 * computing + BESIDES


class LlamaCppEngine:
    """Implements `StreamingEngine` for a bundle with `model.gguf`.

    Facts: `context` tokens for each of `slots` answers at once; `seed` makes those alike that name none; so many tokens
    of prompts as `batch` says are computed at once.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], threads: int = 0, name: str = "model") -> None:
        self._file, self._facts, self._threads, self._name = folder / MODEL_FILE, facts, threads, name
        self._server: Any = None
        self._api: EngineApi | None = None
        self._letter: int | None = None

    @property
    def habits(self) -> Habits:
        """Those over its slots wait, for some slots' length."""
        most_open = int(self._facts["slots"]) * (1 + QUEUED_PER_SLOT)
        return Habits(most_open, int(self._facts["context"]), MOST_BYTES, CLIENTS_FAULTS, MODELS_FAULTS)

    def start(self, port: int) -> str:
        """Load the model and listen. BadInput E_ENGINE, and E_CONTEXT where the model has less of it."""
        import xllamacpp

        try:
            self._server = xllamacpp.Server(self._params(port))
        except Exception as error:
            raise BadInput(f"llama.cpp refuses {MODEL_FILE}: {error}"[:300], code="E_ENGINE") from error
        url = str(self._server.listening_address)
        self._api = EngineApi(url, _OPEN)
        self._check_context(url)
        return url

    def _params(self, port: int) -> Any:
        """How llama.cpp is told. The memory of all slots is one number, and each gets an equal part of it."""
        import xllamacpp

        facts, params = self._facts, xllamacpp.CommonParams()
        params.model.path, params.model_alias, params.port = str(self._file), {self._name}, port
        params.n_parallel = int(facts["slots"])
        params.n_ctx = self.habits.context * params.n_parallel
        if facts.get("batch"):
            params.n_ubatch = int(facts["batch"])
        params.n_threads_http = self.habits.most_open + 1  # and one for probes
        params.fit_params = False  # or it would shorten the context where memory is scarce
        params.ui = params.endpoint_slots = params.endpoint_props = False
        params.endpoint_metrics, params.cache_prompt, params.cache_ram_mib = True, True, CACHE_MB
        params.sse_ping_interval = -1  # an engine that hangs must not look as if it went on
        params.verbosity, params.offline = ERRORS_ONLY, True
        for pool in (params.cpuparams, params.cpuparams_batch):
            pool.poll = 0  # threads that spin would take the cores from the other arm between requests
            if self._threads:
                pool.n_threads = self._threads
        for key, value in USUAL_SAMPLING.items():
            setattr(params.sampling, key, value)
        if facts.get("seed") is not None:
            params.sampling.seed = int(facts["seed"])
        return params

    def _check_context(self, url: str) -> None:
        """llama.cpp gives a slot no more than the model was trained for, and says so nowhere but in its log."""
        wanted, said = self.habits.context, orjson.loads(answer_of(url, "/v1/models")[1])
        each = int(said["data"][0]["meta"]["n_ctx"])
        if each < wanted:
            self.stop()
            expected = f"at most {each}"
            raise BadInput(f"a slot has {each} tokens", code="E_CONTEXT", field="context", expected=expected)

    def probe(self) -> bool:
        """Whether it answers."""
        return self._api is not None and self._api.is_well()

    def has_ended(self) -> bool:
        """Never: it ends with this process."""
        return False

    def drain(self, deadline_s: float) -> int:
        """How many requests run or wait, at last."""
        return self._api.drain(deadline_s) if self._api else 0

    def stop(self) -> None:
        """End it. It waits for who is connected, for ever where an answer is open: connections end before it does."""
        held, self._server, self._api = [self._server], None, None
        ending = Thread(target=held.clear, name="engine-stop", daemon=True)
        ending.start()
        ending.join(STOP_S)

    def complete(self, prompt: str, most_tokens: int) -> Mapping[str, Any]:
        """One greedy answer with its logprobs, straight from the engine. BadInput E_INFERENCE where none comes."""
        asked = {"prompt": prompt, "max_tokens": most_tokens, "temperature": 0, "cache_prompt": False, "logprobs": 1}
        return self.ask("/v1/completions", asked)

    def following(self, tokens: Sequence[int], most: int) -> list[tuple[int, float]]:
        """So many tokens that may come next, the likeliest first, with their log-probabilities in nats."""
        # What it generates is a whole letter, whatever is likely: of half a character it tells no probabilities, and
        # they are those before any bias.
        if self._letter is None:
            self._letter = int(self.ask("/tokenize", {"content": "a", "add_special": False})["tokens"][-1])
        asked = {"prompt": list(tokens), "n_predict": 1, "n_probs": most, "logit_bias": [[self._letter, FORCED]]}
        said = self.ask("/completion", {**asked, "temperature": 0})["completion_probabilities"][0]["top_logprobs"]
        return [(int(token["id"]), float(token["logprob"])) for token in said]

    def likelihood(self, prompt: Sequence[int], forced: Sequence[int]) -> float:
        """The log-likelihood in nats of tokens after a prompt: each is forced, and it tells how likely that was."""
        return sum(self._of_next([*prompt, *forced[:place]], token) for place, token in enumerate(forced))

    def _of_next(self, tokens: Sequence[int], token: int) -> float:
        asked = {
            "prompt": list(tokens),
            "n_predict": 1,
            "n_probs": 1,
            "logit_bias": [[token, FORCED]],
            "temperature": 0,
        }
        told = self.ask("/completion", asked).get("completion_probabilities") or [{}]
        if told[0].get("id") == token:
            return float(told[0]["logprob"])
        for most in (SOME, ALL):  # half a character is not told by itself
            if (log := dict(self.following(tokens, most)).get(token)) is not None:
                return log
        raise BadInput(f"llama.cpp tells no likelihood of token {token}", code="E_INFERENCE")

    def ask(self, path: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the engine itself answers at a path. BadInput E_INFERENCE where that is no good answer."""
        if self._api is None:
            raise BadInput("the engine does not run", code="E_INFERENCE")
        return self._api.ask(path, asked)
