"""Which images to ask a person about next, and whether more answers are worth their while."""

from dataclasses import dataclass

import numpy as np

from ..model.losses import MAX_STRETCH
from .fitting import Answers, Posterior, level_gradients

LOGISTIC_VARIANCE = np.pi**2 / 3  # of a rating around its utility, in the ordinal link
ENOUGH = 0.005  # of correlation with the person's ratings: what ten more must promise to be worth asking for


@dataclass
class Suggestion:
    """Which images to rate next.

    Attributes:
        images: n indices into the images given, the most informative first.
        expected_gain: what rating them is expected to add to the correlation of scores and ratings, in 0..1.
        enough: the next ten are expected to add less than [`ENOUGH`].
        message: the same in words.
    """

    images: list[int]
    expected_gain: float
    enough: bool
    message: str


def suggest_images(
    answers: Answers,
    belief: Posterior,
    cutpoints: np.ndarray,
    n: int,
    prior: np.ndarray,
    fresh: np.ndarray | None = None,
) -> Suggestion:
    """The next n images, and in words whether ten more are worth asking about; see [`choose`].

    Args:
        answers: of the N images: their utilities and slopes.
        belief: of the person's row.
        cutpoints: `(K - 1,)` of the rating scale.
        n: how many images, at most.
        prior: `(H, H)` covariance of people's rows.
        fresh: indices of the images that may be asked about; default: all.
    """
    chosen, gain = choose(answers, belief, cutpoints, n, prior, fresh)
    _, gain_of_ten = choose(answers, belief, cutpoints, 10, prior, fresh)
    bound = max(0.001, float(np.ceil(gain_of_ten * 1000) / 1000))
    enough = gain_of_ten < ENOUGH
    message = f"the next 10 ratings are expected to add less than {bound:.3f} to the correlation"
    message = f"Enough: {message}." if enough else f"Worth going on: {message}, but more than {ENOUGH}."
    return Suggestion(chosen, gain, enough, message)


def choose(
    answers: Answers,
    belief: Posterior,
    cutpoints: np.ndarray,
    n: int,
    prior: np.ndarray,
    fresh: np.ndarray | None = None,
) -> tuple[list[int], float]:
    """Which n images of `answers` to ask about next, of those in `fresh`, and what that is expected to add to the
    correlation of scores and ratings; the arguments are those of [`suggest_images`]."""
    fresh = np.arange(len(answers.utility)) if fresh is None else fresh
    information = rating_information(answers, belief.row, cutpoints)
    slope = even_slopes(answers.slope, prior)
    picked, _ = most_informative(slope[fresh], information[fresh], belief.covariance, n, slope)
    after = covariance_after(answers.slope[fresh][picked], information[fresh][picked], belief.covariance)
    utility = answers.utility + answers.slope @ belief.row
    signal, doubt = expected_correlation(utility, answers.slope, belief.covariance)
    _, left = expected_correlation(utility, answers.slope, after)
    # what is learned moves from doubt to signal
    total = signal + doubt + LOGISTIC_VARIANCE
    gain = np.sqrt(max(signal + doubt - left, 0.0) / total) - np.sqrt(signal / total)
    return [int(fresh[i]) for i in picked], float(max(gain, 0.0))


def rating_information(answers: Answers, row: np.ndarray, cutpoints: np.ndarray) -> np.ndarray:
    """`(N,)` Fisher information that a rating on the scale `cutpoints (K - 1,)` would give about each utility."""
    shift, stretch = answers.style @ row
    advantage = answers.utility + answers.slope @ row - shift
    p, by_advantage, _ = level_gradients(
        advantage, np.clip(stretch, -MAX_STRETCH, MAX_STRETCH), np.tile(cutpoints, (len(advantage), 1))
    )
    return (p * by_advantage**2).sum(1)


def even_slopes(slope: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """`(N, H)` slopes less their mean, scaled so that people differ about each image as much as about any other.

    What the base says people differ about most are a few unusual images, and real people differ about those little more
    than about others. Asked about them, people of OASIS' train whom the base didn't know (five folds, twice) gained
    nothing by ten ratings; with even slopes they gain .008, in the simulated world as much either way.

    Args:
        slope: `(N, H)` of the images.
        prior: `(H, H)` covariance of people's rows.
    """
    centred = slope - slope.mean(0)
    variance = np.einsum("nh,hg,ng->n", centred, prior, centred)
    return centred * np.sqrt(variance.mean() / np.maximum(variance, 1e-12 * max(variance.max(), 1e-300)))[:, None]


def covariance_after(slope: np.ndarray, information: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """`(H, H)` covariance of the row once images with these slopes `(n, H)` are rated."""
    known = slope @ covariance
    return covariance - known.T @ np.linalg.solve(np.diag(1 / np.maximum(information, 1e-9)) + known @ slope.T, known)


def most_informative(
    slope: np.ndarray, information: np.ndarray, covariance: np.ndarray, n: int, pool: np.ndarray | None = None
) -> tuple[list[int], np.ndarray]:
    """Which n of N images to ask about, and the covariance `(H, H)` that is expected afterwards.

    Greedily, the image whose rating would lessen the variance of the pool's utilities most (transductive design: Yu,
    Bi & Tresp 2006); each choice is counted as known for the next, so near-duplicates aren't asked twice.

    Args:
        slope: `(N, H)` slopes of the images.
        information: `(N,)` information that a rating gives about the utility.
        covariance: `(H, H)` covariance of the row.
        n: how many images, at most.
        pool: `(M, H)` slopes of the images that matter; default: these N.
    """
    pool = slope if pool is None else pool
    # a constant added to all utilities ranks nothing
    centred = pool - pool.mean(0)
    matters = centred.T @ centred / len(pool)
    free, chosen, covariance = np.ones(len(slope), bool), [], covariance.copy()
    for _ in range(min(n, len(slope))):
        known = slope @ covariance
        gain = ((known @ matters) * known).sum(1) / (1 / np.maximum(information, 1e-9) + (known * slope).sum(1))
        best = int(np.argmax(np.where(free, gain, -np.inf)))
        noise = 1 / max(information[best], 1e-9)
        covariance -= np.outer(known[best], known[best]) / (noise + known[best] @ slope[best])
        chosen.append(best)
        free[best] = False
    return chosen, covariance


def expected_correlation(utility: np.ndarray, slope: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    """`(signal, doubt)`: variance over images of the predicted utilities `(N,)`, and mean variance of what is not known
    of them. The correlation with a person's ratings is about √(signal / (signal + doubt + noise))."""
    centred = slope - slope.mean(0)
    return float(utility.var()), float(np.einsum("nh,hg,ng->n", centred, covariance, centred).mean())
