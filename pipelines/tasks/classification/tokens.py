"""Will a server read the evaluation's rows as transformers does, and is there something left of each?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipelines.errors import BadInput, NoTokens
from pipelines.serving.engines.tokens import SETTINGS, TextTokenizer
from pipelines.supply.tensors import tensors_of
from pipelines.tasks.classification.rows import Rows

MAX_COMPARED_ROWS, MAX_COMPARED_CHARACTERS = 2000, 1_000_000
"""Both tokenizers read that much in less than two seconds of a core."""

_ASKED_AT_ONCE = 1000


def check_tokens(folder: Path, max_length: int, rows: Rows) -> int:
    """Of how many rows was it seen that the tokens are those of transformers? None where that is not installed.

    BadInput E_TOKENIZER names the first row whose tokens are others, E_DATASET one that has none.
    """
    if find_spec("transformers") is None:
        return 0
    tokenizer = TextTokenizer(folder, max_length)
    _refuse_rows_without_tokens(tokenizer, rows)
    chosen = compared_rows([len(text) for text in rows.texts])
    texts = [rows.texts[row] for row in chosen]
    config = json.loads((folder / "config.json").read_bytes())
    has_segments = "token_type_ids" in tensors_of(config)
    ours = [(t.ids, t.type_ids if has_segments else [0] * len(t.ids)) for t in tokenizer.encode(texts)]
    for row, found, expected in zip(chosen, ours, _of_transformers(folder, max_length, texts), strict=True):
        if found != expected:
            raise _differs(rows, row, found[0] == expected[0])
    return len(chosen)


def compared_rows(lengths: Sequence[int]) -> list[int]:
    """Which rows are compared? Evenly spread, the last one among them, within the limits of rows and of characters."""
    step = max(1, -(-len(lengths) // MAX_COMPARED_ROWS))
    chosen = list(range(len(lengths)))[::-1][::step]
    while len(chosen) > 1 and sum(lengths[row] for row in chosen) > MAX_COMPARED_CHARACTERS:
        chosen = chosen[::2]
    return chosen[::-1]


def _refuse_rows_without_tokens(tokenizer: TextTokenizer, rows: Rows) -> None:
    if tokenizer.adds_tokens:
        return
    for start in range(0, len(rows.texts), _ASKED_AT_ONCE):
        try:
            tokenizer.encode(rows.texts[start : start + _ASKED_AT_ONCE])
        except NoTokens as empty:
            number = rows.numbers[start + empty.row]
            raise BadInput(
                f"row {number}: the model's tokenizer leaves nothing of the text",
                code="E_DATASET",
                field="evaluate.data",
                hint="take the row out: users are refused such a text, too",
            ) from None


def _of_transformers(folder: Path, max_length: int, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Token ids and segment numbers of each text. BadInput E_TOKENIZER where transformers cannot load the tokenizer."""
    from transformers import AutoTokenizer

    from pipelines.compress.onnx_export import quiet

    with quiet():
        try:
            known: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises anything
            reason = f"transformers cannot load the tokenizer: {type(error).__name__}: {error}"[:300]
            raise BadInput(reason, code="E_TOKENIZER", field=SETTINGS, hint=_nulls(folder) or _HINT) from error
        said = known(list(texts), truncation=True, max_length=max_length, padding=False)
    kinds = said.get("token_type_ids") or [[0] * len(ids) for ids in said["input_ids"]]
    return list(zip(said["input_ids"], kinds, strict=True))


_HINT = "load the folder with AutoTokenizer, see what it answers, and save it again with save_pretrained"


def _nulls(folder: Path) -> str:
    """Which keys could it be, where some say nothing? transformers reads a few of them as they stand."""
    said = json.loads((folder / SETTINGS).read_bytes()) if (folder / SETTINGS).is_file() else {}
    empty = [key[:40] for key, value in said.items() if value is None]
    return f"remove the keys of {SETTINGS} that are null: {', '.join(empty[:10])}" if empty else ""


def _differs(rows: Rows, row: int, is_same_ids: bool) -> BadInput:
    what = "segment numbers" if is_same_ids else "tokens"
    return BadInput(
        f"row {rows.numbers[row]} has other {what} than transformers gives it",
        code="E_TOKENIZER",
        field=SETTINGS,
        expected="settings that tokenizer.json holds, too",
        hint=_HINT,
    )
