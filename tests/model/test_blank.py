"""A blank base: heads from images alone, before anybody's ratings."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from toys import save_tiny_encoder

from pamela_hf import PamelaRewardModel, PamelaScorer, UserHead
from pamela_hf.embeddings import Embeddings
from pamela_hf.encoder import FrozenEncoder


def library(images: int = 200, width: int = 12, seed: int = 0) -> Embeddings:
    """Photos that differ in few directions most, as real features do."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(images, width)) * np.linspace(2, 0.1, width) + 1
    return Embeddings([f"{i}.jpg" for i in range(images)], features.astype(np.float32))


def stars(features: Embeddings, seed: int = 1) -> np.ndarray:
    """Somebody's 1..5 stars: liked along one direction, with noise."""
    rng = np.random.default_rng(seed)
    x = features.image_embeds - features.image_embeds.mean(0)
    liking = x @ rng.normal(size=x.shape[1]) / 3 + rng.normal(size=len(x)) / 2
    return np.digitize(liking, np.quantile(liking, [0.1, 0.3, 0.6, 0.9])) + 1


def test_everyones_taste_is_the_same_for_all_images():
    features = library()
    out = PamelaScorer.blank(features).score(image_embeds=torch.from_numpy(features.image_embeds))
    assert np.ptp(out.scores) < 1e-6 and out.scores[0] == pytest.approx(3, abs=1e-5)
    assert 1 < out.std[0] < 2  # five levels, each as likely: 1.41


def test_a_head_learns_and_ranks_photos_it_has_not_seen():
    features = library()
    given = stars(features)
    scorer = PamelaScorer.blank(features)
    head = UserHead.fit(scorer, list(zip(features.image_ids[:80], given[:80])), name="ann", embeddings=features)
    out = scorer.score(image_embeds=torch.from_numpy(features.image_embeds[80:]), user=head)
    assert np.corrcoef(out.scores, given[80:])[0, 1] > 0.7
    assert abs(out.scores.mean() - given.mean()) < 0.4  # the person's use of the scale is theirs alone
    assert head.about["held_out"]["srocc"] > 0.6 and head.about["held_out"]["everyone"] == 0
    asked = head.suggest(scorer, features.image_ids, 5, embeddings=features)
    assert len(asked.images) == 5 and min(asked.images) >= 80


def test_prior_variance_of_a_taste_is_one_and_lies_along_the_widest_axes():
    features = library()
    model = PamelaRewardModel.blank(features)
    image = model.features.standardize("image", torch.from_numpy(features.image_embeds))
    readings = model.features.read(image)
    variance = readings[:, :-1].var(0, correction=0)
    assert model.config.taste_factors == 12 and variance.sum() == pytest.approx(1, rel=1e-4)
    assert (variance.diff() <= 1e-6).all() and readings[:, -1].abs().max() == 0


def test_even_variances_are_those_of_ridge_regression():
    """A taste drawn with them counts with each axis as much as the images vary along it."""
    features = library()
    model = PamelaRewardModel.blank(features)
    image = model.features.standardize("image", torch.from_numpy(features.image_embeds))
    readings = model.features.read(image)
    spread = readings[:, :-1].var(0, correction=0) * model.features.even_variances()
    x = (image - image.mean(0)).double().numpy()
    expected = np.linalg.eigvalsh(x.T @ x)[::-1]
    np.testing.assert_allclose(spread, expected / expected.sum(), rtol=1e-3)


def test_many_answers_use_axes_that_few_leave_alone():
    """Liked along narrow axes as much as along wide ones: 1,500 stars tell, and 40 do not move the last axes."""
    rng = np.random.default_rng(0)
    variance = np.arange(1, 301) ** -1.0
    features = (rng.normal(size=(2000, 300)) * np.sqrt(variance)).astype(np.float32)
    known = Embeddings([str(i) for i in range(2000)], features)
    liking = features @ rng.normal(size=300)
    given = np.digitize(liking / liking.std() + rng.normal(size=2000) / 2, [-1.5, -0.5, 0.5, 1.5]) + 1
    ratings = list(zip(known.image_ids, given))
    scorer = PamelaScorer.blank(known)
    assert not UserHead.fit(scorer, ratings[:40], name="few", embeddings=known).row[130:].any()
    reached = {}
    for factors in (128, 384):
        scorer = PamelaScorer(PamelaRewardModel.blank(known, max_factors=factors))
        head = UserHead.fit(scorer, ratings[:1500], name="many", embeddings=known)
        scores = scorer.score(image_embeds=torch.from_numpy(features[1500:]), user=head, batch_size=500).scores
        reached[factors] = np.corrcoef(scores, liking[1500:])[0, 1]
    ridge = RidgeCV(np.logspace(-3, 3, 13)).fit(features[:1500], given[:1500]).predict(features[1500:])
    assert reached[384] > reached[128] + 0.05
    assert reached[384] > np.corrcoef(ridge, liking[1500:])[0, 1] - 0.02


def test_prompts_take_part_where_there_are_any():
    features = library()
    features.text_embeds = np.random.default_rng(2).normal(size=(200, 5)).astype(np.float32)
    assert PamelaRewardModel.blank(features).config.text_embed_dim == 5
    features.text_embeds[:] = 0
    assert PamelaRewardModel.blank(features).config.text_embed_dim == 0


@pytest.mark.parametrize("images", [1, 5])
def test_alike_images_are_refused(images):
    features = Embeddings([str(i) for i in range(images)], np.ones((images, 4), np.float32))
    with pytest.raises(ValueError, match="two different images"):
        PamelaRewardModel.blank(features)


def test_saved_with_its_encoder_it_scores_pixels_as_before(tmp_path, images):
    encoder = FrozenEncoder(str(save_tiny_encoder(tmp_path / "encoder", "siglip")), device="cpu")
    made = Embeddings(
        [str(i) for i in range(4)], encoder.embed_images(images), None, [], encoder.name, encoder.revision,
        encoder.preprocessing,
    )  # fmt: skip
    scorer = PamelaScorer.blank(made, levels=[0, 0.5, 1], encoder=encoder)
    head = UserHead.fit(scorer, list(zip(images, [0, 1, 0.5, 1])), name="ann")
    scorer.save_pretrained(tmp_path / "base")
    head.save(tmp_path / "head")
    again = PamelaScorer.from_pretrained(tmp_path / "base", device="cpu")
    loaded = UserHead.load(tmp_path / "head", again)
    before, after = (s.score(images, user=h).scores for s, h in ((scorer, head), (again, loaded)))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert again.config.blank and again.score_range == (0, 1)
