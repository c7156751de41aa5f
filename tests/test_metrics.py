"""The array metrics against scipy and against the definitions spelled out pair by pair."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, root_mean_squared_error

from pamela_hf import metrics
from pamela_hf.metrics import (
    METRICS,
    MIN_RATINGS,
    bootstrap_ci,
    judge,
    paired_bootstrap,
    user_metrics,
)


def random_case(seed):
    """Ratings with ties, constants, single ratings and repeated pairs."""
    rng = np.random.default_rng(seed)
    n_users, n_images = rng.integers(1, 8), rng.integers(2, 15)
    rows = []
    for user in range(n_users):
        k = rng.choice([1, MIN_RATINGS - 1, MIN_RATINGS, n_images, 2 * n_images])
        images = rng.choice(n_images, size=k, replace=k > n_images)
        kind = rng.integers(5)
        ratings = {
            4: rng.integers(1, 3, k),
            0: rng.integers(1, 6, k),
            1: np.full(k, 3),
            2: rng.integers(1, 10, k) / 2,
            3: rng.integers(1, 8, k),
        }[int(kind)]
        # Multiples of 1/8, so that the plain sums below are exact and equal means are tied there as well.
        predictions = {0: rng.integers(0, 40, k) / 8, 1: np.full(k, 2.5), 2: rng.integers(0, 4, k) / 8}[
            int(rng.integers(3))
        ]
        rows += [(f"u{user}", f"i{image}", p, r) for image, p, r in zip(images, predictions, ratings)]
    order = rng.permutation(len(rows))
    users, images, predictions, references = zip(*(rows[i] for i in order))
    return np.array(predictions), np.array(references, dtype=np.float64), np.array(users), np.array(images)


def plain_user_metrics(p, r):
    """The definitions, pair by pair, for one person; None where they are left out."""
    if len(r) < MIN_RATINGS or len(set(r)) == 1:
        return None
    constant = len(set(p)) == 1
    values = {
        "user_srocc": 0.0 if constant else stats.spearmanr(p, r).statistic,
        "user_plcc": 0.0 if constant else stats.pearsonr(p, r).statistic,
        "user_krocc": 0.0 if constant else stats.kendalltau(p, r).statistic,
        "rmse": root_mean_squared_error(r, p),
    }
    for margin in range(4):
        decisions = []
        for a, b in combinations(range(len(r)), 2):
            if abs(r[a] - r[b]) > margin:
                high, low = (a, b) if r[a] > r[b] else (b, a)
                decisions.append(1.0 if p[high] > p[low] else 0.5 if p[high] == p[low] else 0.0)
        values[f"user_pairwise_{margin}"] = np.mean(decisions) if decisions else np.nan
    if len(set(r)) == 2:
        np.testing.assert_allclose(values["user_pairwise_0"], roc_auc_score(r == max(r), p), rtol=0, atol=1e-9)
    return values


def plain_coverage(references, probs, levels, seed):
    """Inside or not, rating by rating, with the draws of the seed."""
    draws, inside = np.random.default_rng(seed).random(len(references)), []
    for rating, row, draw in zip(references, probs, draws):
        below = sum(p for p, level in zip(row, levels) if level < rating)
        at = sum(p for p, level in zip(row, levels) if level == rating)
        inside.append(0.1 <= below + draw * at <= 0.9)
    return np.array(inside)


def cell_means(predictions, references, users, images):
    cells = {}
    for p, r, u, i in zip(predictions, references, users, images):
        cells.setdefault(u, {}).setdefault(i, []).append((p, r))
    return {u: {i: tuple(np.mean(v, axis=0)) for i, v in by.items()} for u, by in cells.items()}


def plain_diverging(cells, drawn):
    """Over the drawn people (with repetition), every pair of people and of images."""
    decisions = []
    for u, v in combinations(drawn, 2):
        for a, b in combinations(sorted(set(cells[u]) & set(cells[v])), 2):
            gaps = [cells[x][a][1] - cells[x][b][1] for x in (u, v)]
            if gaps[0] * gaps[1] < 0:
                for x, gap in zip((u, v), gaps):
                    predicted = cells[x][a][0] - cells[x][b][0]
                    decisions.append(0.5 if predicted == 0 else float((predicted > 0) == (gap > 0)))
    return np.mean(decisions) if decisions else np.nan


def plain_averages(cells, drawn):
    images = sorted({i for u in drawn for i in cells[u]})
    means = []
    for image in images:
        rated = [cells[u][image] for u in drawn if image in cells[u]]
        means.append([sum(x[k] for x in rated) / len(rated) for k in (0, 1)])
    p, r = np.round(np.array(means), 11).T
    if np.ptp(r) == 0:
        return np.nan, np.nan
    if np.ptp(p) == 0:
        return 0.0, 0.0
    return stats.spearmanr(p, r).statistic, stats.pearsonr(p, r).statistic


def check_case(seed):
    predictions, references, users, _ = case = random_case(seed)
    levels = np.unique([*references, 4.0])
    probs = np.random.default_rng(seed + 1).dirichlet(np.ones(len(levels)), len(references))
    estimates, per_user = judge(*case, probs, levels, bootstrap=3, seed=seed)
    inside = plain_coverage(references, probs, levels, seed)
    few = constant = 0
    for k, user in enumerate(per_user.participants):
        rows = users == user
        expected = plain_user_metrics(predictions[rows], references[rows])
        if expected is None:
            few += rows.sum() < MIN_RATINGS
            constant += rows.sum() >= MIN_RATINGS
            assert all(np.isnan(per_user.values[name][k]) for name in per_user.values)
            continue
        expected["coverage_80"] = inside[rows].mean()
        for name, value in expected.items():
            np.testing.assert_allclose(per_user.values[name][k], value, rtol=0, atol=1e-9, err_msg=f"{name} {user}")
    assert (per_user.left_out["few_ratings"], per_user.left_out["constant_ratings"]) == (few, constant)

    cells = cell_means(*case)
    everyone = list(per_user.participants)
    weights = metrics.bootstrap_weights(len(everyone), 3, seed)
    draws = [[u for u, w in zip(everyone, row) for _ in range(int(w))] for row in weights]
    assert all(len(drawn) == len(everyone) for drawn in draws)

    def close(actual, expected, name):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9, err_msg=name)

    close(estimates["diverging"].value, plain_diverging(cells, everyone), "diverging")
    close(estimates["diverging"].draws, [plain_diverging(cells, d) for d in draws], "diverging draws")
    for k, name in enumerate(("avg_srocc", "avg_plcc")):
        value, plain = plain_averages(cells, everyone)[k], np.array([plain_averages(cells, d)[k] for d in draws])
        close(estimates[name].value, value, name)
        if np.isfinite(value) and np.isfinite(plain).any():
            plain += value - plain[np.isfinite(plain)].mean()
        close(estimates[name].draws, plain, f"{name} draws")
    for name in ("user_srocc", "user_pairwise_2", "rmse", "coverage_80"):
        by_user = dict(zip(everyone, per_user.values[name]))
        plain = [[by_user[u] for u in d if np.isfinite(by_user[u])] for d in draws]
        close(estimates[name].draws, [np.mean(v) if v else np.nan for v in plain], f"{name} draws")

    # A number that is missing is refused wherever it stands, never ranked somewhere.
    row = seed % len(references)
    for place, name in enumerate(("predictions", "references")):
        broken = list(case)
        broken[place] = np.where(np.arange(len(references)) == row, np.nan, broken[place])
        with pytest.raises(ValueError, match=f"{name} row {row} is nan"):
            judge(*broken, bootstrap=0)


@pytest.mark.parametrize("seed", range(100))
def test_agrees_with_scipy_and_the_definitions(seed):
    check_case(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 1000))
def test_agrees_with_scipy_and_the_definitions_on_many(seed):
    check_case(seed)


def two_people(ratings, predictions):
    n = len(ratings)
    return predictions + predictions, ratings + ratings, ["a"] * n + ["b"] * n


def test_pooling_is_never_done():
    """Two people who use opposite ends of the scale: pooled, offsets alone would correlate."""
    ratings = [1, 2, 1, 2, 1, 2, 6, 7, 6, 7, 6, 7]
    predictions = [1.0] * 6 + [7.0] * 6
    users = user_metrics(predictions, ratings, ["low"] * 6 + ["high"] * 6)
    assert users.mean("user_srocc") == 0.0
    assert users.mean("user_pairwise_0") == 0.5


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_a_constant_prediction_is_worth_nothing_wherever_it_lies(scale):
    ratings = [1, 2, 3, 4, 5, 5]
    constant = [0.1 * scale] * 12
    estimates, _ = judge(constant, ratings * 2, ["a"] * 6 + ["b"] * 6, list("ABCDEFFEDCBA"), bootstrap=50)
    for name in ("user_srocc", "user_plcc", "user_krocc", "avg_srocc", "avg_plcc"):
        assert estimates[name].value == 0.0
        np.testing.assert_array_equal(estimates[name].draws, 0.0)
    assert estimates["diverging"].value == estimates["user_pairwise_0"].value == 0.5


def test_the_same_prediction_for_every_rater_is_tied_whoever_is_drawn():
    """Weighted means of one number may differ in the last bit, which must not order two images."""
    rng = np.random.default_rng(0)
    users, images = np.repeat(np.arange(40), 30), np.tile(np.arange(30), 40)
    predictions = np.array([0.1, 0.7, 1 / 3])[images % 3]
    ratings = rng.integers(1, 6, len(users))
    keep = rng.random(len(users)) < 0.6
    estimates, _ = judge(predictions[keep], ratings[keep], users[keep], images[keep], bootstrap=20)
    cells = cell_means(images[keep] % 3, ratings[keep].astype(float), users[keep], images[keep])
    # Against the same order written in integers: .1, 1/3, .7 is 0, 2, 1.
    order = {0: 0.0, 1: 2.0, 2: 1.0}
    cells = {u: {i: (order[p], r) for i, (p, r) in by.items()} for u, by in cells.items()}
    np.testing.assert_allclose(estimates["avg_srocc"].value, plain_averages(cells, list(cells))[0], atol=1e-9)


def test_margins_are_counted_in_levels():
    ratings = np.array([1, 1.5, 2, 2.5, 3, 5], dtype=np.float32)
    predictions = [1, 2, 3, 4, 5, 0]
    in_values = user_metrics(predictions, ratings, ["a"] * 6)
    in_levels = user_metrics(predictions, ratings, ["a"] * 6, levels=(ratings - 1) * 2)
    assert in_values.left_out["no_pair_3"] == 0 and in_values.values["user_pairwise_3"][0] == 0.0
    # More than three half steps apart: 3 > 1 rightly, 5 above all five others wrongly.
    assert in_levels.values["user_pairwise_3"][0] == pytest.approx(1 / 6)
    assert in_values.values["user_krocc"] == in_levels.values["user_krocc"]


def test_a_difference_of_one_float32_level_is_not_more_than_one():
    ratings = np.float32(0.1) * np.arange(6, dtype=np.float32) * 10 + np.float32(0.3)
    users = user_metrics(np.arange(6.0), ratings[::-1], ["a"] * 6)
    assert users.values["user_pairwise_0"][0] == 0.0
    assert user_metrics([0, 0, 0, 0, 0, 0], [3.7, 2.7, 2.7, 2.7, 2.7, 2.7], ["a"] * 6).left_out["no_pair_1"] == 1


def test_people_without_a_pair_are_left_out_of_that_margin_alone():
    users = user_metrics([1, 2, 3, 4, 5, 6], [1, 1, 1, 2, 2, 3], ["a"] * 6)
    assert users.values["user_pairwise_1"][0] == 1.0
    assert np.isnan(users.values["user_pairwise_2"][0]) and np.isnan(users.values["user_pairwise_3"][0])
    assert users.left_out == {
        "few_ratings": 0, "constant_ratings": 0, "no_pair_0": 0, "no_pair_1": 0, "no_pair_2": 1, "no_pair_3": 1,
    }  # fmt: skip


def test_coverage_is_right_for_the_true_distribution_and_wrong_for_a_sure_one():
    rng = np.random.default_rng(0)
    n, levels = 20_000, np.arange(1, 6)
    probs = rng.dirichlet(np.ones(5), n)
    ratings = (rng.random(n)[:, None] > probs.cumsum(1)[:, :4]).sum(1) + 1
    groups = np.arange(n) % 20
    right = user_metrics(probs @ levels, ratings, groups, probs=probs, level_values=levels)
    assert right.mean("coverage_80") == pytest.approx(0.8, abs=0.01)
    sharpened = probs**4 / (probs**4).sum(1, keepdims=True)
    sure = user_metrics(probs @ levels, ratings, groups, probs=sharpened, level_values=levels)
    assert sure.mean("coverage_80") < 0.65
    vague = user_metrics(probs @ levels, ratings, groups, probs=np.full((n, 5), 0.2), level_values=levels)
    assert vague.mean("coverage_80") == pytest.approx(0.8, abs=0.02)  # calibrated on average, if useless


def test_coverage_is_fixed_by_the_seed_and_reads_levels_per_row():
    probs = np.array([[0.5, 0.5, 0], [0.2, 0.3, 0.5]] * 4)
    levels = np.array([[0.0, 100.0, np.nan], [1, 2, 3]] * 4)
    ratings = [0, 3, 100, 1, 0, 3, 100, 2]
    a, b = (metrics.randomized_pit(ratings, probs, levels, rng=7) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert (a[[0, 4]] <= 0.5).all() and (a[[1, 5]] >= 0.5).all() and (a[[2, 6]] >= 0.5).all()
    assert a[3] <= 0.2 and 0.2 <= a[7] <= 0.5
    assert not np.array_equal(a, metrics.randomized_pit(ratings, probs, levels, rng=8))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_ci(rng.normal(0.4, 0.2, 60), n=400, seed=seed)
        covered += low <= 0.4 <= high
    assert 180 <= covered <= 198


def test_one_person_has_a_value_and_no_interval():
    assert np.isnan(bootstrap_ci([0.5, np.nan])).all() and not np.isnan(bootstrap_ci([0.5, 0.4])).any()
    one = paired_bootstrap([0.5, np.nan, 0.1], [0.2, 0.3, np.nan])
    assert one["n_users"] == 1 and one["value"] == pytest.approx(0.3)
    assert np.isnan([one["ci_low"], one["ci_high"]]).all()
    judged, _ = judge(np.arange(8.0), np.arange(8.0), ["ann"] * 8, np.arange(8), bootstrap=20)
    for estimate in judged.values():
        cell = estimate.as_dict()
        assert set(cell) == {"value", "ci_low", "ci_high", "n_users"}
        assert np.isnan([cell["ci_low"], cell["ci_high"]]).all()


def test_means_over_different_people_are_not_subtracted():
    rows = {"participants": ["ann", "ben", "eve"], "bootstrap": 0}
    ratings, ids = np.tile(np.arange(8.0), 2), np.tile(np.arange(8), 2)
    two, others = (
        judge(ratings, ratings, np.repeat(who, 8), ids, **rows)[0] for who in (["ann", "ben"], ["ann", "eve"])
    )
    for metric in ("user_srocc", "diverging", "avg_plcc"):
        assert (two[metric] - two[metric]).people is two[metric].people
        if two[metric].n_users:
            with pytest.raises(ValueError, match="people who are not the same"):
                two[metric] - others[metric]


def test_intervals_of_averages_lie_around_their_values():
    """Uncorrected, draws of fewer distinct people lie below what all of them gave."""
    rng = np.random.default_rng(0)
    users, images = np.repeat(np.arange(40), 8), rng.integers(0, 60, 320)
    liked = rng.normal(size=60)
    ratings = liked[images] + rng.normal(0, 1.5, len(images))
    good, poor = (judge(liked[images] + rng.normal(0, sd, 320), ratings, users, images)[0] for sd in (0.2, 0.8))
    for name in ("avg_srocc", "avg_plcc"):
        for cell in (good[name].as_dict(), poor[name].as_dict(), (good[name] - poor[name]).as_dict()):
            assert cell["ci_low"] < cell["value"] < cell["ci_high"]
        assert np.mean(good[name].draws) == pytest.approx(good[name].value)


def test_the_paired_bootstrap_sees_what_the_unpaired_cannot():
    rng = np.random.default_rng(2)
    a = rng.normal(0.4, 0.3, 80)
    b = a - 0.02 + rng.normal(0, 0.01, 80)
    b[3] = np.nan
    paired = paired_bootstrap(a, b)
    assert paired["n_users"] == 79
    assert 0 < paired["ci_low"] < paired["value"] < paired["ci_high"] < 0.03
    assert bootstrap_ci(a)[0] < np.nanmean(b)


def test_scorers_judged_with_one_seed_share_their_draws():
    p, r, u, i = random_case(4)
    first, users = judge(p, r, u, i, bootstrap=40, seed=3)
    second, other = judge(p[::-1], r[::-1], u[::-1], i[::-1], bootstrap=40, seed=3)
    difference = (first["user_srocc"] - second["user_srocc"]).as_dict()
    assert difference["value"] == difference["ci_low"] == difference["ci_high"] == 0.0
    same = paired_bootstrap(users.values["user_srocc"], other.values["user_srocc"], n=40, seed=3)
    assert same == difference


def test_values_follow_the_participants_asked_for():
    p, r, groups = two_people([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6])
    users = user_metrics(p, r, groups, participants=["b", "nobody", "a"])
    np.testing.assert_array_equal(users.values["user_srocc"], [1.0, np.nan, 1.0])
    with pytest.raises(ValueError, match="'b', which is not in participants"):
        user_metrics(p, r, groups, participants=["a"])


def test_without_images_the_population_metrics_are_missing_not_wrong():
    estimates, _ = judge(*two_people([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]), bootstrap=0)
    assert list(estimates) == list(METRICS)
    assert np.isnan(estimates["avg_srocc"].value) and estimates["diverging"].n_users == 0
    assert np.isnan(estimates["user_srocc"].as_dict()["ci_low"]) and estimates["user_srocc"].value == 1.0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"predictions": [1, 2, np.nan, 4, 5, 6]}, "predictions row 2 is nan"),
        ({"predictions": [1, 2, 3, 4, 5, np.inf]}, "predictions row 5 is inf"),
        ({"references": [np.nan, 2, 3, 4, 5, 6]}, "references row 0 is nan"),
        ({"predictions": [1, 2, 3]}, r"predictions has shape \(3,\), references 6 rows"),
        ({"references": []}, r"references has shape \(0,\); expected \(n,\) with n ≥ 1"),
        ({"groups": ["a", "b"]}, r"groups has shape \(2,\)"),
        ({"groups": ["a", None, "a", "a", "a", "a"]}, "groups row 1 is missing"),
        ({"probs": np.ones((6, 2)) / 2}, "level_values is missing"),
        ({"probs": np.ones((6, 2)), "level_values": [1, 2]}, "probs row 0 is not a distribution"),
        ({"probs": np.ones((5, 2)), "level_values": [1, 2]}, r"probs has shape \(5, 2\); expected \(6, K\)"),
        ({"probs": np.ones((6, 2)) / 2, "level_values": [1, 2, 3]}, r"level_values \(3,\)"),
        ({"levels": [1, 2]}, r"levels has shape \(2,\)"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(change, message):
    good = {"predictions": [1, 2, 3, 4, 5, 6], "references": [1, 2, 3, 4, 5, 6], "groups": ["a"] * 6}
    with pytest.raises(ValueError, match=message):
        user_metrics(**(good | change))
