"""The share of diverging pairs against counting them one by one."""

from itertools import combinations

import numpy as np
import pytest

from pamela_hf.evaluation.disagreement import diverging_share


def counted(ratings, users, images, drawn):
    said = {}
    for r, u, i in zip(ratings, users, images):
        said.setdefault(u, {})[i] = r
    opposite = both = 0
    for u, v in combinations(drawn, 2):
        if u == v:
            continue
        for a, b in combinations(sorted(set(said[u]) & set(said[v])), 2):
            product = (said[u][a] - said[u][b]) * (said[v][a] - said[v][b])
            opposite, both = opposite + (product < 0), both + (product != 0)
    return opposite, both


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_counting(seed):
    rng = np.random.default_rng(seed)
    n_users, n_images = rng.integers(2, 7), rng.integers(2, 12)
    rated = np.argwhere(rng.random((n_users, n_images)) < rng.choice([0.3, 0.8, 1.0]))
    rated = rng.permutation(rated) if len(rated) > 1 else np.array([[0, 0], [1, 1]])
    ratings = rng.choice([1, 2.5, 4, 100], len(rated))
    users, images = np.array([f"u{u}" for u in rated[:, 0]]), np.array([f"i{i}" for i in rated[:, 1]])
    found = diverging_share(ratings, users, images, bootstrap=30, seed=seed)
    everyone = sorted(set(users))
    opposite, both = counted(ratings, users, images, everyone)
    assert found["n_pairs"] == opposite
    np.testing.assert_allclose(found["value"], opposite / both if both else np.nan, atol=1e-12)
    weights = np.random.default_rng(seed).multinomial(len(everyone), np.full(len(everyone), 1 / len(everyone)), size=30)
    draws = []
    for row in weights:
        opposite, both = counted(ratings, users, images, np.repeat(everyone, row))
        draws.append(opposite / both if both else np.nan)
    draws = np.array(draws)[np.isfinite(draws)]
    expected = np.quantile(draws, [0.025, 0.975]) if len(draws) else [np.nan, np.nan]
    np.testing.assert_allclose([found["ci_low"], found["ci_high"]], expected, atol=1e-12)


def test_opposite_tastes_and_equal_ones():
    users, images = np.repeat(["a", "b"], 4), list("wxyz") * 2
    assert diverging_share([1, 2, 3, 4] * 2, users, images, bootstrap=0)["value"] == 0
    all_opposite = diverging_share([1, 2, 3, 4, 4, 3, 2, 1], users, images, bootstrap=0)
    assert all_opposite["value"] == 1 and all_opposite["n_pairs"] == 6 and all_opposite["n_users"] == 2
    alone = diverging_share([1, 2, 3], ["a"] * 3, list("xyz"), bootstrap=5)
    assert np.isnan(alone["value"]) and alone["n_users"] == 0
