import numpy as np
import pytest
from taste_world import LEVELS, srocc, taste_world

from pamela_hf.baselines import low_rank
from pamela_hf.baselines._ratings import RatingMatrix
from pamela_hf.evaluation import without_user


@pytest.fixture(scope="module")
def fitted():
    tables, embeddings = taste_world()
    scorer = low_rank.fit(tables["train"], embeddings, level_values=LEVELS, candidates=[(1, 0.3), (3, 1.0), (3, 300.0)])
    return scorer, tables, embeddings


def test_tastes_are_the_posterior_mean():
    """Against the formula of a Gaussian process with the same prior, person by person."""
    rng = np.random.default_rng(0)
    x, z, rated = rng.normal(size=(12, 5)), rng.normal(size=(3, 12)), rng.random((3, 12)) < 0.6
    factors = low_rank.Factors(rng.normal(size=5), 0.3, rng.normal(size=(2, 5)), rng.normal(size=(4, 2)), 0.7)
    who = rng.normal(size=(3, 4))
    tastes = factors.tastes(x, z, rated, who)
    along = x @ factors.directions.T
    for person in range(3):
        here, prior = rated[person], who[person] @ factors.demographics
        left = z[person, here] - factors.everyone(x)[here] - along[here] @ prior
        covariance = along[here] @ along[here].T + 0.7 * np.eye(here.sum())
        np.testing.assert_allclose(tastes[person], prior + along[here].T @ np.linalg.solve(covariance, left))
    np.testing.assert_allclose(factors.tastes(x, z, rated & False, who), who @ factors.demographics)


def test_rank_and_penalty_are_chosen_and_directions_of_taste_found(fitted):
    scorer, *_ = fitted
    assert (scorer.rank, scorer.penalty) == (3, 1.0)


def test_demographics_tell_something_of_people_never_met(fitted):
    scorer, tables, embeddings = fitted
    assert scorer.vocabulary == [("age_binned", "20-29"), ("age_binned", "60-69")]
    val = tables["val_unseen"]
    other = val.age_binned.astype(str).map({"20-29": "60-69", "60-69": "20-29"})
    told, untold, lied = (
        srocc(scorer.predict(val.assign(age_binned=age), embeddings), val) for age in (val.age_binned, None, other)
    )
    assert lied < untold < told
    # With the id withheld, a trained person is predicted from the demographics, too.
    seen = without_user(tables["val_seen"])
    unknown = scorer.predict(seen.assign(age_binned=None), embeddings).scores
    assert np.abs(scorer.predict(seen, embeddings).scores - unknown).max() > 1e-3


def test_the_seed_decides():
    tables, embeddings = taste_world(people=10)
    ratings = RatingMatrix.of(tables["train"], LEVELS)
    x, images = embeddings.image_embeds[embeddings.rows(ratings.image_ids)].astype(float), np.arange(len(ratings.z.T))
    who = np.zeros((len(ratings.z), 1))
    a, b, c = (low_rank.factorize(x, ratings, images, who, 2, 1.0, seed).directions for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)
