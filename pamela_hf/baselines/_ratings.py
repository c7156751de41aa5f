"""What the personal rivals learn from: standardized ratings as a matrix, image and text features, folds of themes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from ..embeddings import Embeddings
from ..metrics import MIN_RATINGS, correlation

FOLDS = 5
TEXT_WEIGHTS = (0.25, 0.5, 1.0)  # length of the text features relative to the image features
CONSENSUS_ALPHAS = tuple(10.0**k for k in np.arange(-1, 1.01, 0.5))


@dataclass
class ScaleUse:
    """How people use their rating scale: each person's mean and spread, by empirical Bayes (Efron & Morris 1975).

    All in shares of the scale's range, so that scales of different length are alike. Somebody with few ratings is
    drawn to what people do on average; a person with none gets the average.

    Attributes:
        center: mean over people of their mean ratings.
        between: variance over people of their mean ratings.
        variance: prior of a person's variance about their own mean.
        degrees: how many ratings that prior counts as.
    """

    center: float
    between: float
    variance: float
    degrees: float

    @classmethod
    def fit(cls, scores: np.ndarray, codes: np.ndarray) -> "ScaleUse":
        """scores: `(n,)` in shares of the range. codes: `(n,)` whose."""
        n, mean, squares = _moments(scores, codes, codes.max() + 1)
        some = (n > 2) & (squares > 0)
        if not some.any():
            raise ValueError("train has no participant with three differing ratings; personal rivals learn from those.")
        own = squares[some] / (n[some] - 1)
        between = np.var(mean[some]) - np.mean(own / n[some])
        # Of a sample's log-variance, 2 / (n - 1) is chance; the rest is how people differ: 2 / degrees.
        differ = np.var(np.log(own)) - np.mean(2 / (n[some] - 1))
        return cls(float(mean[some].mean()), float(max(between, 1e-4)), float(own.mean()), float(2 / max(differ, 0.02)))

    def of(self, scores: np.ndarray, codes: np.ndarray, people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, spread and the mean's variance, `(people,)` each, given their ratings."""
        n, mean, squares = _moments(scores, codes, people)
        variance = (self.degrees * self.variance + squares) / (self.degrees + np.maximum(n - 1, 0))
        uncertain = 1 / (1 / self.between + n / variance)
        return uncertain * (self.center / self.between + n * mean / variance), np.sqrt(variance), uncertain


def _moments(scores: np.ndarray, codes: np.ndarray, people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number, mean and sum of squares about it."""
    n = np.bincount(codes, minlength=people)
    mean = np.bincount(codes, scores, people) / np.maximum(n, 1)
    return n, mean, np.bincount(codes, (scores - mean[codes]) ** 2, people)


def shares(ratings: pd.DataFrame, level_values: Mapping[str, np.ndarray]) -> np.ndarray:
    """`(n,)` ratings in shares of their scale's range, lowest level 0, highest 1."""
    scale = ratings["rating_scale"].astype(str)
    low = scale.map({name: values[0] for name, values in level_values.items()}).to_numpy(np.float64)
    high = scale.map({name: values[-1] for name, values in level_values.items()}).to_numpy(np.float64)
    return (ratings["score"].to_numpy(np.float64) - low) / (high - low)


@dataclass
class RatingMatrix:
    """Ratings as people × images, each person's brought to mean 0 and spread 1 (by `use`); memory 9 bytes a cell.

    Attributes:
        z: `(U, I)` standardized ratings, 0 where unrated.
        rated: `(U, I)` bool, who rated which image.
        participants: U ids, of the rows.
        image_ids: I ids, of the columns.
        themes: `(I,)` the images' prompts, their own id where they have none.
        levels: rating scale → its levels.
    """

    z: np.ndarray
    rated: np.ndarray
    participants: list[str]
    image_ids: list[str]
    themes: np.ndarray
    levels: dict[str, np.ndarray]
    use: ScaleUse

    @classmethod
    def of(
        cls,
        ratings: pd.DataFrame,
        level_values: Mapping[str, Sequence[float]] | None = None,
        use: ScaleUse | None = None,
    ) -> "RatingMatrix":
        """Ratings by their table. use: as estimated before, for people met later. Raises ValueError if empty."""
        if not len(ratings):
            raise ValueError("ratings is empty; a personal rival learns from a person's ratings.")
        scales = ratings["rating_scale"].astype(str)
        if level_values is None:
            level_values = {scale: np.unique(ratings["score"][scales == scale]) for scale in scales.unique()}
        levels = {scale: np.asarray(values, np.float64) for scale, values in level_values.items()}
        people, participants = pd.factorize(ratings["participant_id"].astype(str), sort=True)
        images, image_ids = pd.factorize(ratings["image_id"].astype(str), sort=True)
        score = shares(ratings, levels)
        use = use or ScaleUse.fit(score, people)
        mean, spread, _ = use.of(score, people, len(participants))
        z, rated = np.zeros((len(participants), len(image_ids))), np.zeros((len(participants), len(image_ids)), bool)
        z[people, images] = (score - mean[people]) / spread[people]
        rated[people, images] = True
        prompt = ratings["prompt"].astype(object)
        theme = prompt.where(prompt.notna(), ratings["image_id"].astype(object)).astype(str).to_numpy()
        themes = np.empty(len(image_ids), object)
        themes[images] = theme
        return cls(z, rated, list(participants), list(image_ids), themes, levels, use)

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(fitted, kept) images; a theme is in one fold only, so that a prompt met before does not help."""
        themes = len(set(self.themes))
        if themes < 2:
            raise ValueError(f"train has images of {themes} prompts; cross-validation needs 2 or more.")
        return list(GroupKFold(min(FOLDS, themes), shuffle=True, random_state=0).split(self.z.T, groups=self.themes))

    def mean_srocc(self, predicted: np.ndarray) -> float:
        """What hyperparameters are chosen by: Spearman's correlation, person by person, of predictions `(U, I)`."""
        found = []
        for z, rated, one in zip(self.z, self.rated, predicted):
            if rated.sum() >= MIN_RATINGS and np.ptp(z[rated]) > 0:
                found.append(correlation(rankdata(one[rated]), rankdata(z[rated])))
        return float(np.mean(found)) if found else 0.0

    def line(self, predicted: np.ndarray) -> tuple[float, float]:
        """Slope of ratings over held-out predictions `(U, I)`, above 0, and the spread around it."""
        p, z = predicted[self.rated], self.z[self.rated]
        slope = max((p * z).sum() / max((p * p).sum(), 1e-12), 1e-6)
        return float(slope), float(max(np.std(z - slope * p), 1e-6))


@dataclass
class Inputs:
    """Image and text features side by side, as our model gets both: each of unit length, the text's times
    `text_weight`, around the mean of train and with mean square length 1 there."""

    text_weight: float
    mean: np.ndarray
    scale: float

    @classmethod
    def fit(cls, embeddings: Embeddings, image_ids: Sequence[str], text_weight: float) -> "Inputs":
        x = _directions(embeddings, image_ids, text_weight)
        mean = x.mean(0)
        return cls(text_weight, mean, float(np.sqrt(((x - mean) ** 2).sum(1).mean())) or 1.0)

    def __call__(self, embeddings: Embeddings, image_ids: Iterable[str]) -> np.ndarray:
        """`(n, D + Dt)`. Raises EmbeddingError for an image without features."""
        return (_directions(embeddings, image_ids, self.text_weight) - self.mean) / self.scale


def _directions(embeddings: Embeddings, image_ids: Iterable[str], text_weight: float) -> np.ndarray:
    rows = embeddings.rows(image_ids)
    parts = [_unit(embeddings.image_embeds[rows])]
    if embeddings.text_embeds is not None:
        parts.append(text_weight * _unit(embeddings.text_embeds[rows]))
    return np.hstack(parts)


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def consensus_ridge(x: np.ndarray, ratings: RatingMatrix, images: np.ndarray, alpha: float) -> Ridge:
    """Ridge regression of the images' mean standardized rating, weighted by raters (of mean weight 1)."""
    raters = ratings.rated[:, images].sum(0)
    target = ratings.z[:, images].sum(0) / np.maximum(raters, 1)
    return Ridge(alpha).fit(x[images], target, sample_weight=raters / raters.mean())


@dataclass
class Consensus:
    """Everybody's taste, linear in the features; text weight and penalty by cross-validation inside train.

    Attributes:
        x: `(I, D)` features of the train images.
        held_out: `(I,)` each image's score by the ridge that did not see its theme. A person's own part is fitted to
            what these leave over: a ridge that has seen an image's ratings leaves less of them than it will leave on
            new images.
    """

    inputs: Inputs
    alpha: float
    ridge: Ridge
    x: np.ndarray
    held_out: np.ndarray

    @classmethod
    def fit(
        cls,
        ratings: RatingMatrix,
        embeddings: Embeddings,
        text_weights: Sequence[float] = TEXT_WEIGHTS,
        alphas: Sequence[float] = CONSENSUS_ALPHAS,
    ) -> "Consensus":
        best, folds = None, ratings.folds()
        for weight in text_weights if embeddings.text_embeds is not None else (0.0,):
            inputs = Inputs.fit(embeddings, ratings.image_ids, weight)
            x = inputs(embeddings, ratings.image_ids)
            for alpha in alphas:
                held_out = np.empty(len(x))
                for fitted, kept in folds:
                    held_out[kept] = consensus_ridge(x, ratings, fitted, alpha).predict(x[kept])
                reached = ratings.mean_srocc(np.broadcast_to(held_out, ratings.z.shape))
                if best is None or reached > best[0]:
                    best = reached, inputs, alpha, x, held_out
        _, inputs, alpha, x, held_out = best
        return cls(inputs, alpha, consensus_ridge(x, ratings, np.arange(len(x)), alpha), x, held_out)
