"""From names (of Hub repositories, folders, refiners) to a `PamelaPromptPipeline`: what the command line needs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..encoder import usable_device
from ..files.config import ParseError, read_yaml
from ..files.locations import folder_or_repository
from ..model.encoder_pamela import no_adapter
from ..refiners import PromptRefiner, load_refiner
from ..scoring import PamelaScorer
from ..simulation.pipeline import SimulatedPipeline
from .pipeline_pamela import PamelaPromptPipeline, refuse_adapters

SETUP = ("pipeline", "reward", "refiner", "refiner_model", "refiner_url", "judge", "device", "dtype", "offload")
DEFAULT_CHAT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"


_DTYPES = ("float32", "bfloat16", "float16")
_FLAGS = ("prompt", "user", "head", "output", "config")
_PYTHON_ONLY = ("pipe", "users", "generator", "adherence", "callback_on_candidate", "return_dict")


def load_options(
    config: str | os.PathLike | None, overrides: Sequence[str], flags: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What to load and what to call it with: a YAML file, `key=value` texts on top, flags that are not None above all.

    Values of the file that the rest leaves without effect, such as the chat model of another refiner, are dropped.

    Raises:
        ValueError: a file that is not a mapping, an override without "=", a key or value that cannot be given this way.
    """
    file: Any = {}
    if config is not None:
        file = _read(Path(config).read_text(encoding="utf-8"), config) or {}
        if not isinstance(file, dict):
            raise ValueError(f"{config} holds a {type(file).__name__}; expected lines of `key: value`.")
        file = {str(key): value for key, value in file.items()}
    typed: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"{text!r} is not of the form key=value, such as num_seeds=4.")
        typed[key] = _read(value, repr(text))
    typed |= {key: value for key, value in flags.items() if value is not None}
    dropped = _pointless(file | typed) - _pointless(file)
    values = {key: value for key, value in file.items() if key not in dropped} | typed
    for key in values:
        if key in _FLAGS:
            raise ValueError(f"{key}={values[key]!r} is not a key; give it as --{key}.")
        if key in _PYTHON_ONLY:
            raise ValueError(f"{key}={values[key]!r} can be given in Python only, to PamelaPromptPipeline.")
        if key in ("demographics", "metadata") and not isinstance(values[key], (dict, type(None))):
            raise ValueError(f"{key}={values[key]!r} must be fields with their values, such as '{key}={{age: 34}}'.")
    setup = {key: value for key in SETUP if (value := values.pop(key, None)) is not None}
    for key, value in setup.items():
        if not isinstance(value, str):
            raise ValueError(f"{key}={value!r} must be a text.")
    for key in ("pipeline", "reward"):
        if key not in setup:
            raise ValueError(f"--{key} is missing: name it on the command line or in --config.")
    return setup, values


def _read(text: str, source: Any) -> Any:
    try:
        return read_yaml(text)
    except ParseError as error:
        raise ValueError(f"{source} is not YAML: {error}") from None


def _pointless(values: Mapping[str, Any]) -> set[str]:
    """Keys that have no meaning beside the others."""
    refiner, none = values.get("refiner", "vocabulary"), set()
    if refiner != "endpoint":
        none.add("refiner_url")
    if refiner not in ("endpoint", "transformers_chat"):
        none.add("refiner_model")
    if values.get("device") == "cpu" or (values.get("pipeline") == "procedural" and refiner != "transformers_chat"):
        none.add("offload")
    return none


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
        reward: Hub id or folder of a reward.
        refiner: a name of [`pamela_hf.refiners`]; default: "vocabulary".
        refiner_model: model of the refiner "transformers_chat" (default: Llama-3.1-8B-Instruct) or "endpoint".
        refiner_url: address of the refiner "endpoint".
        judge: Hub id or folder of a reward; default: no judge.
        dtype: "float32" (default), "bfloat16" or "float16", of the pipeline and the chat model; rewards stay in
            float32.
        offload: "none" (default), "model" or "sequential".

    Raises:
        ValueError: a name or a device that does not exist, options that do not go with the refiner.
    """
    if offload not in ("none", "model", "sequential"):
        raise ValueError(f"offload={offload!r} does not exist; there are none, model, sequential.")
    if refiner == "vocabulary" and (refiner_model or refiner_url):
        raise ValueError("--refiner-model and --refiner-url go with the refiners transformers_chat and endpoint.")
    if refiner_url and refiner != "endpoint":
        raise ValueError("--refiner-url goes with --refiner endpoint.")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype={dtype!r} does not exist; there are {', '.join(_DTYPES)}.")
    weights, device = getattr(torch, dtype), usable_device(device)
    # made before anything large is loaded, so that a bad name or address is reported at once
    made = load_refiner(refiner, **({"model": refiner_model, "base_url": refiner_url} if refiner == "endpoint" else {}))
    scorer = PamelaScorer.from_pretrained(reward, device="cpu")
    judging = PamelaScorer.from_pretrained(judge, device=device) if judge else None
    chat = {}
    if refiner == "transformers_chat":
        name = refiner_model or DEFAULT_CHAT_MODEL
        with folder_or_repository(name):
            chat = {
                "refiner_model": AutoModelForCausalLM.from_pretrained(
                    name, dtype=weights, use_safetensors=True, trust_remote_code=False, adapter_kwargs=no_adapter(name)
                ),
                "refiner_tokenizer": AutoTokenizer.from_pretrained(name, trust_remote_code=False),
            }
    if pipeline == "procedural":
        nested = SimulatedPipeline()
    else:
        with folder_or_repository(pipeline):
            folder = pipeline if Path(pipeline).is_dir() else DiffusionPipeline.download(pipeline, use_safetensors=True)
            refuse_adapters(folder)
            nested = DiffusionPipeline.from_pretrained(folder, dtype=weights, use_safetensors=True)
    pipe = PamelaPromptPipeline(nested, scorer.model, scorer.processor, **chat)
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    return pipe, made if refiner == "endpoint" else refiner, judging


def load_users(names: Sequence[str] | None, heads: Sequence[str] | None, model: Any) -> list[Any]:
    """Participants' names, heads loaded from their folders, or `[None]`: everyone's taste."""
    if heads:
        from ..heads.head import UserHead

        return [UserHead.from_pretrained(head, model) for head in heads]
    return list(names) if names else [None]
