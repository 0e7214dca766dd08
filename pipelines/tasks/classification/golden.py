"""Which answers must a staged server repeat, and did it?"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.gate import Outcome, Reason
from evals.offline.metrics import probabilities
from pipelines.serving.engines.engine import Engine
from pipelines.tasks.task import Golden

GOLDEN_ROWS = 24
"""How many rows the staged server must later answer exactly as it did here."""

PROBABILITY_TOLERANCE = 0.02
"""Evaluated and served probabilities may differ by this much: other threads and batches round int8 differently."""


def answers(engine: Engine, labels: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    """Some rows asked one by one, as a user would: their labels and probabilities, by row."""
    step = max(1, len(texts) // GOLDEN_ROWS)
    chosen = list(range(0, len(texts), step))[:GOLDEN_ROWS]
    logits = np.concatenate([engine.predict([texts[i]]) for i in chosen])
    digest = hashlib.sha256("\0".join(texts[i] for i in chosen).encode()).hexdigest()
    finite = np.nan_to_num(probabilities(logits), nan=-1.0)
    return {
        "rows": chosen,
        "texts_sha256": digest,
        "labels": [labels[int(k)] for k in logits.argmax(axis=1)],
        "probabilities": np.round(finite, 6).tolist(),
    }


def judge(golden: Golden, outputs: Sequence[Mapping[str, Any]]) -> Reason:
    """Every golden row must come back with the evaluated label and probabilities."""
    worst, wrong = 0.0, 0
    for found, label, expected in zip(outputs, golden["labels"], golden["probabilities"], strict=True):
        differences = [abs(a - b) for a, b in zip(found["probabilities"], expected, strict=True)]
        worst = max(worst, *differences)
        wrong += found["label"][0] != label
    sentence = (
        f"{wrong} of {len(golden['rows'])} golden rows changed their label; probabilities differ by at most {worst:.4f}"
    )
    passed = wrong == 0 and worst <= PROBABILITY_TOLERANCE
    return Reason(Outcome.PASS if passed else Outcome.FAIL, "golden rows", sentence)


def is_finite(outputs: Mapping[str, Any]) -> bool:
    """Whether the probabilities of an answer are numbers."""
    return all(math.isfinite(p) for p in outputs["probabilities"])
