"""A few taste factors shared by all, and demographics: whom one resembles decides what one likes.

The taste factors of [`pamela_hf.model.factors_pamela`] alone, which our model has beside its networks: a person
never met is predicted from their demographics, one with ratings by the posterior mean, in closed form. Rank and penalty
of the directions are chosen by cross-validation inside train. Without integrating people's tastes out (all fitted
jointly) it overfits: .42 at best on val_seen of OASIS, .455 so. No weights from elsewhere, no licence but the
package's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ..embeddings import Embeddings
from ..model.factors_pamela import Ratings, TasteFactors, factorize
from ..ratings.table import DEMOGRAPHIC_FIELDS
from ._personal import PersonalScorer, known_people
from ._ratings import Consensus, RatingMatrix

CANDIDATES = ((4, 12.0), (16, 6.0), (16, 12.0), (16, 24.0))  # rank, penalty of V in ratings an image


@dataclass
class LowRankScorer(PersonalScorer):
    """See the module. `tastes (U, r)`; `vocabulary`: the (field, value) pairs that demographics are encoded as."""

    factors: TasteFactors
    tastes: np.ndarray
    vocabulary: list[tuple[str, str]]
    rank: int
    penalty: float
    name: ClassVar[str] = "low_rank"

    def liking(self, x: np.ndarray, image: np.ndarray, person: np.ndarray, ratings: pd.DataFrame) -> np.ndarray:
        tastes = np.vstack([self.tastes, np.zeros(self.rank)])[person]
        strangers = person < 0
        tastes[strangers] = encode(ratings[strangers], self.vocabulary) @ self.factors.known.numpy()
        everyone, along = self.factors.everyone(torch.from_numpy(x)), x @ self.factors.directions.numpy().T
        return everyone.numpy()[image] + (tastes * along[image]).sum(1)

    def fit_people(self, x: np.ndarray, ratings: RatingMatrix, table: pd.DataFrame) -> dict[str, object]:
        who = torch.from_numpy(encode(one_row_each(table, ratings), self.vocabulary))
        rated = ratings_of(ratings, np.arange(len(x)))
        return {"tastes": self.factors.tastes(torch.from_numpy(x), rated, who).numpy()}


def one_row_each(table: pd.DataFrame, ratings: RatingMatrix) -> pd.DataFrame:
    """The first row of each participant, in the order of the matrix."""
    return table.drop_duplicates("participant_id").set_index("participant_id").loc[ratings.participants]


def encode(table: pd.DataFrame, vocabulary: Sequence[tuple[str, str]]) -> np.ndarray:
    """`(n, F)` one-hot demographics of mean square length at most 1; what is missing or unknown is 0."""
    columns = [(table[field].astype(object) == value).to_numpy(np.float64) for field, value in vocabulary]
    fields = len({field for field, _ in vocabulary})
    return np.stack(columns, 1) / np.sqrt(fields) if columns else np.zeros((len(table), 0))


def ratings_of(ratings: RatingMatrix, images: np.ndarray) -> Ratings:
    """The ratings of some images, counted from 0 in the order given."""
    person, image = np.nonzero(ratings.rated[:, images])
    value = ratings.z[:, images][person, image]
    return Ratings(*(torch.from_numpy(a) for a in (person, image, value)), len(ratings.z))


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    level_values: Mapping[str, Sequence[float]] | None = None,
    candidates: Sequence[tuple[int, float]] = CANDIDATES,
    **context: Any,
) -> LowRankScorer:
    """Fits on train alone.

    Args:
        seed: seed of the start; default: 0.
        level_values: rating scale → its levels; by default, the ratings that occur in train.
        candidates: pairs (rank, penalty) to choose from; default: `CANDIDATES`.

    Raises:
        ValueError: train is empty or has one prompt only. EmbeddingError: an image of train has no features.
    """
    ratings = RatingMatrix.of(train, level_values)
    consensus = Consensus.fit(ratings, embeddings)
    x, everyone = torch.from_numpy(consensus.x), one_row_each(train, ratings)
    vocabulary = [(field, str(v)) for field in DEMOGRAPHIC_FIELDS for v in sorted(everyone[field].dropna().unique())]
    who = torch.from_numpy(encode(everyone, vocabulary))
    best = None
    for rank, penalty in tqdm(candidates, "low_rank: cross-validation"):
        held_out = np.zeros_like(ratings.z)
        for fitted, kept in ratings.folds():
            rated = ratings_of(ratings, fitted)
            factors = factorize(x[fitted], rated, who, rank=rank, penalty=penalty, seed=seed)
            personal = factors.tastes(x[fitted], rated, who) @ factors.directions @ x[kept].T
            held_out[:, kept] = (factors.everyone(x[kept]) + personal).numpy()
        reached = ratings.mean_srocc(held_out)
        if best is None or reached > best[0]:
            best = reached, rank, penalty, ratings.line(held_out)
    _, rank, penalty, line = best
    rated = ratings_of(ratings, np.arange(len(x)))
    factors = factorize(x, rated, who, rank=rank, penalty=penalty, seed=seed)
    return LowRankScorer(
        consensus.inputs,
        ratings.use,
        line,
        ratings.levels,
        **known_people(train, ratings),
        factors=factors,
        tastes=factors.tastes(x, rated, who).numpy(),
        vocabulary=vocabulary,
        rank=rank,
        penalty=penalty,
    )
