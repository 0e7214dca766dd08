"""Which techniques are tried for a spec's `compress`, best guess first?

One for now. A search measures several on the target machine and orders them by what was best; it enters here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.compress.dynamic_int8 import DynamicInt8
from pipelines.compress.technique import Technique
from pipelines.errors import BadInput

KNOWN = ("none", "dynamic-int8")
"""Of classifiers."""

BATCH_DEPENDENT = frozenset({DynamicInt8.name})
"""Variants whose answer to a text depends on what is asked with it: activations share their scales."""


def depends_on_batch(facts: Mapping[str, Any]) -> bool:
    """Whether the bundle of these facts answers a text alone otherwise than among others."""
    return facts.get("variant") in BATCH_DEPENDENT


def techniques_for(name: str) -> tuple[Technique, ...]:
    """The techniques for classifiers behind a name of the spec; `none` has none, so that the source ships."""
    match name:
        case "none":
            return ()
        case "dynamic-int8":
            return (DynamicInt8(),)
        case _:
            raise BadInput(f"unknown technique {name!r}", field="compress", expected=" or ".join(KNOWN))
