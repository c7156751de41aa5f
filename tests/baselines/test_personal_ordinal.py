import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from taste_world import LEVELS, taste_world

from pamela_hf.baselines import personal_ordinal
from pamela_hf.baselines._ratings import RatingMatrix


def heads(train, embeddings, alpha=1.0):
    ratings = RatingMatrix.of(train, LEVELS)
    level, scale = personal_ordinal.levels_of(train, ratings)
    common = personal_ordinal.common_thresholds(level, scale, ratings.rated, [5, 11])
    x = embeddings.image_embeds[embeddings.rows(ratings.image_ids)].astype(float)
    return ratings, *personal_ordinal.fit_heads(x, level, scale, ratings.rated, common, alpha)


def test_nobodys_head_depends_on_another_persons_taste():
    tables, embeddings = taste_world()
    train = tables["train"]
    shuffled, others = train.copy(), (train.participant_id != "p01").to_numpy()
    rng = np.random.default_rng(0)
    for scale in LEVELS:  # everyone's distribution stays, which thresholds are held to
        rows = np.flatnonzero(others & (train.rating_scale == scale).to_numpy())
        shuffled.loc[rows, "score"] = rng.permutation(train.score[rows].to_numpy())
    (_, weights, thresholds), (_, weights_, thresholds_) = heads(train, embeddings), heads(shuffled, embeddings)
    np.testing.assert_allclose(weights[1], weights_[1], atol=2e-2)
    np.testing.assert_allclose(thresholds[1, 0, :4], thresholds_[1, 0, :4], atol=2e-2)
    assert np.abs(weights[2] - weights_[2]).max() > 0.2


def test_with_two_levels_it_is_logistic_regression():
    tables, embeddings = taste_world()
    train = tables["train"][tables["train"].participant_id == "p01"].reset_index(drop=True)
    liked = train.score >= 3
    train["score"] = np.where(liked, 5.0, 1.0)
    ratings = RatingMatrix.of(train, {"five": (1.0, 5.0)})
    x = embeddings.image_embeds[embeddings.rows(ratings.image_ids)].astype(float)
    level, scale = personal_ordinal.levels_of(train, ratings)
    weights, thresholds = personal_ordinal.fit_heads(x, level, scale, ratings.rated, np.zeros((1, 1)), 2.0)
    # Its intercept is penalized as by a rating (⅛ t²): a feature that is always 2 √2 does the same at C = ½.
    wide = np.column_stack([x, np.full(len(x), np.sqrt(2.0 * 4))])
    expected = LogisticRegression(C=1 / 2.0, fit_intercept=False, tol=1e-8, max_iter=1000).fit(wide, level[0]).coef_[0]
    np.testing.assert_allclose(weights[0], expected[:-1], atol=2e-3)
    np.testing.assert_allclose(-thresholds[0, 0, 0], expected[-1] * np.sqrt(8.0), atol=2e-3)


def test_thresholds_are_ordered_and_a_level_never_used_stays_unlikely():
    tables, embeddings = taste_world()
    train = tables["train"].copy()
    train.loc[(train.participant_id == "p01") & (train.score == 5), "score"] = 4
    ratings, _, thresholds = heads(train, embeddings)
    five = [row for row, name in enumerate(ratings.participants) if int(name[1:]) % 5]
    assert (np.diff(thresholds[five, 0, :4]) >= 0).all() and np.isinf(thresholds[:, 0, 4:]).all()
    assert expit(-thresholds[1, 0, 3]) < 0.1


def test_whom_it_does_not_know_it_gives_everyones_distribution():
    tables, embeddings = taste_world()
    scorer = personal_ordinal.fit(tables["train"], embeddings, level_values=LEVELS, alphas=[1.0])
    val = tables["val_unseen"]
    predicted = scorer.predict(val, embeddings)
    five = (val.rating_scale == "five").to_numpy()
    assert np.ptp(predicted.scores[five]) < 1e-12
    train = tables["train"]
    shares = train[train.rating_scale == "five"].score.value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(predicted.probs[five][0, :5], shares, atol=0.01)


def test_the_penalty_is_chosen_inside_train():
    tables, embeddings = taste_world()
    train = tables["train"]
    scorer = personal_ordinal.fit(train, embeddings, level_values=LEVELS, alphas=[1.0, 3000.0])
    assert scorer.alpha == 1.0
