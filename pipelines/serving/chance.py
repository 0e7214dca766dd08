"""Where does a request's chance come from? From the system's entropy, many numbers with one system call."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

DRAWN = 1024
"""Numbers, or names, for one system call."""

NAME_BYTES = 16


def numbers() -> Iterator[float]:
    """Numbers in [0, 1) that no client can foresee, like those of `random.SystemRandom().random()`."""
    while True:
        for number in array("Q", os.urandom(8 * DRAWN)):
            yield (number >> 11) * 2.0**-53


def names() -> Iterator[bytes]:
    """Names for requests that are never given twice: 16 random bytes, written as hex digits."""
    while True:
        block = os.urandom(DRAWN * NAME_BYTES).hex().encode()
        for begin in range(0, len(block), 2 * NAME_BYTES):
            yield block[begin : begin + 2 * NAME_BYTES]
