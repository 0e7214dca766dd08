"""Generates with a vLLM that somebody else runs, at a URL: with its own router behind it, where it has one.

Nothing is started and nothing is ended here. What answers must be what the bundle's facts say, as far as it tells.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.errors import BadInput
from pipelines.serving.engines.api import EngineApi
from pipelines.serving.engines.streaming import EnginePlace, Habits
from pipelines.serving.probes import answer_of

MOST_OPEN = 1024
"""vLLM lets wait what it cannot run yet, however much that is."""

MOST_LIKELY = 256
"""Tokens that may come next, whose likelihoods it is asked for; it tells 20 unless it is started so."""

ANSWER_S = 600.0
"""Its first answer with likelihoods compiles how they are computed."""

MODELS = "/v1/models"
UNKNOWN = "unknown"
ENGINES = "SHIPWAY_ENGINES"
"""Names what a spec may bring, as that may come from anybody who proposes a change: hosts besides loopback, and Pythons
or folders of them, parted by commas."""

JUDGE_KEY = "SHIPWAY_JUDGE_KEY"

_OPEN = re.compile(rb"^vllm:num_requests_(?:running|waiting)\{[^}]*\} ([\d.e+]+)", re.MULTILINE)
_ID = "token_id:"


class EndpointEngine:
    """Implements `StreamingEngine` for what answers at `place.at`.

    Facts: `context`, `version`, and `precision` and `flags`, which nobody can ask it.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], place: EnginePlace, name: str) -> None:
        self._folder, self._facts, self._place, self._name = folder, facts, place, name
        self._api: EngineApi | None = None
        self._called = ""

    @property
    def habits(self) -> Habits:
        """It answers to one name only."""
        return Habits(MOST_OPEN, int(self._facts["context"]), called=self._called)

    def start(self, port: int) -> str:  # noqa: ARG002  it has one of its own
        """Look at what answers. BadInput E_ENGINE or E_CONTEXT where it is not what was released."""
        return self._meet(self._place.at)

    def _meet(self, url: str) -> str:
        """Ask the engine what it is, and go on with it."""
        told, facts = told_by(url), self._facts
        if self._name in told.contexts:
            self._called = self._name
        elif len(told.contexts) == 1:
            self._called = next(iter(told.contexts))
        else:
            names = ", ".join(told.contexts)[:200]
            raise BadInput(f"{url} serves no model called {self._name}", code="E_ENGINE", expected=names)
        context, known = told.contexts[self._called], {told.version, UNKNOWN}
        if str(facts["version"]).split()[-1] not in known and told.version != UNKNOWN:
            raise other_version(url, told.version, str(facts["version"]))
        if context not in {None, facts["context"]}:
            reason = f"{url} takes {context} tokens, and was released with {facts['context']}"
            raise BadInput(reason, code="E_CONTEXT", field="context")
        self._api = EngineApi(url, _OPEN, self._called, ANSWER_S)
        return url

    def probe(self) -> bool:
        """Whether it answers."""
        return self._api is not None and answer_of(self._api.url, MODELS)[0] == 200

    def has_ended(self) -> bool:
        """Nobody knows: what is asked then is answered with an error."""
        return False

    def drain(self, deadline_s: float) -> int:  # noqa: ARG002  others may ask it, too
        """Ours are counted by who stands before it."""
        return 0

    def stop(self) -> None:
        """Ask it no more; it goes on."""
        self._api = None

    def complete(self, prompt: str, most_tokens: int) -> Mapping[str, Any]:
        """One greedy answer with its logprobs. BadInput E_INFERENCE where none comes."""
        asked = {"prompt": prompt, "max_tokens": most_tokens, "temperature": 0, "logprobs": 1}
        return self.ask("/v1/completions", asked)

    def following(self, tokens: Sequence[int], most: int) -> list[tuple[int, float]]:
        """So many tokens that may come next, the likeliest first, with their log-probabilities in nats."""
        asked = {"prompt": list(tokens), "max_tokens": 1, "temperature": 0, "logprobs": most}
        said = self.ask("/v1/completions", {**asked, "return_tokens_as_token_ids": True})
        top = said["choices"][0]["logprobs"]["top_logprobs"][0]
        named = [(int(token.removeprefix(_ID)), float(log)) for token, log in top.items()]
        return sorted(named, key=lambda one: -one[1])[:most]

    def likelihood(self, prompt: Sequence[int], forced: Sequence[int]) -> float:
        """The log-likelihood in nats of tokens after a prompt: it tells that of a prompt's own, where it can."""
        asked = {"prompt": [*prompt, *forced], "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}
        said = self.ask("/v1/completions", asked)["choices"][0].get("logprobs") or {}
        told = (said.get("token_logprobs") or [])[len(prompt) : len(prompt) + len(forced)]
        if len(told) < len(forced) or None in told:
            reason = "the engine tells no likelihoods of a prompt's tokens (echo with logprobs), which choices need"
            raise BadInput(reason, code="E_INFERENCE")
        return float(sum(told))

    def ask(self, path: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the engine itself answers at a path. BadInput E_INFERENCE where that is no good answer."""
        if self._api is None:
            raise BadInput("the engine does not run", code="E_INFERENCE")
        return self._api.ask(path, asked)


class Introduction:
    """What an endpoint says of itself: its version, and by the name of each of its models how many tokens it takes."""

    def __init__(self, version: str, contexts: Mapping[str, int | None]) -> None:
        self.version, self.contexts = version, contexts


def told_by(url: str) -> Introduction:
    """What answers at a URL. BadInput E_ENGINE where that is no engine with OpenAI's API."""
    try:
        models = json.loads(answer_of(url, MODELS)[1])["data"]
        contexts = {str(model["id"]): model.get("max_model_len") for model in models}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        contexts = {}
    if not contexts:
        raise BadInput(f"{url} lists no model at {MODELS}", code="E_ENGINE", expected="an engine with OpenAI's API")
    status, body = answer_of(url, "/version")
    try:
        version = str(json.loads(body)["version"]) if status == 200 else UNKNOWN
    except (ValueError, KeyError, TypeError, RecursionError):
        version = UNKNOWN  # a router's, or nobody's
    return Introduction(version, contexts)


def declared_engines() -> tuple[str, ...]:
    """What who runs Shipway lets a spec bring."""
    return tuple(one.strip() for one in os.environ.get(ENGINES, "").split(",") if one.strip())


def judge_key(url: str) -> str:
    """The key for a judge, where who runs Shipway has one: for a host that they have declared, and for no other."""
    return os.environ.get(JUDGE_KEY, "") if urlsplit(url).hostname in declared_engines() else ""


def other_version(where: str, found: str, released: str) -> BadInput:
    """Another version of an engine answers otherwise: it is a release of its own."""
    reason = f"{where} is version {found}, and {released} was released"
    return BadInput(
        reason, code="E_ENGINE", field="version", expected=released, hint="release the model with the new version"
    )
