"""How much memory will a model take, and does it fit, before anything is started?

What is counted is what is known beforehand to the byte: the numbers of the weights in the precision that serves, and
the cache of keys and values for every token that may be open at once. What an engine needs besides is small beside
both, and is not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.errors import BadInput

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One accelerator: its bytes, those that nobody holds, and the numbers of those that it is linked to fast."""

    memory: int
    free: int
    near: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Machine:
    """What there is to serve and to judge with: bytes of memory that are left, and accelerators."""

    available: int
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes: of one server's `weights` and `cache`, times `replicas`; and of the reference that judges them before.

    `what` says what they are made of; `helps` is what would take less, the best first, each with its bytes in all.
    """

    weights: int
    cache: int
    replicas: int
    reference: int
    what: str
    helps: tuple[tuple[str, int], ...] = ()
    spread: tuple[str, ...] = ()
    """What is said of accelerators, where an engine has some."""

    @property
    def served(self) -> int:
        """What all servers of the candidate hold at once."""
        return self.replicas * (self.weights + self.cache)

    @property
    def most(self) -> int:
        """The most at one time: the reference has ended before servers start."""
        return max(self.served, self.reference)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        plain = {"helps": [list(help_) for help_ in self.helps], "spread": list(self.spread), "served": self.served}
        return asdict(self) | plain

    def sentence(self) -> str:
        """For a person."""
        times = f"{self.replicas} × " if self.replicas > 1 else ""
        return (
            f"{times}({shown(self.weights)} weights + {shown(self.cache)} cache) to serve ({self.what}), "
            f"{shown(self.reference)} to judge"
        ) + "".join(f"; {said}" for said in self.spread)


def shown(size: int) -> str:
    """Bytes in a unit that is read at a glance."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"


def check_fits(need: MemoryNeed, available: int, where: str) -> None:
    """BadInput E_MEMORY where it cannot fit into so many bytes, with what would; `where` says whose they are."""
    if need.most <= available:
        return
    fitting = [what for what, size in need.helps if max(size, need.reference) <= available]
    judged = need.served <= available
    raise BadInput(
        f"{need.sentence()}: {'judging' if judged else 'serving'} this takes {shown(need.most)}, "
        f"and {where} has {shown(available)}",
        code="E_MEMORY",
        field="package.memory_mb" if where.startswith("package") else "serve.args",
        expected=f"at most {shown(available)}",
        hint=_hint(fitting),
    )


def _hint(fitting: Sequence[str]) -> str:
    return f"this would fit: {', or '.join(fitting[:3])}" if fitting else "a machine with more memory"
