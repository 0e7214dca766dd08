"""How sure is a share that was counted?"""

from __future__ import annotations


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
