"""What can an engine do that answers piece by piece? It speaks OpenAI's API at an address of its own.

The other kind of engine is asked in this process (`engine.py`): rows in, outputs out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Habits:
    """What stands before an engine has to know of it.

    `most_open` requests may be asked at one time, of `context` tokens each. Keys of a request that are longer than
    `most_bytes` says would keep it busy for everybody. A 500 with one of `clients_faults` is the client's doing, and
    with one of `models_faults` what it makes of an answer that is not what was asked for.
    """

    most_open: int
    context: int
    most_bytes: Mapping[str, int] = field(default_factory=dict)
    clients_faults: tuple[bytes, ...] = ()
    models_faults: tuple[str, ...] = ()
    called: str = ""
    """What it calls the model itself, where it answers to no other name."""


@dataclass(frozen=True)
class EnginePlace:
    """What a machine gives an engine, and no digest knows: another machine gives other things to the same bundle.

    `threads` 0 lets the engine choose. `at` is where an engine that was brought lives: the Python of an environment, an
    image, or a URL. Its answers may go on for `drain_s` when it is asked to end.
    """

    threads: int = 0
    at: str = ""
    drain_s: float = 10.0

    @property
    def is_image(self) -> bool:
        """Whether it lives in an image, `NAME@sha256:…`, and neither in a folder nor at a URL."""
        return bool(self.at) and not self.at.startswith(("/", "http:", "https:"))


class StreamingEngine(Protocol):
    """A model that generates. What stands before it counts its open answers, and lets nobody else to it."""

    @property
    def habits(self) -> Habits:
        """What it wants of who asks it."""
        ...

    def start(self, port: int) -> str:
        """Begin to listen at a port of loopback, 0 for a free one; the address, once it answers.

        BadInput where it cannot serve the model as the bundle's facts say.
        """
        ...

    def probe(self) -> bool:
        """Whether it answers now."""
        ...

    def has_ended(self) -> bool:
        """Whether it ended by itself after its start: nobody will be answered any more."""
        ...

    def complete(self, prompt: str, most_tokens: int) -> Mapping[str, Any]:
        """One greedy answer to a prompt with its log-probabilities, as OpenAI's API writes it. BadInput E_INFERENCE."""
        ...

    def following(self, tokens: Sequence[int], most: int) -> list[tuple[int, float]]:
        """So many tokens that may come next, the likeliest first, with their log-probabilities in nats."""
        ...

    def likelihood(self, prompt: Sequence[int], forced: Sequence[int]) -> float:
        """The log-likelihood in nats of tokens after a prompt. BadInput E_INFERENCE where it tells none."""
        ...

    def ask(self, path: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the engine itself answers at a path. BadInput E_INFERENCE where that is no good answer."""
        ...

    def drain(self, deadline_s: float) -> int:
        """How many answers are still open after so many seconds, or as soon as none is; none is refused meanwhile."""
        ...

    def stop(self) -> None:
        """End it now; answers that are still open are cut."""
        ...
