"""Which images to ask a person about next, and whether more answers are worth their while."""

from dataclasses import dataclass

import numpy as np

from ..model.losses import MAX_STRETCH
from .fitting import Answers, Posterior, level_gradients

LOGISTIC_VARIANCE = np.pi**2 / 3  # of a rating around its utility, in the ordinal link
ENOUGH = 0.005  # of correlation with the person's ratings: what ten more must promise to be worth asking for
MOST_IMAGES = 2_000  # that the chosen are to stand for: a random sample where there are more
AT_ONCE = 4_000_000  # similarities


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
    rated: np.ndarray | None = None,
) -> Suggestion:
    """The next n images, see [`representative`], and in words whether ten more are worth asking about.

    Args:
        answers: of the N images: their utilities and slopes.
        belief: of the person's row.
        cutpoints: `(K - 1,)` of the rating scale.
        n: how many images, at most.
        prior: `(H, H)` covariance of people's rows.
        fresh: indices of the images that may be asked about; default: all.
        rated: indices of those that the person has answered about; default: none.
    """
    fresh = np.arange(len(answers.utility)) if fresh is None else fresh
    # each is chosen given those before it: the first n are the same however many are asked for
    chosen = representative(answers.slope, prior, max(n, 10), fresh, rated)
    information = rating_information(answers, belief.row, cutpoints)
    gain, gain_of_ten = (expected_gain(answers, belief, information, chosen[:count]) for count in (n, 10))
    bound = max(0.001, float(np.ceil(gain_of_ten * 1000) / 1000))
    enough = gain_of_ten < ENOUGH
    message = f"the next 10 ratings are expected to add less than {bound:.3f} to the correlation"
    message = f"Enough: {message}." if enough else f"Worth going on: {message}, but more than {ENOUGH}."
    return Suggestion(chosen[:n], gain, enough, message)


def representative(
    slope: np.ndarray,
    prior: np.ndarray,
    n: int,
    fresh: np.ndarray | None = None,
    rated: np.ndarray | None = None,
) -> list[int]:
    """Which n of N images to ask about next, so that those and the ones answered before stand for all N: each is like
    many images and unlike the ones before it.

    Kernel herding (Chen, Welling & Smola 2010, "Super-samples from kernel herding"): each next image brings the mean
    similarity to the chosen as near as can be to the mean similarity to all. Images are alike as far as a person drawn
    from the prior should like both equally, see [`even_slopes`].

    The base explains about half of what people differ in. Asking what lessens its doubt most (Yu, Bi & Tresp 2006)
    trusts the other half to it as well and, out of 800 images, came out no better than asking by chance; a sample that
    stands for all images needs no such trust (`scripts/bench_suggest.py` compares them).

    Args:
        slope: `(N, H)` of the images' utilities in a person's row.
        prior: `(H, H)` covariance of people's rows.
        n: how many, at most.
        fresh: indices of the images that may be asked about; default: all.
        rated: indices of those that the person has answered about; default: none.

    Returns:
        Indices, the first one first.
    """
    spread, axes = np.linalg.eigh(prior)
    places = even_slopes(slope, prior) @ (axes * np.sqrt(spread.clip(0)))
    some = places
    if len(places) > MOST_IMAGES:
        some = places[np.random.default_rng(0).permutation(len(places))[:MOST_IMAGES]]
    width = np.median(_apart(some, some)) or 1.0
    fresh = np.arange(len(slope)) if fresh is None else np.asarray(fresh, int)
    known = places[:0] if rated is None else places[np.asarray(rated, int)]
    asked = places[fresh]
    wanted = np.zeros(len(fresh))
    taken = np.zeros(len(fresh))
    for part in np.array_split(np.arange(len(fresh)), 1 + len(fresh) * (len(some) + len(known)) // AT_ONCE):
        wanted[part] = np.exp(-_apart(asked[part], some) / width).mean(1)
        taken[part] = np.exp(-_apart(asked[part], known) / width).sum(1)
    chosen: list[int] = []
    for count in range(len(known) + 1, len(known) + 1 + min(n, len(fresh))):
        score = wanted - taken / count
        score[chosen] = -np.inf
        best = int(np.argmax(score))
        chosen.append(best)
        taken += np.exp(-_apart(asked, asked[[best]])[:, 0] / width)
    return [int(i) for i in fresh[chosen]]


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distances `(n, m)` of places `(n, r)` and `(m, r)`."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return squares.clip(0)


def expected_gain(answers: Answers, belief: Posterior, information: np.ndarray, images: list[int]) -> float:
    """What ratings of these of the N images are expected to add to the correlation of scores and ratings.

    Args:
        answers: of the N images.
        belief: of the person's row.
        information: `(N,)`, see [`rating_information`].
        images: indices.
    """
    after = covariance_after(answers.slope[images], information[images], belief.covariance)
    utility = answers.utility + answers.slope @ belief.row
    signal, doubt = expected_correlation(utility, answers.slope, belief.covariance)
    _, left = expected_correlation(utility, answers.slope, after)
    # what is learned moves from doubt to signal
    total = signal + doubt + LOGISTIC_VARIANCE
    return float(max(np.sqrt(max(signal + doubt - left, 0.0) / total) - np.sqrt(signal / total), 0.0))


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
    than about others.

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


def expected_correlation(utility: np.ndarray, slope: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    """`(signal, doubt)`: variance over images of the predicted utilities `(N,)`, and mean variance of what is not known
    of them. The correlation with a person's ratings is about √(signal / (signal + doubt + noise))."""
    centred = slope - slope.mean(0)
    return float(utility.var()), float(np.einsum("nh,hg,ng->n", centred, covariance, centred).mean())
