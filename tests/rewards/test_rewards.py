"""Rewards as frameworks call them: right values, each sample's own person, and what happens to a bad sample."""

import logging
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pamela_hf.heads import UserHead
from pamela_hf.rewards import PersonalReward, RewardOptions, available_rewards, encoder_adherence, load_reward
from pamela_hf.scoring import PamelaScorer

PROMPTS = ["a photo of a cat", "the sea at night", "a photo of a cat", "an old red car"]
USERS = ["ann", "bob", None, "ann"]


@pytest.fixture(scope="module")
def scorer(reward_folder) -> PamelaScorer:
    return PamelaScorer.from_pretrained(reward_folder, device="cpu")


@pytest.fixture
def batch(images) -> torch.Tensor:
    """Four pictures of one size, `(4, 3, 24, 20)` float 0–1, as a sampler gives them."""
    pixels = [np.asarray(image.resize((20, 24))) for image in images]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


def pictures_of(batch: torch.Tensor) -> list[np.ndarray]:
    return [(picture.permute(1, 2, 0) * 255).round().byte().numpy() for picture in batch]


def test_every_file_is_an_adapter_and_an_unknown_one_lists_them(reward_folder):
    assert available_rewards() == ["callable", "flow_factory", "flow_grpo", "imscore", "trl", "verl"]
    with pytest.raises(ValueError, match=r"reward='ddpo' does not exist; there are callable, .*verl"):
        load_reward("ddpo", model=reward_folder)
    with pytest.raises(ValueError, match=r"temperature= is not an option of the reward 'callable'; it takes user_key"):
        load_reward("callable", model=reward_folder, temperature=1)


def test_the_callable_scores_as_the_scorer_does_for_each_sample_s_own_person(scorer, images):
    score = load_reward("callable", model=scorer, user="cem")
    expected = scorer.score(images, PROMPTS, user=["ann", "bob", "cem", "ann"]).scores
    metadata = [{"user": "ann"}, {"user": "bob"}, {}, {"user": "ann", "other": 1}]
    np.testing.assert_allclose(score(images, PROMPTS, metadata), expected, atol=1e-5)
    np.testing.assert_allclose(score(images), scorer.score(images, user="cem").scores, atol=1e-5)
    named = load_reward("callable", model=scorer, user_key="for")
    np.testing.assert_allclose(
        named(images, None, [{"for": user} for user in USERS]), scorer.score(images, user=USERS).scores, atol=1e-5
    )
    with pytest.raises(ValueError, match="'dan' is not among"):
        score(images, PROMPTS, [{"user": "dan"}] * 4)
    with pytest.raises(ValueError, match="'dan' is not among"):
        load_reward("callable", model=scorer, user="dan")


def test_the_options(scorer, images):
    scores, std = scorer.score(images, PROMPTS, user="ann")
    everyone = scorer.score(images, PROMPTS).scores
    for options, expected in [
        ({}, scores),
        ({"uncertainty_penalty": 0.5}, scores - 0.5 * std),
        ({"personal_only": True}, scores - everyone),
        ({"personal_only": True, "uncertainty_penalty": 2.0}, scores - 2 * std - everyone),
        ({"scale": "slider"}, scorer.score(images, PROMPTS, user="ann", scale="slider").scores),
        ({"batch_size": 1}, scores),
    ]:
        got = load_reward("callable", model=scorer, user="ann", **options)(images, PROMPTS)
        np.testing.assert_allclose(got, expected, atol=1e-5)
    for wrong, message in [
        ({"uncertainty_penalty": -1}, "uncertainty_penalty=-1"),
        ({"adherence_floor": 3.0}, "difference of cosines"),
        ({"batch_size": 0}, "batch_size=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            RewardOptions(**wrong)


def test_rewards_standardized_within_prompt_and_person(scorer, images):
    score = load_reward("callable", model=scorer, standardize=True)
    metadata = [{"user": "ann"}, {"user": "ann"}, {"user": "bob"}, {"user": "ann"}]
    texts = ["x cat", "x cat", "x cat", "a dog"]
    raw = scorer.score(images, texts, user=["ann", "ann", "bob", "ann"]).scores
    sign = np.sign(raw[0] - raw[1])
    np.testing.assert_allclose(score(images, texts, metadata), [sign, -sign, 0.0, 0.0], atol=1e-3)


def test_an_image_of_something_else_gets_the_lowest_rating(scorer, images):
    plain = np.array(load_reward("callable", model=scorer, user="ann")(images, PROMPTS))
    reward = PersonalReward(scorer, "ann", RewardOptions(adherence_floor=0.0))
    features = scorer.model.load_backbone().get_image_features(
        scorer.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    )
    features = features.pooler_output
    from pamela_hf.rewards._features import encode_distinct

    adherence = reward.adherence(features, encode_distinct(scorer, PROMPTS)).detach().numpy()
    floor = float(np.sort(adherence)[1:3].mean())
    got = np.array(load_reward("callable", model=scorer, user="ann", adherence_floor=floor)(images, PROMPTS))
    np.testing.assert_allclose(got, np.where(adherence < floor, 1.0, plain), atol=1e-5)
    assert (got == 1.0).sum() == 2
    without = load_reward("callable", model=scorer, user="ann", adherence_floor=2.0)(images)
    assert min(without) > 1.0  # no prompt, nothing to adhere to


def test_adherence_is_a_difference_of_cosines():
    images = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    unrelated = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    got = encoder_adherence(images, torch.tensor([[1.0, 0.0]]), unrelated)
    torch.testing.assert_close(got, torch.tensor([1.0, -1.0]))


def test_a_bad_image_costs_its_own_sample_only(scorer, images, caplog):
    bad = [images[0], "missing.png", images[2], np.full((3, 8, 9), np.nan)]
    with caplog.at_level(logging.WARNING):
        got = load_reward("callable", model=scorer, user="ann")(bad, PROMPTS)
    expected = scorer.score([images[0], images[2]], [PROMPTS[0], PROMPTS[2]], user="ann").scores
    np.testing.assert_allclose([got[0], got[2]], expected, atol=1e-5)
    assert np.isnan([got[1], got[3]]).all() and "missing.png" in caplog.text


def test_flow_grpo_s_arrays_score_alike(scorer, batch):
    factory = load_reward("flow_grpo", model=scorer, user="cem")
    assert "device" in factory.__code__.co_varnames  # how flow_grpo decides whether to pass one
    score = factory(torch.device("cpu"))
    metadata = [{"user": user} if user else {} for user in USERS]
    expected = scorer.score(pictures_of(batch), PROMPTS, user=["ann", "bob", "cem", "ann"]).scores
    uint8 = (batch * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for images in (batch, uint8, batch.bfloat16().float()):
        scores, info = score(images, tuple(PROMPTS), metadata)
        assert info == {} and len([1.0 * one for one in scores]) == 4
        np.testing.assert_allclose(scores, expected, atol=0.05 if images is not batch and images is not uint8 else 1e-5)
    scores, _ = score(batch * torch.tensor([1, np.nan, 1, 1])[:, None, None, None], PROMPTS, metadata)
    assert scores[1] == 1.0 and np.isfinite(scores).all()


def test_verl_s_samples_from_many_threads_share_a_forward(scorer, batch):
    compute_score = load_reward("verl", model=scorer, user="cem")
    calls = []
    backbone = scorer.model.load_backbone()
    forward = backbone.get_image_features
    backbone.get_image_features = lambda pixel_values: calls.append(len(pixel_values)) or forward(pixel_values)
    try:
        with ThreadPoolExecutor(8) as threads:
            futures = [
                threads.submit(
                    compute_score,
                    data_source="toy",
                    solution_image=(batch[i % 4] * 255).round().byte(),
                    ground_truth=PROMPTS[i % 4],
                    extra_info={"user": USERS[i % 4], "num_turns": None},
                    reward_router_address="ignored",
                )
                for i in range(40)
            ]
            got = [future.result() for future in futures]
    finally:
        del backbone.get_image_features
    expected = scorer.score(pictures_of(batch), PROMPTS, user=["ann", "bob", "cem", "ann"]).scores
    np.testing.assert_allclose([one["score"] for one in got], np.tile(expected, 10), atol=1e-4)
    assert sum(calls) == 40 and len(calls) < 40
    assert compute_score("toy", torch.full((3, 8, 9), np.nan), "a cat")["score"] == 1.0
    with pytest.raises(ValueError, match="'dan' is not among"):
        compute_score("toy", batch[0], "a cat", {"user": "dan"})
    with pytest.raises(ValueError, match="one sample at a time"):
        load_reward("verl", model=scorer, standardize=True)


@pytest.fixture
def flow_factory(monkeypatch):
    """What the adapter imports of Flow-Factory, with the interface of its source (abc.py at commit a0b2bc5)."""

    class PointwiseRewardModel:
        required_fields, use_tensor_inputs = ("image", "prompt"), False

        def __init__(self, config, accelerator):
            self.config, self.accelerator, self.dtype = config, accelerator, config.dtype
            self.device = accelerator.device if config.device == torch.device("cuda") else config.device

    @dataclass
    class RewardModelOutput:
        rewards: torch.Tensor
        extra_info: dict | None = None

    module = types.ModuleType("flow_factory.rewards.abc")
    module.PointwiseRewardModel, module.RewardModelOutput = PointwiseRewardModel, RewardModelOutput
    for name in ("flow_factory", "flow_factory.rewards"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "flow_factory.rewards.abc", module)
    return module


def test_flow_factory_s_class(scorer, images, flow_factory):
    made = load_reward("flow_factory", model=scorer, user="ann")
    assert issubclass(made, flow_factory.PointwiseRewardModel) and set(made.required_fields) == {"prompt", "image"}
    config = types.SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32, extra_kwargs={})
    out = made(config=config, accelerator=None)(prompt=PROMPTS, image=images, num_inference_steps=[1] * 4)
    assert out.rewards.shape == (4,) and out.rewards.dtype == torch.float32
    np.testing.assert_allclose(out.rewards, scorer.score(images, PROMPTS, user="ann").scores, atol=1e-5)
    config.extra_kwargs = {"user": "bob"}
    out = made(config=config, accelerator=None)(prompt=PROMPTS, image=images)
    np.testing.assert_allclose(out.rewards, scorer.score(images, PROMPTS, user="bob").scores, atol=1e-5)


def test_flow_factory_s_absence_is_named(scorer):
    with pytest.raises(ImportError, match="Flow-Factory's, which is not installed"):
        load_reward("flow_factory", model=scorer)


def test_trl_s_completions_are_drawn_and_scored_for_their_row_s_person(scorer):
    from pamela_hf.simulation.pipeline import SimulatedPipeline

    pipeline = SimulatedPipeline(size=32)
    score = load_reward("trl", model=scorer, pipeline=pipeline, num_seeds=2, seed=5)
    completions = ["a red cat", [{"role": "assistant", "content": "the sea,\n at night"}], " \x00 ", "a red cat"]
    got = score(
        prompts=["refine: cat", "refine: sea", "refine: cat", "refine: cat"],
        completions=completions,
        completion_ids=[[1]] * 4,
        user=["ann", "bob", "ann", "bob"],
        trainer_state=object(),
        log_extra=None,
        log_metric=None,
    )
    assert got[2] is None and len(got) == 4
    for text, user, value in [("a red cat", "ann", got[0]), ("the sea, at night", "bob", got[1])]:
        generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        drawn = pipeline([text] * 2, generator=generators).images
        assert value == pytest.approx(scorer.score(drawn, text, user).scores.mean(), abs=1e-5)
    assert got[0] != got[3]
    with pytest.raises(ValueError, match="has no pipeline"):
        load_reward("trl", model=scorer)(prompts=["x"], completions=["a cat"])


def test_trl_s_prompt_that_cannot_be_drawn_costs_its_own_sample(scorer):
    from pamela_hf.simulation.pipeline import SimulatedPipeline

    class Fussy(SimulatedPipeline):
        def __call__(self, prompt, **kwargs):
            if any("dog" in text for text in prompt):
                raise RuntimeError("no dogs")
            return super().__call__(prompt, **kwargs)

    score = load_reward("trl", model=scorer, pipeline=Fussy(size=32), user="ann")
    got = score(prompts=["p"] * 3, completions=["a cat", "a dog", "the sea"])
    assert got[1] is None and got[0] is not None and got[2] is not None


def test_heads_by_name_are_read_when_they_change(scorer, images, tmp_path):
    features = torch.randn(6, scorer.config.image_embed_dim, generator=torch.Generator().manual_seed(1)).numpy()
    ratings = [(feature, 1 + i % 5) for i, feature in enumerate(features)]
    heads = tmp_path / "heads"
    UserHead.fit(scorer, ratings, name="eva").save(heads / "a")
    score = load_reward("callable", model=scorer, heads=heads)
    first = score(images, None, {"user": "eva"})
    expected = scorer.score(images, user=UserHead.load(heads / "a")).scores
    np.testing.assert_allclose(first, expected, atol=1e-5)
    UserHead.fit(scorer, [(image, 6 - stars) for image, stars in ratings], name="eva").save(heads / "a")
    (heads / "broken").mkdir()
    (heads / "broken" / "head.json").write_text("{")
    second = score(images, None, {"user": "eva"})
    assert not np.allclose(first, second)
    assert list(score.reward.heads) == ["eva"]
    one = load_reward("callable", model=scorer, head=heads / "a")
    np.testing.assert_allclose(one(images), second, atol=1e-5)
    with pytest.raises(ValueError, match="one of the two"):
        load_reward("callable", model=scorer, user="ann", head=heads / "a")


def test_the_differentiable_reward_scores_as_the_scorer_and_its_gradient_leads_up(scorer, batch):
    reward = load_reward("imscore", model=scorer, user="ann")
    pixels = batch.clone().requires_grad_()
    scores = reward.score(pixels, PROMPTS)
    expected = scorer.score(pictures_of(batch), PROMPTS, user="ann").scores
    np.testing.assert_allclose(scores.detach(), expected, atol=0.02)
    assert not reward.training and not reward.train().training
    for _ in range(5):
        (gradient,) = torch.autograd.grad(reward.score(pixels, PROMPTS).sum(), pixels)
        assert gradient.abs().sum() > 0
        pixels = (pixels + 0.05 * gradient.sign()).clamp(0, 1).detach().requires_grad_()
    assert (reward.score(pixels, PROMPTS) > scores).all()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in reward.parameters())
    np.testing.assert_allclose(
        reward(batch, PROMPTS, ["ann", "bob", None, "cem"]).detach(),
        scorer.score(pictures_of(batch), PROMPTS, user=["ann", "bob", "ann", "cem"]).scores,
        atol=0.02,
    )


def test_the_differentiable_reward_has_the_options_and_names_wrong_pixels(scorer, batch):
    scores, std = scorer.score(pictures_of(batch), PROMPTS, user="ann")
    everyone = scorer.score(pictures_of(batch), PROMPTS).scores
    reward = load_reward("imscore", model=scorer, user="ann", personal_only=True, uncertainty_penalty=0.5)
    np.testing.assert_allclose(reward.score(batch, PROMPTS).detach(), scores - 0.5 * std - everyone, atol=0.03)
    floored = load_reward("imscore", model=scorer, user="ann", adherence_floor=1.5)
    pixels = batch.clone().requires_grad_()
    values = floored.score(pixels, PROMPTS)
    assert (values.detach().numpy() < scores).all()
    assert torch.autograd.grad(values.sum(), pixels)[0].abs().sum() > 0  # a way back
    for wrong in (batch[0], batch.permute(0, 2, 3, 1), (batch * 255).byte()):
        with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
            reward.score(wrong, PROMPTS)
    with pytest.raises(ValueError, match="of whole groups"):
        load_reward("imscore", model=scorer, standardize=True)
