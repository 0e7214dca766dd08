"""Are rows found in which two models differ, and does the worst stand first?"""

from __future__ import annotations

from dataclasses import replace
from math import log, nan

from evals.offline.differences import differences
from evals.offline.language import LanguageSuite
from evals.offline.written import Written

SAME = Written("Paris", True, 10.0, tokens=(1, 2), loss=(0.5, 0.5), likeliest=(1, 2), scored_bytes=5)
METRICS = ("exact_match", "finished", "valid_json", "choice", "chrf")


def found(*pairs: tuple[Written, Written], metrics: tuple[str, ...] = METRICS) -> list[tuple[int, str, str]]:
    """Which rows, and what was lost and won in each: candidate and champion."""
    n = len(pairs)
    suite = LanguageSuite(("",) * n, (("Paris",),) * n, ("",) * n, {}, metrics, ())
    told = differences(suite, [mine for mine, _ in pairs], [base for _, base in pairs])
    return [(one.row, " ".join(one.lost), " ".join(one.won)) for one in told]


def test_lost_rows_come_first_and_won_ones_last():
    """Two losses before one; rows that say and are the same are no difference."""
    other, cut = replace(SAME, text="Rome"), replace(SAME, text="Rome", is_finished=False)
    assert found((SAME, SAME), (SAME, other), (other, SAME), (other, other), (cut, SAME)) == [
        (4, "exact_match finished", ""),
        (2, "exact_match", ""),
        (1, "", "exact_match"),
    ]


def test_among_alike_losses_the_larger_one_comes_first():
    """Of scores of texts, and where these are alike of likelihood for each byte."""
    texts = [replace(SAME, text=f"Rome {n}", scores={"chrf": score}) for n, score in enumerate((0.4, 0.2, 0.3))]
    base = replace(SAME, text="Oslo", scores={"chrf": 0.5})
    assert [row for row, *_ in found(*((text, base) for text in texts))] == [1, 2, 0]
    likely = [replace(SAME, text=f"Rome {n}", loss=(loss, 0.5)) for n, loss in enumerate((0.6, 2.0, nan))]
    assert [row for row, *_ in found(*((text, replace(SAME, text="Oslo")) for text in likely))] == [1, 0, 2]


def test_bits_are_of_each_byte():
    """More than the champion's: a nat over five bytes."""
    suite = LanguageSuite(("",), (("x",),), ("",), {}, METRICS, ())
    (one,) = differences(suite, [replace(SAME, text="a", loss=(1.0, 1.0))], [replace(SAME, text="b")])
    assert abs(one.bits - 1 / log(2) / 5) < 1e-12
    (bare,) = differences(suite, [replace(SAME, text="a", tokens=())], [replace(SAME, text="b")])
    assert bare.bits is None


def test_calls_of_tools_are_words_too():
    """The texts of both are empty."""
    look, stop = (replace(SAME, text="", calls=((name, "{}"),)) for name in ("look", "stop"))
    assert found((look, stop), (look, look)) == [(0, "", "")]


def test_what_was_not_written_differs_by_what_it_chose_alone():
    """A golden answer of such a row is no answer that it asked for; nor is anything of one that was not asked."""
    chosen = replace(SAME, text="x", is_finished=None, scores={"choice": 1.0})
    assert found((replace(chosen, text="y"), chosen)) == []
    assert found((replace(chosen, scores={"choice": 0.0}), chosen)) == [(0, "choice", "")]
    assert found((replace(SAME, text="", is_asked=False), SAME)) == []
