"""A few taste factors shared by all, and demographics: whom one resembles decides what one likes.

`z = x·w₀ + t_u · (V x)`: V `(r, D)` are r directions of image and text features along which people differ, `t_u` how
much person u likes each. A priori `t_u ~ N(C d_u, 1)` with d_u the demographics, so a person never met is predicted
from those, and one with ratings by the posterior mean, in closed form. w₀, V and C maximize the likelihood with the
t_u integrated out (probabilistic factor analysis of regression weights; for the trick see Tipping & Bishop 1999), under
ridge penalties. Rank and penalty of V are chosen by cross-validation inside train. Without integrating the t_u out (all
fitted jointly) it overfits: .42 at best on val_seen of OASIS, .455 so. No weights from elsewhere, no licence
but the package's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ..data import DEMOGRAPHIC_FIELDS
from ..embeddings import Embeddings
from ._personal import PersonalScorer, known_people
from ._ratings import Consensus, RatingMatrix

CANDIDATES = ((4, 12.0), (16, 6.0), (16, 12.0), (16, 24.0))  # rank, penalty of V in ratings an image
# In ratings an image. On OASIS, cross-validation inside train moved by .002 for 1 to 4 and by .001 for 2 to 60.
CONSENSUS_PENALTY, DEMOGRAPHIC_PENALTY = 2.0, 20.0
STEPS = 100


@dataclass
class Factors:
    """`weights (D,)` and `intercept` of everyone, `directions (r, D)`, `demographics (F, r)`, `noise` variance."""

    weights: np.ndarray
    intercept: float
    directions: np.ndarray
    demographics: np.ndarray
    noise: float

    def everyone(self, x: np.ndarray) -> np.ndarray:
        return x @ self.weights + self.intercept

    def tastes(self, x: np.ndarray, z: np.ndarray, rated: np.ndarray, who: np.ndarray) -> np.ndarray:
        """Posterior means `(U, r)` of people with demographics `who (U, F)`, given ratings `(U, I)`."""
        along, prior = x @ self.directions.T, who @ self.demographics
        left = (z - self.everyone(x) - prior @ along.T) * rated
        gram = np.einsum("ui,ir,is->urs", rated.astype(float), along, along, optimize=True)
        gram += self.noise * np.eye(len(self.directions))
        return prior + np.linalg.solve(gram, (left @ along)[:, :, None])[:, :, 0]


@dataclass
class LowRankScorer(PersonalScorer):
    """See the module. `tastes (U, r)`; `vocabulary`: the (field, value) pairs that demographics are told by."""

    factors: Factors
    tastes: np.ndarray
    vocabulary: list[tuple[str, str]]
    rank: int
    penalty: float
    name: ClassVar[str] = "low_rank"

    def liking(self, x: np.ndarray, image: np.ndarray, person: np.ndarray, ratings: pd.DataFrame) -> np.ndarray:
        tastes = np.vstack([self.tastes, np.zeros(self.rank)])[person]
        strangers = person < 0
        tastes[strangers] = encode(ratings[strangers], self.vocabulary) @ self.factors.demographics
        return self.factors.everyone(x)[image] + (tastes * (x @ self.factors.directions.T)[image]).sum(1)

    def fit_people(self, x: np.ndarray, ratings: RatingMatrix, table: pd.DataFrame) -> dict[str, object]:
        who = encode(one_row_each(table, ratings), self.vocabulary)
        return {"tastes": self.factors.tastes(x, ratings.z, ratings.rated, who)}


def one_row_each(table: pd.DataFrame, ratings: RatingMatrix) -> pd.DataFrame:
    """The first row of each participant, in the order of the matrix."""
    return table.drop_duplicates("participant_id").set_index("participant_id").loc[ratings.participants]


def encode(table: pd.DataFrame, vocabulary: Sequence[tuple[str, str]]) -> np.ndarray:
    """`(n, F)` one-hot demographics of mean square length at most 1; what is missing or unknown is 0."""
    columns = [(table[field].astype(object) == value).to_numpy(np.float64) for field, value in vocabulary]
    fields = len({field for field, _ in vocabulary})
    return np.stack(columns, 1) / np.sqrt(fields) if columns else np.zeros((len(table), 0))


def factorize(
    x: np.ndarray, ratings: RatingMatrix, images: np.ndarray, who: np.ndarray, rank: int, penalty: float, seed: int
) -> Factors:
    """Maximizes the penalized marginal likelihood of the ratings of some images, from a random start, by L-BFGS."""
    rng = np.random.default_rng(seed)
    tensors = (x[images], ratings.z[:, images], ratings.rated[:, images], who)
    features, z, rated, who_ = (torch.from_numpy(a.astype(np.float32)) for a in tensors)
    weights = torch.zeros(x.shape[1], requires_grad=True)
    intercept, log_noise = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
    start = 0.1 * rng.normal(size=(rank, x.shape[1]))
    directions = torch.from_numpy(start.astype(np.float32)).requires_grad_()
    demographics = torch.zeros(who.shape[1], rank, requires_grad=True)
    n = rated.sum(1)
    unit = float(n.sum()) / len(images)
    identity = torch.eye(rank)
    optimizer = torch.optim.LBFGS(
        [weights, intercept, directions, demographics, log_noise],
        max_iter=STEPS,
        history_size=20,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        along, noise = features @ directions.T, log_noise.exp()
        left = (z - (features @ weights + intercept) - who_ @ demographics @ along.T) * rated
        # The ratings of a person are normal with covariance F F' + noise I; by Woodbury only r × r is inverted.
        gram = (rated @ (along[:, :, None] * along[:, None, :]).flatten(1)).view(-1, rank, rank) + noise * identity
        factor = torch.linalg.cholesky(gram)
        moved = left @ along
        explained = (moved * torch.cholesky_solve(moved[:, :, None], factor)[:, :, 0]).sum()
        value = 0.5 * ((left**2).sum() - explained) / noise
        value = value + factor.diagonal(dim1=1, dim2=2).log().sum() + 0.5 * (n - rank).sum() * log_noise
        value = value + 0.5 * unit * CONSENSUS_PENALTY * (weights**2).sum()
        value = value + 0.5 * unit * penalty * (directions**2).sum()
        value = value + 0.5 * unit * DEMOGRAPHIC_PENALTY * (demographics**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    found = (one.detach().double().numpy() for one in (weights, intercept, directions, demographics, log_noise.exp()))
    weights_, intercept_, directions_, demographics_, noise_ = found
    return Factors(weights_, float(intercept_), directions_, demographics_, float(noise_))


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
        seed: of the start. level_values: rating scale → its levels; default: the ratings that occur in train.
        candidates: (rank, penalty) to choose from.

    Raises:
        ValueError: train is empty or has one prompt only. EmbeddingError: an image of train has no features.
    """
    ratings = RatingMatrix.of(train, level_values)
    consensus = Consensus.fit(ratings, embeddings)
    x, everyone = consensus.x, one_row_each(train, ratings)
    vocabulary = [(field, str(v)) for field in DEMOGRAPHIC_FIELDS for v in sorted(everyone[field].dropna().unique())]
    who = encode(everyone, vocabulary)
    best = None
    for rank, penalty in tqdm(candidates, "low_rank: cross-validation"):
        held_out = np.zeros_like(ratings.z)
        for fitted, kept in ratings.folds():
            factors = factorize(x, ratings, fitted, who, rank, penalty, seed)
            tastes = factors.tastes(x[fitted], ratings.z[:, fitted], ratings.rated[:, fitted], who)
            held_out[:, kept] = factors.everyone(x[kept]) + tastes @ factors.directions @ x[kept].T
        reached = ratings.mean_srocc(held_out)
        if best is None or reached > best[0]:
            best = reached, rank, penalty, ratings.line(held_out)
    _, rank, penalty, line = best
    factors = factorize(x, ratings, np.arange(len(x)), who, rank, penalty, seed)
    return LowRankScorer(
        consensus.inputs,
        ratings.use,
        line,
        ratings.levels,
        **known_people(train, ratings),
        factors=factors,
        tastes=factors.tastes(x, ratings.z, ratings.rated, who),
        vocabulary=vocabulary,
        rank=rank,
        penalty=penalty,
    )
