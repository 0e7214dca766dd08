"""Is every break of the contract named?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from evals.gate import Outcome
from evals.offline.contract import ModelContract, judge_contract

CHAMPION = ModelContract(("neg", "pos"), ("text",), 2, 128)


def test_the_same_contract_passes():
    """Nothing differs."""
    assert judge_contract(CHAMPION, CHAMPION).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"labels": ("pos", "neg")}, "label order"),
        ({"labels": ("neg", "neutral", "pos"), "output_dim": 3}, "output dimension"),
        ({"inputs": ("text", "title")}, "signature"),
        ({"context_length": 64}, "context length: the candidate takes 64 tokens, the champion 128"),
        ({"output_dim": 3}, "2 names for 3 outputs"),
        ({"labels": ("pos", "pos")}, "labels"),
    ],
)
def test_each_mismatch_is_named(change, named):
    """A candidate that breaks its callers fails, and the sentence says how."""
    verdict = judge_contract(replace(CHAMPION, **change), CHAMPION)
    assert verdict.outcome is Outcome.FAIL
    assert named in verdict.because()


def test_all_mismatches_are_named_at_once():
    """Two breaks, two sentences."""
    verdict = judge_contract(ModelContract(("pos", "neg"), ("text",), 2, 64), CHAMPION)
    assert "label order" in verdict.because()
    assert "context length" in verdict.because()


def test_a_longer_context_breaks_nobody():
    """The candidate may take more."""
    assert judge_contract(replace(CHAMPION, context_length=512), CHAMPION).outcome is Outcome.PASS


def test_a_first_model_is_held_to_itself():
    """Without a champion only the model's own labels and outputs must agree."""
    assert judge_contract(CHAMPION, None).outcome is Outcome.PASS
    assert judge_contract(replace(CHAMPION, output_dim=5), None).outcome is Outcome.FAIL
