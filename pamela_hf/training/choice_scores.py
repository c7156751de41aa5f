"""What choices say of single images, for the parts of the model that are fitted to ratings in closed form.

Everyone's utility is a ridge-penalized Bradley–Terry fit on the features' principal axes. A choice then says of each of
its two images how much more (or less) the person liked it than everyone: the residual of that fit in logits, as in one
step of Fisher scoring (McCullagh & Nelder 1989, *Generalized Linear Models*, 2.5). In expectation over pairs, what
these scores tell of a person's taste along a direction is what differences of features tell: the two images' shares of
one choice have opposite signs.
"""

from dataclasses import dataclass

import numpy as np

AXES = 112  # principal axes of the images' features
PENALTY = 10.0  # of everyone's weights on axes of unit variance, in choices
STEPS = 8
ROWS = 4096  # of features at a time
LEAST_VARIANCE = 0.02  # of the mean choice: where everyone is all but foreseen, nothing is blown up


@dataclass
class ChoiceScores:
    """Scores of images, two for each choice: `person (2m,)`, `image (2m,)`, `value (2m,)` on the scale of ratings in
    standard deviations."""

    person: np.ndarray
    image: np.ndarray
    value: np.ndarray


def choice_scores(features: np.ndarray, pairs: np.ndarray, ties: np.ndarray, people: np.ndarray) -> ChoiceScores:
    """Scores from m choices among N images.

    Args:
        features: `(N, D)` of the images, and of their prompts beside them.
        pairs: `(m, 2)` images, the preferred one first.
        ties: `(m,)` bool.
        people: `(m,)` numbers of those who chose.
    """
    axes = _principal(features)
    first, second = pairs.T
    outcome = np.where(ties, 0.5, 1.0)
    utility = axes @ _bradley_terry(axes, first, second, outcome)
    chance = 1 / (1 + np.exp(utility[second] - utility[first]))
    # divided by the mean variance rather than each choice's own: then each counts by what it tells
    residual = (outcome - chance) / max((chance * (1 - chance)).mean(), LEAST_VARIANCE)
    # a rating's standard deviation is that of its utility with logistic noise
    unit = np.sqrt(utility.var() + np.pi**2 / 3)
    value = np.concatenate([utility[first] + residual, utility[second] - residual]) / unit
    return ChoiceScores(np.tile(people, 2), np.concatenate([first, second]), value)


def _principal(features: np.ndarray) -> np.ndarray:
    """`(N, K)` coordinates on the first principal axes, each of unit variance at most."""
    mean = features.mean(0, dtype=np.float64)
    # some rows at a time: all of them in double precision would take twice the memory of the features, or more
    parts = [slice(start, start + ROWS) for start in range(0, len(features), ROWS)]
    covariance = np.zeros((len(mean), len(mean)))
    for part in parts:
        centred = features[part] - mean
        covariance += centred.T @ centred / len(features)
    variance, axes = np.linalg.eigh(covariance)
    kept = np.flatnonzero(variance > 1e-9 * max(variance[-1], 1e-300))[::-1][:AXES]
    found = np.concatenate([np.zeros((0, len(kept))), *((features[part] - mean) @ axes[:, kept] for part in parts)])
    return found / np.sqrt(variance[kept].mean() if len(kept) else 1.0)


def _bradley_terry(axes: np.ndarray, first: np.ndarray, second: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """`(K,)` weights of everyone's utility, by penalized maximum likelihood (Newton's steps)."""
    weights = np.zeros(axes.shape[1])
    for _ in range(STEPS):
        gradient, information = -PENALTY * weights, PENALTY * np.eye(len(weights))
        for start in range(0, len(first), 50_000):
            part = slice(start, start + 50_000)
            difference = axes[first[part]] - axes[second[part]]
            chance = 1 / (1 + np.exp(-(difference @ weights)))
            gradient = gradient + difference.T @ (outcome[part] - chance)
            information = information + difference.T @ (difference * (chance * (1 - chance))[:, None])
        weights = weights + np.linalg.solve(information, gradient)
    return weights
