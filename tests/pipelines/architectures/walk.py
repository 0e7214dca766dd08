"""Which architectures of transformers' sequence classification can be made tiny, and which of them are accepted?"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import ShipwayError
from pipelines.serving.engines import load_engine
from pipelines.supply.checks.configuration import labels_of
from pipelines.supply.layout import ModelLayout, read_layout
from pipelines.supply.scan import scan
from pipelines.tasks.classification.rows import Rows
from pipelines.tasks.classification.tokens import check_tokens
from tests.pipelines.architectures.shrunken import shrunken
from tests.pipelines.model_folders import LABELS, make_tokenizer, vocabulary

FIVE = ("distilbert", "gpt2", "xlnet", "funnel", "mixtral")
"""Families that `.ci/run` asks: other names for everything, no token types, tied and converted weights, buffers."""

MOST_PARAMETERS = 1_500_000
"""What is still tiny."""


class CannotBeMade(Exception):
    """Transformers itself cannot make it tiny, ask it a text, save it and load it again."""


@dataclass
class Walk:
    """The architectures that were asked; reasons lead to names."""

    in_mapping: int
    tried: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    omitted: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unlike: dict[str, str] = field(default_factory=dict)
    """Accepted, and answered otherwise than by transformers."""

    def figures(self) -> dict[str, Any]:
        """Counts, and the names by reason."""
        return {
            "in_mapping": self.in_mapping,
            "tried": len(self.tried),
            "accepted": len(self.accepted),
            "equal": len(self.accepted) - len(self.unlike),
            "omitted_by_reason": by_reason(self.omitted),
            "refused_by_reason": by_reason(self.refused),
            "unlike_by_reason": by_reason(self.unlike),
        }


def names() -> tuple[str, ...]:
    """The model types of transformers' own mapping."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    return tuple(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


def tiny_models(
    root: Path, wanted: Sequence[str] = (), omitted: dict[str, str] | None = None
) -> Iterator[tuple[str, Path]]:
    """(name, folder) of each wanted architecture, or of all, with random weights and the tests' tokenizer.

    A folder is there until the next one is asked for. What cannot be made is left out; `omitted` gets its reason.
    """
    for name in wanted or names():
        folder = root / name
        try:
            make(name, folder)
            yield name, folder
        except CannotBeMade as error:
            if omitted is not None:
                omitted[name] = str(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def make(name: str, folder: Path, seed: int = 0) -> Path:
    """The folder of one; CannotBeMade says why transformers itself does not do it."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            config = shrunken(name)
            _check_size(config)
            model = AutoModelForSequenceClassification.from_config(config).eval()
            before = _logits(model)
            make_tokenizer(folder, max_length=10**30)  # the configuration says how many tokens fit
            model.save_pretrained(folder)
            again = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
            is_same = torch.equal(before, _logits(again))
        except Exception as error:  # a library's reasons are anything
            raise CannotBeMade(one_line(error)) from error
    if not is_same:
        raise CannotBeMade("what transformers loads again answers otherwise")
    return folder


def walk(root: Path, wanted: Sequence[str] = ()) -> Walk:
    """Ask the scan and the layout about each of them."""
    found = Walk(len(names()))
    for name, folder in tiny_models(root, wanted, found.omitted):
        found.tried.append(name)
        reason = refusal(folder)
        if reason:
            found.refused[name] = reason
            continue
        found.accepted.append(name)
        unlike = difference(folder)
        if unlike:
            found.unlike[name] = unlike
    return found


TEXTS = ("good", "a good film", "so sad", "nothing here is good or bad " * 30, "the worst of all", "it was fine")
MOST_TOKENS, CLOSE = 64, 1e-4


def difference(folder: Path, engine: str = "torch") -> str:
    """How our engine answers otherwise than transformers, alone and short and long texts together; "" where alike.

    Each has its own tokenizer. What transformers itself cannot answer is not asked.
    """
    layout = read_layout(folder)
    limit = min(layout.max_length, MOST_TOKENS)
    loaded = load_engine(folder, {"engine": engine, "labels": list(LABELS), "max_length": limit})
    far, others = 0.0, 0
    for texts, theirs in _of_transformers(folder, layout.tensors, limit):
        try:
            ours = loaded.predict(texts, whole=True)
        except Exception as error:  # a library's reasons are anything
            return one_line(error)
        apart = abs(ours - theirs)
        far = max(far, float(apart.max()) if np.isfinite(apart).all() else inf)
        others += int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    return "" if far <= CLOSE and not others else f"{others} labels differ, logits by up to {far:.2g}"


def _of_transformers(folder: Path, tensors: Sequence[str], limit: int) -> Iterator[tuple[list[str], Any]]:
    """Texts, alone and together, and what transformers' own tokenizer and model answer to them."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    for texts in (*([text] for text in TEXTS), list(TEXTS)):
        tokens = tokenizer(texts, truncation=True, max_length=limit, padding=True, return_tensors="pt")
        with suppress(Exception), torch.inference_mode():
            yield texts, model(**{name: tokens[name] for name in tensors}).logits.numpy()


def refusal(folder: Path) -> str:
    """Why a model is not accepted; empty where it is, and takes as many tokens as its layout promises."""
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        scan(folder)
        layout = read_layout(folder)
    except ShipwayError as error:
        return str(error)
    if labels_of(layout.config_json) != LABELS:
        return f"its labels are {labels_of(layout.config_json)}"
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    try:
        is_finite = bool(torch.isfinite(_logits(model, layout.max_length)).all())
    except Exception as error:  # a library's reasons are anything
        return f"it does not take {layout.max_length} tokens: {one_line(error)}"
    return _unlike_tokens(folder, layout) if is_finite else f"its logits for {layout.max_length} tokens are not finite"


def _unlike_tokens(folder: Path, layout: ModelLayout) -> str:
    """What a release says before it judges a model whose tokenizer transformers reads otherwise."""
    n = len(TEXTS)
    try:
        check_tokens(folder, layout.max_length, Rows(TEXTS, (LABELS[0],) * n, {}, "", tuple(range(1, n + 1))))
    except ShipwayError as error:
        return f"{error.code}: {error.reason}"
    return ""


def _check_size(config: Any) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"):
        parameters = sum(p.numel() for p in AutoModelForSequenceClassification.from_config(config).parameters())
    if parameters > MOST_PARAMETERS:
        raise CannotBeMade(f"has {parameters:,} parameters")


def _logits(model: Any, length: int = 9) -> Any:
    """Of two texts: the begin and the end of the tests' tokenizer around words of its vocabulary."""
    import torch

    words = torch.arange(2 * length).reshape(2, length) * 7 % (len(vocabulary()) - 5) + 5
    words[:, 0], words[:, -1] = 2, 3
    with torch.inference_mode():
        logits = model(input_ids=words, attention_mask=torch.ones_like(words)).logits
    if logits.shape != (2, len(LABELS)):
        raise CannotBeMade(f"gives logits of shape {tuple(logits.shape)} for two texts")
    return logits


def by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """The names that have a reason in common."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, reason in reasons.items():
        found[reason].append(name)
    return dict(found)


def one_line(error: BaseException) -> str:
    """What a library said, short."""
    if isinstance(error, CannotBeMade):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
