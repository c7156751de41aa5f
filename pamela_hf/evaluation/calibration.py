"""Are predicted probabilities right? The reliability curve and the PIT histogram of one scorer on one split.

Both pool the ratings of all people; intervals resample people, as everywhere (see `pamela_hf.metrics`).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike as Array

from ..metrics import Estimate, bootstrap_weights

BINS = 10
_LEVEL_TOLERANCE = 1e-5  # ratings may arrive as float32


def calibration(
    references: Array,
    groups: Array,
    probs: Array,
    level_values: Array,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """How often what was predicted happened.

    Every rating is asked "is it at least this level?" for each level but the lowest. These questions are sorted by the
    predicted probability of yes into ten bins of equal width; observed is the share of them whose answer was yes.

    The probability integral transform of a rating spreads it evenly between P(y < r) and P(y ≤ r): the histogram is
    that of Czado, Gneiting & Held (2009), Predictive Model Assessment for Count Data, section 2.1, which needs no
    random draw. Even = calibrated; a hill = too unsure; a valley = too sure; a slope = too high or too low.

    Args:
        references: (n,) the ratings.
        groups: (n,) who gave each.
        probs: (n, K) predicted probability of each level.
        level_values: (K,) or (n, K) rating of each level, ascending; NaN beyond a scale's own.
        bootstrap: draws of people, 0 for none.
        seed: of the draws.

    Returns:
        `{"error", "reliability", "pit"}`. error: mean distance of predicted and observed over the questions, in [0, 1],
        0 = calibrated. reliability: per bin `{"predicted", "value", "ci_low", "ci_high", "share"}`, value being the
        observed share of yes and share the bin's part of all questions (NaN where a bin is empty). pit: per tenth of
        [0, 1] `{"value", "ci_low", "ci_high"}`, the share of ratings in it, .1 where calibrated.
    """
    references = np.asarray(references, dtype=np.float64)
    probs = np.asarray(probs, dtype=np.float64)
    levels = np.broadcast_to(np.asarray(level_values, dtype=np.float64), probs.shape)
    probs = probs / probs.sum(1, keepdims=True)
    people, user = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    weights = bootstrap_weights(len(people), bootstrap, seed)

    # P(y ≥ level) as the sum of what lies above, so that the highest level's is not 1 minus rounding errors.
    at_least = probs[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    asked = np.isfinite(levels[:, 1:])
    predicted = at_least[asked]
    happened = (references[:, None] >= levels[:, 1:] - _LEVEL_TOLERANCE)[asked]
    bins = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    cell = np.repeat(user, asked.sum(1)) * BINS + bins

    def sums(values: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(cell, values, minlength=len(people) * BINS).reshape(len(people), BINS)

    count, yes, promised = sums(), sums(happened), sums(predicted)
    total = count.sum(0)
    observed = _cells(yes, count, weights)
    with np.errstate(invalid="ignore"):
        means = promised.sum(0) / total
    reliability = [
        {"predicted": float(mean), **one, "share": float(n / total.sum())}
        for mean, one, n in zip(means, observed, total)
    ]
    error = np.abs(promised.sum(0) - yes.sum(0)).sum() / total.sum()

    equal = np.abs(levels - references[:, None]) <= _LEVEL_TOLERANCE
    at = (probs * equal).sum(1, keepdims=True)
    below = (probs * ((levels < references[:, None]) & ~equal)).sum(1, keepdims=True)
    edges = np.arange(BINS + 1) / BINS
    with np.errstate(invalid="ignore", divide="ignore"):
        reached = np.where(at > 0, np.clip((edges - below) / at, 0, 1), edges > below)
    reached[:, 0], reached[:, -1] = 0, 1
    mass = np.zeros((len(people), BINS))
    np.add.at(mass, user, np.diff(reached, axis=1))
    rated = np.bincount(user, minlength=len(people))[:, None].repeat(BINS, 1)
    return {"error": float(error), "reliability": reliability, "pit": _cells(mass, rated, weights)}


def _cells(part: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> list[dict[str, float]]:
    """Ratios of column sums of (U, C) tables with their intervals, as value, ci_low, ci_high."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values, draws = part.sum(0) / whole.sum(0), (weights @ part) / (weights @ whole)
    cells = [Estimate(float(value), drawn, len(part)).as_dict() for value, drawn in zip(values, draws.T)]
    return [{key: cell[key] for key in ("value", "ci_low", "ci_high")} for cell in cells]
