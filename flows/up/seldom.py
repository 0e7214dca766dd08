"""Was this warning said already? The same words are said once, and then seldom, with how often they were due."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flows.wiring import clock
from pipelines.errors import ShipwayError

EVERY_S = 600.0
MOST_TEXTS = 1000
"""A text that is another each time must not fill the memory."""


@dataclass
class Seldom:
    """The warnings of a loop that goes on whatever happens."""

    log: logging.Logger
    _said: dict[str, tuple[float, int]] = field(default_factory=dict)

    def warn(self, text: str, error: Exception | None = None) -> None:
        """Say it, unless it was said a short while ago; with the way that an unexpected error came."""
        now_s = clock().mono_s
        said_s, unsaid = self._said.pop(text, (-math.inf, 0))
        if now_s - said_s < EVERY_S:
            self._said[text] = (said_s, unsaid + 1)
            return
        again = f" (and {unsaid} times since it was said last)" if unsaid else ""
        self.log.warning("%s%s", text, again, exc_info=error)
        self._said[text] = (now_s, 0)
        if len(self._said) > MOST_TEXTS:
            self._said.pop(next(iter(self._said)))

    @contextmanager
    def outliving(self, what: str) -> Iterator[None]:
        """What is raised inside is a warning about `what`, and the next thing has its turn."""
        try:
            yield
        except ShipwayError as error:
            self.warn(f"{what}: {error}")
        except Exception as error:  # noqa: BLE001  the care for others outlives any single surprise
            self.warn(f"{what}: {error!r}", error)
