"""Heads: fitted, saved, loaded, scored beside others, and all that is refused."""

import json
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import ThreadpoolController

from pamela_hf.heads import fitting, suggest
from pamela_hf.heads.answers import key_of
from pamela_hf.heads.fitting import (
    IMAGE_STD,
    USE_STD,
    Answers,
    Posterior,
    _maximize,
    _Problem,
    fit_row,
    prior_covariance,
)
from pamela_hf.heads.folder import ABOUT, CONFIG, FILES, ROW, WEIGHTS, HeadError
from pamela_hf.heads.head import UserHead
from pamela_hf.heads.suggest import covariance_after, design_features, representative, suggest_images
from pamela_hf.metrics import correlation
from pamela_hf.scoring import PamelaScorer


@pytest.fixture(scope="module")
def scorer(trained_folder):
    return PamelaScorer.from_pretrained(trained_folder, device="cpu")


@pytest.fixture(scope="module")
def ratings(data):
    """A newcomer's: somebody the model was not trained on."""
    table = data.splits["test_unseen"]
    mine = table[table.participant_id.astype(str) == sorted(table.participant_id.astype(str).unique())[0]]
    return [(str(image), float(score)) for image, score in zip(mine.image_id, mine.score)]


@pytest.fixture(scope="module")
def head(scorer, ratings, features):
    return UserHead.fit(scorer, ratings, name="newcomer", embeddings=features)


def scores_of(scorer, features, head=None):
    row = torch.zeros(1, scorer.config.row_size) if head is None else torch.from_numpy(head.row)[None]
    text = torch.from_numpy(features.text_embeds)
    out = scorer.model.score_matrix(torch.from_numpy(features.image_embeds), text, user_embeds=row)
    return out.utility[:, 0].numpy()


def test_a_head_ranks_more_as_the_person_does(scorer, features, ratings, head):
    at = features.rows([image for image, _ in ratings])
    said = np.array([score for _, score in ratings])
    personal, everyone = scores_of(scorer, features, head)[at], scores_of(scorer, features)[at]
    assert correlation(personal, said) > correlation(everyone, said)
    about = head.describe()
    assert about["ratings"] == len(ratings) and about["held_out"]["ci_low"] <= about["held_out"]["srocc"]


def test_no_answers_are_everyone_s_taste_and_more_evidence_moves_further(scorer, ratings, features):
    rows = scorer.model.user_embedding.weight[1:].detach().double().numpy()
    covariance = prior_covariance(rows)
    nothing = Answers(
        np.zeros(3), np.zeros((3, len(covariance))), np.zeros((2, len(covariance))), np.zeros(0, int), np.zeros(0, int),
        np.zeros((0, 4)), np.zeros(0),
    )  # fmt: skip
    assert not fit_row(nothing, covariance).row.any()
    lengths = [
        np.linalg.norm(UserHead.fit(scorer, ratings[:n], name="n", embeddings=features).row) for n in (1, len(ratings))
    ]
    assert lengths[0] < lengths[1]


def test_ratings_likes_and_choices_mix(scorer, features, ratings):
    (a, _), (b, _) = max(ratings, key=lambda r: r[1]), min(ratings, key=lambda r: r[1])
    head = UserHead.fit(
        scorer, ratings[:4], likes=[(a, True), (b, False)], choices=[(a, b)], name="n", embeddings=features
    )
    assert (head.about["ratings"], head.about["likes"], head.about["choices"]) == (4, 2, 1)
    only = UserHead.fit(scorer, choices=[(b, a)] * 5, name="n", embeddings=features)
    at = features.rows([a, b])
    before, after = scores_of(scorer, features)[at], scores_of(scorer, features, only)[at]
    assert after[1] - after[0] > before[1] - before[0]


@pytest.mark.parametrize(
    ("answers", "note"),
    [
        ({"ratings": [("img001", 3.0)]}, "Only 1 answer"),
        ({"ratings": [("img001", 3.0)] * 2}, "rated already"),
        ({"ratings": [(f"img{i:03d}", 5.0) for i in range(12)]}, "All ratings are equal"),
        ({"likes": [(f"img{i:03d}", True) for i in range(6)]}, "All likes are equal"),
        ({"choices": [("img001", "img002"), ("img002", "img001")]}, "chosen both ways"),
        ({"choices": [("img001", "img002"), ("img002", "img003"), ("img003", "img001")]}, "circles among 3 images"),
        (
            {"ratings": [("img001", 1), ("img002", 5)], "choices": [("img001", "img002")]},
            "1 choice against the ratings",
        ),
        ({"ratings": [("img001", 2.5)]}, "1 score between levels"),
    ],
)
def test_odd_answers_give_a_sane_head_and_a_word(scorer, features, answers, note):
    head = UserHead.fit(scorer, **answers, name="n", embeddings=features)
    assert any(note in line for line in head.about["notes"])
    assert np.isfinite(head.row).all()
    everyone, personal = scores_of(scorer, features), scores_of(scorer, features, head)
    assert correlation(everyone, personal) > 0.8


def test_held_out_is_held_out_of_choices_too(scorer, features):
    """Ratings are noise and choices repeat them: what is known of other images foretells nothing."""
    ids, found = list(features.image_ids), []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        mine, scores = rng.choice(ids, 24, replace=False), rng.integers(1, 6, 24)
        choices = [(a, b) for a, x in zip(mine, scores) for b, y in zip(mine, scores) if x > y]
        head = UserHead.fit(scorer, list(zip(mine, scores)), choices=choices, name="n", embeddings=features)
        found.append(head.about["held_out"]["srocc"])
    assert np.mean(found) < 0.1


def test_held_out_counts_images_not_repeats(scorer, features, ratings):
    twice = [("img001", 1)] * 5 + [("img002", 5)] * 5
    assert UserHead.fit(scorer, twice, name="n", embeddings=features).about["held_out"] is None
    once = UserHead.fit(scorer, ratings, name="n", embeddings=features).about["held_out"]
    again = UserHead.fit(scorer, [*ratings, *ratings], name="n", embeddings=features).about["held_out"]
    assert again["everyone"] == once["everyone"]
    assert again["ci_high"] - again["ci_low"] > 0.7 * (once["ci_high"] - once["ci_low"])


def test_only_groups_that_the_model_knows_are_written(scorer, features, ratings, tmp_path):
    said = {image: {"group": "animal" if i % 2 else "/mnt/photos/anna"} for i, (image, _) in enumerate(ratings)}
    head = UserHead.fit(scorer, ratings, name="n", embeddings=features, metadata=said)
    assert set(head.about["likes_more"]["group"]) == set(head.about["unsure"]["group"]) == {"animal"}
    head.save(tmp_path / "head")
    assert not any(b"anna" in (tmp_path / "head" / name).read_bytes() for name in FILES)


def test_a_base_is_named_only_if_it_came_from_the_hub(trained_folder, ratings, features, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    sha = "0123456789" * 4
    for folder in (tmp_path / "here" / "secretdir" / "model", cache / "models--me--base" / "snapshots" / sha):
        shutil.copytree(trained_folder, folder, ignore=shutil.ignore_patterns("checkpoints"))
    (cache / "models--me--base" / "refs").mkdir()
    (cache / "models--me--base" / "refs" / "main").write_text(sha)
    monkeypatch.chdir(tmp_path / "here")
    local = PamelaScorer.from_pretrained("secretdir/model", device="cpu")
    monkeypatch.chdir(tmp_path)
    for scorer, base in ((local, None), (PamelaScorer.from_pretrained("me/base", device="cpu"), "me/base")):
        assert UserHead.fit(scorer, ratings, name="n", embeddings=features).base == base


def somebody(pairs=(), images=(), level=()):
    """Answers about 400 images of which four directions, likely rows of a person, tell how people differ."""
    rng = np.random.default_rng(0)
    cutpoints = np.tile([-1.5, -0.5, 0.5, 1.5], (len(images), 1))
    said = np.asarray(images, np.int64), np.asarray(level, np.int64), cutpoints, np.zeros(len(images))
    return Answers(
        rng.normal(size=400), rng.normal(size=(400, 4)), np.zeros((2, 4)), *said, np.reshape(pairs, (-1, 2)).astype(int)
    )


@pytest.mark.parametrize("kind", ["choices", "both ways", "ratings"])
def test_answers_that_look_like_chance_leave_the_row_near_everyone_s(kind):
    rng, nobody = np.random.default_rng(1), somebody()
    liked = nobody.utility + nobody.slope @ [1.0, -1.0, 0.0, 0.5] + rng.logistic(size=400)
    images = rng.permutation(400)[:100]
    pairs = np.concatenate([rng.permutation(400).reshape(200, 2) for _ in range(2)])
    clear = np.where((liked[pairs[:, 0]] > liked[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
    if kind == "ratings":
        said = {"images": images, "level": np.digitize(liked[images], [-1.5, -0.5, 0.5, 1.5])}
        chance = {"images": images, "level": rng.permutation(said["level"])}
    else:
        said = {"pairs": clear}
        turned = rng.random(400) < 0.5
        chance = {"pairs": np.where(turned[:, None], clear[:, ::-1], clear)}
        if kind == "both ways":
            chance = {"pairs": np.concatenate([clear, clear[:, ::-1]])}
    taste, noise = (fit_row(somebody(**answers), np.eye(4)) for answers in (said, chance))
    assert taste.random < 0.01 and noise.random > 0.5
    assert np.linalg.norm(noise.row) < 0.2 * np.linalg.norm(taste.row)


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_the_row_is_the_mode_that_a_general_optimizer_finds(scale):
    """Written out as in the papers: ordinal link, Bradley-Terry with a liking of each image, normal priors."""
    rng = np.random.default_rng(3)
    images, pairs = rng.permutation(400)[:80], rng.permutation(400)[:60].reshape(30, 2)
    liked = somebody().utility + somebody().slope @ [1.0, -1.0, 0.0, 0.5] + rng.logistic(size=400)
    level, covariance = np.digitize(liked[images], [-1.5, -0.5, 0.5, 1.5]), np.diag([1.0, 0.5, 2.0, 1.0])
    answers = somebody(pairs, images, level)
    known, where = np.unique(pairs, return_inverse=True)
    first, second = where.reshape(-1, 2).T

    def loss(x):
        row, use, beyond = x[:4], x[4:7], x[7:]
        utility = answers.utility + answers.slope @ row
        below = expit(answers.cutpoints * np.exp(use[1]) - (utility[images] - use[0])[:, None])
        below = np.column_stack([np.zeros(80), below, np.ones(80)])
        margin = utility[pairs[:, 0]] - utility[pairs[:, 1]] + beyond[first] - beyond[second]
        likelihood = np.log(np.diff(below)[np.arange(80), level]).sum() - np.logaddexp(0, -margin).sum()
        prior = row @ np.linalg.solve(scale * covariance, row) + (use / USE_STD) @ (use / USE_STD)
        return 0.5 * (prior + (beyond / IMAGE_STD) @ (beyond / IMAGE_STD)) - likelihood

    found = minimize(loss, np.zeros(7 + len(known)), method="BFGS", options={"gtol": 1e-4})
    problem = _Problem(answers)
    start = problem.at(np.full(problem.width, 0.2))
    for fisher in (problem.fisher(start), 10 * np.eye(problem.width)):  # of there, and one that is far off
        mode, information = _maximize(problem, problem.prior(np.linalg.inv(scale * covariance)), start, fisher)
        np.testing.assert_allclose(mode.x[:4], found.x[:4], atol=1e-3)
        np.testing.assert_allclose(information, problem.fisher(mode))
        assert loss(mode.x) < found.fun + 1e-6


def test_slopes_of_tastes_are_the_differences_they_stand_for(scorer, features):
    images = {"image_embeds": features.image_embeds, "text_embeds": features.text_embeds}
    images["metadata_ids"] = torch.ones(len(features), len(scorer.config.metadata), dtype=torch.long)
    rows = np.zeros((3, scorer.config.row_size))
    rows[1, -1], rows[2, scorer.config.hidden_size] = 0.5, 0.5
    people = torch.zeros(1, len(scorer.config.demographics), dtype=torch.long)
    utility = scorer.utilities(rows, **images, demographic_ids=people)
    slopes = scorer.taste_slopes(**images)
    assert slopes.shape == (len(features), scorer.config.tastes) and np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(slopes[:, [-1, 0]], 2 * (utility[:, 1:] - utility[:, :1]), atol=1e-5)


def test_many_choices_among_few_images_are_not_as_many_facts():
    """They share what no feature tells of those images."""
    rng, doubt = np.random.default_rng(2), {}
    for images in (12, 400):
        pairs = rng.choice(images, (600, 2))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        liked = somebody().utility + somebody().slope @ [1.0, -1.0, 0.0, 0.5]
        pairs = np.where((liked[pairs[:, 0]] > liked[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
        doubt[images] = np.trace(fit_row(somebody(pairs), np.eye(4)).covariance)
    assert doubt[12] > 2 * doubt[400]


def test_a_score_between_levels_counts_as_the_nearest_on_any_scale(scorer, features):
    for score, level in ((3.5, 4), (3.4, 3), (1.2, 1)):
        rows = [
            UserHead.fit(
                scorer, [("img001", value), ("img002", 2)], name="n", embeddings=features, rating_range=way
            ).row
            for value, way in ((level, None), (score, None), (score, (1, 5)))
        ]
        assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[0], rows[2])


def test_an_image_is_itself_however_it_is_given(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 8, (6, 6), np.uint8)
    one, other = (Image.fromarray(pixels) for _ in range(2))
    one.putpalette(list(range(24)))
    other.putpalette(list(range(24, 0, -1)))
    assert key_of(one) != key_of(other) and key_of(one) == key_of(one.convert("RGB"))
    monkeypatch.chdir(tmp_path)
    keys = {key_of(path) for path in ("d/a.png", "d/./a.png", "e/../d/a.png", tmp_path / "d" / "a.png")}
    assert len(keys) == 1 and key_of("d/./a.png", is_id=True) == "d/./a.png"


def test_scales_are_mapped(scorer, features, ratings):
    percent = [(image, 25 * (score - 1)) for image, score in ratings]
    a = UserHead.fit(scorer, ratings, name="n", embeddings=features)
    b = UserHead.fit(scorer, percent, name="n", rating_range=(0, 100), embeddings=features)
    np.testing.assert_allclose(a.row, b.row, atol=1e-6)
    odd = [(image, 10**score) for image, score in ratings]
    c = UserHead.fit(scorer, ratings, name="n", rating_range="rank", embeddings=features)
    d = UserHead.fit(scorer, odd, name="n", rating_range="rank", embeddings=features)
    np.testing.assert_allclose(c.row, d.row, atol=1e-6)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"ratings": [("img001", 9.0)]}, r"score 9.0; allowed: 1..5"),
        ({"ratings": [("img001", float("nan"))]}, "nan"),
        ({"ratings": [("img001", 11)], "rating_range": (0, 10)}, "allowed: 0..10"),
        ({"ratings": []}, "Nothing was rated"),
        ({"ratings": [("img999", 3)]}, "img999"),
        ({"ratings": [("img001", 3)], "name": "../up"}, "no path"),
        ({"ratings": [("img001", 3)], "name": "p00"}, "trained on"),
        ({"choices": [("img001", "img001")]}, "to itself"),
        ({"ratings": [("img001", 3)], "rating_range": "ranks"}, "rating_range='ranks'"),
        ({"ratings": [("img001", 3)], "prompts": {"img1": "a cat"}}, "prompts: 'img1' is not among the 1 images"),
        ({"ratings": [("img001", 3)], "metadata": {"img1": {"group": "animal"}}}, "metadata: 'img1' is not"),
    ],
)
def test_bad_answers_are_named(scorer, features, answers, message):
    with pytest.raises(ValueError, match=message):
        UserHead.fit(scorer, **{"name": "n", **answers}, embeddings=features)


def test_features_are_taken_from_any_tensor(scorer, features):
    at = features.rows(["img001", "img002"])
    rounded = torch.from_numpy(features.image_embeds[at]).bfloat16()
    plain = UserHead.fit(scorer, [(v.float().numpy(), s) for v, s in zip(rounded, (5, 1))], name="n")
    for vectors in (rounded, rounded.float().requires_grad_()):
        assert np.array_equal(UserHead.fit(scorer, list(zip(vectors, (5, 1))), name="n").row, plain.row)


def test_a_head_does_not_depend_on_demographics_unless_asked(scorer, features, ratings, head, monkeypatch):
    again = UserHead.fit(scorer, ratings, name="newcomer", embeddings=features)
    asked = UserHead.fit(scorer, ratings, name="n", embeddings=features, demographics={"gender": "female"})
    assert np.array_equal(again.row, head.row) and not np.array_equal(asked.row, head.row)
    told = []
    monkeypatch.setattr("pamela_hf.scoring.scorer.logger.warning_once", told.append)
    image = torch.from_numpy(features.image_embeds[:1])
    scorer.score(image_embeds=image, users=[asked, head], demographics=[{"gender": "female"}, None])
    scorer.score(image_embeds=image, user=head)
    assert not told
    scorer.score(image_embeds=image, users=[head, asked])
    assert len(told) == 1 and "'n' was fitted on top of its person's demographics" in told[0]


def test_saved_and_loaded_alike_and_small(head, tmp_path):
    head.save(tmp_path / "head")
    assert sorted(os.listdir(tmp_path / "head")) == sorted(FILES) and os.listdir(tmp_path) == ["head"]
    loaded = UserHead.load(tmp_path / "head")
    assert np.array_equal(loaded.row, head.row) and loaded.describe() == head.describe()
    assert sum((tmp_path / "head" / name).stat().st_size for name in FILES) < 50_000
    text = b"".join((tmp_path / "head" / name).read_bytes() for name in FILES)
    assert b"img0" not in text and str(tmp_path).encode() not in text


def test_peft_loads_the_same_row(head, trained_folder, features, tmp_path, scorer):
    from peft import PeftModel

    from pamela_hf import PamelaRewardModel

    head.save(tmp_path / "head")
    base = PamelaRewardModel.from_pretrained(trained_folder)
    adapted = PeftModel.from_pretrained(base, tmp_path / "head").eval()
    images, text = torch.from_numpy(features.image_embeds[:5]), torch.from_numpy(features.text_embeds[:5])
    with torch.no_grad():
        by_peft = adapted(image_embeds=images, text_embeds=text, user_ids=torch.zeros(5, dtype=torch.long)).utility
    np.testing.assert_allclose(by_peft.numpy(), scores_of(scorer, features, head)[:5], atol=1e-5)


def test_people_of_all_kinds_side_by_side(scorer, head):
    people = ["p00", head, None, head.with_strength(0)]
    encoded = scorer.encode_people(4, people)
    table = scorer.model.user_embedding.weight
    assert torch.equal(encoded["user_embeds"][0], table[1])
    assert torch.equal(encoded["user_embeds"][1], torch.from_numpy(head.row))
    assert not encoded["user_embeds"][2:].any()
    assert len(scorer.encode_people(3, head)["user_embeds"]) == 3
    other = UserHead("x", head.row, head.hidden_size, "0" * 64)
    with pytest.raises(ValueError, match="belongs to base 000000000000"):
        scorer.encode_people(1, other)
    with pytest.raises(HeadError, match="belongs to base"):
        other.check_base(head.base_identity)


def test_mixing_and_strength(head):
    other = UserHead("o", -head.row, head.hidden_size, head.base_identity)
    assert np.allclose(UserHead.mix([head, other], name="us").row, 0)
    assert np.allclose(UserHead.mix([head, other], [3, 1], name="us").row, head.row / 2)
    assert np.allclose(head.with_strength(1.5).row, 1.5 * head.row)
    assert np.allclose(head.with_strength(np.float32(0.5)).with_strength(3).row, 1.5 * head.row)
    asked = UserHead("d", head.row, head.hidden_size, head.base_identity, about={"uses_demographics": True})
    assert UserHead.mix([head, asked], name="us").about["uses_demographics"]
    assert not UserHead.mix([head, head], name="us").about["uses_demographics"]
    for call in (
        lambda: head.with_strength(2),
        lambda: head.with_strength(1.5).with_strength(1.5),
        lambda: head.with_strength(0).with_strength(-1),
        lambda: head.with_strength(np.nan),
        lambda: head.with_strength("1"),
        lambda: UserHead.mix([], name="u"),
        lambda: UserHead.mix([head], [-1], name="u"),
    ):
        with pytest.raises(ValueError):
            call()


def test_figures_of_another_strength_are_not_told(head, tmp_path):
    assert head.with_strength(1).describe() == head.describe()
    weak = head.with_strength(0.5)
    assert weak.about["ratings"] == head.about["ratings"] and weak.about["strength"] == 0.5
    assert not {"held_out", "distance", "likes_more", "unsure"} & set(weak.about)
    weak.save(tmp_path / "head")
    card = (tmp_path / "head" / "README.md").read_text()
    assert "SROCC" not in card and "At 0.5 times its own strength" in card
    assert UserHead.load(tmp_path / "head").describe() == weak.describe()


def test_suggestions_take_demographics_and_want_images(scorer, features, ratings):
    ids, about = list(features.image_ids), {"gender": "female"}
    head = UserHead.fit(scorer, ratings, name="d", embeddings=features, demographics=about)
    asked = head.suggest(scorer, ids, 5, embeddings=features, demographics=about)
    assert asked.expected_gain != head.suggest(scorer, ids, 5, embeddings=features).expected_gain
    with pytest.raises(ValueError, match="images is empty"):
        head.suggest(scorer, [], embeddings=features)


def test_suggestions_are_new_and_diverse(scorer, features, ratings, head):
    ids = list(features.image_ids)
    found = head.suggest(scorer, ids, 5, embeddings=features)
    assert len(set(found.images)) == 5 and not {ids[i] for i in found.images} & {image for image, _ in ratings}
    assert found.expected_gain >= 0 and "expected to add at most" in found.message
    assert head.suggest(scorer, ids, 3, embeddings=features).images == found.images[:3]


def test_suggestions_say_something_about_all_images():
    """Some of each group, and never the odd one."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2, 3], 15)
    features = np.vstack([np.eye(6)[group] + 0.05 * rng.normal(size=(60, 6)), 12 * np.eye(6)[[5]]])
    chosen = representative(features, 8)
    assert 60 not in chosen and np.bincount(group[chosen]).tolist() == [2, 2, 2, 2]
    assert representative(features, 3) == chosen[:3], "the first are the same however many are asked for"
    # those that are rated already say something as well
    rated = np.flatnonzero(group == 0)[:6]
    fresh = np.setdiff1d(np.arange(61), rated)
    assert sorted(group[representative(features, 3, fresh, rated)]) == [1, 2, 3]
    assert representative(features, 3, fresh[:0]) == []
    assert sorted(representative(np.ones((4, 3)), 9)) == [0, 1, 2, 3], "of equal images each once"


def test_each_suggestion_lessens_the_doubt_about_all_images_most():
    """By the covariance of all likings, computed anew for each image that could come next."""
    features = np.random.default_rng(1).normal(size=(30, 5))
    places = features / np.linalg.norm(features, axis=1, keepdims=True)
    places = places - places.mean(0)
    places /= np.sqrt((places**2).sum(1).mean())

    def doubt(known: list[int]) -> float:
        some = places[known]
        inverse = np.linalg.inv(np.eye(5) + some.T @ some / suggest.NOISE)
        return float(np.einsum("nd,de,ne->", places, inverse, places))

    known = [3, 4]
    for image in representative(features, 6, np.setdiff1d(np.arange(30), known), np.array(known)):
        assert image == min(set(range(30)) - set(known), key=lambda one: doubt([*known, one]))
        known.append(image)


def test_suggestions_of_very_many_images_are_those_of_a_sample(monkeypatch):
    features = np.random.default_rng(1).normal(size=(300, 4))
    monkeypatch.setattr(suggest, "MOST_IMAGES", 100)
    rated = np.arange(150)
    chosen = representative(features, 8, np.arange(150, 300), rated)
    assert len(set(chosen)) == 8 and min(chosen) >= 150


def test_questions_go_by_what_people_differ_about_and_of_a_blank_base_by_pictures():
    rng, nothing = np.random.default_rng(0), np.zeros(0, np.int64)
    slope, prior, embeds = rng.normal(size=(20, 6)), np.cov(rng.normal(size=(6, 30))), rng.normal(size=(20, 9))
    pool = Answers(np.zeros(20), slope, np.zeros((2, 6)), nothing, nothing, np.zeros((0, 4)), np.zeros(0))
    features = design_features(pool, prior, embeds)
    likings = (slope - slope.mean(0)) @ prior @ (slope - slope.mean(0)).T
    assert features @ features.T == pytest.approx(likings), "likings of people drawn from the prior vary together so"
    assert design_features(replace(pool, even=np.ones(6)), prior, embeds) is embeds


def test_what_more_answers_would_add():
    nothing, cutpoints = np.zeros(0, np.int64), np.array([-1.5, -0.5, 0.5, 1.5])
    slope = np.random.default_rng(0).normal(size=(40, 6))
    pool = Answers(np.zeros(40), slope, np.zeros((2, 6)), nothing, nothing, np.zeros((0, 4)), np.zeros(0))
    belief = Posterior(np.zeros(6), np.eye(6))
    five, ten = (suggest_images(pool, belief, cutpoints, n, slope) for n in (5, 10))
    assert five.images == ten.images[:5] and 0 < five.expected_gain < ten.expected_gain < 1 and not ten.enough
    known = suggest_images(pool, Posterior(np.ones(6), 1e-6 * np.eye(6)), cutpoints, 5, slope)
    assert known.enough and known.expected_gain < 1e-3 and known.message.startswith("Enough")
    seen = slope[five.images]
    after = np.linalg.inv(np.eye(6) + 0.3 * seen.T @ seen)
    assert covariance_after(seen, np.full(5, 0.3), np.eye(6)) == pytest.approx(after)


def damage(folder, how):
    about = json.loads((folder / ABOUT).read_text())
    config = json.loads((folder / CONFIG).read_text())
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    if how == "pickle":
        (folder / "adapter_model.bin").write_bytes(pickle.dumps({"a": 1}))
    elif how == "pickle inside":
        (folder / WEIGHTS).write_bytes(pickle.dumps({"a": 1}))
    elif how == "extra":
        save_file({**tensors, "more": np.zeros(2, np.float32)}, folder / WEIGHTS)
    elif how == "shape":
        save_file({**tensors, ROW: np.zeros((2, 16), np.float32)}, folder / WEIGHTS)
    elif how == "nan":
        save_file({**tensors, ROW: np.full_like(tensors[ROW], np.nan)}, folder / WEIGHTS)
    elif how == "name":
        (folder / ABOUT).write_text(json.dumps({**about, "name": "../../etc/passwd"}))
    elif how == "cut":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])
    elif how == "other weights":
        save_file({**tensors, ROW: tensors[ROW] + 1}, folder / WEIGHTS)
    elif how == "base path":
        (folder / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": "/tmp/evil"}))
    elif how == "auto_mapping":
        (folder / CONFIG).write_text(json.dumps({**config, "auto_mapping": {"parent_library": "evil"}}))


WAYS = ["pickle", "pickle inside", "extra", "shape", "nan", "name", "cut", "other weights", "base path", "auto_mapping"]


@pytest.mark.parametrize("how", WAYS)
def test_a_hostile_head_is_refused(head, tmp_path, how):
    head.save(tmp_path / "head")
    damage(tmp_path / "head", how)
    with pytest.raises(HeadError):
        UserHead.load(tmp_path / "head")


def mutate(head, folder, count):
    head.save(folder)
    whole = (folder / WEIGHTS).read_bytes()
    rng, refused = np.random.default_rng(0), 0
    while refused < count:
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        if bytes(data) == whole:
            continue
        (folder / WEIGHTS).write_bytes(data[: rng.integers(len(data)) or None] if rng.random() < 0.2 else data)
        with pytest.raises(HeadError):
            UserHead.load(folder)
        refused += 1
    print(f"{refused} mutated heads: refused")
    assert refused == count


def test_mutated_weights_cost_an_error(head, tmp_path):
    mutate(head, tmp_path / "head", 300)


@pytest.mark.faults
def test_many_mutated_weights_cost_an_error(head, tmp_path):
    mutate(head, tmp_path / "head", 100_000)


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
def test_a_failed_save_keeps_the_old_head(head, tmp_path, monkeypatch, call):
    head.save(tmp_path / "head")
    new = head.with_strength(0.5)
    for nth in range(1, 8):
        seen = 0
        real = getattr(os, call)

        def failing(*args, real=real, nth=nth, **kwargs):
            nonlocal seen
            seen += 1
            if seen == nth:
                raise OSError("disk full")
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr("pamela_hf.files.writing._exchange", lambda a, b: False)
            patch.setattr(os, call, failing)
            try:
                new.save(tmp_path / "head")
            except OSError:
                pass
        row = UserHead.load(tmp_path / "head").row
        assert np.array_equal(row, head.row) or np.array_equal(row, new.row)
        assert os.listdir(tmp_path) == ["head"]
        head.save(tmp_path / "head")


def test_what_is_no_head_is_not_overwritten(head, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("mine")
    with pytest.raises(HeadError, match="not a head and stays"):
        head.save(tmp_path / "photos")
    assert (tmp_path / "photos" / "a.txt").read_text() == "mine"


def test_push_pull_and_delete(head, tmp_path, fresh_process):
    head.save(tmp_path / "head")
    code = """
import sys
from pamela_hf.heads.head import UserHead
head = UserHead.load(sys.argv[1])
pushed = head.push_to_hub("me/taste")
print(sorted(pushed.files), pushed.private)
again = UserHead.from_pretrained("me/taste")
print((again.row == head.row).all(), again.name)
UserHead.delete_from_hub("me/taste")
try:
    UserHead.from_pretrained("me/taste")
except Exception as error:
    print("gone", type(error).__name__)
"""
    printed = fresh_process(code, tmp_path / "head")
    assert "['README.md', 'adapter_config.json', 'adapter_model.safetensors', 'head.json'] True" in printed
    assert "True newcomer" in printed and "gone HubError" in printed


def test_a_fit_leaves_blas_its_threads(monkeypatch):
    blas = ThreadpoolController().select(user_api="blas")
    before, during = [one["num_threads"] for one in blas.info()], []

    def watched(*given):
        during.extend(one["num_threads"] for one in blas.info())
        return evidence(*given)

    evidence = fitting._random_evidence
    monkeypatch.setattr(fitting, "_random_evidence", watched)
    slope = np.random.default_rng(0).normal(size=(6, 3))
    cutpoints, style = np.tile([-1.0, 0.0, 1.0], (6, 1)), np.zeros((2, 3))
    fit_row(Answers(np.zeros(6), slope, style, np.arange(6), np.arange(6) % 4, cutpoints, np.zeros(6)), np.eye(3))
    assert during == [1] * len(before)
    assert [one["num_threads"] for one in blas.info()] == before
