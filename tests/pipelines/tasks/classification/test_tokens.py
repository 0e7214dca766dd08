"""Is a model refused whose tokens would not be those of transformers, by the row that shows it?"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.errors import BadInput
from pipelines.records.release import Release
from pipelines.spec.serve import ServeSpec
from pipelines.stages.evaluate import evaluate
from pipelines.tasks.classification.rows import Rows, by_length
from pipelines.tasks.classification.tokens import MAX_COMPARED_ROWS, check_tokens, compared_rows
from tests.pipelines.model_folders import edit_json

TEXTS = ("a very good film", "bad", "Good", "the film is made in here " * 20)


def rows(*texts: str) -> Rows:
    """As intake reads them: the shortest first."""
    return by_length(Rows(texts, ("x",) * len(texts), {}, "sha256:0", tuple(range(1, len(texts) + 1))))


def refusal(folder: Path, *texts: str) -> BadInput:
    """Why it is refused."""
    with pytest.raises(BadInput) as caught:
        check_tokens(folder, 64, rows(*texts))
    return caught.value


def test_a_few_rows_are_all_compared():
    """In their order."""
    assert compared_rows([3, 1, 2]) == [0, 1, 2]


def test_many_rows_are_compared_by_a_part_with_the_longest():
    """Evenly spread; the last is the longest."""
    chosen = compared_rows([10] * 5001)
    assert (len(chosen), chosen[-1], chosen[-1] - chosen[-2]) == (1667, 5000, 3)
    assert len(chosen) <= MAX_COMPARED_ROWS


def test_long_rows_are_compared_within_the_limit_of_characters():
    """Sixteen of a hundred thousand: half of them are too many, still."""
    assert compared_rows([100_000] * 16) == [1, 3, 5, 7, 9, 11, 13, 15]


def test_a_row_without_tokens_is_refused_by_its_number(tiny_copy):
    """The number in the file, not among the sorted."""
    edit_json(tiny_copy / "tokenizer.json", post_processor=None)
    error = refusal(tiny_copy, "good", "a bad film", "  ")
    assert str(error) == "E_DATASET (evaluate.data): row 3: the model's tokenizer leaves nothing of the text"


@pytest.mark.integration
@pytest.mark.parametrize(
    "settings", [{}, {"truncation_side": "left"}, {"do_lower_case": False}, {"strip_accents": False}]
)
def test_tokens_like_those_of_transformers_pass(tiny_copy, settings):
    """Short and cut, with what the settings say obeyed on both sides."""
    edit_json(tiny_copy / "tokenizer_config.json", **settings)
    check_tokens(tiny_copy, 64, rows(*TEXTS, "fïlm"))


@pytest.mark.integration
def test_the_first_row_that_differs_is_named(tiny_copy):
    """Transformers makes its tokenizer of BERT anew, and does not read a normalizer that is none of BERT's."""
    edit_json(tiny_copy / "tokenizer.json", normalizer=None)
    error = refusal(tiny_copy, *TEXTS)
    assert (error.code, error.field) == ("E_TOKENIZER", "tokenizer_config.json")
    assert error.reason == "row 3 has other tokens than transformers gives it"


@pytest.mark.integration
def test_other_segment_numbers_are_named(tiny_copy):
    """A class that gives none, beside a file that counts from one."""
    edit_json(tiny_copy / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    post_processor = {
        "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 1}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {},
    }  # fmt: skip
    edit_json(tiny_copy / "tokenizer.json", post_processor=post_processor)
    assert refusal(tiny_copy, "good", "bad").reason == "row 2 has other segment numbers than transformers gives it"


@pytest.mark.integration
def test_a_tokenizer_that_transformers_cannot_load_is_refused(tiny_copy):
    """Nobody knows what it should answer."""
    edit_json(tiny_copy / "tokenizer_config.json", added_tokens_decoder={"0": "no object"})
    error = refusal(tiny_copy, "good")
    assert error.code == "E_TOKENIZER"
    assert error.reason.startswith("transformers cannot load the tokenizer: ")


def test_nothing_is_judged_before_its_rows_are_read_alike(tiny_copy):
    """The evaluation begins with it, where the release was opened by a Shipway that did not compare at intake."""
    edit_json(tiny_copy / "tokenizer.json", post_processor=None)
    spec = SimpleNamespace(model_name="tiny", serve=ServeSpec())
    shop = SimpleNamespace(source=tiny_copy, spec=spec, rows=lambda _: rows("good", ""))
    with pytest.raises(BadInput, match="row 2"):
        evaluate(shop, Release())
