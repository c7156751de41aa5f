"""Matrix factorization, whose images' biases and factors are also predicted from their features.

`z = c_i + p_u · q_i` by alternating least squares (Koren, Bell & Volinsky 2009; a person's own bias is their mean). It
learns from ratings alone and would know nothing of an image without ratings, which all judged images are: it
would predict a person's mean and score 0. So biases c and factors q of unrated images are regressed from image and
text features (Gantner et al. 2010, *Learning Attribute-to-Feature Mappings for Cold-Start Recommendations*), by ridge
regression weighted by raters. A new person's factors are fitted to the rated images' own biases and factors. It does
not know demographics. Rank and penalties by cross-validation inside train. No weights from elsewhere, no licence but
the package's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from tqdm.auto import tqdm

from ..embeddings import Embeddings
from ._personal import PersonalScorer, known_people
from ._ratings import Consensus, RatingMatrix

RANKS, PENALTIES, ALPHAS = (2, 4, 8, 16), (5.0, 10.0, 20.0, 40.0), (0.3, 1.0, 3.0)
SWEEPS = 15


@dataclass
class MatrixFactorizationScorer(PersonalScorer):
    """See the module. `mapping`: features → bias and factors. `factors (U, r)`: of people. `of_images`: image id →
    bias and factors `(1 + r,)`, of the images of train."""

    mapping: Ridge
    factors: np.ndarray
    of_images: dict[str, np.ndarray]
    penalty: float
    name: ClassVar[str] = "matrix_factorization"

    def liking(self, x: np.ndarray, image: np.ndarray, person: np.ndarray, ratings: pd.DataFrame) -> np.ndarray:
        mapped = self.mapping.predict(x)
        factors = np.vstack([self.factors, np.zeros(self.factors.shape[1])])
        return mapped[image, 0] + (factors[person] * mapped[image, 1:]).sum(1)

    def fit_people(self, x: np.ndarray, ratings: RatingMatrix, table: pd.DataFrame) -> dict[str, object]:
        mapped = zip(ratings.image_ids, self.mapping.predict(x))
        known = np.array([self.of_images.get(image, one) for image, one in mapped])
        return {"factors": _solve(ratings.z - known[:, 0], ratings.rated, known[:, 1:], self.penalty)}


def _solve(z: np.ndarray, rated: np.ndarray, other: np.ndarray, penalty: float) -> np.ndarray:
    """`(n, r)` ridge solutions of each row of z `(n, m)` on the other side's factors `(m, r)`, where rated."""
    gram = np.einsum("nm,mr,ms->nrs", rated.astype(float), other, other, optimize=True)
    gram += penalty * np.eye(other.shape[1])
    return np.linalg.solve(gram, ((z * rated) @ other)[:, :, None])[:, :, 0]


def factorize(ratings: RatingMatrix, images: np.ndarray, rank: int, penalty: float, seed: int) -> tuple:
    """People's factors `(U, r)`; images' biases and factors `(I, 1 + r)`. A bias is shrunk a tenth as much."""
    z, rated = ratings.z[:, images], ratings.rated[:, images]
    people = np.random.default_rng(seed).normal(size=(len(z), rank)) / np.sqrt(rank)
    items = np.zeros((len(images), 1 + rank))
    for _ in range(SWEEPS):
        left = z - people @ items[:, 1:].T
        items[:, 0] = (left * rated).sum(0) / (rated.sum(0) + 0.1 * penalty)
        items[:, 1:] = _solve((z - items[:, 0]).T, rated.T, people, penalty)
        people = _solve(z - items[:, 0], rated, items[:, 1:], penalty)
    return people, items


def _map(x: np.ndarray, items: np.ndarray, raters: np.ndarray, alpha: float) -> Ridge:
    return Ridge(alpha).fit(x, items, sample_weight=raters / raters.mean())


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    level_values: Mapping[str, Sequence[float]] | None = None,
    ranks: Sequence[int] = RANKS,
    penalties: Sequence[float] = PENALTIES,
    alphas: Sequence[float] = ALPHAS,
    **context: Any,
) -> MatrixFactorizationScorer:
    """Fits on train alone.

    Args:
        seed: seed of the factors that the fit starts from; default: 0.
        level_values: rating scale → its levels; default: the ratings that occur in train.
        ranks: numbers of factors to choose from; default: [`RANKS`].
        penalties: penalties of the factors to choose from; default: [`PENALTIES`].
        alphas: penalties of the mapping to choose from; default: [`ALPHAS`].

    Raises:
        ValueError: train is empty or has one prompt only. EmbeddingError: an image of train has no features.
    """
    ratings = RatingMatrix.of(train, level_values)
    consensus = Consensus.fit(ratings, embeddings)
    x, raters, best = consensus.x, ratings.rated.sum(0), None
    grid = list(product(ranks, penalties))
    for rank, penalty in tqdm(grid, "matrix_factorization: cross-validation"):
        held_out = np.zeros((len(alphas), *ratings.z.shape))
        for fitted, kept in ratings.folds():
            people, items = factorize(ratings, fitted, rank, penalty, seed)
            for i, alpha in enumerate(alphas):
                mapped = _map(x[fitted], items, raters[fitted], alpha).predict(x[kept])
                held_out[i][:, kept] = mapped[:, 0] + people @ mapped[:, 1:].T
        for alpha, predicted in zip(alphas, held_out):
            reached = ratings.mean_srocc(predicted)
            if best is None or reached > best[0]:
                best = reached, rank, penalty, alpha, ratings.line(predicted)
    _, rank, penalty, alpha, line = best
    people, items = factorize(ratings, np.arange(len(x)), rank, penalty, seed)
    return MatrixFactorizationScorer(
        consensus.inputs,
        ratings.use,
        line,
        ratings.levels,
        **known_people(train, ratings),
        mapping=_map(x, items, raters, alpha),
        factors=people,
        of_images=dict(zip(ratings.image_ids, items)),
        penalty=penalty,
    )
