"""Are texts, likelihoods and distances from the champion counted as what they are called, and what is missing named?"""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, nan

import pytest

from evals.evidence import Comparison, Evidence
from evals.gate import Gate, Outcome, judge
from evals.offline.language import LanguageSuite, measure_language
from evals.offline.written import Written

METRICS = (
    "exact_match", "regex_match", "finished", "perplexity", "bits_per_byte", "kl", "top1_agreement", "latency_p50_ms",
    "size_mb",
)  # fmt: skip
SCORED = Written("Paris", True, 10.0, tokens=(5, 6), loss=(log(2), log(8)), likeliest=(5, 9), kl=(0.1, 0.3),
                 scored_bytes=4)  # fmt: skip
"""Of two tokens: the first was given one half, the second one eighth."""


def suite_of(n: int = 40, **changes: object) -> LanguageSuite:
    """Rows that ask for the capital of France; every fourth one is asked in German."""
    said = LanguageSuite(
        tuple(f"row {row}" for row in range(n)),
        (("Paris", "It is Paris."),) * n,
        ("",) * n,
        {"lang": tuple("de" if row % 4 == 0 else "en" for row in range(n))},
        METRICS,
        (),
    )
    return replace(said, **changes)


def measured(written: Written | list[Written], champion: Written | None = None, **changes: object) -> Evidence:
    """Of as many rows as there are."""
    rows = written if isinstance(written, list) else [written] * 40
    base = [champion] * len(rows) if champion else None
    return measure_language(suite_of(len(rows), **changes), "m", 20.0, rows, base, 10.0 if champion else None)


def value(evidence: Evidence, metric: str, name: str = "all") -> float | None:
    """What was measured."""
    found = evidence.measurement(metric, name)
    assert found is not None
    assert (found.value is None) == (found.missing is not None)
    return found.value


def drop(evidence: Evidence, metric: str, name: str = "all") -> Comparison:
    """What was compared."""
    found = evidence.comparison(metric, name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "is_right"),
    [("Paris", 1), ("  It is\n Paris. ", 1), ("paris", 0), ("Paris!", 0), ("", 0), ("Par is", 0)],
)
def test_an_answer_is_one_of_the_references(text, is_right):
    """But for white space; letters count as they are."""
    assert value(measured(replace(SCORED, text=text)), "exact_match") == is_right


def test_proportions_are_of_the_rows_that_ask():
    """Ten rows have no reference, and thirty a pattern."""
    rows = [replace(SCORED, holds=row < 15, is_finished=row < 10) for row in range(40)]
    references = tuple(("Paris",) if row < 30 else () for row in range(40))
    patterns = tuple("Par" if row < 30 else "" for row in range(40))
    evidence = measured(rows, references=references, patterns=patterns)
    found = {name: evidence.measurement(name) for name in ("exact_match", "regex_match", "finished")}
    assert {name: (m.value, m.n) for name, m in found.items()} == {
        "exact_match": (1.0, 30), "regex_match": (0.5, 30), "finished": (0.25, 40),
    }  # fmt: skip
    low, high = found["regex_match"].interval
    assert (round(low, 3), round(high, 3)) == (0.332, 0.668)  # Wilson's, of 15 in 30


def test_perplexity_and_bits_are_of_all_tokens_together():
    """Not the mean of rows: a long reference counts as long as it is."""
    long = replace(SCORED, tokens=(5,) * 8, loss=(log(2),) * 8, likeliest=(5,) * 8, kl=(0.0,) * 8, scored_bytes=8)
    evidence = measured([SCORED, long] * 20)
    assert value(evidence, "perplexity") == pytest.approx(exp((4 + 8) * log(2) / 10))
    assert value(evidence, "bits_per_byte") == pytest.approx((4 + 8) / 12)


def test_a_model_loses_nothing_to_itself():
    """In no metric but those of the machine."""
    evidence = measured(replace(SCORED, kl=(0.0, 0.0), likeliest=(5, 6)), replace(SCORED, likeliest=(5, 6)))
    quality = {c.metric: (c.drop, c.interval[0] <= 0 <= c.interval[1]) for c in evidence.comparisons if not c.missing}
    assert quality.pop("size_mb") == (1.0, False)
    assert quality == dict.fromkeys(quality, (0.0, True))
    assert {*quality, "regex_match"} == set(METRICS) - {"size_mb"}


def test_worse_is_positive_whichever_way_a_metric_points():
    """Half the likelihood of each token: twice the perplexity, and half a bit more for each of the four bytes."""
    worse = replace(SCORED, text="London", is_finished=False, loss=(log(4), log(16)), ms=15.0)
    evidence = measured(worse, SCORED)
    assert drop(evidence, "exact_match").drop == 1.0
    assert drop(evidence, "finished").drop == 1.0
    assert drop(evidence, "perplexity").drop == pytest.approx(1.0)
    assert drop(evidence, "bits_per_byte").drop == pytest.approx(0.5)
    assert drop(evidence, "latency_p50_ms").drop == pytest.approx(0.5)
    assert drop(measured(SCORED, worse), "exact_match").drop == -1.0


def test_forms_are_counted_where_rows_ask_for_them():
    """Thirty of forty ask for JSON, and ten of those answers are none; beside a champion that wrote JSON each time."""
    rows = [replace(SCORED, scores={"valid_json": float(row >= 10)} if row < 30 else {}) for row in range(40)]
    base = replace(SCORED, scores={"valid_json": 1.0})
    evidence = measured(rows, base, metrics=("valid_json", "valid_tool_call"))
    assert (evidence.measurement("valid_json").n, value(evidence, "valid_json")) == (30, pytest.approx(2 / 3))
    assert drop(evidence, "valid_json").drop == pytest.approx(1 / 3)
    assert drop(evidence, "valid_json").method.startswith("paired score interval")
    assert drop(evidence, "valid_tool_call").missing == "no row has tools"


def test_scores_of_texts_are_means_and_higher_is_better():
    """Beside the champion's of the same rows."""
    rows = [replace(SCORED, scores={"chrf": 0.4 + 0.1 * (row % 2)}) for row in range(40)]
    evidence = measured(rows, replace(SCORED, scores={"chrf": 0.6}), metrics=("chrf", "rouge_l"))
    low, high = evidence.measurement("chrf").interval
    assert value(evidence, "chrf") == pytest.approx(0.45)
    assert 0.43 < low < 0.45 < high < 0.47
    assert drop(evidence, "chrf").drop == pytest.approx(0.15)
    assert drop(evidence, "chrf").method == "paired bootstrap, 2000 resamples of rows"
    assert drop(evidence, "rouge_l").missing == "no row has a reference"


def test_rows_of_a_document_are_one_draw_in_every_interval():
    """40 documents of 10 rows each: as wide as 40 rows, and the evidence says so; 20 documents are too few."""
    once = [replace(SCORED, text="Paris" if row % 3 else "no", loss=(1.0 + row % 5, 1.0)) for row in range(40)]
    rows, base = [one for one in once for _ in range(10)], replace(SCORED, loss=(1.0, 1.5))
    metrics = ("exact_match", "perplexity", "kl", "latency_p50_ms")

    def widths(rows, clusters):
        said = {"metrics": metrics, "cluster": "document", "clusters": clusters} if clusters else {"metrics": metrics}
        found = measured(rows, base, **said)
        drawn = "clusters (document)" if clusters else "rows"
        assert all(drawn in one.method for one in found.comparisons if clusters or "score" not in one.method)
        return found, [high - low for low, high in (one.interval for one in found.comparisons[:2])]

    evidence, tenfold = widths(rows, tuple(str(row // 10) for row in range(400)))
    assert tenfold == pytest.approx(widths(once, tuple(map(str, range(40))))[1], rel=1e-6)
    assert [width < few / 2 for width, few in zip(widths(rows, ())[1], tenfold, strict=True)] == [True, True]
    assert evidence.notes == {"clusters": "document", "clusters_n": 40}
    few = measured(
        rows, base, metrics=metrics, cluster="document", clusters=tuple(str(row // 20) for row in range(400))
    )
    assert few.measurement("exact_match").missing == "20 clusters (document) are too few to judge (at least 30)"


def test_rows_that_are_only_chosen_from_have_no_end_and_no_time():
    """Thirty of forty: ten are too few to say how often a model finishes."""
    rows = [replace(SCORED, scores={"choice": 1.0}) for _ in range(40)]
    rows[10:] = [replace(one, is_finished=None, ms=nan) for one in rows[10:]]
    evidence = measured(rows, replace(SCORED, scores={"choice": 0.0}), metrics=("choice", "finished", "latency_p50_ms"))
    assert drop(evidence, "choice").drop == -1.0
    assert evidence.measurement("finished").missing == "10 rows are too few to judge (at least 30)"
    assert evidence.measurement("latency_p50_ms").n == 10


@pytest.mark.parametrize("n", [20, 40])
def test_what_only_the_engine_that_serves_can_answer_is_judged_there(n):
    """Too few others are left, or none: no gate stops the source for it, but for one on what it was asked."""
    rows = [replace(SCORED, is_asked=row >= n) for row in range(40)]
    evidence = measured(rows, SCORED)
    for metric in ("exact_match", "finished", "latency_p50_ms"):
        verdict = judge((Gate(metric, margin=0.1),), evidence, has_champion=True)
        assert verdict.outcome is Outcome.PASS
        assert f"{n} rows ask for what only the engine that serves can answer" in verdict.because()
    assert value(evidence, "perplexity") is not None
    assert judge((Gate("perplexity", max=1.0),), evidence, has_champion=True).outcome is Outcome.FAIL


def test_the_distance_from_the_champion_is_of_each_token():
    """The mean divergence, and how often another token is the likeliest: the first of two here, and the second not."""
    evidence = measured(replace(SCORED, likeliest=(4, 9)), SCORED)
    assert drop(evidence, "kl").drop == pytest.approx(0.2)
    assert drop(evidence, "top1_agreement").drop == pytest.approx(0.5)
    assert evidence.measurement("kl") is None


def test_who_reads_other_tokens_is_compared_by_bytes_only():
    """Perplexity of larger tokens is larger, and no token stands beside another."""
    evidence = measured(replace(SCORED, tokens=(56, 1), kl=()), SCORED)
    assert drop(evidence, "bits_per_byte").drop == pytest.approx(0.0)
    for metric in ("perplexity", "kl", "top1_agreement"):
        assert "other tokens: bits_per_byte" in (drop(evidence, metric).missing or "")
    assert judge((Gate("kl", margin=0.1),), evidence, has_champion=True).outcome is Outcome.ERROR


@pytest.mark.parametrize("broken", [nan, float("inf")])
def test_a_broken_model_has_no_perplexity(broken):
    """And no number that a gate could take for one; nor is a candidate measured against a broken champion."""
    bad = replace(SCORED, loss=(broken, 1.0), kl=(0.0, 0.0))
    evidence = measured([bad, *[SCORED] * 39], SCORED)
    assert value(evidence, "perplexity") is None
    assert evidence.measurement("perplexity").missing == "1 of 40 references have no likelihood"
    assert drop(evidence, "kl").drop is None
    assert (drop(measured(SCORED, bad), "kl").missing or "").startswith("the champion: ")
    assert judge((Gate("perplexity", max=100.0),), evidence, has_champion=True).outcome is Outcome.ERROR


@pytest.mark.parametrize(("n", "outcome"), [(29, Outcome.INCONCLUSIVE), (30, Outcome.PASS)])
def test_too_few_rows_say_nothing(n, outcome):
    """Thirty are enough."""
    evidence = measured([SCORED] * n, SCORED)
    for gate in (Gate("exact_match", min=0.5), Gate("perplexity", max=9.0), Gate("latency_p50_ms", margin=0.1)):
        assert judge((gate,), evidence, has_champion=True).outcome is outcome


def test_what_no_row_asks_is_missing_by_name():
    """A gate on it is no pass."""
    evidence = measured(replace(SCORED, tokens=(), loss=(), likeliest=(), kl=()), SCORED, references=((),) * 40)
    assert evidence.measurement("exact_match").missing == "no row has a reference"
    assert evidence.measurement("bits_per_byte").missing == "no row has a reference"
    assert evidence.measurement("regex_match").missing == "no row has a pattern"
    assert drop(evidence, "top1_agreement").drop is None
    assert judge((Gate("exact_match", min=0.0),), evidence, has_champion=False).outcome is Outcome.ERROR


def test_slices_are_measured_by_themselves():
    """Ten of forty rows are too few, and the others are right."""
    rows = [replace(SCORED, text="Berlin" if row % 4 == 0 else "Paris") for row in range(40)]
    evidence = measured(rows, slices=("lang",))
    assert value(evidence, "exact_match") == 0.75
    assert value(evidence, "exact_match", "lang=en") == 1.0
    assert value(evidence, "exact_match", "lang=de") is None


def test_the_digest_tells_what_was_asked():
    """Rows, references, patterns, slices, metrics, confidence: each is part of it, and nothing else is."""
    others = (
        suite_of(asked=("x",) * 40), suite_of(references=(("x",),) * 40), suite_of(patterns=("x",) * 40),
        suite_of(columns={}), suite_of(metrics=("kl",)), suite_of(slices=("lang",)), suite_of(confidence=0.9),
        suite_of(cluster="lang", clusters=("x",) * 40),
    )  # fmt: skip
    assert len({suite_of().digest, suite_of().digest, *(other.digest for other in others)}) == 9
