"""What does a model do, by the architecture that its configuration names?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSIFIER = "ForSequenceClassification"
"""How the names of transformers' text classifiers end."""

GENERATORS = ("ForCausalLM", "LMHeadModel")
"""How the names of its causal language models end."""


def generates(config: Mapping[str, Any]) -> bool:
    """Whether this is a causal language model: one that continues its own kind of text."""
    kinds = config.get("architectures") or ()
    return bool(kinds) and all(kind.endswith(GENERATORS) for kind in kinds)
