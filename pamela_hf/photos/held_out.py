"""How well a person's head predicts stars that it has not seen, beside plain alternatives.

Photos are divided into [`FOLDS`] folds, a group of near-duplicates never being divided: a burst of one scene in both
parts would make any method look good. Each photo is predicted by what was fitted on the other folds. Intervals (95 %)
resample groups, and all methods share the draws, so that their differences are paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..embeddings import Embeddings
from ..heads.answers import collect
from ..heads.fitting import held_out_utilities
from ..heads.head import prior_of
from ..metrics import MIN_RATINGS, correlation
from ..scoring import PamelaScorer

FOLDS = 5
DRAWS = 500
MAX_PAIRS = 200_000  # pairs of photos that the share of rightly ordered ones is estimated from
ALPHAS = np.logspace(-1, 5, 13)  # of the ridge, per standardized feature
CHOSEN_ON = 1_000  # photos that the ridge's strength is chosen on: with 3,000 it took longer than all else
PERSONAL, EVERYONE, RIDGE, MEAN = "your taste", "everyone's taste", "ridge regression", "mean"


@dataclass
class HeldOut:
    """Figures over photos that were held out.

    Attributes:
        names: the N photos judged.
        truth: `(N,)` their stars, or 1 and 0 for likes and dislikes.
        predicted: method → `(N,)`, higher = liked more; not in stars.
        figures: method → `{"srocc": cell, "pairs": cell}`, a cell being `{"value", "ci_low", "ci_high"}`; srocc is
            Spearman's rank correlation, pairs the share of pairs with different stars that are ordered as starred.
        differences: other method → cell: srocc of [`PERSONAL`] minus that method's.
        groups: how many groups of near-duplicates the photos are.
    """

    names: list[str]
    truth: np.ndarray
    predicted: dict[str, np.ndarray]
    figures: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    differences: dict[str, dict[str, float]] = field(default_factory=dict)
    groups: int = 0

    def in_stars(self) -> np.ndarray:
        """`(N,)` what [`PERSONAL`] predicts, as stars: the star that stands at the same place in the order of stars."""
        order = rankdata(self.predicted[PERSONAL], method="ordinal").astype(int) - 1
        return np.sort(self.truth)[order]


def hold_out(
    scorer: PamelaScorer,
    ratings: Sequence[tuple[str, float]],
    likes: Sequence[tuple[str, bool]],
    embeddings: Embeddings,
    groups: Mapping[str, int],
    rating_range: tuple[float, float],
    everyone: bool,
    seed: int = 0,
) -> HeldOut | None:
    """Judges a head by cross-validation.

    Args:
        scorer: the base.
        ratings: the person's `(photo, score)` pairs, as in [`pamela_hf.heads.head.UserHead.fit`].
        likes: the person's `(photo, True or False)` pairs, as in [`pamela_hf.heads.head.UserHead.fit`].
        embeddings: features of the photos.
        groups: photo → group of near-duplicates.
        rating_range: lowest and highest possible rating.
        everyone: whether the base was trained on people, so that everyone's taste is an alternative.
        seed: of the folds and draws; default: 0.

    Returns:
        None with fewer than `MIN_RATINGS` photos to judge, equal answers, or fewer than two groups.
    """
    judged = list(ratings) if len(ratings) >= MIN_RATINGS else [(name, float(liked)) for name, liked in likes]
    names, truth = [name for name, _ in judged], np.array([value for _, value in judged], float)
    group = np.unique([groups[name] for name in names], return_inverse=True)[1] if names else np.zeros(0, int)
    if len(names) < MIN_RATINGS or np.ptp(truth) == 0 or group.max() < 1:
        return None
    rng = np.random.default_rng(seed)
    everything = [name for name, _ in (*ratings, *likes)]
    _, group_of_all = np.unique([groups[name] for name in everything], return_inverse=True)
    fold_of_group = rng.permutation(group_of_all.max() + 1) % FOLDS
    fold_of = dict(zip(everything, fold_of_group[group_of_all]))
    fold = np.array([fold_of[name] for name in names])
    personal, base = _by_head(scorer, ratings, likes, embeddings, rating_range, fold_of)
    predicted = {PERSONAL: np.array([personal[name] for name in names])}
    if everyone:
        predicted[EVERYONE] = np.array([base[name] for name in names])
    predicted[RIDGE] = _by_ridge(embeddings.image_embeds[embeddings.rows(names)], truth, fold)
    predicted[MEAN] = np.array([truth[fold != one].mean() if (fold != one).any() else 0.0 for one in fold])
    out = HeldOut(names, truth, predicted, groups=int(group.max()) + 1)
    _judge(out, group, rng)
    return out


def _by_head(
    scorer: PamelaScorer,
    ratings: Sequence[tuple[str, float]],
    likes: Sequence[tuple[str, bool]],
    embeddings: Embeddings,
    rating_range: tuple[float, float],
    fold_of: Mapping[str, int],
) -> tuple[dict[str, float], dict[str, float]]:
    """Photo → held-out utility, and photo → everyone's utility."""
    given = collect(scorer, ratings, likes, (), rating_range=rating_range, embeddings=embeddings)
    covariance = prior_of(scorer.model)
    answers = given.linearized(scorer, None, covariance)
    folds = np.array([fold_of[name] for name in given.keys])
    utility = held_out_utilities(answers, covariance, folds)
    names = [given.keys[i] for i in answers.image]
    return dict(zip(names, utility.tolist())), dict(zip(given.keys, answers.utility.tolist()))


def _by_ridge(features: np.ndarray, truth: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Scikit-learn's ridge, its strength chosen by leave-one-out on the other folds, of many photos on some."""
    from sklearn.linear_model import Ridge, RidgeCV
    from sklearn.preprocessing import StandardScaler

    out = np.zeros(len(truth))
    for one in np.unique(fold):
        here = fold == one
        if here.all():
            continue
        scaler = StandardScaler().fit(features[~here])
        x, y = scaler.transform(features[~here]), truth[~here]
        some = np.random.default_rng(0).permutation(len(x))[:CHOSEN_ON]
        model = RidgeCV(ALPHAS).fit(x[some], y[some])
        if len(some) < len(x):
            model = Ridge(model.alpha_).fit(x, y)
        out[here] = model.predict(scaler.transform(features[here]))
    return out


def _judge(out: HeldOut, group: np.ndarray, rng: np.random.Generator) -> None:
    """Fills in figures and differences."""
    members = [np.flatnonzero(group == one) for one in range(out.groups)]
    draws = [np.concatenate([members[i] for i in rng.integers(0, out.groups, out.groups)]) for _ in range(DRAWS)]
    first, second = _pairs(out.truth, rng)
    drawn: dict[str, np.ndarray] = {}
    for method, predicted in out.predicted.items():
        # a mean differs between folds by what they hold: it is made constant, since it ranks nothing
        predicted = np.zeros_like(predicted) if method == MEAN else predicted
        drawn[method] = np.array([_srocc(predicted[at], out.truth[at]) for at in draws])
        right = _right(predicted, out.truth, first, second)
        times = np.stack([np.bincount(at, minlength=len(group)) for at in draws[:200]])
        weights = times[:, first] * times[:, second]
        shares = (weights @ right) / np.maximum(weights.sum(1), 1)
        out.figures[method] = {
            "srocc": _cell(_srocc(predicted, out.truth), drawn[method]),
            "pairs": _cell(float(right.mean()), shares),
        }
    own = out.figures[PERSONAL]["srocc"]["value"]
    for method in out.figures:
        if method not in (PERSONAL, MEAN):
            difference = own - out.figures[method]["srocc"]["value"]
            out.differences[method] = _cell(difference, drawn[PERSONAL] - drawn[method])


def _srocc(predicted: np.ndarray, truth: np.ndarray) -> float:
    value = float(correlation(rankdata(predicted), rankdata(truth)))
    return value if np.isfinite(value) else 0.0


def _pairs(truth: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of photos with different stars; of many, some drawn at random."""
    n = len(truth)
    if n * (n - 1) // 2 <= MAX_PAIRS // 10:
        first, second = np.triu_indices(n, 1)
    else:
        first, second = rng.integers(0, n, (2, MAX_PAIRS // 10))
    differ = truth[first] != truth[second]
    return first[differ], second[differ]


def _right(predicted: np.ndarray, truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1 for a pair ordered as starred, ½ for a tie, 0 for one ordered the other way."""
    return 0.5 + 0.5 * np.sign(predicted[first] - predicted[second]) * np.sign(truth[first] - truth[second])


def _cell(value: float, draws: np.ndarray) -> dict[str, Any]:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return {"value": float(value), "ci_low": float(low), "ci_high": float(high)}
