"""Where does a request's chance come from? From the system's entropy, many numbers with one system call."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

DRAWN = 1024
"""Numbers, or names, for one system call."""

NAME_BYTES = 16


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


class Names:
    """Names for requests that are never given twice: 16 random bytes, written as hex digits."""

    def __init__(self) -> None:
        self._block, self._at = b"", 0

    def __next__(self) -> bytes:
        begin, self._at = self._at, self._at + 2 * NAME_BYTES
        if begin == len(self._block):
            self._block = os.urandom(DRAWN * NAME_BYTES).hex().encode()
            begin, self._at = 0, 2 * NAME_BYTES
        return self._block[begin : self._at]
