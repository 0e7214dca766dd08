"""Which fast tokenizer does transformers make of a vocabulary? Run in a child."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pipelines.supply.oracle.child import answer


def convert(question: dict[str, Any]) -> dict[str, Any]:
    """Saves the fast form of the tokenizer in the folder `source` into the folder `into`, and says what it is."""
    import transformers

    # It asks for the package sentencepiece, and then reads the file with protobuf alone.
    converting: Any = import_module("transformers.convert_slow_tokenizer")
    converting.requires_backends = lambda *_: None
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        question["source"], local_files_only=True, trust_remote_code=False
    )
    kind = type(tokenizer).__name__
    if not tokenizer.is_fast:
        return {"refused": f"{kind} has no fast form"}
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        return {"refused": f"{kind} finds no tokens in it"}
    tokenizer.save_pretrained(question["into"])
    return {"kind": kind, "by": f"transformers {transformers.__version__}"}


if __name__ == "__main__":
    answer(convert)
