"""Which images to ask a person about next, and whether more answers are worth their while."""

from dataclasses import dataclass

import numpy as np

from ..model.losses import MAX_STRETCH
from .fitting import Answers, Posterior, level_gradients

LOGISTIC_VARIANCE = np.pi**2 / 3  # of a rating around its utility, in the ordinal link
ENOUGH = 0.005  # of correlation with the person's ratings: what ten more must promise to be worth asking for
MOST_IMAGES = 1_000  # that are chosen from and told about: a random sample where there are more
NOISE = 3.0  # variance of an answer around its liking, in that which likings have over images; 1 and 10 choose as well


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
    features: np.ndarray,
    fresh: np.ndarray | None = None,
    rated: np.ndarray | None = None,
) -> Suggestion:
    """The next n images, see [`representative`], and in words whether ten more are worth asking about.

    Args:
        answers: of the N images: their utilities and slopes.
        belief: of the person's row.
        cutpoints: `(K - 1,)` of the rating scale.
        n: how many images, at most.
        features: `(N, D)` of the images, see [`design_features`].
        fresh: indices of the images that may be asked about; default: all.
        rated: indices of those that the person has answered about; default: none.
    """
    # each is chosen given those before it: the first n are the same however many are asked for
    chosen = representative(features, max(n, 10), fresh, rated)
    information = rating_information(answers, belief.row, cutpoints)
    gain, gain_of_ten = (expected_gain(answers, belief, information, chosen[:count]) for count in (n, 10))
    bound = max(0.001, float(np.ceil(gain_of_ten * 1000) / 1000))
    enough = gain_of_ten < ENOUGH
    message = f"the next 10 ratings are expected to add at most {bound:.3f} to the correlation with your ratings."
    message = f"{'Enough' if enough else 'Worth going on'}: {message}"
    return Suggestion(chosen[:n], gain, enough, message)


def design_features(answers: Answers, prior: np.ndarray, image_embeds: np.ndarray) -> np.ndarray:
    """`(N, D)` features of the images by which those to ask about stand for all: of a trained base what people, drawn
    from the prior, differ about; of a blank one, which knows nobody, the encoder's `image_embeds`.

    On OASIS, of people of train whom a base had not met, ten answers asked for by these were worth .004 ± .005 more
    than by the encoder's features, thirty .010 ± .004 (sixteen draws, one standard error); in the simulated world both
    are worth the same (`scripts/bench_suggest.py`). A blank base's directions are the encoder's but for those that
    images hardly vary along: by them 30 answers were worth .017 less.

    Args:
        answers: of the N images.
        prior: `(H, H)` covariance of people's rows, see [`pamela_hf.heads.head.prior_of`].
        image_embeds: `(N, D)`.
    """
    if answers.even is not None:
        return image_embeds
    directions = answers.slope @ np.linalg.cholesky(prior)
    return directions - directions.mean(0)


def representative(
    features: np.ndarray,
    n: int,
    fresh: np.ndarray | None = None,
    rated: np.ndarray | None = None,
) -> list[int]:
    """Which n of N images to ask about next, so that the answers, with those given before, say most about all N.

    Transductive experimental design (Yu, Bi & Tresp 2006, "Active learning via transductive experimental design"): one
    by one, the image whose answer would lessen the doubt about all images most, of a taste that may be any linear
    function of their features. So each is like many images and unlike the ones before it.

    Images count alike, however much people differ about them: what a base says they differ about most are a few unusual
    images, and real people differ about those little more than about others.

    Args:
        features: `(N, D)` of the images, see [`design_features`]; their lengths do not count.
        n: how many, at most.
        fresh: indices of the images that may be asked about; default: all. Of more than [`MOST_IMAGES`], a sample.
        rated: indices of those that the person has answered about; default: none.

    Returns:
        Indices, the first one first.
    """
    rng, every = np.random.default_rng(0), np.arange(len(features))
    fresh, rated, some = (
        rng.permutation(part)[:MOST_IMAGES] if len(part) > MOST_IMAGES else part
        for part in (every if fresh is None else fresh, every[:0] if rated is None else rated, every)
    )
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    asked, known, all_images = (features[part] / lengths[part] for part in (fresh, rated, some))
    centre = all_images.mean(0)
    size = np.sqrt(((all_images - centre) ** 2).sum(1).mean()) or 1.0
    asked, known, all_images = ((part - centre) / size for part in (asked, known, all_images))
    # what is left of the images that may be asked about, once the others' answers are known
    left = asked - asked @ known.T @ np.linalg.solve(known @ known.T + NOISE * np.eye(len(known)), known)
    variance, shared = (left * asked).sum(1), left @ all_images.T
    chosen: list[int] = []
    for _ in range(min(n, len(fresh))):
        gain = np.einsum("ij,ij->i", shared, shared) / (variance + NOISE)
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        chosen.append(best)
        weight = left @ asked[best] / (variance[best] + NOISE)
        variance = variance - weight**2 * (variance[best] + NOISE)
        shared -= np.outer(weight, shared[best])
        left -= np.outer(weight, left[best])
    return [int(i) for i in fresh[chosen]]


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


def covariance_after(slope: np.ndarray, information: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """`(H, H)` covariance of the row once images with these slopes `(n, H)` are rated."""
    known = slope @ covariance
    return covariance - known.T @ np.linalg.solve(np.diag(1 / np.maximum(information, 1e-9)) + known @ slope.T, known)


def expected_correlation(utility: np.ndarray, slope: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    """`(signal, doubt)`: variance over images of the predicted utilities `(N,)`, and mean variance of what is not known
    of them. The correlation with a person's ratings is about √(signal / (signal + doubt + noise))."""
    centred = slope - slope.mean(0)
    return float(utility.var()), float(np.einsum("nh,hg,ng->n", centred, covariance, centred).mean())
