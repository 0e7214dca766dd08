"""How do texts become arrays of token ids? By the model's own tokenizer file, without transformers.

`tokenizer_config.json` says more than `tokenizer.json` holds, and transformers obeys it: so does this, for
`truncation_side`, `padding_side`, `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` and `add_prefix_space`.
Whatever else it says is found by `tasks/classification/tokens.py`, which compares tokens before a model is judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, normalizers, pre_tokenizers

from pipelines.errors import BadInput, NoTokens

Ids = npt.NDArray[np.int64]

SETTINGS = "tokenizer_config.json"
SIDES = ("left", "right")
MAX_PIECE_ROWS, MAX_PIECE_TOKENS = 32, 512
"""What is computed at once: memory grows with rows × padded length, and a large request must not set it for good.

So many tokens are one text of the longest context that is served: the largest request needs little more than a single
row, and is answered no slower than in larger pieces.
"""

_OBEY_THE_FILE = frozenset({"PreTrainedTokenizerFast", "TokenizersBackend"})
"""Classes of transformers that take `tokenizer.json` as it is."""

_LEFT_PADDED = frozenset({"XLNetTokenizer", "XLNetTokenizerFast"})
"""Classes of transformers that pad on the left unless told otherwise: their models are read at the last place."""

_NORMALIZER_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


class TextTokenizer:
    """Truncates to the model's context and pads to the longest text of what is computed at once."""

    def __init__(self, folder: Path, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "config.json").read_text())
        self._pad_id = int(config.get("pad_token_id") or 0)
        settings = _settings(folder)
        _obey(self._tokenizer, settings)
        usual = str((self._tokenizer.truncation or {}).get("direction", "right"))
        self._tokenizer.enable_truncation(max_length, direction=_side(settings, "truncation_side", usual))
        usual = "left" if settings.get("tokenizer_class") in _LEFT_PADDED else "right"
        self._is_left_padded = _side(settings, "padding_side", usual) == "left"
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """The tokens of each text, not padded. NoTokens names the first text of which nothing is left."""
        return list(self._each(texts))

    def _each(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """A few at a time: each holds all that was cut off, too, and where in the text it stood."""
        for start in range(0, len(texts), MAX_PIECE_ROWS):
            some = self._tokenizer.encode_batch(list(texts[start : start + MAX_PIECE_ROWS]))
            for row, tokens in enumerate(some, start):
                if not tokens.ids:
                    raise NoTokens(row)
                yield tokens

    @property
    def adds_tokens(self) -> bool:
        """Whether every text gets a token of the tokenizer's own, so that none has zero."""
        return bool(self._tokenizer.encode("").ids)

    def __call__(self, texts: Sequence[str]) -> dict[str, Ids]:
        """`input_ids`, `attention_mask` and `token_type_ids`, each of shape [texts, longest]."""
        return self._padded(self._read(texts))

    def pieces(self, texts: Sequence[str]) -> Iterator[tuple[list[int], dict[str, Ids]]]:
        """What is computed at once: rows by their index, texts of alike length together, and their arrays."""
        read = self._read(texts)
        for rows in pieces([tokens.shape[1] for tokens in read]):
            yield rows, self._padded([read[row] for row in rows])

    def _read(self, texts: Sequence[str]) -> list[Ids]:
        """Of each text its token ids and segment numbers, shape [2, tokens]: all that is kept of it."""
        return [np.array((tokens.ids, tokens.type_ids), np.int64) for tokens in self._each(texts)]

    def _padded(self, read: Sequence[Ids]) -> dict[str, Ids]:
        shape = len(read), max(tokens.shape[1] for tokens in read)
        ids, mask, types = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, tokens in enumerate(read):
            n = tokens.shape[1]
            here = slice(shape[1] - n, None) if self._is_left_padded else slice(n)
            (ids[row, here], types[row, here]), mask[row, here] = tokens, 1
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def pieces(lengths: Sequence[int]) -> list[list[int]]:
    """Which rows are computed together? The shortest first, within the limits of rows and of rows × longest.

    A row that is over the limit alone is a piece of its own.
    """
    found: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        full = not found or len(found[-1]) >= MAX_PIECE_ROWS
        if full or (len(found[-1]) + 1) * lengths[row] > MAX_PIECE_TOKENS:
            found.append([])
        found[-1].append(row)
    return found


def _settings(folder: Path) -> Mapping[str, Any]:
    file = folder / SETTINGS
    found = json.loads(file.read_bytes()) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def _obey(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
    """What transformers sets anew in its tokenizers of BERT and of byte pairs, where the settings say it."""
    if settings.get("tokenizer_class") in _OBEY_THE_FILE:
        return
    if isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
        for setting, name in _NORMALIZER_SETTINGS.items():
            if setting in settings:
                setattr(tokenizer.normalizer, name, _truth(settings, setting))
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel) and "add_prefix_space" in settings:
        tokenizer.pre_tokenizer.add_prefix_space = bool(_truth(settings, "add_prefix_space"))


def _truth(settings: Mapping[str, Any], name: str) -> bool | None:
    """True or false; null leaves it to the normalizer, which only `strip_accents` may."""
    value = settings[name]
    if isinstance(value, bool) or (value is None and name == "strip_accents"):
        return value
    raise _wrong_setting(name, value, "true or false")


def _wrong_setting(name: str, value: object, expected: str) -> BadInput:
    return BadInput(f"{name} is {value!r}"[:200], code="E_TOKENIZER", field=SETTINGS, expected=expected)


def _side(settings: Mapping[str, Any], name: str, usual: str) -> str:
    """The settings' word, else what is usual."""
    side = settings.get(name) or usual
    if side not in SIDES:
        raise _wrong_setting(name, side, "left or right")
    return str(side)
