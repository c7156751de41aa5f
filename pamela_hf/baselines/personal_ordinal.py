"""One ordinal head per person from scratch: nothing is shared but the encoder's features.

As in silva (github.com/Jannchie/silva): a linear score of the features against ordered thresholds, and a binary
cross-entropy at each threshold (Rennie & Srebro 2005; Cao, Mirjalili & Raschka 2020). Written anew and solved to the
end by L-BFGS, since with one person's ratings the problem is small and convex, where silva's network of three layers
wants thousands. An L2 penalty holds the weights, chosen by cross-validation inside train, one for all; a person's
thresholds are held to everyone's as by one rating, because a level that a person never used has none. Whom it has no
ratings of, it gives everyone's distribution for any image: it scores 0 there by construction. No weights from
elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from tqdm.auto import tqdm

from ..embeddings import Embeddings
from ..scoring import Predictions
from ._levels import from_probabilities
from ._personal import PersonalScorer, known_people
from ._ratings import Consensus, RatingMatrix

ALPHAS = (0.3, 0.6, 1.2, 2.5, 5.0)
STEPS = 60


@dataclass
class PersonalOrdinalScorer(PersonalScorer):
    """See the module. `weights (U, D)`; `thresholds (U, S, K - 1)` for S rating scales, infinite beyond a scale's own;
    `common (S, K - 1)`: everyone's."""

    alpha: float
    weights: np.ndarray
    thresholds: np.ndarray
    common: np.ndarray
    name: ClassVar[str] = "personal_ordinal"

    def predict(self, ratings: pd.DataFrame, embeddings: Embeddings) -> Predictions:
        """Differences of the thresholds' probabilities, on each row's own rating scale.

        Raises:
            ValueError: a rating scale that train did not have. EmbeddingError: an image without features.
        """
        image, ids = pd.factorize(ratings["image_id"].astype(str))
        person, scale = self._rows(ratings), scale_rows(ratings, self.level_values)
        weights = np.vstack([self.weights, np.zeros(self.weights.shape[1])])
        thresholds = np.concatenate([self.thresholds, self.common[None]])[person, scale]
        latent = (weights @ self.inputs(embeddings, ids).T)[person, image]
        above = expit(latent[:, None] - thresholds)
        probs = -np.diff(above, axis=1, prepend=1.0, append=0.0)
        width = probs.shape[1]
        padded = [np.pad(v, (0, width - len(v)), constant_values=np.nan) for v in self.level_values.values()]
        return from_probabilities(probs, np.array(padded)[scale])

    def fit_people(self, x: np.ndarray, ratings: RatingMatrix, table: pd.DataFrame) -> dict[str, object]:
        level, scale = levels_of(table, ratings)
        weights, thresholds = fit_heads(x, level, scale, ratings.rated, self.common, self.alpha)
        return {"weights": weights, "thresholds": thresholds}


def scale_rows(table: pd.DataFrame, levels: Mapping[str, np.ndarray]) -> np.ndarray:
    """`(n,)` which of the rating scales each row is on."""
    names = list(levels)
    scales = table["rating_scale"].astype(str)
    if strange := sorted(set(scales) - set(names)):
        raise ValueError(f"rating_scale has {strange[0]!r}, unknown from train; it had {names}. Use one of these.")
    return scales.map({name: row for row, name in enumerate(names)}).to_numpy()


def levels_of(table: pd.DataFrame, ratings: RatingMatrix) -> tuple[np.ndarray, np.ndarray]:
    """Level index and scale of every rating as people × images, 0 where unrated."""
    level, scale = np.zeros((2, *ratings.z.shape), np.int64)
    person = pd.Index(ratings.participants).get_indexer(table["participant_id"].astype(str))
    image = pd.Index(ratings.image_ids).get_indexer(table["image_id"].astype(str))
    scale[person, image] = scale_rows(table, ratings.levels)
    score = table["score"].to_numpy(np.float64)
    for row, values in enumerate(ratings.levels.values()):
        here = scale[person, image] == row
        level[person[here], image[here]] = np.abs(score[here, None] - values).argmin(1)
    return level, scale


def common_thresholds(level: np.ndarray, scale: np.ndarray, rated: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """`(S, K - 1)` log-odds of a rating at or below each level over everyone's, infinite beyond a scale's levels."""
    out = np.full((len(lengths), max(lengths) - 1), np.inf)
    for row, length in enumerate(lengths):
        count = np.bincount(level[rated & (scale == row)], minlength=length) + 0.5
        out[row, : length - 1] = logit(count.cumsum()[:-1] / count.sum())
    return out


def fit_heads(
    x: np.ndarray, level: np.ndarray, scale: np.ndarray, rated: np.ndarray, common: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights `(U, D)` and ordered thresholds `(U, S, K - 1)` of all at once, each from their own ratings."""
    finite = np.isfinite(common)
    # In the span of the rated images, where the penalized solution lies, there are fewer directions than features.
    _, size, axes = np.linalg.svd(x, full_matrices=False)
    axes = axes[size > 1e-6 * size[0]]
    features = torch.from_numpy(x @ axes.T)
    person, image = np.nonzero(rated)
    cells = torch.from_numpy(person * len(x) + image)
    row, k = torch.from_numpy(scale[rated]), torch.arange(common.shape[1])
    above = torch.from_numpy(level[rated])[:, None] > k
    counts = torch.from_numpy(finite)[row]
    start = torch.from_numpy(np.where(finite, common, 0.0))
    weights = torch.zeros(len(rated), len(axes), dtype=torch.float64, requires_grad=True)
    moved = torch.zeros(len(rated), *common.shape, dtype=torch.float64, requires_grad=True)
    whose = torch.from_numpy(person)
    optimizer = torch.optim.LBFGS([weights, moved], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        latent = (weights @ features.T).flatten()[cells]
        logits = latent[:, None] - (start + moved)[whose, row]
        at = torch.nn.functional.binary_cross_entropy_with_logits(logits, above.double(), reduction="none")
        value = (at * counts).sum() + 0.5 * alpha * (weights**2).sum() + 0.125 * (moved**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    thresholds = np.where(finite, (start + moved).detach().numpy(), np.inf)
    return weights.detach().numpy() @ axes, np.sort(thresholds, axis=-1)


def fit(
    train: pd.DataFrame,
    embeddings: Embeddings,
    *,
    seed: int = 0,
    level_values: Mapping[str, Sequence[float]] | None = None,
    alphas: Sequence[float] = ALPHAS,
    **context: Any,
) -> PersonalOrdinalScorer:
    """Fits on train alone; `seed` has no effect: the fit is deterministic.

    Args:
        level_values: rating scale → its levels; default: the ratings that occur in train.
        alphas: values to choose from; default: `ALPHAS`.

    Raises:
        ValueError: train is empty or has one prompt only. EmbeddingError: an image of train has no features.
    """
    ratings = RatingMatrix.of(train, level_values)
    consensus = Consensus.fit(ratings, embeddings)  # for the weight of the text alone
    x = consensus.x
    level, scale = levels_of(train, ratings)
    common = common_thresholds(level, scale, ratings.rated, [len(values) for values in ratings.levels.values()])
    best = None
    for alpha in tqdm(alphas, "personal_ordinal: cross-validation"):
        held_out = np.zeros_like(ratings.z)
        for fitted, kept in ratings.folds():
            cells = (one[:, fitted] for one in (level, scale, ratings.rated))
            weights, _ = fit_heads(x[fitted], *cells, common, alpha)
            held_out[:, kept] = weights @ x[kept].T
        reached = ratings.mean_srocc(held_out)
        if best is None or reached > best[0]:
            best = reached, float(alpha), ratings.line(held_out)
    _, alpha, line = best
    weights, thresholds = fit_heads(x, level, scale, ratings.rated, common, alpha)
    return PersonalOrdinalScorer(
        consensus.inputs,
        ratings.use,
        line,
        ratings.levels,
        **known_people(train, ratings),
        alpha=alpha,
        weights=weights,
        thresholds=thresholds,
        common=common,
    )
