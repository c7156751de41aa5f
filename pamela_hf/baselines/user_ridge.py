"""One ridge regression per person, on image and text features, shrunk to the consensus ridge.

A person's weights are those of the consensus ridge plus their own, `argmin |z - x·(w₀ + w)|² + α |w|²`: the maximum a
posteriori estimate under an isotropic Gaussian prior around everyone's taste, whose mean and width come from train (the
width by cross-validation, one for all: chosen for 10 or 30 ratings a person it came out the same). With few ratings it
is the consensus, with many a regression of one's own. It does not know demographics. Nothing but arithmetic: no weights
from elsewhere, no licence but the package's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from tqdm.auto import tqdm

from ..embeddings import Embeddings
from ._personal import PersonalScorer, known_people
from ._ratings import Consensus, RatingMatrix

ALPHAS = (0.3, 0.6, 1.0, 1.5, 2.5, 4.0, 7.0, 12.0, 25.0, 50.0)


@dataclass
class UserRidgeScorer(PersonalScorer):
    """See the module. `consensus`: everyone's ridge. `held_out`: its score of each train image without that image's
    theme. `weights (U, D)`: what each person adds to it."""

    consensus: Ridge
    held_out: dict[str, float]
    alpha: float
    weights: np.ndarray
    name: ClassVar[str] = "user_ridge"

    def liking(self, x: np.ndarray, image: np.ndarray, person: np.ndarray, ratings: pd.DataFrame) -> np.ndarray:
        weights = np.vstack([self.weights, np.zeros(x.shape[1])])
        return self.consensus.predict(x)[image] + (weights @ x.T)[person, image]

    def fit_people(self, x: np.ndarray, ratings: RatingMatrix, table: pd.DataFrame) -> dict[str, object]:
        consensus = [self.held_out.get(*one) for one in zip(ratings.image_ids, self.consensus.predict(x))]
        return {"weights": own_weights(x, ratings, np.array(consensus), [self.alpha])[0]}


def own_weights(
    x: np.ndarray,
    ratings: RatingMatrix,
    consensus: np.ndarray,
    alphas: Sequence[float],
    images: np.ndarray | None = None,
) -> np.ndarray:
    """`(len(alphas), U, D)` ridge weights of what `consensus (I,)` leaves over, from some of the images (all)."""
    out = np.zeros((len(alphas), len(ratings.z), x.shape[1]))
    usable = np.ones(len(x), bool) if images is None else np.isin(np.arange(len(x)), images)
    for user, (z, rated) in enumerate(zip(ratings.z, ratings.rated & usable)):
        if rated.sum() < 2:
            continue
        centred, left = x[rated] - x[rated].mean(0), z[rated] - consensus[rated]
        values, axes = np.linalg.eigh(centred @ centred.T)
        along = axes.T @ (left - left.mean())
        for i, alpha in enumerate(alphas):
            out[i, user] = centred.T @ (axes @ (along / (values + alpha)))
    return out


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    level_values: Mapping[str, Sequence[float]] | None = None,
    alphas: Sequence[float] = ALPHAS,
    **context: Any,
) -> UserRidgeScorer:
    """Fits on train alone; `seed` has no effect: the fit is deterministic.

    Args:
        level_values: rating scale → its levels; default: the ratings that occur in train.
        alphas: values to choose from; default: `ALPHAS`.

    Raises:
        ValueError: train is empty or has one prompt only. EmbeddingError: an image of train has no features.
    """
    ratings = RatingMatrix.of(train, level_values)
    consensus = Consensus.fit(ratings, embeddings)
    held_out = np.zeros((len(alphas), *ratings.z.shape))
    for fitted, kept in tqdm(ratings.folds(), "user_ridge: cross-validation"):
        own = own_weights(consensus.x, ratings, consensus.held_out, alphas, fitted)
        held_out[:, :, kept] = consensus.held_out[kept] + own @ consensus.x[kept].T
    best = int(np.argmax([ratings.mean_srocc(predicted) for predicted in held_out]))
    return UserRidgeScorer(
        consensus.inputs,
        ratings.use,
        ratings.line(held_out[best]),
        ratings.levels,
        **known_people(train, ratings),
        consensus=consensus.ridge,
        held_out=dict(zip(ratings.image_ids, consensus.held_out.tolist())),
        alpha=float(alphas[best]),
        weights=own_weights(consensus.x, ratings, consensus.held_out, [alphas[best]])[0],
    )
