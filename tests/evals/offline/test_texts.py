"""Are texts scored as the libraries score them that people know, and is the nearest reference the one that counts?"""

from __future__ import annotations

import pytest

from evals.offline.texts import chrf, rouge_l, text_scores

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "runs"]


@pytest.mark.parametrize(
    ("text", "reference", "near", "rouge"),
    [
        ("the cat sat on the mat", "the cat is on the mat", 0.645779420625287, 0.8333333333333334),
        ("a b c d", "d c b a", 0.25, 0.25),
        ("Paris is the capital, of course.", "The capital is Paris.", 0.53983808007333664, 0.4),
        ("", "x", 0.0, 0.0),
        ("x_1 y", "x 1 y z", 0.27083333333333332, 0.8571428571428571),
        ("Hello World", "hello world", 0.37539682539682538, 1.0),
    ],
)
def test_scores_are_those_of_sacrebleu_and_rouge_score(text, reference, near, rouge):
    """As sacrebleu 2.6.0 (chrF2) and rouge-score 0.1.2 (rougeL, no stemmer) said them."""
    assert (chrf(text, [reference]), rouge_l(text, [reference])) == (pytest.approx(near), pytest.approx(rouge))


def test_the_longest_common_subsequence_is_that_of_the_textbook():
    """By its table, of every pair of beginnings of a sentence and of the same backwards."""
    there, back = WORDS, WORDS[::-1]
    for n in range(1, len(there)):
        for m in range(1, len(back)):
            common = table(there[:n], back[:m])
            assert rouge_l(" ".join(there[:n]), [" ".join(back[:m])]) == pytest.approx(2 * common / (n + m))


def table(a: list[str], b: list[str]) -> int:
    """The length, row by row."""
    lengths = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for place, other in enumerate(b):
            above = lengths[place + 1]
            lengths[place + 1] = diagonal + 1 if word == other else max(above, lengths[place])
            diagonal = above
    return lengths[-1]


def test_other_scripts_have_words():
    """rouge-score finds none in them, and calls equal texts as unlike as can be."""
    assert rouge_l("Нет дома!", ["нет, дома"]) == 1.0


def test_the_nearest_reference_counts():
    """Of several; where there is none there is no score."""
    assert text_scores(("chrf", "rouge_l", "kl"), "the cat", ["a dog", "the cat"]) == {"chrf": 1.0, "rouge_l": 1.0}
    assert text_scores(("chrf",), "the cat", []) == {}
