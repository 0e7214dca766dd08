"""How do many who ask at once share one answer? One reads, the others wait for it, and it is kept for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipelines.ports import Now

KEEP_S = 5.0


class Snapshot:
    """A text that is read in a thread, by one at a time; an error is told to those who waited, and not kept."""

    def __init__(self, read: Callable[[], str], clock: Callable[[], Now]) -> None:
        self._read = read
        self._clock = clock
        self._asked_s = 0.0
        self._answer: asyncio.Task[str] | None = None

    async def text(self) -> str:
        """The text as it was at most `KEEP_S` ago, or as it is."""
        if self._answer is None or self._is_over(self._answer):
            self._asked_s = self._clock().mono_s
            self._answer = asyncio.create_task(asyncio.to_thread(self._read))
            self._answer.add_done_callback(_heard)
        # Who hangs up must not end the reading that others wait for.
        return await asyncio.shield(self._answer)

    def _is_over(self, answer: asyncio.Task[str]) -> bool:
        if not answer.done():
            return False
        return not _heard(answer) or self._clock().mono_s - self._asked_s > KEEP_S


def _heard(answer: asyncio.Task[str]) -> bool:
    """Whether it is a text."""
    return not answer.cancelled() and answer.exception() is None
