"""Is a variant served only where it wins something?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evals.gate import Outcome
from evals.offline.gain import LEAST_TEXTS, MOST_S, MOST_TEXTS, Gain, judge_gain, measure_gain

EVEN = Gain(source_mb=100.0, variant_mb=100.0, source_ms=10.0, variant_ms=10.0, n=60)
TEXTS = [f"text {n}" for n in range(240)]


class Watch:
    """A clock, and models that take their time on it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.asked: list[tuple[str, str]] = []

    def model(self, name: str, *times_ms: float):
        """Who takes these times, one after the other, and the last one from then on."""
        left = list(times_ms)

        def ask(texts):
            (text,) = texts
            self.asked.append((name, text))
            self.now_s += (left.pop(0) if len(left) > 1 else left[0]) / 1000

        return ask


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, Outcome.FAIL),
        ({"variant_mb": 94.0, "variant_ms": 130.0}, Outcome.FAIL),
        ({"variant_mb": 90.1, "variant_ms": 9.6}, Outcome.FAIL),
        ({"variant_mb": 90.0}, Outcome.PASS),
        ({"variant_ms": 9.5}, Outcome.PASS),
        ({"variant_mb": 120.0, "variant_ms": 5.0}, Outcome.PASS),
        ({"variant_mb": 60.0, "variant_ms": 20.0}, Outcome.PASS),
    ],
)
def test_a_variant_must_be_clearly_smaller_or_clearly_faster(changes, outcome):
    """A tenth of the size, or a twentieth of the time; 6 % smaller and 13 times slower is neither."""
    assert judge_gain(replace(EVEN, **changes)).outcome is outcome


def test_the_reason_says_what_was_measured_and_what_is_required():
    """In one sentence that goes on from the variant's name."""
    assert judge_gain(replace(EVEN, source_mb=0.47, variant_mb=0.44, source_ms=0.29, variant_ms=3.78)).sentence == (
        "it is neither smaller nor faster (0.44 instead of 0.47 MB, 3.78 instead of 0.29 ms for one text, n=60; "
        "10% smaller or 5% faster is required)"
    )
    assert judge_gain(replace(EVEN, variant_mb=60.0, variant_ms=5.0)).sentence == (
        "it is smaller and faster (60 instead of 100 MB, 5 instead of 10 ms for one text, n=60)"
    )


def test_both_are_asked_the_same_texts_alone_and_in_turn():
    """Who is first changes, after one text each to warm up; the texts are spread over all of them."""
    watch = Watch()
    gain = measure_gain(watch.model("s", 8.0), watch.model("v", 2.0), TEXTS, (100.0, 60.0), lambda: watch.now_s)
    assert gain == Gain(100.0, 60.0, pytest.approx(8.0), pytest.approx(2.0), MOST_TEXTS)
    assert [name for name, _ in watch.asked[:6]] == ["s", "v", "v", "s", "s", "v"]
    assert [text for name, text in watch.asked[2:] if name == "s"] == TEXTS[::4]


def test_a_busy_moment_decides_nothing():
    """Medians count, and warming up does not."""
    watch = Watch()
    slow, fast = watch.model("s", 500.0, 8.0), watch.model("v", 900.0, 700.0, 600.0, 2.0)
    assert measure_gain(slow, fast, TEXTS, (1.0, 1.0), lambda: watch.now_s).variant_ms == pytest.approx(2.0)


def test_a_slow_model_is_asked_less_often():
    """Until there are enough times to compare."""
    watch = Watch()
    one_ms = MOST_S * 1000
    gain = measure_gain(watch.model("s", one_ms), watch.model("v", 1.0), TEXTS, (1.0, 1.0), lambda: watch.now_s)
    assert gain.n == LEAST_TEXTS


def test_few_texts_are_all_asked():
    """Once each."""
    watch = Watch()
    gain = measure_gain(watch.model("s", 1.0), watch.model("v", 1.0), TEXTS[:3], (1.0, 1.0), lambda: watch.now_s)
    assert gain.n == 3


def test_a_gain_is_plain_data():
    """It goes into the record."""
    assert json.loads(json.dumps(EVEN.as_dict())) == EVEN.as_dict()
