"""The same arithmetic as `evaluate.Metric`, for those who combine it with the hub's metrics. Works offline."""

from __future__ import annotations

from typing import Any

import numpy as np

from evals.offline.metrics import QUALITY


def load(name: str) -> Any:
    """The `evaluate.Metric` of `accuracy`, `macro_f1` or `ece`. KeyError where the name is another.

    `compute(predictions=…, references=…)` takes probabilities of shape [n, k] and true classes of shape [n].
    Importing `evaluate` costs seconds, so it happens here.
    """
    metric = QUALITY[name]
    import datasets
    import evaluate

    features = datasets.Features(
        {
            "predictions": datasets.Sequence(datasets.Value("float64")),
            "references": datasets.Value("int64"),
        }
    )

    class Offline(evaluate.Metric):  # type: ignore[misc]  # the library is untyped
        """One of Shipway's metrics."""

        def _info(self) -> Any:
            """What goes in."""
            about = {"description": metric.of.__doc__ or name, "citation": "", "inputs_description": "probabilities"}
            return evaluate.MetricInfo(**about, features=features)

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            """The metric's value by name."""
            return {name: metric.of(np.asarray(predictions, dtype=float), np.asarray(references))}

    return Offline(keep_in_memory=True)
