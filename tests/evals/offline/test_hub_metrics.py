"""Do the hub's metrics say the same, without a network?"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from evals.offline.hub_metrics import load
from evals.offline.metrics import QUALITY


@pytest.mark.integration
def test_hub_metrics_are_the_same_arithmetic():
    """`evaluate.Metric.compute`, in one call and in batches, gives the numbers of `evals.offline.metrics`."""
    import evaluate

    rng = np.random.default_rng(0)
    probs, truth = rng.dirichlet([1, 1, 1], 50), rng.integers(0, 3, 50)
    for name, metric in QUALITY.items():
        hub = load(name)
        assert isinstance(hub, evaluate.Metric)
        assert hub.compute(predictions=probs, references=truth) == {name: pytest.approx(metric.of(probs, truth))}
        for half in (slice(0, 20), slice(20, 50)):
            hub.add_batch(predictions=probs[half], references=truth[half])
        assert hub.compute() == {name: pytest.approx(metric.of(probs, truth))}


def test_unknown_metrics_are_refused_before_the_slow_import(monkeypatch):
    """A name that Shipway does not measure is a KeyError at once."""
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(KeyError, match="bleu"):
        load("bleu")
