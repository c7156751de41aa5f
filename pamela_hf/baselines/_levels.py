"""From a number with a spread to probabilities of the levels of a rating scale."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import norm

from ..scoring import Predictions


def normal_predictions(
    mean: np.ndarray, spread: np.ndarray, scales: np.ndarray, level_values: Mapping[str, np.ndarray]
) -> Predictions:
    """Normal distributions cut at the middles between the levels of each row's rating scale.

    Args:
        mean: `(n,)`, in units of the rating.
        spread: `(n,)`, in units of the rating; > 0.
        scales: `(n,)` keys of `level_values`.
        level_values: rating scale → its levels, ascending.

    Returns:
        Predictions with `probs`. The expected rating is increasing in `mean` for one spread, and stays in the range.

    Raises:
        ValueError: a scale that level_values lacks.
    """
    width = max(map(len, level_values.values()))
    probs = np.zeros((len(mean), width))
    levels = np.full((len(mean), width), np.nan)
    for scale in np.unique(scales):
        if scale not in level_values:
            raise ValueError(
                f"rating_scale has {scale!r}, unknown from train; it had {sorted(level_values)}. Use one of these."
            )
        here, values = scales == scale, level_values[scale]
        borders = (values[1:] + values[:-1]) / 2
        below = norm.cdf((borders - mean[here, None]) / spread[here, None])
        probs[here, : len(values)] = np.diff(below, axis=1, prepend=0.0, append=1.0)
        levels[here, : len(values)] = values
    return from_probabilities(probs, levels)


def from_probabilities(probs: np.ndarray, levels: np.ndarray) -> Predictions:
    """Expected rating and standard deviation under probs `(n, K)` of levels `(n, K)`, NaN beyond a scale's own."""
    scores = np.nansum(probs * levels, axis=1)
    variance = np.nansum(probs * (levels - scores[:, None]) ** 2, axis=1)
    return Predictions(scores, np.sqrt(variance), probs, levels)
