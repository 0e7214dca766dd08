"""Where does a request's chance come from? From the system's entropy, many numbers with one system call."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

DRAWN = 1024
"""Numbers for one system call."""


class Chance:
    """Numbers that no client can foresee."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = iter(())

    def random(self) -> float:
        """A number in [0, 1), like `random.SystemRandom().random()`."""
        number = next(self._numbers, None)
        if number is None:
            self._numbers = iter(array("Q", os.urandom(8 * DRAWN)))
            number = next(self._numbers)
        return (number >> 11) * 2.0**-53
