"""What is left of JSON, and what a child does that redacts within a time."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.serving.privacy.bounded import BoundedRedactor, Unredacted
from pipelines.serving.privacy.redactor import Redactor

TOLD = {
    "ada@example.com": ["call +44 20 7946 0958", 4111111111111111, 12.5, None, True, 17],
    "messages": [{"role": "user", "content": "customer C-12345678"}],
}
LEFT = {
    "[email]": ["call [phone]", 0, 12.5, None, True, 17],
    "messages": [{"role": "user", "content": "customer [customer]"}],
}
PATTERNS = {"customer": r"\bC-\d{8}\b"}


@pytest.fixture
def bounded():
    """A child with a short time for each text, and a pattern that takes for ever on some."""
    redactor = BoundedRedactor(patterns={**PATTERNS, "slow": "(x+)+y"}, most_s=1.0)
    yield redactor
    redactor.close()


def test_texts_names_of_fields_and_numbers_are_redacted():
    """Wherever in JSON they stand; everything else is as it was."""
    assert Redactor(patterns=PATTERNS).redacted(TOLD) == LEFT


def test_one_marker_stands_for_what_overlaps():
    """The one that begins first, and of those the longest."""
    both = Redactor((), {"word": "[a-z]+", "long": "[a-z ]+!"})
    assert both.redact("ab cd! ef 12") == "[long] [word] 12"


def test_only_what_is_named_is_taken_out():
    """No kind, and no pattern: the text as it came."""
    assert (Redactor(("ip",)).redacted(TOLD), Redactor(()).redact("ada@example.com")) == (TOLD, "ada@example.com")


@given(st.text(alphabet="ab1 .@:+-()", max_size=60))
def test_redacting_again_changes_nothing(text):
    """A marker is nothing personal."""
    once = Redactor().redact(text)
    assert Redactor().redact(once) == once


def test_a_child_says_the_same(bounded):
    """One child for all texts."""
    assert [bounded.redacted(TOLD), bounded.redacted(["ada@example.com"])] == [LEFT, ["[email]"]]


def test_a_text_that_takes_too_long_is_given_up(bounded):
    """Within its time, its child is gone, and the next text has another one."""
    began_s = time.monotonic()
    with pytest.raises(Unredacted):
        bounded.redacted("x" * 40)
    assert time.monotonic() - began_s < 10.0
    assert bounded.redacted("x " + json.dumps(TOLD)) == "x " + json.dumps(LEFT).replace(" 0,", " [card],")


def test_a_child_that_cannot_begin_keeps_nothing():
    """A pattern that is none, or a library that is not there; and it is not begun with every text."""
    redactor = BoundedRedactor(patterns={"none": "("})
    reasons = []
    for _ in range(2):
        with pytest.raises(Unredacted) as caught:
            redactor.redacted("ada@example.com")
        reasons.append(str(caught.value))
    redactor.close()
    assert reasons == ["it ended", "its child could not begin a moment ago"]
