"""The noise of a tiny one-step FLUX.2 Klein, led by the reward's gradient."""

import pytest
import torch
from tiny_pipelines import tiny_klein

from pamela_hf.experiments.noise import optimize_noise
from pamela_hf.rewards import load_reward

RENDERING = {"num_inference_steps": 1, "guidance_scale": 1.0, "height": 32, "width": 32, "max_sequence_length": 32}
SHAPE = (1, 4, 8, 8)


@pytest.fixture(scope="module")
def reward(reward_folder):
    return load_reward("imscore", model=reward_folder, user="ann", device="cpu")


def start(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_the_score_rises_for_every_seed_and_the_noise_stays_noise(reward):
    pipeline = tiny_klein()
    weights = {name: value.clone() for name, value in pipeline.transformer.state_dict().items()}
    gains = []
    for seed in range(6):
        found = optimize_noise(pipeline, reward, "a cat", start(seed), steps=12, **RENDERING)
        gains.append(found.rewards[found.best] - found.rewards[0])
        assert found.rewards[found.best] == max(found.rewards) and len(found.rewards) == 12
        length = torch.linalg.vector_norm(found.noise) / SHAPE[1] ** 0.5 / SHAPE[2]
        assert 0.8 < length < 1.2  # 1 is the length of Gaussian noise
    assert min(gains) > 0
    assert all(torch.equal(value, weights[name]) for name, value in pipeline.transformer.state_dict().items())


def test_the_image_is_what_the_pipeline_draws_of_the_noise(reward):
    pipeline = tiny_klein()
    pipeline.set_progress_bar_config(disable=True)
    found = optimize_noise(pipeline, reward, "a cat", start(0), steps=3, **RENDERING)
    drawn = pipeline(prompt="a cat", latents=found.noise, output_type="pt", **RENDERING).images
    assert float(reward(drawn.float(), "a cat")) == pytest.approx(found.rewards[found.best], abs=1e-3)
    assert found.image.size == (32, 32)


def test_wrong_arguments_are_named(reward):
    with pytest.raises(ValueError, match="steps=0"):
        optimize_noise(tiny_klein(), reward, "a cat", start(0), steps=0, **RENDERING)
    with pytest.raises(ValueError, match="one image at a time"):
        optimize_noise(tiny_klein(), reward, "a cat", torch.zeros(2, 4, 8, 8), **RENDERING)
