import numpy as np
import torch
from sklearn.svm import SVR
from taste_world import LEVELS, srocc, taste_world

from pamela_hf.baselines import residual
from pamela_hf.baselines._ratings import RatingMatrix
from pamela_hf.evaluation.evaluate import without_user

RECIPE = (3.0, 1e-2, 4)


def test_residuals_are_support_vector_regressions_of_what_the_generic_part_leaves_over():
    tables, embeddings = taste_world(people=4)
    ratings = RatingMatrix.of(tables["train"], LEVELS)
    x = 0.3 * embeddings.image_embeds[embeddings.rows(ratings.image_ids)].astype(float)
    everyone = x[:, 0]
    kernel = residual.rbf_kernel(x, x, 0.5)
    dual, offset = residual.fit_residuals(kernel, ratings, everyone, ratings.rated, 2.0)
    here = ratings.rated[1]
    expected = SVR(gamma=0.5, C=2.0, epsilon=residual.EPSILON).fit(x[here], ratings.z[1, here] - everyone[here])
    np.testing.assert_allclose(dual[1] @ kernel + offset[1], expected.predict(x), atol=1e-2)
    assert (dual[1, ~here] == 0).all()


def test_somebody_unknown_gets_the_generic_score_and_the_seed_decides_it():
    tables, embeddings = taste_world()
    grid = {"level_values": LEVELS, "gammas": [0.5], "recipes": [RECIPE]}
    state = torch.random.get_rng_state()
    first, same, other = (residual.fit(tables["train"], embeddings, seed=seed, cs=[2.0], **grid) for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())  # leaves the caller's randomness alone
    val = without_user(tables["val_seen"])
    scores = [one.predict(val, embeddings).scores for one in (first, same, other)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 1e-3
    per_image = val.assign(scores=scores[0]).groupby(["image_id", "rating_scale"], observed=True)["scores"]
    assert per_image.nunique().max() == 1
    assert srocc(first.predict(val, embeddings), tables["val_seen"]) > 0.2


def test_how_far_to_follow_a_person_is_chosen_inside_train():
    tables, embeddings = taste_world()
    grid = {"level_values": LEVELS, "gammas": [0.5], "recipes": [RECIPE], "cs": [0.01, 2.0]}
    assert residual.fit(tables["train"], embeddings, **grid).c == 2.0
    alike = tables["train"].copy()
    mean = alike.groupby("image_id", observed=True)["score"].transform("mean").astype(float)
    noise = np.random.default_rng(0).normal(scale=mean.std(), size=len(alike))
    alike["score"], alike["rating_scale"] = (mean + noise).round().clip(0, 100), "wide"
    assert residual.fit(alike, embeddings, **(grid | {"level_values": {"wide": range(101)}})).c == 0.01
