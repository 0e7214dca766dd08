"""Which techniques are tried for a spec's `compress`, best guess first?

One for now. A search measures several on the target machine and orders them by what was best; it enters here.
"""

from __future__ import annotations

from pipelines.compress.dynamic_int8 import DynamicInt8
from pipelines.compress.technique import Technique
from pipelines.errors import BadInput

KNOWN = ("none", "dynamic-int8")


def techniques_for(name: str) -> tuple[Technique, ...]:
    """The techniques behind a name of the spec; `none` has none, so that the source ships."""
    match name:
        case "none":
            return ()
        case "dynamic-int8":
            return (DynamicInt8(),)
        case _:
            raise BadInput(f"unknown technique {name!r}", field="compress", expected=" or ".join(KNOWN))
