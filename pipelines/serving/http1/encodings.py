"""What did a client send, before its body was encoded?"""

from __future__ import annotations

import zlib

from pipelines.errors import BadInput

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def decoded(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body without its content encoding. BadInput where it is another than gzip or deflate, broken or too large."""
    if encoding.lower() in {"", "identity"}:
        return body
    if encoding.lower() not in _WINDOW_BITS:
        raise BadInput(f"content-encoding {encoding[:40]!r}", code="E_BODY", field="body", expected="gzip or deflate")
    inflating = zlib.decompressobj(_WINDOW_BITS[encoding.lower()])
    try:
        text = inflating.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise BadInput(f"the body is not {encoding}: {error}", code="E_BODY", field="body") from None
    if len(text) > limit_bytes:
        raise BadInput("the body is too large", code="E_LIMIT", field="body", expected=f"at most {limit_bytes} bytes")
    if not inflating.eof:
        raise BadInput(f"the {encoding} body is cut off", code="E_BODY", field="body")
    return text
