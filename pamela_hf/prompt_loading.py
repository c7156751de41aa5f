"""From names (of Hub repositories, folders, refiners) to a `PamelaPromptPipeline`: what the command line needs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import DiffusionPipeline
from transformers import AutoModelForCausalLM, AutoTokenizer

from .embeddings import default_device
from .pipeline_pamela import PamelaPromptPipeline
from .refiners import PromptRefiner, load_refiner
from .scoring import PamelaScorer
from .simulated_pipeline import SimulatedPipeline

SETUP = ("pipeline", "reward", "refiner", "refiner_model", "refiner_url", "judge", "device", "dtype", "offload")
DEFAULT_CHAT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def load_options(
    config: str | os.PathLike | None, overrides: Sequence[str], flags: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What to load and what to call it with: a YAML file, `key=value` texts on top, flags that are not None above all.

    Raises:
        ValueError: a file that is no mapping, an override without "=", a key of both kinds.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values = yaml.safe_load(Path(config).read_text(encoding="utf-8")) or {}
        if not isinstance(values, dict):
            raise ValueError(f"{config} holds a {type(values).__name__}; expected lines of `key: value`.")
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"{text!r} is not of the form key=value, such as num_seeds=4.")
        values[key] = yaml.safe_load(value)
    values |= {key: value for key, value in flags.items() if value is not None}
    setup = {key: values.pop(key) for key in SETUP if key in values}
    for key in ("pipeline", "reward"):
        if key not in setup:
            raise ValueError(f"--{key} is missing: name it on the command line or in --config.")
    return setup, values


def load_prompt_pipeline(
    pipeline: str,
    reward: str,
    refiner: str = "vocabulary",
    refiner_model: str | None = None,
    refiner_url: str | None = None,
    judge: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    offload: str = "none",
) -> tuple[PamelaPromptPipeline, PromptRefiner | str, PamelaScorer | None]:
    """Loads the parts; returns pipeline, refiner and judge.

    Args:
        pipeline: Hub id or folder of a text-to-image pipeline; "procedural" = simulated images, no model.
        reward, judge: Hub ids or folders of rewards. refiner: a name of [`pamela_hf.refiners`].
        refiner_model: of "transformers_chat" (default: Llama-3.1-8B-Instruct) or "endpoint".
        refiner_url: of "endpoint".
        dtype: of the pipeline and the chat model; rewards stay in float32. offload: none, model, sequential.

    Raises:
        ValueError: a name that does not exist, options that do not go with the refiner.
    """
    if offload not in ("none", "model", "sequential"):
        raise ValueError(f"offload={offload!r} does not exist; there are none, model, sequential.")
    if refiner == "vocabulary" and (refiner_model or refiner_url):
        raise ValueError("--refiner-model and --refiner-url go with the refiners transformers_chat and endpoint.")
    if refiner_url and refiner != "endpoint":
        raise ValueError("--refiner-url goes with --refiner endpoint.")
    weights = getattr(torch, dtype)
    device = torch.device(device) if device is not None else default_device()
    scorer = PamelaScorer.from_pretrained(reward, device="cpu")
    judging = PamelaScorer.from_pretrained(judge, device=device, name=Path(judge).name) if judge else None
    chat = {}
    if refiner == "transformers_chat":
        name = refiner_model or DEFAULT_CHAT_MODEL
        chat = {
            "refiner_model": AutoModelForCausalLM.from_pretrained(name, dtype=weights),
            "refiner_tokenizer": AutoTokenizer.from_pretrained(name),
        }
    if pipeline == "procedural":
        nested = SimulatedPipeline()
    else:
        nested = DiffusionPipeline.from_pretrained(pipeline, dtype=weights, use_safetensors=True)
    pipe = PamelaPromptPipeline(nested, scorer.model, scorer.processor, **chat)
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    if refiner == "endpoint":
        return pipe, load_refiner(refiner, model=refiner_model, base_url=refiner_url), judging
    return pipe, refiner, judging


def load_users(names: Sequence[str] | None, heads: Sequence[str] | None, model: Any) -> list[Any]:
    """Participants' names, heads loaded from their folders, or `[None]`: everyone's taste."""
    if heads:
        from .heads import UserHead

        return [UserHead.from_pretrained(head, model) for head in heads]
    return list(names) if names else [None]
