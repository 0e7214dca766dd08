"""Does the server read a text as the model's own tokenizer and its settings say?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import BadInput, NoTokens
from pipelines.serving.engines.tokens import MAX_PIECE_ROWS, MAX_PIECE_TOKENS, TextTokenizer, pieces
from pipelines.supply.layout import MAX_LENGTH
from tests.pipelines.model_folders import edit_json, make_tokenizer, vocabulary

IDS = vocabulary()
SETTINGS = "tokenizer_config.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lower-casing WordPiece tokenizer, and as much of a configuration as it reads."""
    make_tokenizer(tmp_path, max_length=64)
    (tmp_path / "config.json").write_text('{"pad_token_id": 0}')
    return tmp_path


def words(folder: Path, text: str, max_length: int = 64) -> list[str]:
    """The tokens of a text."""
    (found,) = TextTokenizer(folder, max_length).encode([text])
    return found.tokens


def test_a_batch_is_padded_to_its_longest(folder):
    """On the right, with the model's padding, and the mask says where."""
    arrays = TextTokenizer(folder, 64)(["good", "a good film"])
    cls, sep = IDS["[CLS]"], IDS["[SEP]"]
    first, second = [cls, IDS["good"], sep, 0, 0], [cls, IDS["a"], IDS["good"], IDS["film"], sep]
    assert arrays["input_ids"].tolist() == [first, second]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert arrays["token_type_ids"].tolist() == [[0] * 5, [0] * 5]


@pytest.mark.parametrize("settings", [{"padding_side": "left"}, {"tokenizer_class": "XLNetTokenizer"}])
def test_a_batch_is_padded_on_the_left_where_the_settings_say(folder, settings):
    """By a word of its own, or by the class of a model that is read at its last place."""
    edit_json(folder / SETTINGS, **settings)
    arrays = TextTokenizer(folder, 64)(["good", "a good film"])
    assert arrays["input_ids"].tolist()[0] == [0, 0, IDS["[CLS]"], IDS["good"], IDS["[SEP]"]]
    assert arrays["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1] * 5]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({}, ["a", "good"]), ({"truncation_side": "left"}, ["film", "not"]), ({"truncation_side": None}, ["a", "good"])],
)
def test_a_long_text_is_cut_where_the_settings_say(folder, settings, kept):
    """At the end, or at the beginning."""
    edit_json(folder / SETTINGS, **settings)
    assert words(folder, "a good film not", max_length=4) == ["[CLS]", *kept, "[SEP]"]


def test_the_file_s_own_side_holds_where_the_settings_say_none(folder):
    """Transformers takes it from there, too."""
    truncation = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    edit_json(folder / "tokenizer.json", truncation=truncation)
    assert words(folder, "a good film not", max_length=4) == ["[CLS]", "film", "not", "[SEP]"]


def test_capitals_are_kept_where_the_settings_say_so(folder):
    """Beside a file that says otherwise."""
    edit_json(folder / SETTINGS, do_lower_case=False)
    assert words(folder, "Good film") == ["[CLS]", "[UNK]", "film", "[SEP]"]


def test_accents_are_kept_where_the_settings_say_so(folder):
    """They go with the capitals otherwise."""
    assert words(folder, "fïlm") == ["[CLS]", "film", "[SEP]"]
    edit_json(folder / SETTINGS, strip_accents=False)
    assert words(folder, "fïlm") == ["[CLS]", "[UNK]", "[SEP]"]


def test_a_class_that_takes_the_file_as_it_is_obeys_the_file(folder):
    """Settings of other classes mean nothing to it."""
    edit_json(folder / SETTINGS, do_lower_case=False, tokenizer_class="PreTrainedTokenizerFast")
    assert words(folder, "Good film") == ["[CLS]", "good", "film", "[SEP]"]


def test_a_space_is_put_before_a_text_where_the_settings_say_so(folder):
    """For byte pairs."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    edit_json(folder / "tokenizer.json", pre_tokenizer=byte_level)
    assert words(folder, "good") == ["[CLS]", "good", "[SEP]"]
    edit_json(folder / SETTINGS, add_prefix_space=True)
    assert words(folder, "good") == ["[CLS]", "[UNK]", "[SEP]"]


@pytest.mark.parametrize("wrong", [{"truncation_side": "up"}, {"do_lower_case": "no"}, {"strip_accents": 1}])
def test_a_setting_that_says_nothing_is_refused_by_name(folder, wrong):
    """Not taken for true."""
    edit_json(folder / SETTINGS, **wrong)
    with pytest.raises(BadInput, match=next(iter(wrong))) as caught:
        TextTokenizer(folder, 64)
    assert (caught.value.code, caught.value.field) == ("E_TOKENIZER", SETTINGS)


def test_a_text_of_which_nothing_is_left_is_named(folder):
    """Where the tokenizer adds no token of its own."""
    edit_json(folder / "tokenizer.json", post_processor=None)
    tokenizer = TextTokenizer(folder, 64)
    with pytest.raises(NoTokens) as caught:
        tokenizer.encode(["good", "  ", ""])
    assert (caught.value.row, caught.value.field, tokenizer.adds_tokens) == (1, "texts.1", False)


def test_with_a_begin_token_no_text_is_empty(folder):
    """It is answered."""
    tokenizer = TextTokenizer(folder, 64)
    assert tokenizer.adds_tokens
    assert tokenizer([""])["input_ids"].tolist() == [[IDS["[CLS]"], IDS["[SEP]"]]]


def test_of_many_texts_the_empty_one_is_named_by_its_own_number(folder):
    """However few of them are read at a time."""
    edit_json(folder / "tokenizer.json", post_processor=None)
    with pytest.raises(NoTokens) as caught:
        list(TextTokenizer(folder, 64).pieces(["good"] * (MAX_PIECE_ROWS + 3) + [""]))
    assert caught.value.row == MAX_PIECE_ROWS + 3


def test_one_text_of_the_longest_context_is_a_piece(folder):
    """So that the largest request needs no more memory than a few of its rows."""
    assert [len(rows) for rows in pieces([MAX_LENGTH] * 3)] == [1, 1, 1]


def test_pieces_hold_rows_of_alike_length_within_the_limits():
    """The shortest first; one that is too long alone is alone."""
    long = MAX_PIECE_TOKENS // 2
    found = pieces([long, 1, long, 2 * MAX_PIECE_TOKENS, 1])
    assert found == [[1, 4], [0, 2], [3]]


def test_no_piece_has_more_rows_than_allowed():
    """The largest request is asked in eight."""
    assert [len(rows) for rows in pieces([5] * 256)] == [MAX_PIECE_ROWS] * (256 // MAX_PIECE_ROWS)
