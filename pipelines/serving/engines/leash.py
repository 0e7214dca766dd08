"""How does an engine of many processes end with the server that started it, also where that one was killed?

    python leash.py COMMAND …

runs a command, in a process group of its own, for as long as standard input is open. Who starts it holds the other end
until it dies, of whatever: then the kernel closes it, and the whole group is killed. A kill of its first process alone
would leave the others: vLLM's hold the model and the memory. SIGTERM is passed on to the first one, which drains.

What the command says goes to standard error. The first line of it that names an error is repeated on standard output
when it has ended. This file is run by its path and imports nothing of Shipway.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress

ERROR = re.compile(rb"\b(?!Validation)(?:\w*(?:Error|Exception)|error): [^\r\n]+|Value error, [^\r\n]+")
HARMLESS = (b" INFO ", b" WARNING ")
MOST_KEPT = 4096
PIECE_BYTES = 65_536


def main() -> int:
    """The command's own exit code."""
    command = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *said: command.send_signal(said[0]))
    threading.Thread(target=_end_with_parent, args=(command.pid,), daemon=True).start()
    said = command.stdout.fileno() if command.stdout else 0
    hearing = threading.Thread(target=_hear, args=(said,), daemon=True)
    hearing.start()
    code = command.wait()
    _kill(command.pid)  # and whatever it left
    hearing.join(1.0)
    return code if code >= 0 else 128 - code


def _hear(said: int) -> None:
    """Pass on what is said, and keep the first error: what comes after it follows from it."""
    kept, found = b"", b""
    while data := os.read(said, PIECE_BYTES):
        with suppress(OSError):  # nobody reads the log: the engine goes on
            os.write(2, data)
        if not found:
            kept += data
            *lines, kept = kept.split(b"\n")
            found = next((error for line in lines if (error := _error(line))), b"")
            kept = kept[-MOST_KEPT:]
    with suppress(OSError):
        os.write(1, found or kept)


def _error(line: bytes) -> bytes:
    """What a line says went wrong, or nothing."""
    match = None if any(mark in line for mark in HARMLESS) else ERROR.search(line)
    return match[0] if match else b""


def _end_with_parent(group: int) -> None:
    while os.read(0, PIECE_BYTES):
        pass
    _kill(group)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
