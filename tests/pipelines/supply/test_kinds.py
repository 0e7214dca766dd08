"""Is it told by its architecture what a model does?"""

from __future__ import annotations

import pytest

from pipelines.supply.kinds import generates


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [
        (["LlamaForCausalLM"], True),
        (["GPT2LMHeadModel"], True),
        (["BertForSequenceClassification"], False),
        (["LlamaForSequenceClassification"], False),
        (["T5ForConditionalGeneration"], False),
        (["LlamaForCausalLM", "LlamaForSequenceClassification"], False),
        (["GPT2DoubleHeadsModel"], False),
        ([], False),
        (None, False),
    ],
)
def test_a_language_model_is_one_in_every_word(architectures, expected):
    """One that is something else besides is none."""
    assert generates({"architectures": architectures}) is expected


def test_who_names_no_architecture_generates_nothing():
    """It is a classifier, as it always was."""
    assert not generates({})
