import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from taste_world import LEVELS, srocc, taste_world

from pamela_hf.baselines import user_ridge
from pamela_hf.baselines._ratings import RatingMatrix
from pamela_hf.evaluation.evaluate import evaluate
from pamela_hf.evaluation.few_shot import FewShotFits
from pamela_hf.evaluation.table import metric_table
from pamela_hf.ratings.table import RatingData


def test_own_weights_are_a_ridge_regression_of_what_the_consensus_leaves_over():
    tables, embeddings = taste_world(people=6)
    ratings = RatingMatrix.of(tables["train"], LEVELS)
    x = embeddings.image_embeds[embeddings.rows(ratings.image_ids)].astype(float)
    everyone = x @ np.linspace(-1, 1, x.shape[1])
    weights = user_ridge.own_weights(x, ratings, everyone, [0.5, 7.0])
    for alpha, found in zip([0.5, 7.0], weights):
        here = ratings.rated[2]
        expected = Ridge(alpha).fit(x[here], ratings.z[2, here] - everyone[here]).coef_
        np.testing.assert_allclose(found[2], expected, atol=1e-9)


def test_the_penalty_is_chosen_inside_train_and_grows_where_people_do_not_differ():
    tables, embeddings = taste_world()
    differ = user_ridge.fit(tables["train"], embeddings, level_values=LEVELS)
    alike = tables["train"].copy()
    mean = alike.groupby("image_id", observed=True)["score"].transform("mean").astype(float)
    noise = np.random.default_rng(0).normal(scale=mean.std(), size=len(alike))
    alike["score"] = (mean + noise).round().clip(0, 100)
    alike["rating_scale"] = pd.Categorical(["wide"] * len(alike))
    same = user_ridge.fit(alike, embeddings, level_values={"wide": range(101)})
    assert same.alpha > 5 * differ.alpha
    assert np.abs(same.weights).mean() < 0.2 * np.abs(differ.weights).mean()


def test_it_stands_beside_the_model_after_the_same_ratings():
    """Another rival plays the model here; what counts is who is subtracted from whom."""
    tables, embeddings = taste_world()
    ours, rival = (user_ridge.fit(tables["train"], embeddings, level_values=LEVELS, alphas=[a]) for a in (1.0, 100.0))
    ours.name = "pamela"
    data = RatingData("toy", {"val_unseen": tables["val_unseen"]}, LEVELS)
    few_shot = FewShotFits(tables["support_unseen"], embeddings, [10, 40], draws=2, progress=False)
    report = evaluate([ours, rival], data, embeddings, few_shot=few_shot, bootstrap=200)
    differences, cells = report["differences"]["val_unseen"], report["splits"]["val_unseen"]
    assert "pamela - user_ridge@k=10" not in differences
    pair = differences["pamela@k=40 - user_ridge@k=40"]["user_srocc"]
    values = [cells[f"{name}@k=40"]["user_srocc"]["value"] for name in ("pamela", "user_ridge")]
    assert pair["value"] == pytest.approx(values[0] - values[1]) and pair["value"] > 0.03
    assert pair["ci_low"] < pair["value"] < pair["ci_high"]
    assert "Δ pamela@k=40 - user_ridge@k=40" in metric_table(report)


def test_without_text_features_it_takes_the_images_alone():
    tables, embeddings = taste_world()
    embeddings.text_embeds = None
    scorer = user_ridge.fit(tables["train"], embeddings, level_values=LEVELS, alphas=[1.0])
    assert scorer.inputs.text_weight == 0.0
    assert srocc(scorer.predict(tables["val_seen"], embeddings), tables["val_seen"]) > 0.4
