"""How sure is a share that was counted, and how many requests does it take to tell two shares apart?"""

from __future__ import annotations

import math


def clopper_pearson(hits: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a binomial share that is right at least this often, whatever the share is.

    Source: Clopper & Pearson, Biometrika 26 (1934). Needs scipy, which MLflow brings.
    """
    from scipy.special import betaincinv

    if not 0 <= hits <= of or of == 0:
        raise ValueError(f"{hits} of {of} is no share")
    out = (1 - confidence) / 2
    low = float(betaincinv(hits, of - hits + 1, out)) if hits else 0.0
    high = float(betaincinv(hits + 1, of - hits, 1 - out)) if hits < of else 1.0
    return low, high


def requests_to_tell(p_stable: float, p_canary: float, share: float, alpha: float) -> float:
    """Canary requests until a rule of level α can on average have decided; infinite where the rates are equal.

    Holds for every rule that is right at every look whatever stable's rate is: log 1/α over the divergences of both
    arms from their pooled rate, where `share` of the requests go to the canary.
    """
    pooled = share * p_canary + (1 - share) * p_stable
    gained = divergence(p_canary, pooled) + (1 - share) / share * divergence(p_stable, pooled)
    return math.log(1 / alpha) / gained if gained > 0 else math.inf


def divergence(p: float, q: float) -> float:
    """Kullback and Leibler's, of one coin from another, in nats. A rate of 0 or 1 is allowed for `p`."""
    heads = p * math.log(p / q) if p > 0 else 0.0
    tails = (1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0
    return heads + tails
