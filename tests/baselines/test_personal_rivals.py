"""What every personal rival promises: a person's own ratings matter, of trained people and of those met later."""

import dataclasses

import numpy as np
import pytest
from taste_world import LEVELS, srocc, taste_world

from pamela_hf.baselines import load_baseline
from pamela_hf.baselines._ratings import RatingMatrix, ScaleUse
from pamela_hf.evaluation.evaluate import with_wrong_user, without_user
from pamela_hf.evaluation.few_shot import FewShotFits

# Small grids: what is chosen among is tested where it matters, in the rivals' own files.
RIVALS = {
    "user_ridge": {"alphas": (1.0, 10.0)},
    "matrix_factorization": {"ranks": (3,), "penalties": (3.0,), "alphas": (1.0,)},
    "personal_ordinal": {"alphas": (0.5,)},
    "low_rank": {"candidates": ((3, 1.0),)},
    "residual": {"recipes": ((3.0, 3e-3, 15),), "gammas": (0.5,), "cs": (2.0,)},
}


@pytest.fixture(scope="module")
def tables_and_embeddings():
    return taste_world()


@pytest.fixture(scope="module", params=RIVALS)
def fitted(request, tables_and_embeddings):
    tables, embeddings = tables_and_embeddings
    rival = load_baseline(request.param)
    return rival.fit(tables["train"], embeddings, level_values=LEVELS, **RIVALS[request.param]), *tables_and_embeddings


def test_knowing_the_person_is_worth_something(fitted):
    scorer, tables, embeddings = fitted
    val = tables["val_seen"]
    right = srocc(scorer.predict(val, embeddings), val)
    assert right > 0.45
    nobody = scorer.predict(without_user(val), embeddings)
    if scorer.name != "personal_ordinal":  # it has nothing to say about nobody in particular
        assert srocc(nobody, val) < right - 0.03
    assert srocc(scorer.predict(with_wrong_user(val), embeddings), val) < right - 0.1


def test_predictions_are_distributions_over_the_rows_own_levels(fitted):
    scorer, tables, embeddings = fitted
    val = tables["val_seen"]
    predicted = scorer.predict(val, embeddings)
    np.testing.assert_allclose(predicted.probs.sum(1), 1.0, atol=1e-9)
    assert (predicted.probs >= 0).all()
    five = (val.rating_scale == "five").to_numpy()
    assert (predicted.probs[five, 5:] == 0).all() and np.isnan(predicted.level_values[five, 5:]).all()
    np.testing.assert_allclose(predicted.scores[five], predicted.probs[five, :5] @ LEVELS["five"])
    error = predicted.scores[five] - val.score[five]
    assert np.sqrt(np.mean(error**2)) < val.score[five].std()
    assert (scorer.personal, scorer.higher_is_better, scorer.score_range) == (True, True, (1.0, 5.0))
    with pytest.raises(ValueError, match="rating_scale has 'other'"):
        scorer.predict(val.assign(rating_scale="other"), embeddings)


def test_a_new_person_is_known_by_their_own_ratings_and_by_nothing_else(fitted):
    scorer, tables, embeddings = fitted
    val, support = tables["val_unseen"], tables["support_unseen"]
    before = scorer.predict(val, embeddings)
    adapted = scorer.adapt(support, embeddings)
    after = adapted.predict(val, embeddings)
    assert srocc(after, val) > (0.0 if scorer.name == "personal_ordinal" else srocc(before, val)) + 0.03
    np.testing.assert_array_equal(scorer.predict(val, embeddings).scores, before.scores)  # itself unchanged
    one = str(val.participant_id.iloc[0])
    alone = scorer.adapt(support[support.participant_id == one], embeddings)
    rows = (val.participant_id == one).to_numpy()
    together = adapted.predict(val[rows], embeddings).scores
    np.testing.assert_allclose(alone.predict(val[rows], embeddings).scores, together, rtol=0, atol=0.02)


def test_few_shot_evaluation_gives_it_the_ratings_the_model_would_get(fitted, monkeypatch):
    scorer, tables, embeddings = fitted
    given = []
    adapt = type(scorer).adapt

    def noted(self, support, embeddings):
        given.append(support)
        return adapt(self, support, embeddings)

    monkeypatch.setattr(type(scorer), "adapt", noted)
    fits = FewShotFits(tables["support_unseen"], embeddings, [0, 10, 40], draws=2, progress=False)
    draws = fits(scorer, "val_unseen", tables["val_unseen"])
    assert list(draws) == ["k=10", "k=40"]
    for support in given:
        assert set(support.participant_id.value_counts()[lambda n: n > 0]) <= {10, 40}
    assert len(given) == 4 and given[0].image_id.tolist() != given[1].image_id.tolist()
    for rows, predicted in draws["k=40"]:
        assert len(rows) == len(predicted.scores) == len(tables["val_unseen"])
    assert dataclasses.replace(fits, select="active")(scorer, "val_unseen", tables["val_unseen"]) == {}


def test_few_ratings_draw_a_person_to_the_others():
    rng = np.random.default_rng(0)
    mean, spread = rng.normal(0.5, 0.1, 200), rng.uniform(0.1, 0.3, 200)
    codes = np.arange(200).repeat(30)
    use = ScaleUse.fit(mean[codes] + spread[codes] * rng.normal(size=len(codes)), codes)
    assert use.center == pytest.approx(0.5, abs=0.03) and use.between == pytest.approx(0.01, rel=0.3)
    nobody = use.of(np.zeros(0), np.zeros(0, int), 1)
    assert nobody[0][0] == use.center and nobody[2][0] == pytest.approx(use.between)
    (one, *_), (many, *_) = (use.of(np.ones(n), np.zeros(n, int), 1)[0] for n in (1, 1000))
    assert use.center < one < 0.9 < many


def test_folds_keep_themes_whole(tables_and_embeddings):
    ratings = RatingMatrix.of(tables_and_embeddings[0]["train"], LEVELS)
    folds = ratings.folds()
    for fitted, kept in folds:
        assert not set(ratings.themes[fitted]) & set(ratings.themes[kept])
    assert sorted(np.concatenate([kept for _, kept in folds])) == list(range(len(ratings.image_ids)))


@pytest.mark.parametrize("name", RIVALS)
def test_what_cannot_be_learned_from_is_refused(name, tables_and_embeddings):
    tables, embeddings = tables_and_embeddings
    fit = load_baseline(name).fit
    with pytest.raises(ValueError, match="ratings is empty"):
        fit(tables["train"].iloc[:0], embeddings)
    with pytest.raises(ValueError, match="of 1 prompts"):
        fit(tables["train"].assign(prompt="one"), embeddings)
