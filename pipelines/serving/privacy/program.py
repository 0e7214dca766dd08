"""The child that redacts: texts in, redacted texts out, until nobody asks any more.

It reads no network (presidio would, for a list), yields the processor to who serves users, and holds little memory.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from typing import Any, BinaryIO

import orjson

from pipelines.serving.privacy.redactor import Redactor

MEMORY_MB = 1024
NICE = 10
HEAD_BYTES = 4
NOT_WANTED = ("torch", "tensorflow", "mxnet", "cupy", "transformers")
"""spaCy imports them where they are installed: 350 MB and five seconds of CPU for nothing."""


def read_part(stream: BinaryIO) -> bytes | None:
    """One message: its length, and itself; None at the end."""
    head = stream.read(HEAD_BYTES)
    return stream.read(int.from_bytes(head)) if len(head) == HEAD_BYTES else None


def write_part(stream: BinaryIO, data: bytes) -> None:
    """The same, written."""
    stream.write(len(data).to_bytes(HEAD_BYTES) + data)
    stream.flush()


def main() -> None:
    """Redact by the rules in the first message."""
    os.nice(NICE)
    for limit, value in ((resource.RLIMIT_DATA, MEMORY_MB << 20), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # a lower one was set already
            resource.setrlimit(limit, (value, value))
    sys.modules.update(dict.fromkeys(NOT_WANTED))  # type: ignore[arg-type]  # None: it cannot be imported
    sys.addaudithook(_refuse_network)
    asked, said = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    rules: dict[str, Any] = orjson.loads(read_part(asked) or b"{}")
    redactor = Redactor(rules["recognise"], rules["patterns"])
    write_part(said, b"")
    while (data := read_part(asked)) is not None:
        write_part(said, orjson.dumps(redactor.redacted(orjson.loads(data))))


def _refuse_network(event: str, _: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        raise PermissionError("texts are redacted without a network")


if __name__ == "__main__":
    main()
