"""Two answers to the same question: by which of their words are they compared?"""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.serving.evidence.agreement import Said, agreement


def said(body=None, status=200, **named):
    """An answer with this JSON body and these `x-shipway-` headers."""
    headers = {f"x-shipway-{name}".encode(): value for name, value in named.items()}
    return Said(status, headers, None if body is None else orjson.dumps(body))


def outputs(*data):
    """An answer in the words of the Open Inference Protocol."""
    return said({"id": str(data), "model_version": "1", "outputs": [{"name": "x", "data": list(data)}]})


def chat(text):
    """An answer of a chat."""
    return said({"id": text, "created": 1, "choices": [{"message": {"role": "assistant", "content": text}}]})


def embedding(*numbers):
    """An answer of an embedder."""
    return said({"data": [{"index": 0, "embedding": list(numbers)}]})


def predictions(value):
    """An answer of MLflow's scoring server."""
    return said({"predictions": value})


NESTED = Said(200, {}, b'{"predictions": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}")


@pytest.mark.parametrize(
    ("stable", "canary", "expected"),
    [
        (said(**{"class": b"a"}), said(**{"class": b"a"}), "same"),
        (said(**{"class": b"a"}), said(**{"class": b"b"}), "other"),
        (said(value=b"1.00"), said(value=b"1.04"), "same"),
        (said(value=b"1.00"), said(value=b"1.10"), "other"),
        (said(value=b"1.00"), said(value=b"nan"), "other"),
        (said(value=b"1.00"), said(value=b"many"), "other"),
        (outputs(0.5, 0.5), outputs(0.51, 0.49), "same"),
        (outputs(0.5, 0.5), outputs(0.9, 0.1), "other"),
        (outputs("a"), outputs("b"), "other"),
        (outputs(1.0), outputs(1.0, 1.0), "other"),
        (embedding(3.0, 4.0), embedding(3.1, 3.9), "same"),
        (embedding(3.0, 4.0), embedding(4.0, 3.0), "other"),
        (chat("two  words"), chat("two words\n"), "same"),
        (chat("two words"), chat("three"), "other"),
        (predictions([{"label": "a", "score": 0.9}]), predictions([{"label": "a", "score": 0.91}]), "same"),
        (predictions([{"label": "a"}]), predictions([{"label": "b"}]), "other"),
        (predictions([True]), predictions([1]), "other"),
        (predictions([1]), Said(200, {}, b'{"predictions": [NaN]}'), "other"),
        (said({"something": "else"}), said({"something": "new"}), ""),
        (said([1]), said([1]), ""),
        (said(), predictions([1]), ""),
        (said(status=500), said(), "failed"),
        (said(), said(status=503), "failed"),
        (NESTED, NESTED, ""),
    ],
)
def test_answers_are_compared_by_their_kind(stable, canary, expected):
    """Classes by name, numbers by distance, texts by words; ids and times say nothing."""
    assert agreement(stable, canary) == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, JSON)
def test_it_does_not_matter_who_is_asked_first(one, two):
    """And every answer says the same as itself, unless it says nothing."""
    a, b = predictions(one), predictions(two)
    if one is not None and two is not None:
        assert agreement(a, b) == agreement(b, a)
    assert agreement(a, a) == ("" if one is None else "same")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_of_a_model_end_the_gateway(one, two):
    """Whatever they are."""
    assert agreement(Said(200, {}, one), Said(200, {}, two)) in {"same", "other", ""}
