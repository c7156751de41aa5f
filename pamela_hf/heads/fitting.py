"""One person's row from their answers: maximum a posteriori, how sure it is, and what to ask next.

Utilities are linearized in the row, `u(r) = u₀ + J r`: a row acts on the utility through a few linear maps and an
attention token, and where people's rows lie the rest is small. Ratings follow the model's ordinal link (McCullagh
1980), choices Bradley and Terry's model. The prior is `r ~ N(0, s·Σ)`, Σ from the trained people's rows.

How far to move is left to the evidence: rows are fitted for several s and averaged by their marginal likelihood
(Laplace's approximation; MacKay 1992, *Bayesian Interpolation*). That the answers carry no information about which
images are liked, as those of a person who clicks at random, is one more hypothesis among them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import ThreadpoolController

from ..model.losses import MAX_STRETCH

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the prior's covariance, relative to the trained people's
# A person's ratings of similar images err alike, so they hold less evidence than the same number of independent ones.
# Cross-validated over people of train: 1 moved too far at 20 ratings, 0.2 not far enough at 100.
EVIDENCE_POWER = 0.5
# Rows are estimates and their correlations mostly noise: at 0.4 and more, ten ratings helped less.
CORRELATION_KEPT = 0.2
# How a person uses a scale is fitted beside the row, so that taste need not explain it: shift and log-stretch of the
# cutpoints, and where on the utility scale a like begins, in logits (cross-validated: .006 at 20 and more ratings).
USE_STD = np.array([1.5, 0.4, 1.5])
# Then the row is moved to reproduce that use, in directions that change the order of the rated images least. On other
# images it costs some order, so it is done by n / (n + 200) for n ratings: no order was lost, and rmse gained.
USE_HALF_AT = 200
# How much a person likes an image beyond what its features explain, in logits: choices among the same images share
# it. Without it, the 435 choices among 30 images counted as 435 facts and cost .016 of SROCC on other images; now they
# gain .018 (`bench_cv.py --choices`). At 1 they gained half as much; at 2, 50 choices among as many images gained .003
# less.
IMAGE_STD = 1.5
# Probability, before any answer, that a person answers at random. It makes the loss by 100 random ratings .02 of SROCC
# instead of .29 (`bench_cv.py --choices`); real ratings gain what they did without it. At .05 ten of them gained less.
RANDOM_PRIOR = 0.02
# Of a blank base, whose factors are the principal axes of its images: as many as there are answers, at least so many.
# In a made-up world 128 axes ranked as well as 1,152 by 100 answers, .01 worse by 1,000 and .09 by 3,000. The time to
# fit goes with their square.
BLANK_FACTORS = 130
ITERATIONS = 50
CONVERGED = 1e-10  # log-likelihood that another step would gain
# Fisher information takes many times as long as a gradient: that of a place nearby serves while a step gains what it
# promises, more or less by this share of it.
ASTRAY = 0.3
NEGLIGIBLE = 1e-9  # weight of a hypothesis whose covariance is left out


@dataclass
class Answers:
    """One person's answers about N images; H is the width of a row.

    Attributes:
        utility: `(N,)` everyone's utility of each image.
        slope: `(N, H)` what a unit of the row adds to each image's utility.
        style: `(2, H)` shift and log-stretch of the cutpoints for a unit of the row.
        image: `(n,)` which image each rating is about.
        level: `(n,)` level index of each rating.
        cutpoints: `(n, K - 1)` ascending cutpoints of each rating's scale, padded with multiples of
            [`pamela_hf.model.losses.CUTPOINT_PAD`].
        is_like: `(n,)` whether it is a like (1) or dislike (0), which has an offset of its own.
        pairs: `(m, 2)` images (preferred, other).
        even: `(H,)` variances of a second prior, relative to the first's, to be weighed up with it; default: none. A
            blank base has one, see [`PamelaFeatures.even_variances`], for more than [`BLANK_FACTORS`] answers: 100 of
            them ranked other images .01 worse with it (people of OASIS' train).
    """

    utility: np.ndarray
    slope: np.ndarray
    style: np.ndarray
    image: np.ndarray
    level: np.ndarray
    cutpoints: np.ndarray
    is_like: np.ndarray
    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    even: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image) + len(self.pairs)

    def subset(self, kept: np.ndarray) -> "Answers":
        """The answers where `kept` `(n + m,)` is true: ratings first, then pairs."""
        n = len(self.image)
        here, pairs = kept[:n], kept[n:]
        return Answers(
            self.utility, self.slope, self.style, self.image[here], self.level[here], self.cutpoints[here],
            self.is_like[here], self.pairs[pairs], self.even,
        )  # fmt: skip


    def first(self, width: int) -> "Answers":
        """As if rows were no wider: the further factors stay as they are in everyone's."""
        even = None if self.even is None else self.even[:width]
        return replace(self, slope=self.slope[:, :width], style=self.style[:, :width], even=even)


@dataclass
class Posterior:
    """What is believed of a row: `row (H,)`, `covariance (H, H)`, and the prior's `scale`, averaged by evidence.
    `random`: probability that the answers carry no information about which images are liked."""

    row: np.ndarray
    covariance: np.ndarray
    scale: float = 1.0
    random: float = RANDOM_PRIOR


def prior_covariance(rows: np.ndarray) -> np.ndarray:
    """Σ `(H, H)` of trained rows `(U, H)` around 0, shrunk: variances towards their mean (as if five more people had
    it), correlations to [`CORRELATION_KEPT`] of what they are.

    Raises:
        ValueError: no rows, or all of them 0.
    """
    if not len(rows) or not np.any(rows):
        raise ValueError("This model has no trained people to learn from how tastes differ; train it with its users.")
    covariance = rows.T @ rows / len(rows)
    variance = np.diag(covariance)
    own = len(rows) / (len(rows) + 5)
    diagonal = own * variance + (1 - own) * variance.mean()
    return (
        CORRELATION_KEPT * covariance
        + np.diag(diagonal - CORRELATION_KEPT * variance).clip(0)
        + 1e-9 * np.eye(len(variance))
    )


def linearize(
    utilities: Callable[[np.ndarray], np.ndarray], std: np.ndarray, tastes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`(N,)` intercept and `(N, H)` slope of utilities as a linear function of the row around 0, everyone's taste.

    Args:
        utilities: function of rows `(R, H)` that gives the images' utilities `(N, R)`.
        std: `(H,)` standard deviation of the prior; central differences are half of it wide.
        tastes: `(N, T)` slopes of the row's last T numbers, which utilities are linear in.
    """
    width = len(std) - tastes.shape[1]
    steps = 0.5 * np.diag(std)[:width]
    values = utilities(np.concatenate([np.zeros((1, len(std))), steps, -steps])).astype(np.float64)
    slope = (values[:, 1 : width + 1] - values[:, width + 1 :]) / std[:width]
    return values[:, 0], np.hstack([slope, tastes])


def level_gradients(
    advantage: np.ndarray, stretch: np.ndarray | float, cutpoints: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability of each level `(n, K)` and the gradients of its logarithm by advantage and by log-stretch.

    Args:
        advantage: `(n,)` utility minus the person's shift.
        stretch: log-stretch of the cutpoints.
        cutpoints: `(n, K - 1)` ascending cutpoints of each rating's scale.
    """
    scaled = cutpoints * np.exp(stretch)
    below = np.zeros((len(scaled), scaled.shape[1] + 2))
    below[:, -1] = 1.0
    below[:, 1:-1] = _sigmoid(scaled - advantage[:, None])
    density = below * (1 - below)
    moved = np.zeros_like(below)
    moved[:, 1:-1] = density[:, 1:-1] * scaled
    probability = np.maximum(np.diff(below, axis=1), 1e-12)
    return probability, -np.diff(density, axis=1) / probability, np.diff(moved, axis=1) / probability


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


@dataclass
class _Point:
    """Log-likelihood at `x (P,)`, its `gradient (P,)`, and what its Fisher information is made of: of each rating by
    advantage and by both advantage and log-stretch `(n,)`, of all by log-stretch, and of each choice by margin `(m,)`.
    """

    x: np.ndarray
    value: float
    gradient: np.ndarray
    by_advantage: np.ndarray
    by_both: np.ndarray
    by_stretch: float
    by_margin: np.ndarray


class _Problem:
    """Log-likelihood of answers by P parameters: the row, the person's use of the scale (shift, log-stretch, a like's
    own shift), and the liking of each image in choices beyond its features."""

    def __init__(self, answers: Answers):
        a = self.answers = answers
        self.row = a.slope.shape[1]
        self.shared = self.row + len(USE_STD)
        images, pairs = np.unique(a.pairs, return_inverse=True)
        self.width = self.shared + len(images)
        self.first, self.second = pairs.reshape(-1, 2).T
        shift, stretch = a.style
        n = len(a.image)
        self.direction = np.column_stack([a.slope[a.image] - shift, -np.ones(n), np.zeros(n), -a.is_like])
        self.stretch = np.concatenate([stretch, [0.0, 1.0, 0.0]])
        preferred, other = a.pairs.T
        self.pair_direction = a.slope[preferred] - a.slope[other]
        self.pair_utility = a.utility[preferred] - a.utility[other]

    def prior(self, precision: np.ndarray) -> np.ndarray:
        beyond = np.full(self.width - self.shared, IMAGE_STD**-2)
        out = np.diag(np.concatenate([np.zeros(self.row), USE_STD**-2.0, beyond]))
        out[: self.row, : self.row] = precision
        return out

    def at(self, x: np.ndarray) -> _Point:
        a, shared, beyond = self.answers, x[: self.shared], x[self.shared :]
        t = float(np.clip(self.stretch @ shared, -MAX_STRETCH, MAX_STRETCH))
        at = np.arange(len(a.level)), a.level
        p, by_advantage, by_stretch = level_gradients(a.utility[a.image] + self.direction @ shared, t, a.cutpoints)
        margin = self.pair_utility + self.pair_direction @ x[: self.row] + beyond[self.first] - beyond[self.second]
        lost = _sigmoid(-margin)
        gradient = np.zeros(self.width)
        gradient[: self.shared] = self.direction.T @ by_advantage[at] + self.stretch * by_stretch[at].sum()
        gradient[: self.row] += self.pair_direction.T @ lost
        for here, sign in ((self.first, 1), (self.second, -1)):
            np.add.at(gradient[self.shared :], here, sign * lost)
        return _Point(
            x=x,
            value=np.log(p[at]).sum() - np.logaddexp(0, -margin).sum(),
            gradient=gradient,
            by_advantage=(p * by_advantage**2).sum(1),
            by_both=(p * by_advantage * by_stretch).sum(1),
            by_stretch=float((p * by_stretch**2).sum()),
            by_margin=lost * (1 - lost),
        )

    def fisher(self, point: _Point) -> np.ndarray:
        """Fisher information `(P, P)`."""
        out = np.zeros((self.width, self.width))
        weighted = self.direction * np.sqrt(point.by_advantage)[:, None]
        with_stretch = self.direction.T @ point.by_both + 0.5 * point.by_stretch * self.stretch
        cross = np.outer(with_stretch, self.stretch)
        out[: self.shared, : self.shared] = weighted.T @ weighted + cross + cross.T
        if len(self.first):
            self._add_choices(point.by_margin, out)
        return out

    def _add_choices(self, weight: np.ndarray, out: np.ndarray) -> None:
        """A choice touches two of many images: adding up pair by pair is faster than products with zeros."""
        row, images = slice(self.row), slice(self.shared, None)
        weighted = self.pair_direction * weight[:, None]
        out[row, row] += weighted.T @ self.pair_direction
        for here, there, sign in ((self.first, self.second, 1), (self.second, self.first, -1)):
            np.add.at(out[images, row], here, sign * weighted)
            np.add.at(out[images, images], (here, here), weight)
            np.add.at(out[images, images], (here, there), -weight)
        out[row, images] = out[images, row].T


# A fit's matrices are small, and the two BLAS libraries that NumPy and SciPy bring wait for each other's threads: on
# two cores a head took seven times as long.
_BLAS = ThreadpoolController().select(user_api="blas")


@_BLAS.wrap(limits=1)
def fit_row(answers: Answers, covariance: np.ndarray, scales: Sequence[float] = SCALES) -> Posterior:
    """The row of a person who gave these answers: the mean over prior scales, and over the hypothesis that they are
    random, of the MAP rows, by their evidence.

    Args:
        covariance: `(H, H)` covariance of the prior, see [`prior_covariance`].
        scales: multiples of `covariance` to weigh up, default [`SCALES`].

    Returns:
        [`Posterior`]. Without answers it is the prior: row 0, everyone's taste.
    """
    width = len(covariance)
    if not len(answers):
        return Posterior(np.zeros(width), covariance)
    used = max(BLANK_FACTORS, len(answers))
    if answers.even is not None and used < width:
        first = fit_row(answers.first(used), covariance[:used, :used], scales)
        spread = covariance.copy()
        spread[:used, :used] = first.covariance
        return Posterior(np.append(first.row, np.zeros(width - used)), spread, first.scale, first.random)
    problem, inverse = _Problem(answers), np.linalg.inv(covariance)
    nothing = np.zeros(problem.width)
    nothing[width : problem.shared], evidence = _random_evidence(answers)
    shapes = [np.ones(width)]
    if answers.even is not None and len(answers) > BLANK_FACTORS:
        shapes.append(answers.even)
    multiples = [(scale, shape) for shape in shapes for scale in scales]
    means, log_weight, factors = [nothing], [EVIDENCE_POWER * evidence + np.log(RANDOM_PRIOR)], []
    point = problem.at(np.zeros(problem.width))
    fisher = problem.fisher(point)
    for scale, shape in multiples:
        std = np.sqrt(np.maximum(scale * shape, 1e-12))
        precision = problem.prior(inverse / np.outer(std, std))
        point, fisher = _maximize(problem, precision, point, fisher)
        factors.append(cho_factor(fisher + precision))
        evidence = _log_evidence(point, precision, factors[-1])
        means.append(point.x)
        log_weight.append(EVIDENCE_POWER * evidence + np.log((1 - RANDOM_PRIOR) / len(multiples)))
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    mean = weight @ means
    row = mean[:width]
    spread = weight[0] * covariance
    for w, factor in zip(weight[1:], factors):
        if w > NEGLIGIBLE:
            spread += w * cho_solve(factor, np.eye(problem.width, width))[:width]
    apart = np.stack(means)[:, :width] - row
    spread += (weight[:, None] * apart).T @ apart
    row = row + _use_in_row(answers, mean[width : width + 2], inverse)
    return Posterior(row, spread, float(weight @ [1.0, *(scale for scale, _ in multiples)]), float(weight[0]))


def _random_evidence(answers: Answers) -> tuple[np.ndarray, float]:
    """The use of the scale `(3,)` and the log-evidence if all images were alike to the person."""
    a = answers
    alike = Answers(
        np.zeros_like(a.utility), a.slope[:, :0], a.style[:, :0], a.image, a.level, a.cutpoints, a.is_like
    )  # fmt: skip
    problem = _Problem(alike)
    start, precision = problem.at(np.zeros(problem.width)), problem.prior(np.zeros((0, 0)))
    point, fisher = _maximize(problem, precision, start, problem.fisher(start))
    return point.x, _log_evidence(point, precision, cho_factor(fisher + precision)) - len(a.pairs) * np.log(2)


def _use_in_row(answers: Answers, use: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """`(H,)` what to add to a row for a `use` of the scale (shift, log-stretch), with the least change of the order of
    the rated images; `precision (H, H)` of the prior."""
    images = np.unique(answers.image)
    if not len(images):
        return np.zeros(len(precision))
    slope = answers.slope[images]
    mean = slope.mean(0)
    # a utility added to all images alike is a shift, too
    wanted = np.stack([answers.style[0] - mean, answers.style[1]])
    slope = slope - mean
    cost = slope.T @ slope / len(images) + 0.01 * precision
    ways = np.linalg.solve(cost, wanted.T)
    share = len(answers.image) / (len(answers.image) + USE_HALF_AT)
    return share * ways @ np.linalg.lstsq(wanted @ ways, use, rcond=1e-9)[0]


def _maximize(
    problem: _Problem, precision: np.ndarray, point: _Point, fisher: np.ndarray
) -> tuple[_Point, np.ndarray]:
    """The mode under a prior of that `precision`, and the Fisher information there, by Fisher scoring with halved
    steps; it starts at `point`, with the Fisher information of a place nearby for as long as that is quick."""

    def posterior(at: _Point) -> float:
        return at.value - 0.5 * at.x @ precision @ at.x

    value, factor, own = posterior(point), cho_factor(fisher + precision), False
    for _ in range(ITERATIONS):
        slope = point.gradient - precision @ point.x
        step = cho_solve(factor, slope, check_finite=False)  # checked as it was factored
        left = 0.5 * step @ slope
        if left < CONVERGED:
            break
        size = 1.0
        after = problem.at(point.x + step)
        while not posterior(after) >= value and size > 1e-3:
            size /= 2
            after = problem.at(point.x + size * step)
        gained = posterior(after) - value
        if gained >= 0:
            point, value = after, value + gained
        elif own:
            break
        own = not abs(gained - left) <= ASTRAY * left
        if own:
            factor = cho_factor(problem.fisher(point) + precision)
    return point, problem.fisher(point)


def _log_evidence(mode: _Point, precision: np.ndarray, factor: tuple[np.ndarray, bool]) -> float:
    """Laplace's approximation, from the Cholesky factor of the information at the mode."""
    value = mode.value - 0.5 * mode.x @ precision @ mode.x
    return value + 0.5 * np.linalg.slogdet(precision)[1] - np.log(np.diag(factor[0])).sum()


def held_out_utilities(answers: Answers, covariance: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """`(n,)` utility of each rated image by the row fitted on the answers about images of other folds alone: a choice
    counts where neither of its images is held out. `folds (N,)`: of each image."""
    out = np.empty(len(answers.image))
    for fold in np.unique(folds[answers.image]):
        apart = folds != fold
        kept = np.concatenate([apart[answers.image], apart[answers.pairs].all(1)])
        row = fit_row(answers.subset(kept), covariance).row
        held = ~apart[answers.image]
        at = answers.image[held]
        out[held] = answers.utility[at] + answers.slope[at] @ row
    return out
