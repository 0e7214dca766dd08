"""Is there a fast tokenizer, and can one be made of the vocabulary that came instead?

transformers converts it in a bounded child process; what was made of what is recorded. Nothing that came is changed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UnsafeArtifact
from pipelines.supply.checks.configuration import refuse
from pipelines.supply.checks.model_json import check_asks_no_code, load_json
from pipelines.supply.checks.paths import LIMITS, list_plain_files
from pipelines.supply.layout import CONFIG, TOKENIZER, copy_readable, find_model, tokenizer_folders
from pipelines.supply.oracle import child

WORDPIECE, MERGES = "vocab.txt", "merges.txt"
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", MERGES, WORDPIECE)
_KEPT = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Conversion:
    """A folder with the tokenizer that was made, and the sentence that the record keeps of it."""

    folder: Path
    said: str


def convert_tokenizer(folder: Path, into: Path) -> Conversion | None:
    """The fast tokenizer made of what a scanned model folder has instead; None where none is needed, or none can be.

    UnsafeArtifact E_CONFIG_MISMATCH names the vocabulary of which transformers makes none.
    """
    model_dir = find_model(folder)
    places = tokenizer_folders(folder, model_dir)
    if any((place / TOKENIZER).is_file() for place in places):
        return None
    for place in places:
        source = _vocabulary(place)
        if source:
            return Conversion(into, _convert(source, place, model_dir / CONFIG, into))
    return None


def _vocabulary(place: Path) -> str:
    """The file that holds the tokens: of SentencePiece, of WordPiece, or byte-level merges."""
    pieces = sorted(file.name for file in place.glob("*.model")) if place.is_dir() else []
    return next((name for name in (*pieces, WORDPIECE, MERGES) if (place / name).is_file()), "")


def _convert(source: str, place: Path, config: Path, into: Path) -> str:
    if not child.can_ask():
        raise _unconverted(source, "transformers, which converts it, is not installed")
    shutil.rmtree(into, ignore_errors=True)
    (into / "made").mkdir(parents=True)
    for file in (config, *(place / name for name in {source, *_BESIDE})):
        if file.is_file():
            copy_readable(file, into / file.name)
    try:
        said = child.ask("tokenizer", {"source": str(into.absolute()), "into": str((into / "made").absolute())})
    except child.NoAnswer as error:
        raise _unconverted(source, str(error)) from error
    if "kind" not in said:
        raise _unconverted(source, str(said.get("refused") or said.get("error")))
    _keep(into)
    return f"{TOKENIZER} from {source} ({said['kind']}, {said['by']})"


def _keep(into: Path) -> None:
    """What was made takes the place of what it was made of, once it has passed the checks of foreign files."""
    made = list_plain_files(into / "made")
    if TOKENIZER not in made:
        raise _unconverted(TOKENIZER, "transformers saved none")
    for file in [file for file in into.iterdir() if file.is_file()]:
        file.unlink()
    for name in _KEPT:
        if name in made:
            check_asks_no_code(name, load_json(name, made[name], LIMITS.max_text_bytes))
            made[name].rename(into / name)
    shutil.rmtree(into / "made")


def _unconverted(source: str, reason: str) -> UnsafeArtifact:
    return refuse(
        source,
        f"{source} cannot be converted to a fast tokenizer: {reason}"[:300],
        f"a {TOKENIZER}, or a vocabulary that transformers converts",
        "AutoTokenizer.from_pretrained(folder).save_pretrained(folder), and register the folder again",
    )
