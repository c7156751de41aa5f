"""The consensus ridge: it finds a consensus that is there, in rating units, from train alone."""

import numpy as np
import pandas as pd
import pytest

from pamela_hf.baselines import available_baselines, load_baseline
from pamela_hf.embeddings import EmbeddingError, Embeddings
from pamela_hf.metrics import judge

ridge = load_baseline("ridge")
LEVELS = {"five": (1.0, 2.0, 3.0, 4.0, 5.0), "slider": tuple(10.0 * k for k in range(11))}


def world(seed=0, images=200, people=40, width=24):
    """Images whose liking is linear in their features, rated on two scales by people with habits of their own."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, width)) * rng.uniform(0.1, 10, width) + 5
    liking = (features - 5) @ (rng.normal(size=width) / features.std(0)) / np.sqrt(width)
    embeddings = Embeddings([f"i{k}" for k in range(images)], features.astype(np.float32))
    tables = {"train": [], "val": []}
    for person in range(people):
        scale = "slider" if person % 4 == 0 else "five"
        levels = np.array(LEVELS[scale])
        rated = rng.choice(images, 40, replace=False)
        wanted = rng.normal(scale=0.3) + rng.uniform(0.5, 1.5) * (liking[rated] + rng.normal(scale=0.7, size=40))
        place = np.clip(np.round((wanted / 4 + 0.5) * (len(levels) - 1)), 0, len(levels) - 1).astype(int)
        for split, mask in (("train", rated < images // 2), ("val", rated >= images // 2)):
            tables[split].append(
                pd.DataFrame(
                    {
                        "participant_id": f"p{person}",
                        "image_id": [f"i{k}" for k in rated[mask]],
                        "prompt": [f"theme {k // 5}" for k in rated[mask]],
                        "score": levels[place[mask]].astype(np.float32),
                        "rating_scale": scale,
                    }
                )
            )
    return {
        k: pd.concat(v, ignore_index=True).astype(
            dict.fromkeys(["participant_id", "image_id", "prompt", "rating_scale"], "category")
        )
        for k, v in tables.items()
    }, embeddings


@pytest.fixture(scope="module")
def fitted():
    tables, embeddings = world()
    return ridge.fit(tables["train"], embeddings, level_values=LEVELS), tables, embeddings


def test_finds_the_consensus_on_new_images_in_rating_units(fitted):
    scorer, tables, embeddings = fitted
    val = tables["val"]
    predicted = scorer.predict(val, embeddings)
    estimates, _ = judge(
        predicted.scores,
        val.score,
        val.participant_id,
        val.image_id,
        predicted.probs,
        predicted.level_values,
        bootstrap=0,
    )
    assert estimates["user_srocc"].value > 0.5
    assert estimates["diverging"].value == pytest.approx(0.5)
    assert estimates["coverage_80"].value == pytest.approx(0.8, abs=0.05)
    for scale, levels in LEVELS.items():
        rows = (val.rating_scale == scale).to_numpy()
        error = predicted.scores[rows] - val.score[rows]
        assert abs(error.mean()) < 0.1 * np.ptp(levels)
        assert np.sqrt(np.mean(error**2)) < 0.9 * val.score[rows].std()
        assert predicted.std[rows].mean() == pytest.approx(np.std(error), rel=0.25)


def test_probabilities_and_scores_belong_together(fitted):
    scorer, tables, embeddings = fitted
    predicted = scorer.predict(tables["val"], embeddings)
    np.testing.assert_allclose(predicted.probs.sum(1), 1.0, atol=1e-12)
    assert (predicted.probs >= 0).all()
    five = (tables["val"].rating_scale == "five").to_numpy()
    assert np.isnan(predicted.level_values[five, 5:]).all() and (predicted.probs[five, 5:] == 0).all()
    np.testing.assert_allclose(predicted.scores[five], predicted.probs[five, :5] @ LEVELS["five"])
    assert predicted.scores[five].min() >= 1 and predicted.scores[five].max() <= 5


def test_everyone_gets_the_same_score_for_an_image(fitted):
    scorer, tables, embeddings = fitted
    scores = scorer.predict(tables["val"], embeddings).scores
    groups = tables["val"].assign(scores=scores).groupby(["image_id", "rating_scale"], observed=True).scores
    assert groups.nunique().max() == 1
    assert scorer.personal is False and scorer.higher_is_better and scorer.score_range == (1.0, 5.0)


def test_target_is_the_mean_of_standardized_ratings():
    """One person's larger numbers and wider use of the scale count for nothing."""
    train = pd.DataFrame(
        {
            "participant_id": ["a"] * 3 + ["b"] * 3 + ["c"] * 2,
            "image_id": ["x", "y", "z", "x", "y", "z", "x", "w"],
            "prompt": ["p", "p", None, "p", "p", None, "p", "p"],
            "score": [1, 2, 3, 1, 3, 5, 4, 4],
            "rating_scale": "wide",
        }
    )
    targets = ridge.consensus_targets(train)
    np.testing.assert_allclose(targets.target[["x", "y", "z"]], [-np.sqrt(1.5), 0, np.sqrt(1.5)], atol=1e-12)
    assert list(targets.index) == ["x", "y", "z"] and targets.raters.tolist() == [2, 2, 2]
    assert targets.group.tolist() == ["p", "p", "z"]


def test_an_image_without_consensus_does_not_spoil_the_fit():
    tables, embeddings = world(images=60, people=8)
    bored = tables["train"].iloc[:1].assign(participant_id="bored", image_id="i59")
    train = pd.concat([tables["train"], bored], ignore_index=True)
    with_it, without = (ridge.fit(t, embeddings, level_values=LEVELS) for t in (train, tables["train"]))
    assert with_it.alpha == without.alpha and set(with_it.lines) == set(without.lines)
    for scale, line in with_it.lines.items():
        assert line == pytest.approx(without.lines[scale], rel=1e-9)


def test_noise_is_answered_with_the_mean():
    rng = np.random.default_rng(5)
    tables, embeddings = world(seed=5)
    train = tables["train"].assign(score=rng.permutation(tables["train"].score.to_numpy()), rating_scale="slider")
    scorer = ridge.fit(train, embeddings, level_values=LEVELS)
    assert np.std(scorer.predict(train, embeddings).scores) < 0.25 * train.score.std()


def test_what_is_wrong_is_said(fitted):
    scorer, tables, embeddings = fitted
    with pytest.raises(ValueError, match=r"rating_scale has 'other'; ridge was fitted on \['five', 'slider'\]"):
        scorer.predict(tables["val"].assign(rating_scale="other"), embeddings)
    with pytest.raises(EmbeddingError, match="have no embedding"):
        ridge.fit(tables["train"], embeddings.subset(["i0", "i1"]))
    with pytest.raises(ValueError, match="train has no ratings"):
        ridge.fit(tables["train"].iloc[:0], embeddings)
    with pytest.raises(ValueError, match="of 1 prompts"):
        ridge.fit(tables["train"].assign(prompt="one"), embeddings)
    with pytest.raises(ValueError, match="ratings are all equal"):
        ridge.fit(tables["train"].assign(score=3.0), embeddings)


def test_baselines_are_found_by_name():
    assert "ridge" in available_baselines()
    with pytest.raises(ValueError, match=r"baseline '\.\./ridge' does not exist; there are .*ridge"):
        load_baseline("../ridge")
