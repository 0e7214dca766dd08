"""Where does a request's chance come from? From the system's entropy, many numbers with one system call."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

DRAWN = 1024
"""Draws, or names, for one system call."""

NAME_BYTES = 16


def draws() -> Iterator[tuple[float, bool]]:
    """A place in [0, 1), like `random.SystemRandom().random()`, and the toss of a coin; nobody can foresee either.

    A place takes 53 bits of 64; the coin is one of the others, so that neither says anything about the other.
    """
    while True:
        for bits in array("Q", os.urandom(8 * DRAWN)):
            yield (bits >> 11) * 2.0**-53, bits & 1 == 0


def names() -> Iterator[bytes]:
    """Names for requests that are never given twice: 16 random bytes, written as hex digits."""
    while True:
        block = os.urandom(DRAWN * NAME_BYTES).hex().encode()
        for begin in range(0, len(block), 2 * NAME_BYTES):
            yield block[begin : begin + 2 * NAME_BYTES]
