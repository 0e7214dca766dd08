"""Does a suite ask every row once, time it, and never turn a broken answer into a number?"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from evals.gate import Gate, Outcome, judge
from evals.offline.suite import Answers, Suite, SuiteFailed, ask, measure

LABELS = ("neg", "pos")
METRICS = ("accuracy", "macro_f1", "ece", "latency_p50_ms", "latency_p95_ms", "size_mb")


def suite_of(n=400, **changes):
    """Rows whose text is their number and whose truth is its parity; three topics, one of them small."""
    topic = tuple("bus" if i < 12 else "air" if i % 3 else "rail" for i in range(n))
    truth = tuple(LABELS[i % 2] for i in range(n))
    rows = Suite(tuple(map(str, range(n))), truth, {"topic": topic}, METRICS, ("topic",), batch_size=16)
    return replace(rows, **changes)


def answering(wrong=()):
    """A model that knows parity, and gets these rows wrong."""
    missed = set(wrong)

    def predict(texts):
        says = np.array([int(t) % 2 ^ (int(t) in missed) for t in texts])
        return np.stack([1.0 - 2 * says, 2.0 * says - 1], axis=1).astype(np.float32)

    return predict


def answers_of(suite, predict, tick_s=0.016):
    """Answers on a clock that goes on by one tick a reading."""
    ticks = count()
    return ask(suite, predict, LABELS, lambda done, of: None, lambda: next(ticks) * tick_s)


def test_every_row_is_asked_once_in_order_after_a_warm_up():
    """Batches of 16 over 40 rows; the first batch once more before, and progress ends at all rows."""
    asked, progress = [], []

    def predict(texts):
        asked.append(tuple(texts))
        return answering()(texts)

    suite = suite_of(40)
    answers = ask(suite, predict, LABELS, lambda done, of: progress.append((done, of)), count().__next__)
    assert asked[0] == asked[1]
    assert sum(asked[1:], ()) == suite.texts
    assert progress == [(16, 40), (32, 40), (40, 40)]
    assert answers.logits.shape == (40, 2)


def test_rows_share_the_time_of_their_batch():
    """One tick of 16 ms a batch: 1 ms a row in full batches, 2 ms in the last of 8 rows."""
    answers = answers_of(suite_of(40), answering())
    assert answers.row_ms == pytest.approx([1.0] * 32 + [2.0] * 8)


def test_a_model_that_raises_names_its_rows():
    """The cause is kept, with the rows of the batch."""

    def predict(texts):
        if "37" in texts:
            raise RuntimeError("index out of range")
        return answering()(texts)

    with pytest.raises(SuiteFailed, match=r"rows 33 to 48: .*index out of range") as caught:
        answers_of(suite_of(), predict)
    assert (caught.value.row_from, caught.value.row_to) == (33, 48)


@pytest.mark.parametrize("wrong", [lambda x: x[:, :1], lambda x: x[:-1], lambda x: x[0]])
def test_answers_of_the_wrong_shape_are_refused(wrong):
    """One row of logits for each text and one logit for each label, or nothing is measured."""
    with pytest.raises(SuiteFailed, match="logits of shape"):
        answers_of(suite_of(), lambda texts: wrong(answering()(texts)))


def test_everything_is_measured_on_every_slice():
    """Quality on all rows and each topic, latency and size on all; the small topic is missing with its reason."""
    suite = suite_of()
    evidence = measure(suite, answers_of(suite, answering(range(100, 140))), "candidate", 12.5)
    assert evidence.measurement("accuracy").value == 0.9
    assert evidence.measurement("size_mb").value == 12.5
    assert evidence.measurement("latency_p95_ms").value == pytest.approx(1.0)
    low, high = evidence.measurement("accuracy").interval
    assert low < 0.9 < high
    small = evidence.measurement("macro_f1", "topic=bus")
    assert (small.value, small.n) == (None, 12)
    assert "12 rows are too few" in small.missing
    assert {m.slice for m in evidence.measurements} == {"all", "topic=air", "topic=bus", "topic=rail"}
    assert evidence.comparisons == ()


def test_the_champion_is_compared_on_the_same_rows():
    """Drops are positive where the candidate is worse; latency and size are fractions.

    Both models are 88 % sure: right in 95 % of the rows is further from that than right in 85 %.
    """
    suite = suite_of()
    champion = answers_of(suite, answering(range(20)), tick_s=0.016)
    candidate = answers_of(suite, answering(range(60)), tick_s=0.020)
    evidence = measure(suite, candidate, "candidate", 15.0, champion, 10.0)
    assert evidence.comparison("accuracy").drop == pytest.approx(0.1)
    assert evidence.comparison("size_mb").drop == pytest.approx(0.5)
    assert evidence.comparison("latency_p50_ms").drop == pytest.approx(0.25)
    assert evidence.comparison("macro_f1").drop == pytest.approx(0.1, abs=0.02)
    assert evidence.comparison("ece").drop == pytest.approx((0.8808 - 0.85) - (0.95 - 0.8808), abs=1e-4)
    for metric in ("accuracy", "macro_f1", "ece"):
        low, high = evidence.comparison(metric).interval
        assert low < evidence.comparison(metric).drop < high


def test_the_same_model_passes_every_margin():
    """An identical candidate is never held back: not by one metric, not on one slice."""
    suite = suite_of()
    same = answers_of(suite, answering(range(50, 90)))
    evidence = measure(suite, same, "candidate", 10.0, same, 10.0)
    gates = [Gate(metric, margin=0.02) for metric in METRICS]
    gates += [Gate(metric, margin=0.02, slices="topic") for metric in METRICS[:3]]
    assert judge(gates, evidence, has_champion=True).outcome is Outcome.PASS


def test_a_model_that_is_broken_on_one_topic_fails_there():
    """The mean of 400 rows hides it from a loose gate; the topic's gate names it."""
    suite = suite_of()
    rail = [i for i, topic in enumerate(suite.columns["topic"]) if topic == "rail"]
    champion, candidate = answers_of(suite, answering()), answers_of(suite, answering(rail[:40]))
    evidence = measure(suite, candidate, "candidate", 10.0, champion, 10.0)
    verdict = judge([Gate("accuracy", margin=0.05, slices="topic")], evidence, has_champion=True)
    assert verdict.outcome is Outcome.FAIL
    assert "accuracy on topic=rail is worse than the champion by" in verdict.because()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_missing_evidence(bad):
    """One NaN or infinity takes the metric away from all rows and from its slice, and leaves the other slices."""
    suite = suite_of()
    answers = answers_of(suite, answering())
    answers.logits[200, 0] = bad
    evidence = measure(suite, answers, "candidate", 1.0, answers_of(suite, answering()), 1.0)
    for name in ("all", "topic=air"):
        assert evidence.measurement("accuracy", name).value is None
        assert "1 of" in evidence.measurement("accuracy", name).missing
        assert evidence.comparison("ece", name).drop is None
    assert evidence.measurement("accuracy", "topic=rail").value == 1.0
    assert judge([Gate("accuracy", min=0.1)], evidence, has_champion=True).outcome is Outcome.ERROR


def test_a_broken_champion_is_no_comparison():
    """Where the champion's answers are no numbers, nobody is better than it."""
    suite = suite_of()
    champion = answers_of(suite, answering())
    champion.logits[5, 1] = np.nan
    evidence = measure(suite, answers_of(suite, answering()), "candidate", 1.0, champion, 1.0)
    assert evidence.measurement("accuracy").value == 1.0
    assert evidence.comparison("accuracy").missing == "the champion: 1 of 400 answers are NaN or infinite"


def test_labels_in_another_order_cannot_be_compared():
    """Logits of two label orders would compare apples with pears."""
    suite = suite_of()
    answers = answers_of(suite, answering())
    swapped = replace(answers, labels=("pos", "neg"))
    with pytest.raises(ValueError, match="cannot be compared"):
        measure(suite, answers, "candidate", 1.0, swapped, 1.0)


def test_few_batches_have_no_latency_to_compare():
    """Three batches say nothing about a quantile; a clock that stands still says nothing at all."""
    for suite, tick_s, reason in ((suite_of(40), 0.016, "3 batches are too few"), (suite_of(), 0.0, "took no time")):
        answers = answers_of(suite, answering(), tick_s)
        evidence = measure(suite, answers, "candidate", 1.0, answers, 1.0)
        assert reason in evidence.comparison("latency_p95_ms").missing


def test_evidence_is_strict_json():
    """No NaN reaches the ledger."""
    suite = suite_of()
    answers = Answers(np.full((400, 2), np.nan, dtype=np.float32), np.ones(400), LABELS)
    evidence = measure(suite, answers, "candidate", 1.0, answers_of(suite, answering()), 1.0)
    assert json.loads(json.dumps(evidence.as_dict(), allow_nan=False))["subject"] == "candidate"


def test_the_digest_changes_with_what_is_asked():
    """Rows, truth, slices, metrics and confidence identify a suite; equal suites are equal."""
    base = suite_of()
    others = [
        replace(base, texts=("?", *base.texts[1:])),
        replace(base, labels=("pos", *base.labels[1:])),
        replace(base, columns={"topic": ("air", *base.columns["topic"][1:])}),
        replace(base, metrics=("accuracy",)),
        replace(base, slices=()),
        replace(base, confidence=0.9),
    ]
    assert suite_of().digest == base.digest
    assert len({base.digest, *(other.digest for other in others)}) == len(others) + 1


@pytest.mark.parametrize("changes", [{"texts": ()}, {"labels": ("pos",)}, {"columns": {"topic": ("air",)}}])
def test_a_suite_of_unequal_columns_is_refused(changes):
    """Texts, labels and columns belong to the same rows."""
    with pytest.raises(ValueError, match="as many texts as labels"):
        suite_of(**changes)


def test_progress_is_told_seldom_where_rows_are_asked_alone():
    """Whoever hears it may ask a database each time."""
    progress = []
    suite = suite_of(40, batch_size=1)
    ask(suite, answering(), LABELS, lambda done, of: progress.append((done, of)), count().__next__)
    assert progress == [(16, 40), (32, 40), (40, 40)]


def test_one_that_was_asked_alone_is_compared_over_the_same_rows():
    """Its rows' mean time with the time of a row in the other's batch."""
    suite, batched = suite_of(), answers_of(suite_of(), answering(), tick_s=0.016)
    alone = answers_of(replace(suite, batch_size=1), answering(), tick_s=0.003)
    compared = measure(suite, alone, "x", 1.0, batched).comparison("latency_p50_ms")
    assert (compared.n, compared.drop) == (400 // suite.batch_size, pytest.approx(2.0))
