"""How long does a test wait? Until it is so: a limit only finds what hangs, on the slowest machine that counts."""

from __future__ import annotations

import time
from collections.abc import Callable

HANG_S = 120.0


def until(holds: Callable[[], object], timeout_s: float = HANG_S) -> None:
    """Wait until something holds."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, "it never held"
        time.sleep(0.02)
