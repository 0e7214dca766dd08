"""What does llama.cpp call the way in which a tokenizer splits text before it looks for tokens?

Its converter knows tokenizers by what they make of one text, so it knows none that somebody has trained himself. A
wrong name changes tokens without an error: what is named here is believed only after tokens were compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_KNOWN_SPLITS = {_LLAMA_3: "llama-bpe", _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}


def pre_tokenizer_name(tokenizer: Mapping[str, Any]) -> str:
    """Its name for that of a `tokenizer.json` of byte pairs, or ""."""
    steps = _steps(tokenizer.get("pre_tokenizer"))
    kinds = [step.get("type") for step in steps]
    if not steps or kinds[-1] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return ""
    splits_itself = steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and splits_itself:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and splits_itself and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not splits_itself:
        pattern = steps[0].get("pattern")
        is_plain = steps[0].get("behavior") == "Isolated" and not steps[0].get("invert")
        regex = pattern.get("Regex") if isinstance(pattern, Mapping) else None
        return _KNOWN_SPLITS.get(str(regex), "") if is_plain else ""
    return ""


def _steps(said: Any) -> Sequence[Mapping[str, Any]]:
    """The steps one after the other; none where it is no such thing."""
    inner = said.get("pretokenizers") if isinstance(said, Mapping) and said.get("type") == "Sequence" else [said]
    steps = inner if isinstance(inner, list) else []
    return steps if all(isinstance(step, Mapping) for step in steps) else []
