"""What may come next, and how likely is it? The likeliest tokens by name, and all others together.

Engines name only so many. A token that a list leaves out counts as the last one on it, which was likelier, for every
engine and the reference alike: so two of them are compared on the same terms, and no rounding decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LISTED = 256
"""Tokens that are named: what is outside them is likely to less than some percent in all."""

COMPARED = 16
"""Of the champion's likeliest tokens, each by itself in a divergence; the others count as one."""

SMALLEST = 1e-12

Top = tuple[list[int], list[float]]
"""Token ids and their log-probabilities in nats, the likeliest first."""


@dataclass(frozen=True)
class Distribution:
    """Log-probabilities in nats of the tokens that are named, the likeliest first."""

    named: Sequence[tuple[int, float]]

    @property
    def likeliest(self) -> int:
        """The token that greedy decoding takes."""
        return self.named[0][0]

    def log_probability(self, token: int) -> float:
        """In nats; of a token that is not named, at most so much."""
        return dict(self.named).get(token, self.named[-1][1])

    def top(self, most: int = COMPARED) -> Top:
        """The likeliest ones."""
        return [token for token, _ in self.named[:most]], [log for _, log in self.named[:most]]

    def divergence_from(self, other: Top) -> float:
        """KL in nats from another distribution, of which only the likeliest tokens are told apart: a lower bound."""
        total = 0.0
        ours = [self.log_probability(token) for token in other[0]]
        for theirs, mine in zip(other[1], ours, strict=True):
            total += math.exp(theirs) * (theirs - mine)
        rest, own = (max(SMALLEST, 1 - sum(map(math.exp, logs))) for logs in (other[1], ours))
        return max(0.0, total + rest * math.log(rest / own))
