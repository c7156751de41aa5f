import numpy as np
import pytest
from taste_world import LEVELS, taste_world

from pamela_hf.baselines import matrix_factorization
from pamela_hf.baselines._ratings import RatingMatrix
from pamela_hf.embeddings import Embeddings


def test_alternating_least_squares_completes_a_matrix():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40) + rng.normal(size=(30, 2)) @ rng.normal(size=(2, 40))
    ratings = RatingMatrix.of(taste_world()[0]["train"], LEVELS)
    ratings.z, ratings.rated = truth, rng.random(truth.shape) < 0.5
    people, items = matrix_factorization.factorize(ratings, np.arange(40), 2, 0.1, seed=0)
    hidden = ~ratings.rated
    error = (items[:, 0] + people @ items[:, 1:].T - truth)[hidden]
    assert np.sqrt(np.mean(error**2)) < 0.35 * truth[hidden].std()


def test_an_image_whose_features_say_nothing_gets_the_persons_mean():
    """It is the features that tell an unrated image from another; without them it would be scored like any."""
    tables, embeddings = taste_world()
    blank = Embeddings(embeddings.image_ids, np.ones_like(embeddings.image_embeds))
    grid = {"ranks": [2], "penalties": [3.0], "alphas": [1.0]}
    scorer = matrix_factorization.fit(tables["train"], blank, level_values=LEVELS, **grid)
    val = tables["val_seen"]
    scores = val.assign(scores=scorer.predict(val, blank).scores).groupby("participant_id", observed=True).scores
    assert scores.agg(np.ptp).max() < 1e-9
    mean = tables["train"].groupby("participant_id", observed=True)["score"].mean()
    assert np.corrcoef(scores.mean(), mean[scores.mean().index])[0, 1] > 0.9


def test_new_people_are_fitted_to_the_images_own_factors():
    tables, embeddings = taste_world()
    grid = {"ranks": [3], "penalties": [3.0], "alphas": [1.0]}
    scorer = matrix_factorization.fit(tables["train"], embeddings, level_values=LEVELS, **grid)
    again = scorer.adapt(tables["train"], embeddings)  # the trained people, met anew
    assert again.people == scorer.people
    assert np.corrcoef(again.factors.ravel(), scorer.factors.ravel())[0, 1] == pytest.approx(1, abs=1e-3)
