"""How well predicted ratings agree with people's own: array metrics and their intervals (numpy, scipy only).

[`METRICS`] is the one table of them: an entry added to it is computed, reported and explained everywhere.

Everything but `diverging` and `avg_*` is computed per participant and averaged with equal weights.
Participants with fewer than `MIN_RATINGS` ratings, or whose ratings are all equal, are left out of those
means (their per-user value is NaN) and counted; a person without a pair at a margin is left out of that
margin alone. `diverging` and `avg_*` compare people with each other, so everyone counts there.

A constant prediction has correlation 0. Predictions and references must be finite: NaN is never better than
anything, so it is refused (with its row) rather than ranked somewhere.

Intervals resample participants, never ratings: a draw is a weight per participant (how often drawn), and each
metric is a function of the weights. Per-user metrics are weighted means; `diverging` is a ratio of two
quadratic forms in the weights; `avg_*` correlates weighted means over images. So nothing is recomputed from
ratings in a draw, and two scorers judged with one seed share their draws: their difference is paired. A draw holds
fewer distinct people than the data, which makes images' means noisier and `avg_*` lower; by what they lie low on
average their draws are raised (the bootstrap's estimate of bias: Efron and Tibshirani 1993, eq. 10.2).
One person says nothing about others: a value that rests on fewer than two has no interval (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike as Array
from scipy.sparse import csr_array
from scipy.stats import rankdata

MARGINS = (0, 1, 2, 3)
MIN_RATINGS = 6
# Ratings may arrive as float32: a difference of exactly one level must not exceed the margin by rounding.
_MARGIN_TOLERANCE = 1e-5
# Means over the same raters of the same predictions may differ in the last bit; such images are tied.
_TIE_DECIMALS = 11
# Elements of one temporary array: bounds the memory of the bootstrap whatever the number of images.
_CHUNK_ELEMENTS = 500_000


@dataclass(frozen=True)
class PersonRatings:
    """What a metric of one person is computed from: at least `MIN_RATINGS` ratings that are not all equal.

    Args:
        predictions: (n,) float64, predicted scores, higher = liked more.
        ratings: (n,) float64, the person's own ratings.
        levels: (n,) float64, position of each rating on its scale, in levels.
        pit: (n,) float64 in [0, 1], see [`randomized_pit`], or None without predicted probabilities.
    """

    predictions: np.ndarray
    ratings: np.ndarray
    levels: np.ndarray
    pit: np.ndarray | None

    @cached_property
    def order(self) -> tuple[float, list[float]]:
        """Kendall's tau-b, and the pairwise accuracy at each of `MARGINS`."""
        return _ordering(self.predictions, self.levels)


@dataclass(frozen=True)
class Metric:
    """One row of [`METRICS`], where exactly one of `of_person` and `of_people` is given, or of another such table.

    Args:
        meaning: one line for somebody who has never heard of the metric, shown beside its values.
        heading: the column's heading in a console, at most 9 characters.
        best: the value of a perfect prediction: the nearer, the better.
        of_person: one person's ratings -> value, NaN where it is undefined. Averaged over people with equal weights.
        of_people: people's ratings, (B, U) bootstrap weights -> value, (B,) draws and (U,) bool, who is involved.
        in_differences: shown in the console where scorers are compared in pairs.
        in_ablation: a column of the ablation's table.
        card: heading in the table of a model card, "" where it is not shown there.
    """

    meaning: str
    heading: str
    best: float
    of_person: Callable[[PersonRatings], float] | None = None
    of_people: Callable[[_Table, np.ndarray], tuple[float, np.ndarray, np.ndarray]] | None = None
    in_differences: bool = False
    in_ablation: bool = False
    card: str = ""

    def loss(self, value: float | None) -> float:
        """Distance from the best value, so that lower is better; infinite where there is no value."""
        return np.inf if value is None or np.isnan(value) else abs(value - self.best)


@dataclass(frozen=True)
class UserMetrics:
    """Per-participant values.

    Args:
        participants: (U,) ids as str, sorted.
        values: metric → (U,) float64, NaN where the person is left out.
        left_out: how many are left out of every metric (`few_ratings`, `constant_ratings`; someone who is both
            counts as few) and of one margin only (`no_pair_m`).
    """

    participants: np.ndarray
    values: dict[str, np.ndarray]
    left_out: dict[str, int]

    def mean(self, metric: str) -> float:
        """The unweighted mean over the people who have a value; NaN if nobody has."""
        return float(_weighted_mean(self.values[metric], np.ones((1, len(self.participants))))[0])


@dataclass(frozen=True)
class Estimate:
    """One metric of one scorer.

    Args:
        value: the metric, NaN where it is undefined.
        draws: (B,) its bootstrap draws.
        n_users: how many people it rests on.
        people: (U,) bool, which of the participants judged, or None where that is not known.
    """

    value: float
    draws: np.ndarray
    n_users: int
    people: np.ndarray | None = None

    def as_dict(self) -> dict[str, float | int]:
        """`{"value", "ci_low", "ci_high", "n_users"}`, the interval being the central 95 % of the draws; NaN for
        fewer than two people."""
        low, high = _interval(self.draws, self.n_users)
        return {"value": self.value, "ci_low": low, "ci_high": high, "n_users": self.n_users}

    def __sub__(self, other: Estimate) -> Estimate:
        """The paired difference; both must come from the same ratings, seed and number of draws.

        Raises:
            ValueError: the two rest on different people, so their difference would be one of people too.
        """
        n_users = min(self.n_users, other.n_users)
        if n_users and self.people is not None and other.people is not None:
            if not np.array_equal(self.people, other.people):
                raise ValueError(
                    f"a difference of means over {self.n_users} and {other.n_users} people who are not the same; "
                    "judge both on the same ratings."
                )
        return Estimate(self.value - other.value, self.draws - other.draws, n_users, self.people)


def user_metrics(
    predictions: Array,
    references: Array,
    groups: Array,
    *,
    probs: Array | None = None,
    level_values: Array | None = None,
    levels: Array | None = None,
    participants: Sequence[str] | None = None,
    rng: int = 0,
) -> UserMetrics:
    """Every per-user metric, participant by participant.

    Args:
        predictions: (n,) predicted scores, higher = liked more. In rating units for `rmse` to mean anything.
        references: (n,) the ratings.
        groups: (n,) who gave each rating.
        probs: (n, K) predicted probability of each level; without it `coverage_80` is NaN.
        level_values: (K,) or (n, K) rating of each level, NaN where a row has fewer than K levels.
        levels: (n,) position of each rating on its scale, in levels; the unit of the margins. Default: the
            references themselves (right for integer scales).
        participants: ids the values are aligned with; default the sorted distinct groups.
        rng: seed of the randomized probability integral transform.

    Raises:
        ValueError: empty input, lengths that differ, missing groups, NaN or infinite numbers (with the row).
    """
    predictions, references = _numbers(predictions, references)
    participants, codes = _codes("groups", groups, len(references), participants)
    levels = references if levels is None else _vector("levels", levels, len(references))
    pit = None if probs is None else randomized_pit(references, probs, level_values, rng)

    of_person = {name: metric.of_person for name, metric in METRICS.items() if metric.of_person}
    values = {name: np.full(len(participants), np.nan) for name in of_person}
    left_out = dict.fromkeys(["few_ratings", "constant_ratings", *(f"no_pair_{m}" for m in MARGINS)], 0)
    for user, rows in enumerate(_rows_of(codes, len(participants))):
        person = PersonRatings(predictions[rows], references[rows], levels[rows], None if pit is None else pit[rows])
        if len(rows) < MIN_RATINGS:
            left_out["few_ratings"] += len(rows) > 0
            continue
        if person.ratings.min() == person.ratings.max():
            left_out["constant_ratings"] += 1
            continue
        for name, compute in of_person.items():
            values[name][user] = compute(person)
        for margin, accuracy in zip(MARGINS, person.order[1]):
            left_out[f"no_pair_{margin}"] += int(np.isnan(accuracy))
    return UserMetrics(participants, values, left_out)


def correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray | float:
    """Pearson's correlation over the last axis: 0 where the prediction x is constant, NaN where y is."""
    x_constant = x.max(-1) == x.min(-1)
    y_constant = y.max(-1) == y.min(-1)
    x = x - x.mean(-1, keepdims=True)
    y = y - y.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (x * y).sum(-1) / (np.sqrt((x * x).sum(-1)) * np.sqrt((y * y).sum(-1)))
    r = np.where(y_constant, np.nan, np.where(x_constant, 0.0, np.clip(r, -1.0, 1.0)))
    return float(r) if r.ndim == 0 else r


def _ordering(p: np.ndarray, levels: np.ndarray) -> tuple[float, list[float]]:
    """Kendall's tau-b, and the pairwise accuracy at each margin, of one person with n ratings: O(n²).

    Sorted by rating, the images rated more than m below image i are a prefix; the row-wise running sum of
    sign(p_i - p_j) read at the prefix's end is i's concordant minus its discordant pairs. Memory: 6n² bytes.
    """
    order = np.argsort(levels, kind="stable")
    p, levels = p[order], levels[order]
    above = p[:, None] > p
    running = np.zeros((len(p), len(p) + 1), dtype=np.int32)
    np.cumsum(above.view(np.int8) - above.T.view(np.int8), axis=1, out=running[:, 1:])
    accuracies = []
    for margin in MARGINS:
        limit = levels - margin - _MARGIN_TOLERANCE if margin else levels
        prefix = np.searchsorted(levels, limit, side="left")
        pairs = int(prefix.sum())
        net = int(running[np.arange(len(p)), prefix].sum(dtype=np.int64))
        accuracies.append(0.5 + 0.5 * net / pairs if pairs else np.nan)
        if margin == 0:
            untied_p = int(np.count_nonzero(above))
            tau = net / (np.sqrt(pairs) * np.sqrt(untied_p)) if untied_p and pairs else 0.0
    return float(np.clip(tau, -1.0, 1.0)), accuracies


def randomized_pit(references: Array, probs: Array, level_values: Array | None, rng: int = 0) -> np.ndarray:
    """(n,) draws, uniform between P(y < r) and P(y ≤ r): uniform on [0, 1] for a calibrated prediction.

    For counts and levels: Czado, Gneiting & Held (2009), Predictive Model Assessment for Count Data, eq. 1.
    """
    references = np.asarray(references, dtype=np.float64)
    probs = np.asarray(probs, dtype=np.float64)
    if probs.ndim != 2 or len(probs) != len(references):
        raise ValueError(f"probs has shape {probs.shape}; expected ({len(references)}, K), a row per rating.")
    if level_values is None:
        raise ValueError("level_values is missing: give the rating that each column of probs stands for.")
    level_values = np.asarray(level_values, dtype=np.float64)
    if level_values.shape not in (probs.shape, probs.shape[1:]):
        raise ValueError(f"level_values {level_values.shape}, probs {probs.shape}; give (K,) or (n, K).")
    total = probs.sum(1)
    bad = np.flatnonzero(~(np.abs(total - 1) < 1e-3) | ~(probs.min(1) > -1e-6))
    if len(bad):
        raise ValueError(f"probs row {bad[0]} is not a distribution: {probs[bad[0]]} (needs ≥ 0, sum 1).")
    r = references[:, None]
    equal = np.abs(level_values - r) <= _MARGIN_TOLERANCE
    below = (probs * ((level_values < r) & ~equal)).sum(1) / total
    at = (probs * equal).sum(1) / total
    return below + np.random.default_rng(rng).random(len(references)) * at


def diverging(predictions: Array, references: Array, groups: Array, image_ids: Array) -> float:
    """Share of decisions right where two people order the same two images oppositely; ties ½, NaN if none.

    Each (pair of people, pair of images) with r_u(a) > r_u(b) and r_v(a) < r_v(b) holds two decisions,
    u's and v's. Where somebody rated an image more than once, their mean counts.
    """
    right, total = _diverging_counts(_Table(predictions, references, groups, image_ids))
    return _ratio(right.sum(), total.sum())


def avg_srocc(predictions: Array, references: Array, groups: Array, image_ids: Array) -> float:
    """Spearman's correlation over images of the mean prediction and the mean rating of the same raters."""
    return _Table(predictions, references, groups, image_ids).averages()[0]


def avg_plcc(predictions: Array, references: Array, groups: Array, image_ids: Array) -> float:
    """Pearson's correlation over images of the mean prediction and the mean rating of the same raters."""
    return _Table(predictions, references, groups, image_ids).averages()[1]


class _Table:
    """The ratings as sparse people × images matrices, one cell per (person, image)."""

    def __init__(self, predictions, references, groups, image_ids, participants=None):
        predictions, references = _numbers(predictions, references)
        self.participants, users = _codes("groups", groups, len(references), participants)
        images, columns = _codes("image_ids", image_ids, len(references))
        self.shape = (len(self.participants), len(images))
        cells, cell = np.unique(users.astype(np.int64) * len(images) + columns, return_inverse=True)
        self.users, self.columns = np.divmod(cells, len(images))
        count = np.bincount(cell)
        self.ratings = np.bincount(cell, references) / count
        self.predictions = np.bincount(cell, predictions) / count
        self._last: tuple[np.ndarray, tuple[np.ndarray, np.ndarray]] | None = None

    def averages(self) -> tuple[float, float]:
        """(avg_srocc, avg_plcc)."""
        srocc, plcc = self._weighted(np.ones((1, self.shape[0])))
        return float(srocc[0]), float(plcc[0])

    def weighted_averages(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(avg_srocc, avg_plcc), each (B,) under (B, U) weights of the participants; computed once for both."""
        if self._last is None or self._last[0] is not weights:
            self._last = (weights, self._weighted(weights))
        return self._last[1]

    def _weighted(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Correlations don't care for origin and unit: from the first prediction, in units of the range,
        # constant predictions are exactly 0 and rounding to decimals is relative.
        predictions = (self.predictions - self.predictions[0]) / (np.ptp(self.predictions) or 1.0)
        sums = [
            csr_array((values, (self.columns, self.users)), shape=self.shape[::-1])
            for values in (np.ones(len(self.users)), self.ratings, predictions)
        ]
        srocc, plcc = np.full((2, len(weights)), np.nan)
        step = max(1, _CHUNK_ELEMENTS // self.shape[1])
        for start in range(0, len(weights), step):
            chunk = np.ascontiguousarray(weights[start : start + step].T)
            raters, ratings, predictions = (np.ascontiguousarray((matrix @ chunk).T) for matrix in sums)
            rated = raters > 0
            with np.errstate(invalid="ignore"):
                ratings = np.round(ratings / raters, _TIE_DECIMALS)
                predictions = np.round(predictions / raters, _TIE_DECIMALS)
            out = slice(start, start + len(rated))
            plcc[out] = _masked_correlation(predictions, ratings, rated)
            srocc[out] = _masked_correlation(_ranks(predictions, rated), _ranks(ratings, rated), rated)
        return srocc, plcc


def _ranks(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Average ranks within each row's unmasked entries; masked entries are 0."""
    return np.where(mask, rankdata(np.where(mask, values, np.inf), axis=1), 0.0)


def _masked_correlation(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`correlation` over each row's unmasked entries: the others are put on the mean, adding 0."""
    n = mask.sum(1, keepdims=True)

    def filled(a):
        first = np.take_along_axis(a, mask.argmax(1)[:, None], 1)
        constant = np.where(mask, a == first, True).all(1, keepdims=True)
        mean = np.where(constant, first, np.where(mask, a, 0.0).sum(1, keepdims=True) / n)
        return np.where(mask, a, mean)

    return correlation(filled(x), filled(y))


def _diverging_counts(table: _Table) -> tuple[np.ndarray, np.ndarray]:
    """Two (U, U) matrices over (u, v): u's right decisions against v, and all of u's decisions against v.

    total[u, v] = #{(a, b): r_u(a) > r_u(b), r_v(a) < r_v(b)}; right sums u's decision (1, ½, 0) over the
    same, so that under weights w of the people the metric is w'Rw / w'Tw. Image by image: only the people who
    rated a matter, and one matrix product over b compares them all. Memory: 4 bytes a cell of the people ×
    images table, and 16 a pair of people.
    """
    n_users, n_images = table.shape
    dtype = np.int16 if n_images < np.iinfo(np.int16).max else np.int32
    rated = np.zeros(table.shape, dtype)  # dense rank within the person, from 1; 0 = not rated
    predicted = np.zeros(table.shape, dtype)
    for user, cells in enumerate(_rows_of(table.users, n_users)):
        for target, source in ((rated, table.ratings), (predicted, table.predictions)):
            target[user, table.columns[cells]] = np.unique(source[cells], return_inverse=True)[1] + 1
    right, total = np.zeros((2, n_users, n_users))
    for image, cells in enumerate(_rows_of(table.columns, n_images)):
        users = table.users[cells]
        if len(users) < 2:
            continue
        shared = np.flatnonzero((rated[users] > 0).sum(0) > 1)
        r, p = rated[np.ix_(users, shared)], predicted[np.ix_(users, shared)]
        r_a, p_a = rated[users, image][:, None], predicted[users, image][:, None]
        prefers_a = (r < r_a) & (r > 0)
        decision = ((p < p_a).view(np.int8) + (p <= p_a).view(np.int8)) * prefers_a  # twice 1, ½, 0
        decisions, prefers_b = np.float32(np.concatenate([decision, prefers_a])), np.float32(r > r_a)
        # Thousands of tiny products: waking BLAS's threads for each takes 20 times as long on a busy machine.
        small = decisions.size * len(users) < 2_000_000
        counts = np.einsum("ib,jb->ij", decisions, prefers_b) if small else decisions @ prefers_b.T
        block = np.ix_(users, users)
        right[block] += counts[: len(users)]
        total[block] += counts[len(users) :]
    return right / 2, total


def judge(
    predictions: Array,
    references: Array,
    groups: Array,
    image_ids: Array | None = None,
    probs: Array | None = None,
    level_values: Array | None = None,
    *,
    levels: Array | None = None,
    participants: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[dict[str, Estimate], UserMetrics]:
    """All of `METRICS` with bootstrap draws, and the per-user values behind them.

    Scorers judged on the same participants with the same seed share their draws.

    Args:
        predictions: (n,) predicted scores, as in [`user_metrics`].
        references: (n,) the ratings.
        groups: (n,) who gave each rating.
        image_ids: (n,) what was rated; without it the metrics that compare people with each other are NaN.
        probs: (n, K) predicted probability of each level, or None.
        level_values: (K,) or (n, K), as in [`user_metrics`].
        levels: (n,) position of each rating on its scale, in levels; default: the ratings.
        participants: ids the values are aligned with; default: the sorted distinct groups.
        bootstrap: draws of people, 0 for none.
        seed: of the draws and of the randomized probability integral transform.
    """
    more = {"probs": probs, "level_values": level_values, "levels": levels, "participants": participants}
    users = user_metrics(predictions, references, groups, **more, rng=seed)
    weights = bootstrap_weights(len(users.participants), bootstrap, seed)
    estimates = {
        name: Estimate(users.mean(name), _weighted_mean(values, weights), int(known.sum()), known)
        for name, values in users.values.items()
        for known in [np.isfinite(values)]
    }
    of_people = {name: metric.of_people for name, metric in METRICS.items() if metric.of_people}
    if image_ids is None:
        estimates |= dict.fromkeys(of_people, Estimate(np.nan, np.full(bootstrap, np.nan), 0))
    else:
        table = _Table(predictions, references, groups, image_ids, users.participants)
        for name, compute in of_people.items():
            value, draws, involved = compute(table, weights)
            estimates[name] = Estimate(value, draws, int(involved.sum()), involved)
    return {name: estimates[name] for name in METRICS}, users


def _diverging_draws(table: _Table, weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    right, total = _diverging_counts(table)
    draws = _ratio(((weights @ right) * weights).sum(1), ((weights @ total) * weights).sum(1))
    return float(_ratio(right.sum(), total.sum())), draws, total.sum(1) > 0


def _average_draws(table: _Table, weights: np.ndarray, which: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Of avg_srocc (which = 0) or avg_plcc (1)."""
    value, draws = table.averages()[which], table.weighted_averages(weights)[which]
    if np.isfinite(value) and np.isfinite(draws).any():
        draws = draws + (value - np.nanmean(draws))
    return value, draws, np.isin(np.arange(table.shape[0]), table.users)


def bootstrap_weights(n_users: int, n: int = 1000, seed: int = 0) -> np.ndarray:
    """(n, n_users) how often each participant is drawn when n_users are drawn with replacement."""
    drawn = np.random.default_rng(seed).multinomial(n_users, np.full(n_users, 1 / n_users), size=n)
    return drawn.astype(np.float64)


def bootstrap_ci(per_user_values: Array, n: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over users, resampling users; NaN: a person left out.

    Both ends are NaN where fewer than two people have a value.
    """
    values = np.asarray(per_user_values, dtype=np.float64)
    return _interval(_weighted_mean(values, bootstrap_weights(len(values), n, seed)), np.isfinite(values).sum())


def paired_bootstrap(a: Array, b: Array, n: int = 1000, seed: int = 0) -> dict[str, float | int]:
    """The mean of a - b over the users who have both, as `{"value", "ci_low", "ci_high", "n_users"}`.

    a and b hold one value per user, in the same order of users; every draw takes the same users for both.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"a and b have shapes {a.shape} and {b.shape}; expected one value per user in both.")
    draws = _weighted_mean(a - b, bootstrap_weights(len(a), n, seed))
    value = float(_weighted_mean(a - b, np.ones((1, len(a))))[0])
    return Estimate(value, draws, int(np.isfinite(a - b).sum())).as_dict()


def mean_over_people(values: np.ndarray, weights: np.ndarray) -> Estimate:
    """The mean of people's values, all alike, with its bootstrap draws.

    Args:
        values: (U,), NaN: the person has none.
        weights: (B, U) how often each person is drawn, see [`bootstrap_weights`].
    """
    known = np.isfinite(values)
    value = float(_weighted_mean(values, np.ones((1, len(values))))[0])
    return Estimate(value, _weighted_mean(values, weights), int(known.sum()), known)


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) means over the finite values under (B, U) weights; NaN where no such person was drawn."""
    known = np.isfinite(values)
    return _ratio(weights @ np.where(known, values, 0.0), weights @ known.astype(np.float64))


def _ratio(numerator, denominator):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerator, np.float64) / np.asarray(denominator, np.float64)  # scalars give a scalar


def _interval(draws: np.ndarray, people: int) -> tuple[float, float]:
    draws = draws[np.isfinite(draws)]
    if people < 2 or not len(draws):
        return np.nan, np.nan
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _rows_of(codes: np.ndarray, n: int) -> list[np.ndarray]:
    """For each code 0..n-1 the rows that bear it, in their order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, n)))


def _codes(name: str, ids: Array, n: int, known: Sequence[str] | None = None):
    """The sorted distinct ids as str, or known in its own order, and each row's position (n,) among them."""
    ids = np.asarray(ids)
    if ids.shape != (n,):
        raise ValueError(f"{name} has shape {ids.shape}, references has {n} rows; give one id per rating.")
    if ids.dtype.kind in "Of":
        missing = [row for row, value in enumerate(ids) if value is None or value != value]
        if missing:
            raise ValueError(f"{name} row {missing[0]} is missing; drop the ratings without one first.")
    ids = ids.astype(str)
    distinct, codes = np.unique(ids, return_inverse=True)
    if known is None:
        return distinct, codes
    known = np.asarray(known).astype(str)
    place = {value: i for i, value in enumerate(known)}
    unknown = [value for value in distinct if value not in place]
    if unknown:
        raise ValueError(f"{name} holds {str(unknown[0])!r}, which is not in participants.")
    return known, np.array([place[value] for value in distinct])[codes]


def _numbers(predictions: Array, references: Array) -> tuple[np.ndarray, np.ndarray]:
    references = np.asarray(references)
    if references.ndim != 1 or not len(references):
        raise ValueError(f"references has shape {references.shape}; expected (n,) with n ≥ 1 ratings.")
    n = len(references)
    return _vector("predictions", predictions, n), _vector("references", references, n)


def _vector(name: str, values: Array, n: int) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"{name} has shape {values.shape}, references {n} rows; give one number per rating.")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name} row {bad[0]} is {values[bad[0]]}; every number must be finite.")
    return values


def _margin(margin: int) -> Metric:
    more = f"The same where the two ratings differ by more than {margin} level{'s' if margin > 1 else ''}."
    return Metric(
        more if margin else "Of two images one person rated differently, how often the score prefers the right one.",
        f"pair_{margin}",
        best=1.0,
        of_person=lambda person: person.order[1][margin],
        in_differences=margin == 0,
        in_ablation=margin in (0, 2),
        card="" if margin else "pairwise",
    )


METRICS: dict[str, Metric] = {
    "user_srocc": Metric(
        "Does the score rank one person's images as they do? 1 = the same order, 0 = unrelated.",
        "srocc",
        best=1.0,
        of_person=lambda person: correlation(rankdata(person.predictions), rankdata(person.ratings)),
        in_differences=True,
        in_ablation=True,
        card="SROCC",
    ),
    "user_plcc": Metric(
        "The same with distances: do scores rise in a straight line with one person's ratings?",
        "plcc",
        best=1.0,
        of_person=lambda person: correlation(person.predictions, person.ratings),
        in_ablation=True,
        card="PLCC",
    ),
    "user_krocc": Metric(
        "Kendall's τ-b: pairs of images in the right order minus pairs in the wrong one.",
        "krocc",
        best=1.0,
        of_person=lambda person: person.order[0],
    ),
    **{f"user_pairwise_{margin}": _margin(margin) for margin in MARGINS},
    "diverging": Metric(
        "Where two people order two images oppositely, how often each is predicted right. Knowing only what people "
        "like on average gives exactly .5.",
        "diverging",
        best=1.0,
        of_people=_diverging_draws,
        in_differences=True,
        in_ablation=True,
    ),
    "avg_srocc": Metric(
        "Are images ranked as they are liked on average over their raters?",
        "avg_srocc",
        best=1.0,
        of_people=partial(_average_draws, which=0),
    ),
    "avg_plcc": Metric("The same with distances.", "avg_plcc", best=1.0, of_people=partial(_average_draws, which=1)),
    "rmse": Metric(
        "Typical size of the error, in the units of the rating scale. Lower is better.",
        "rmse",
        best=0.0,
        of_person=lambda person: np.sqrt(np.mean((person.predictions - person.ratings) ** 2)),
        in_ablation=True,
        card="rmse",
    ),
    "coverage_80": Metric(
        "How often a rating falls inside the predicted 80 % interval. .80 is right; less means too sure.",
        "cover_80",
        best=0.8,
        of_person=lambda person: np.nan if person.pit is None else ((person.pit >= 0.1) & (person.pit <= 0.9)).mean(),
        in_ablation=True,
    ),
}
"""Name in every report -> the metric, in the order in which reports show them.

`avg_*` compare an image's mean rating with the mean prediction for the same raters; a tie counts ½ in
`user_pairwise_m` and `diverging`.
"""
