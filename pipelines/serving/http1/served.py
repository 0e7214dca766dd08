"""What becomes of a request that is not answered at once, and what does it hear of its client?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Served(Protocol):
    """A request that is being answered, piece by piece."""

    def client_left(self) -> None:
        """The client is gone."""

    def client_waits(self) -> None:
        """The client does not read what it was sent."""

    def client_reads(self) -> None:
        """It reads again."""


class Waiting:
    """A request whose answer is on its way whatever the client does; `left` hears that nobody waits for it any more."""

    def __init__(self, left: Callable[[], None] = lambda: None) -> None:
        self._left = left

    def client_left(self) -> None:
        """It is answered into the void."""
        self._left()

    def client_waits(self) -> None:
        """The answer is short."""

    def client_reads(self) -> None:
        """The answer is short."""
