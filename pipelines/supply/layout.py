"""Where in a model folder are the weights, the configuration and the tokenizer?

Two layouts are known: a Hugging Face folder, and what `mlflow.transformers` writes (`model/` + `components/`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks.configuration import check_configuration, check_tokenizer_settings, refuse
from pipelines.supply.checks.paths import check_relative
from pipelines.supply.checks.strict_json import parse_strict
from pipelines.supply.kinds import generates
from pipelines.supply.tensors import tensors_of

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER, SETTINGS, "special_tokens_map.json", "vocab.txt")
TEMPLATE, GENERATION = "chat_template.jinja", "generation_config.json"
"""What causal language models have besides: how a conversation becomes a prompt, and how an answer ends."""

MAX_LENGTH = 512
"""Longer inputs of classifiers are cut here, whatever the model says: a later issue asks about long contexts."""

LONGEST_CONTEXT = 2**24
"""Of a model that generates and names no limit."""

_CODE = "auto_map"
_SAVED = "save the model again with save_pretrained"
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""What architectures call the number of positions that they have."""

_AFTER_PADDING = frozenset(
    {"camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "roberta"}
    | {"mpnet", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)
"""Their position numbers begin after the padding index, so that many positions are never used."""

_PADDING = {"mpnet": 1}
"""Whatever the configuration says."""


@dataclass(frozen=True)
class ModelLayout:
    """A model's files, and how many tokens it reads. `weights` is the file, or the index of a sharded model.

    `chats` says whether there is a template that makes a prompt of a conversation.
    """

    weights: Path
    config: Path
    tokenizer_dir: Path
    config_json: Mapping[str, Any]
    max_length: int
    chats: bool = False

    @property
    def generates(self) -> bool:
        """Whether this is a causal language model."""
        return generates(self.config_json)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Which tensors the network takes."""
        return tensors_of(self.config_json)


def read_layout(folder: Path, tokenizer: Path | None = None) -> ModelLayout:
    """Which of the known layouts is this? UnsafeArtifact E_CONFIG_MISMATCH says what is missing.

    `tokenizer` is the folder of one that was made instead of what came (`conversion.py`).
    """
    model_dir = find_model(folder)
    tokenizer_dir = tokenizer or _find_tokenizer(folder, model_dir)
    config = _read_object(model_dir / CONFIG)
    check_configuration(config)
    settings = _read_object(tokenizer_dir / SETTINGS)
    check_tokenizer_settings(settings)
    return ModelLayout(
        weights=_weights(model_dir),
        config=model_dir / CONFIG,
        tokenizer_dir=tokenizer_dir,
        config_json=config,
        max_length=_max_length(config, settings),
        chats=bool(settings.get("chat_template")) or (tokenizer_dir / TEMPLATE).is_file(),
    )


def gather(layout: ModelLayout, into: Path) -> Path:
    """Copy what Shipway knows into one flat folder, and nothing else."""
    into.mkdir(parents=True, exist_ok=True)
    for file in (*weight_files(layout.weights), layout.config):
        copy_readable(file, into / file.name)
    beside = [layout.tokenizer_dir / name for name in TOKENIZER_FILES]
    if layout.generates:
        beside += [layout.tokenizer_dir / TEMPLATE, layout.config.parent / GENERATION]
    for file in beside:
        if file.is_file():
            copy_readable(file, into / file.name)
    return into


def copy_readable(file: Path, copy: Path) -> None:
    """Copy a file of a scanned model as transformers can read it, which takes `auto_map: null` for a mapping."""
    if not says_null(file):
        shutil.copyfile(file, copy)
        return
    settings = {key: value for key, value in _read_object(file).items() if key != _CODE}
    copy.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")


def says_null(file: Path) -> bool:
    """Whether settings say by a null that no code comes with the model."""
    return file.name in {CONFIG, SETTINGS} and _read_object(file).get(_CODE, "") is None


def find_model(folder: Path) -> Path:
    """The folder in it that holds the configuration and the weights."""
    for model_dir in (folder, folder / "model"):
        if (model_dir / CONFIG).is_file():
            return model_dir
    raise _missing(CONFIG, "there is no config.json", "register a folder that save_pretrained wrote, or log_model's")


def tokenizer_folders(folder: Path, model_dir: Path) -> tuple[Path, ...]:
    """Where the tokenizer of a model may be, in this order."""
    return model_dir, folder / "components" / "tokenizer"


def _find_tokenizer(folder: Path, model_dir: Path) -> Path:
    for tokenizer_dir in tokenizer_folders(folder, model_dir):
        if (tokenizer_dir / TOKENIZER).is_file():
            return tokenizer_dir
    hint = "AutoTokenizer.from_pretrained(folder).save_pretrained(folder), and register the folder again"
    raise _missing(TOKENIZER, "the fast tokenizer is missing", hint)


def _weights(model_dir: Path) -> Path:
    for name in (WEIGHTS, INDEX):
        if (model_dir / name).is_file():
            return model_dir / name
    raise _missing(
        WEIGHTS, "there are no safetensors weights", "model.save_pretrained(folder, safe_serialization=True)"
    )


def weight_files(weights: Path) -> tuple[Path, ...]:
    """The file of weights; or the index of a sharded model, and its shards."""
    if weights.name != INDEX:
        return (weights,)
    where = _read_object(weights).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(shard, str) for shard in where.values()):
        raise refuse("weight_map", f"{INDEX} does not say which file holds which tensor", "tensors and files", _SAVED)
    shards = sorted({check_relative(shard, "weight_map") for shard in where.values()})
    return (weights, *(weights.parent / shard for shard in shards))


def _max_length(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int:
    """How many tokens fit: the tokenizer's word and the positions that exist."""
    bounds = [LONGEST_CONTEXT if generates(config) else MAX_LENGTH]
    if isinstance(tokenizer.get("model_max_length"), int | float):
        bounds.append(int(tokenizer["model_max_length"]))  # transformers writes 1e30 for "no limit"
    kind = config.get("model_type")
    unused = 1 + _PADDING.get(str(kind), int(config.get("pad_token_id") or 0)) if kind in _AFTER_PADDING else 0
    bounds += [config[key] - unused for key in _POSITIONS if config.get(key)]
    return max(1, min(bounds))


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = parse_strict(file.read_bytes()) if file.is_file() else {}
    except ValueError as error:
        raise refuse(file.name, f"{file.name} is not strict JSON: {error}"[:300], "strict JSON", _SAVED) from error
    if not isinstance(value, dict):
        raise refuse(file.name, f"{file.name} is not an object", "an object", _SAVED)
    return value


def _missing(name: str, reason: str, hint: str) -> UnsafeArtifact:
    return refuse(
        name,
        reason,
        f"{name} at the root, or in model/ and components/tokenizer/ as mlflow.transformers writes it",
        hint,
    )
