"""Does a server repeat what was evaluated, but for near ties?"""

from __future__ import annotations

import json
from math import nan
from typing import Any

import pytest

from evals.gate import Outcome
from pipelines.tasks.generation.answers import Choice
from pipelines.tasks.generation.golden import chosen, is_sane, judge

SURE, TIE = 3.0, 0.05


def choice(*tokens: tuple[str, float, float | None], finish: str = "stop") -> Choice:
    """An answer of these tokens."""
    return Choice("".join(token for token, _, _ in tokens), finish, tokens)


EVALUATED = choice(("a", -0.5, SURE), ("b", -0.7, TIE), ("c", -0.1, SURE))


def judged(found: Choice, expected: Choice = EVALUATED) -> tuple[Outcome, str]:
    """As the ledger holds what was evaluated: in JSON."""
    golden: dict[str, Any] = json.loads(json.dumps({"rows": [7], "answers": [expected.as_dict()]}))
    said = judge(golden, [found])
    return said.outcome, said.sentence


@pytest.mark.parametrize(
    ("found", "outcome", "said"),
    [
        (EVALUATED, Outcome.PASS, "at most 0.0000"),
        (choice(("a", -0.55, SURE), ("b", -0.7, TIE), ("c", -0.1, SURE)), Outcome.PASS, "at most 0.0500"),
        (choice(("a", -0.7, SURE), ("b", -0.7, TIE), ("c", -0.1, SURE)), Outcome.FAIL, "token 1 is as likely as"),
        (choice(("a", -0.5, SURE), ("x", -0.7, TIE), ("y", -0.1, SURE)), Outcome.PASS, ""),
        (choice(("a", -0.5, SURE), ("b", -0.7, TIE), ("x", -0.1, SURE)), Outcome.FAIL, "token 3 is 'x' instead of 'c'"),
        (choice(("x", -0.5, SURE)), Outcome.FAIL, "row 7: token 1 is 'x' instead of 'a'"),
        (choice(("a", -0.5, SURE), ("b", -0.7, TIE)), Outcome.FAIL, "it ends otherwise"),
        (choice(*EVALUATED.tokens, finish="length"), Outcome.FAIL, "'length' instead of 'stop'"),
        (choice(("a", nan, SURE), ("b", -0.7, TIE), ("c", -0.1, SURE)), Outcome.FAIL, "as likely as e^nan"),
        (choice(("a", -0.5, SURE), ("b", nan, TIE), ("c", -0.1, SURE)), Outcome.FAIL, "token 2 is as likely as"),
    ],
)  # fmt: skip
def test_answers_are_compared_up_to_the_first_near_tie(found, outcome, said):
    """After it everything may be another text; before it nothing may."""
    assert judged(found)[0] is outcome
    assert said in judged(found)[1]


def test_another_token_is_no_tie_where_nobody_knows():
    """An engine that does not say what came second."""
    assert judged(choice(("x", -0.5, None)), choice(("a", -0.5, None)))[0] is Outcome.FAIL


def test_without_likelihoods_texts_are_compared():
    """And how they end."""
    assert judged(Choice("a", "stop"), Choice("a", "stop"))[0] is Outcome.PASS
    assert judged(Choice("b", "stop"), Choice("a", "stop"))[0] is Outcome.FAIL


def test_the_same_tools_are_called():
    """With the same arguments."""
    look, stop = (Choice("", "tool_calls", (), ((name, "{}"),)) for name in ("look", "stop"))
    assert judged(look, look)[0] is Outcome.PASS
    assert judged(stop, look)[0] is Outcome.FAIL


@pytest.mark.parametrize(("n", "rows"), [(1, [0]), (12, [*range(12)]), (40, [*range(0, 36, 3)]), (0, [])])
def test_at_most_twelve_rows_are_golden(n, rows):
    """Spread evenly."""
    assert chosen(n) == rows


def test_an_answer_without_an_end_or_without_numbers_is_none():
    """Broken weights are no error to an engine."""
    assert is_sane(EVALUATED)
    assert not is_sane(choice(("a", nan, None)))
    assert not is_sane(Choice("a", ""))
