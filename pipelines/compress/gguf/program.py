"""What does llama.cpp's own converter make of a folder, and llama.cpp of texts? Run in a child.

The converter is told what it would guess otherwise: how a tokenizer splits text where it does not know that one, which
tokens transformers puts at the ends of a text, and which tokens end an answer.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput
from pipelines.serving.engines.llamacpp import MODEL_FILE, LlamaCppEngine
from pipelines.supply.oracle.child import answer, may_ask

CONTEXT_TOKENS = 16
"""Nothing is generated."""

FURTHER_ENDS = ("eot", "eom")
"""What llama.cpp calls tokens that end an answer as `eos` does."""

CHATS: Sequence[Sequence[Mapping[str, str]]] = (
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?\nSay it twice."}],
    [{"role": "user", "content": " a "}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c\n"}],
)


def make(question: dict[str, Any]) -> dict[str, Any]:
    """`source` becomes `into/model.gguf`; how each text is read is compared. `refused` has a code and a reason."""
    source, into = Path(question["source"]), Path(question["into"])
    try:
        pre = convert(source, into / MODEL_FILE, question["precision"], question["pre_tokenizer"])
    except NotImplementedError as error:
        unknown = "BPE pre-tokenizer" in str(error)
        reason = "llama.cpp has no pre-tokenizer that splits text as this tokenizer does" if unknown else str(error)
        return {"refused": "E_TOKENIZER" if unknown else "E_ARCHITECTURE", "reason": reason}
    except FileNotFoundError as error:  # such as tokenizer.model, where a tokenizer.json would say the same
        missing = Path(str(error).rpartition(" ")[2]).name
        return {
            "refused": "E_TOKENIZER",
            "reason": f"the converter reads {missing} of such a model, and it is not kept",
        }
    found = {"pre_tokenizer": pre, "types": types_of(into / MODEL_FILE)}
    return {**found, **compare(source, into, question["texts"])}


def convert(source: Path, file: Path, precision: str, name: str) -> dict[str, str]:
    """Write the file; the name of the pre-tokenizer, and who said it. NotImplementedError where there is none."""
    import torch
    from conversion import ModelType, get_model_architecture, get_model_class
    from conversion.base import ModelBase, TextModel
    from gguf import LlamaFileType

    said: dict[str, str] = {}
    recognised = TextModel.get_vocab_base_pre

    def named(model: Any, tokenizer: Any) -> str:
        try:
            said.update(name=recognised(model, tokenizer), by="converter")
        except NotImplementedError:
            if not name:
                raise
            said.update(name=name, by="shipway")
        return said["name"]

    TextModel.get_vocab_base_pre = named
    tell_ends(source)
    kinds = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
    with torch.inference_mode():
        architecture = get_model_architecture(ModelBase.load_hparams(source, False), ModelType.TEXT)
        made = get_model_class(architecture)(source, kinds[precision], file, model_name="model")
        if "n_positions" in made.hparams:  # GPT-2's, which transformers wrote twice in former times
            made.hparams.setdefault("n_ctx", made.hparams["n_positions"])
        made.write()
    return said


def tell_ends(source: Path) -> None:
    """What llama.cpp would guess from the name of the pre-tokenizer, and from how tokens are written."""
    from gguf import SpecialVocab
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    ids, write = tokenizer("a").input_ids, SpecialVocab.add_to_gguf
    begins, ends = ids[:1] == [tokenizer.bos_token_id], ids[-1:] == [tokenizer.eos_token_id]
    others = [end for end in _ends(source) if end != tokenizer.eos_token_id]

    def told(vocabulary: Any, writer: Any, quiet: bool = False) -> None:
        vocabulary.add_special_token.update(bos=begins, eos=ends)
        vocabulary.special_token_ids.update(zip(FURTHER_ENDS, others, strict=False))
        write(vocabulary, writer, quiet)

    if len(others) > len(FURTHER_ENDS):
        raise NotImplementedError(f"llama.cpp has no room for {1 + len(others)} tokens that end an answer")
    SpecialVocab.add_to_gguf = told


def _ends(source: Path) -> list[int]:
    """The tokens that end an answer, as transformers' own generation has them."""
    for name in ("generation_config.json", "config.json"):
        said = json.loads((source / name).read_bytes()) if (source / name).is_file() else {}
        ends = said.get("eos_token_id")
        if ends is not None:
            return [int(end) for end in (ends if isinstance(ends, list) else [ends])]
    return []


def types_of(file: Path) -> dict[str, int]:
    """How many numbers of matrices have which type."""
    from gguf import GGUFReader

    counted: Counter[str] = Counter()
    for tensor in GGUFReader(file).tensors:
        if len(tensor.shape) > 1:
            counted[tensor.tensor_type.name] += int(tensor.n_elements)
    return dict(counted)


def compare(source: Path, into: Path, texts: Sequence[str]) -> dict[str, Any]:
    """The first text and the first chat that llama.cpp reads otherwise, and whether there is a template for chats."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    engine, port = LlamaCppEngine(into, {"context": CONTEXT_TOKENS, "slots": 1}, 1), _free_port()
    may_ask("127.0.0.1", port)
    engine.start(port)
    try:
        found = {"text": other_tokens(tokenizer, engine, texts), "chats": bool(tokenizer.chat_template)}
        return {**found, "chat": other_chat(tokenizer, engine) if found["chats"] else None}
    finally:
        engine.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def other_tokens(tokenizer: Any, engine: LlamaCppEngine, texts: Sequence[str]) -> dict[str, Any] | None:
    """The first text of which llama.cpp makes other tokens, with both."""
    for text in texts:
        expected = list(tokenizer(text).input_ids)
        asked = {"content": text, "add_special": True, "parse_special": True}
        found = engine.ask("/tokenize", asked)["tokens"]
        if found != expected:
            return {"text": text[:200], "expected": expected[:50], "found": found[:50]}
    return None


def other_chat(tokenizer: Any, engine: LlamaCppEngine) -> dict[str, Any] | None:
    """The first conversation that llama.cpp writes otherwise, with both. One that the template refuses says nothing."""
    for messages in CHATS:
        try:
            expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception:  # a template may refuse what it was not made for  # noqa: BLE001, S112
            continue
        try:
            found = engine.ask("/apply-template", {"messages": messages})["prompt"]
        except BadInput as error:
            return {"expected": expected[:300], "found": str(error)}
        # It puts the tokens of a text's ends around a conversation too, and transformers does not.
        ours = list(tokenizer(expected, add_special_tokens=False).input_ids)
        theirs = engine.ask("/tokenize", {"content": found, "add_special": True, "parse_special": True})["tokens"]
        if ours != theirs:
            is_text = expected not in {found, f"{tokenizer.bos_token}{found}"}
            return {
                "expected": expected[:300] if is_text else ours[:50],
                "found": found[:300] if is_text else theirs[:50],
            }
    return None


if __name__ == "__main__":
    answer(make)
