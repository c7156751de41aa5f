"""TRL's reward of a prompt refiner: `f(prompts, completions, **columns) -> list[float | None]`.

Each completion is the prompt of an image: it is cleaned, drawn by a text-to-image pipeline and scored for its row's
person. So a language model learns to write prompts whose images one person likes.

Checked against trl 1.16.0, trl/trainer/grpo_trainer.py (`_calculate_rewards`): called with `prompts`, `completions`,
`completion_ids`, every other column of the dataset as a list, `trainer_state`, `log_extra` and `log_metric`; a
completion is a text, or in conversations a list of messages; `None` = no reward for this one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers.utils import logging

from ..refiners import clean_prompt
from ._drawing import draw
from ._personal import PersonalReward

logger = logging.get_logger(__name__)


def build(
    reward: PersonalReward,
    *,
    pipeline: Any = None,
    prompt_key: str = "image_prompt",
    num_seeds: int = 1,
    seed: int = 0,
    rendering: Mapping[str, Any] | None = None,
) -> Callable[..., list[float | None]]:
    """The function for `GRPOTrainer(reward_funcs=…)`.

    Args:
        reward: scores the images.
        pipeline: what draws a prompt: a text-to-image pipeline of diffusers, or "procedural" (simulated images, no
            model).
        prompt_key: column with the prompt that was to be refined: what adherence is measured against, and what the
            samples of a group have in common. Default where there is none: the completion itself.
        num_seeds: images a completion; its reward is their mean.
        seed: of the first image. The images of all completions are drawn with the same seeds.
        rendering: arguments of the pipeline's call, such as `num_inference_steps`.

    Returns:
        A function; the reward of a completion without a prompt in it is `None`.
    """
    if isinstance(pipeline, str):
        pipeline = _load_pipeline(pipeline)

    def personal_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if pipeline is None:
            raise ValueError(
                "The reward 'trl' draws completions and has no pipeline. Pass pipeline= to load_reward: a "
                "text-to-image pipeline, or 'procedural'."
            )
        texts = [clean_prompt(_text(completion)) for completion in completions]
        rows = _rows(columns, len(texts))
        usable = [i for i, text in enumerate(texts) if text]
        images = _draw(pipeline, [texts[i] for i in usable], range(seed, seed + num_seeds), rendering or {})
        owners = [i for i in usable for _ in range(num_seeds)]
        asked = [rows[i].get(prompt_key) or texts[i] for i in owners]
        values = reward(images, asked, [rows[i] for i in owners]) if owners else []
        of: dict[int, list[float]] = {}
        for i, value in zip(owners, values):
            of.setdefault(i, []).append(float(value))
        means = {i: sum(one) / len(one) for i, one in of.items()}
        return [means[i] if i in means and means[i] == means[i] else None for i in range(len(texts))]

    return personal_reward


def _load_pipeline(name: str) -> Any:
    if name == "procedural":
        from ..simulation.pipeline import SimulatedPipeline

        return SimulatedPipeline()
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(name, use_safetensors=True)


def _text(completion: Any) -> Any:
    """The text of a completion: itself, or that of its last message."""
    if isinstance(completion, (list, tuple)):
        completion = completion[-1] if completion else ""
    return completion.get("content") if isinstance(completion, Mapping) else completion


def _rows(columns: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """The dataset's columns, row by row; what is not a column of n values is left out."""
    kept = {name: values for name, values in columns.items() if isinstance(values, list) and len(values) == n}
    return [{name: values[i] for name, values in kept.items()} for i in range(n)]


def _draw(pipeline: Any, texts: Sequence[str], seeds: range, rendering: Mapping[str, Any]) -> list[Any]:
    """An image of each text with each seed, text by text; a text that fails to be drawn gets `None`s."""
    if not texts:
        return []
    pairs = [(text, seed) for text in texts for seed in seeds]
    with torch.no_grad():
        try:
            return draw(pipeline, pairs, rendering)
        except (ValueError, RuntimeError) as error:
            logger.warning("Drawing %d prompts at once failed (%s); each is drawn alone.", len(pairs), error)
        images: list[Any] = []
        for pair in pairs:
            try:
                images += draw(pipeline, [pair], rendering)
            except (ValueError, RuntimeError) as error:
                logger.warning("No image of %r: %s", pair[0], error)
                images.append(None)
        return images
