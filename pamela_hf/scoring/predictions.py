"""What evaluation asks of any scorer (`Scorer`) and what it gets (`Predictions`)."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from ..embeddings import Embeddings


@dataclass
class Predictions:
    """Predicted ratings of n (person, image) pairs, in the order asked.

    Attributes:
        scores: `(n,)` expected rating.
        std: `(n,)` its standard deviation, in rating units, or `None`.
        probs: `(n, K)` probability of each level of the pair's rating scale, or `None`.
        level_values: `(n, K)` those levels, NaN beyond a scale's own.
        utility: `(n,)` what the scores are made of, in logits, or `None`.
    """

    scores: np.ndarray
    std: np.ndarray | None = None
    probs: np.ndarray | None = None
    level_values: np.ndarray | None = None
    utility: np.ndarray | None = None


class Scorer(Protocol):
    """What evaluation asks of a scorer. Higher scores mean liked more unless `higher_is_better` is False."""

    name: str
    personal: bool
    score_range: tuple[float, float] | None
    higher_is_better: bool

    def predict(self, ratings: pd.DataFrame, embeddings: Embeddings) -> Predictions: ...


def choice_credit(probs: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """How right each of m choices was foreseen: 1 where the likelier of the two images was preferred, ½ for a tie or
    where both were as likely, else 0.

    Args:
        probs: `(m, 3)` as [`PamelaScorer.predict_choices`] gives them.
        ties: `(m,)` bool, whether neither was preferred.
    """
    ahead = np.sign(probs[:, 0] - probs[:, 2])
    return np.where(ties, 0.5, 0.5 + 0.5 * ahead)
