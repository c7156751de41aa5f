"""A LoRA of a tiny FLUX.2 Klein, trained by the reward's gradient."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_pipelines import tiny_klein

from pamela_hf.experiments.lora import LoraTraining, draw_with_gradients, train_lora
from pamela_hf.rewards import load_reward

PROMPTS = ["a cottage by the sea", "a cat"]
RENDERING = {"num_inference_steps": 2, "guidance_scale": 1.0, "height": 32, "width": 32, "max_sequence_length": 32}
CONFIG = {"batch_size": 2, "rank": 4, "learning_rate": 2e-2, "save_every": 3, "rendering": RENDERING}


def reward_of(pipeline, reward, seeds=(0, 1, 2, 3)) -> float:
    with torch.no_grad():
        pixels = draw_with_gradients(pipeline, [PROMPTS[s % 2] for s in seeds], seeds, 1, RENDERING)
        return float(reward(pixels.detach(), [PROMPTS[s % 2] for s in seeds]).mean())


def parts_of(pipeline, reward, seeds=range(8)) -> np.ndarray:
    """`(2, seeds)` plain scores and adherence."""
    texts = [PROMPTS[seed % 2] for seed in seeds]
    with torch.no_grad():
        parts = reward.parts(draw_with_gradients(pipeline, texts, list(seeds), 1, RENDERING).detach(), texts)
    return np.stack([parts.rewards.numpy(), parts.adherence.numpy()])


@pytest.fixture(scope="module")
def reward(reward_folder):
    return load_reward("imscore", model=reward_folder, user="ann", device="cpu")


def test_the_reward_rises_only_the_adapter_moves_and_the_pipeline_loads_it(reward, tmp_path):
    pipeline = tiny_klein()
    before = reward_of(pipeline, reward)
    weights = {name: value.clone() for name, value in pipeline.vae.state_dict().items()}
    base = {name: value.clone() for name, value in pipeline.transformer.state_dict().items()}
    file = train_lora(pipeline, reward, PROMPTS, tmp_path / "lora", LoraTraining(steps=10, **CONFIG))
    after = reward_of(pipeline, reward)
    assert after > before
    assert all(torch.equal(value, weights[name]) for name, value in pipeline.vae.state_dict().items())
    kept = {name.replace(".base_layer", ""): value for name, value in pipeline.transformer.state_dict().items()}
    assert all(torch.equal(kept[name], value) for name, value in base.items())
    lines = [json.loads(line) for line in (tmp_path / "lora" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(10))
    fresh = tiny_klein()
    fresh.load_lora_weights(str(file.parent))
    assert reward_of(fresh, reward) == pytest.approx(after, abs=1e-4)


def test_the_score_rises_while_adherence_holds(reward, tmp_path):
    pipeline = tiny_klein()
    before = parts_of(pipeline, reward)
    train_lora(pipeline, reward, PROMPTS, tmp_path, LoraTraining(steps=10, **CONFIG, keep_adherence=0.99))
    after = parts_of(pipeline, reward)
    assert (after[0] - before[0]).mean() > 0
    assert after[1].mean() > before[1].mean() - 0.01 * abs(before[1].mean())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(set(line) == {"step", "reward", "adherence"} for line in lines)
    assert lines[0]["adherence"] == pytest.approx(before[1][:2].mean(), abs=1e-4)  # of the images of seeds 0 and 1


def test_below_the_floor_the_gradient_leads_back_to_the_prompt(reward_folder, tmp_path):
    floored = load_reward("imscore", model=reward_folder, user="ann", device="cpu", adherence_floor=1.0)
    pipeline = tiny_klein()
    before = parts_of(pipeline, floored)
    train_lora(pipeline, floored, PROMPTS, tmp_path, LoraTraining(steps=10, **CONFIG, keep_adherence=0.0))
    assert parts_of(pipeline, floored)[1].mean() > before[1].mean()


def test_a_resumed_run_is_the_run_without_the_break(reward, tmp_path):
    whole = train_lora(tiny_klein(), reward, PROMPTS, tmp_path / "whole", LoraTraining(steps=6, **CONFIG))
    train_lora(tiny_klein(), reward, PROMPTS, tmp_path / "two", LoraTraining(steps=3, **CONFIG))
    two = train_lora(tiny_klein(), reward, PROMPTS, tmp_path / "two", LoraTraining(steps=6, **CONFIG), resume=True)
    for name, value in load_file(whole).items():
        torch.testing.assert_close(load_file(two)[name], value)
    other = LoraTraining(steps=6, **{**CONFIG, "rank": 2})
    with pytest.raises(ValueError, match="another configuration"):
        train_lora(tiny_klein(), reward, PROMPTS, tmp_path / "two", other, resume=True)


def test_gradients_go_back_through_the_last_steps_only(reward):
    pipeline = tiny_klein()
    pipeline.transformer.requires_grad_(True)
    norms = []
    for truncate in (1, 2):
        pipeline.transformer.zero_grad()
        reward(draw_with_gradients(pipeline, PROMPTS, [0, 1], truncate, RENDERING), PROMPTS).sum().backward()
        norms.append(pipeline.transformer.x_embedder.weight.grad.norm().item())
    assert norms[0] > 0 and norms[0] != norms[1]


def test_wrong_settings_are_named(reward, tmp_path):
    with pytest.raises(ValueError, match="steps=0"):
        LoraTraining(steps=0)
    with pytest.raises(ValueError, match="keep_adherence=2"):
        LoraTraining(keep_adherence=2)
    with pytest.raises(ValueError, match="prompts is empty"):
        train_lora(tiny_klein(), reward, [], tmp_path)
