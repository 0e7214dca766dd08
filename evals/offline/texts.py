"""How near is a text to what should have been written, where many wordings are right?

Of several references the nearest one counts, in [0, 1]. A high score is no proof that a text is right, and a loss
beside the champion's on the same rows is a hint that something was lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

CHRF, ROUGE_L = "chrf", "rouge_l"
_WORD = re.compile(r"[^\W_]+")


def text_scores(metrics: Sequence[str], text: str, references: Sequence[str]) -> dict[str, float]:
    """A text's scores by those of the metrics that are of texts; nothing where there is no reference."""
    return {name: TEXT_SCORES[name](text, references) for name in metrics if name in TEXT_SCORES} if references else {}


def chrf(text: str, references: Sequence[str]) -> float:
    """chrF2: the F-score of character n-grams up to 6 of the best reference, recall counting twice, as sacrebleu's.

    Source: Popović, WMT 2015; sacrebleu 2.6, `nrefs:k|case:mixed|eff:yes|nc:6|nw:0|space:no`. Over 100: theirs is in
    percent.
    """
    return float(_chrf().sentence_score(text, list(references)).score) / 100


@cache
def _chrf() -> Any:
    from sacrebleu.metrics import chrf as library

    return library.CHRF()


def rouge_l(text: str, references: Sequence[str]) -> float:
    """ROUGE-L: the F-score of the longest common subsequence of words with the best reference, without stemming.

    Source: Lin, ACL 2004, section 3; `rouge-score` 0.1.2 says the same of ASCII, and finds no words in other scripts.
    """
    words = _words(text)
    return max(_f_score(words, _words(reference)) for reference in references)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _f_score(ours: Sequence[str], theirs: Sequence[str]) -> float:
    common = _longest_common(ours, theirs)
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, a word of `b` at a time for all of `a` at once.

    Source: Hyyrö, AWOCA 2004: a bit of `open_bits` is 0 where the subsequence grows.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(a)) - 1
    open_bits = every
    for word in b:
        found = open_bits & places.get(word, 0)
        open_bits = ((open_bits + found) | (open_bits - found)) & every
    return len(a) - open_bits.bit_count()


TEXT_SCORES: Mapping[str, Callable[[str, Sequence[str]], float]] = {CHRF: chrf, ROUGE_L: rouge_l}
"""Metrics of texts that have references, higher is better."""
