"""A generator that leans towards one person: a LoRA trained by the reward's own gradient.

DRaFT-K (Clark et al., *Directly Fine-Tuning Diffusion Models on Differentiable Rewards*, arXiv 2309.17400): images are
drawn as always, and the gradient of their reward goes back through the decoder and the last K denoising steps into a
low-rank adapter of the denoiser.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from ..files.writing import replacing_file, write_text
from ..rewards.imscore import DifferentiableReward

STATE, LOG, ARGUMENTS = "training_state.pt", "metrics.jsonl", "lora.json"


@dataclass(frozen=True)
class LoraTraining:
    """How a LoRA is trained.

    Attributes:
        steps: optimizer steps.
        batch_size: images of a step; prompts are taken in turn, each image with a seed of its own.
        rank: of the adapter; its scale is 1.
        target_modules: names of the denoiser's linear layers that get one.
        learning_rate: of AdamW, constant.
        max_grad_norm: of all adapter weights together.
        keep_adherence: share of an image's adherence to its prompt ([`pamela_hf.rewards.encoder_adherence`]) below
            which the reward falls, measured at each step against what the pipeline draws of the same prompt and seed
            without the LoRA; 0 = the reward's own `adherence_floor`, if it has one, which spares that drawing.
        truncate: last denoising steps that the gradient goes back through (K of DRaFT-K).
        seed: of the adapter and of the first image.
        save_every: steps between two saved states.
        gradient_checkpointing: recompute activations of the denoiser: less memory, a third slower.
        mixed_precision: "no", "bf16" or "fp16".
        rendering: arguments of the pipeline's call, such as `num_inference_steps`, `height`, `width`.
    """

    steps: int = 100
    batch_size: int = 4
    rank: int = 8
    target_modules: Sequence[str] = ("to_q", "to_k", "to_v")
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    keep_adherence: float = 0.9
    truncate: int = 1
    seed: int = 0
    save_every: int = 50
    gradient_checkpointing: bool = False
    mixed_precision: str = "no"
    rendering: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "rank", "truncate", "save_every"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a whole number of at least 1.")
        if not 0 <= self.keep_adherence <= 1:
            raise ValueError(f"keep_adherence={self.keep_adherence!r} must be a share, 0 (off) to 1.")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate!r} must be above 0.")


def train_lora(
    pipeline: Any,
    reward: DifferentiableReward,
    prompts: Sequence[str],
    output: str | os.PathLike,
    config: LoraTraining | None = None,
    *,
    resume: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> Path:
    """Trains a LoRA and writes it so that `pipeline.load_lora_weights(output)` takes it.

    Args:
        pipeline: a text-to-image pipeline of diffusers with a `transformer` or a `unet`; its own weights stay.
        reward: of `load_reward("imscore", …)`.
        prompts: at least one.
        output: folder for the LoRA, `metrics.jsonl` (`step reward adherence`, means of a step's images) and the state
            to go on from.
        config: [`LoraTraining`].
        resume: go on from the state in `output`, if there is one; the result is that of a run without the break.
        on_step: called with the step and its mean reward.

    Returns:
        The LoRA's file.

    Raises:
        ValueError: no prompts, a state of another configuration, a pipeline without a denoiser, no such modules in it.
    """
    config = config or LoraTraining()
    if not prompts:
        raise ValueError("prompts is empty; give at least one.")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    arguments = json.loads(json.dumps({**asdict(config), "prompts": list(prompts)}))
    del arguments["steps"]  # a longer run goes on from a shorter one
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    denoiser = _denoiser(pipeline)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).to(accelerator.device)
    reward.to(accelerator.device)
    torch.manual_seed(config.seed)
    lora = LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=list(config.target_modules))
    inject_adapter_in_model(lora, denoiser)
    trained = [parameter for parameter in denoiser.parameters() if parameter.requires_grad]
    if config.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
        denoiser.train()
    optimizer = accelerator.prepare(torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0))
    first = _restore(output / STATE, arguments, denoiser, optimizer) if resume else 0
    lines = (output / LOG).read_text(encoding="utf-8").splitlines()[:first] if first else []
    pipeline.set_progress_bar_config(disable=True)
    for step in range(first, config.steps):
        texts, seeds = _samples(prompts, config, step)
        with accelerator.autocast():
            floor = _adherence_floor(pipeline, denoiser, reward, texts, seeds, config)
            pixels = draw_with_gradients(pipeline, texts, seeds, config.truncate, config.rendering)
        parts = reward.parts(pixels.float(), texts, floor=floor)
        accelerator.backward(-parts.rewards.mean())
        accelerator.clip_grad_norm_(trained, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        mean, adherence = (float(values.detach().mean()) for values in (parts.rewards, parts.adherence))
        lines.append(json.dumps({"step": step, "reward": round(mean, 5), "adherence": round(adherence, 5)}))
        if on_step is not None:
            on_step(step, mean)
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            _save(output, step + 1, arguments, denoiser, optimizer, lines)
    write_text(output / ARGUMENTS, json.dumps({**arguments, "steps": config.steps}, indent=1) + "\n")
    return _write_lora(pipeline, denoiser, output)


def draw_with_gradients(
    pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], truncate: float, rendering: Mapping[str, Any]
) -> Tensor:
    """Images `(N, 3, H, W)` floats 0–1, as the pipeline draws them, with gradients of the last `truncate` steps
    (`math.inf`: of all).

    Diffusers' pipelines forbid gradients by a decorator; what it wraps is called here, and latents are cut from their
    past after each step before the last ones.
    """
    call = type(pipeline).__call__
    steps: list[int] = []

    def cut(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        steps.append(step)
        total = len(pipe.scheduler.timesteps)
        return {"latents": tensors["latents"].detach()} if step < total - truncate else {}

    with torch.enable_grad():
        out = getattr(call, "__wrapped__", call)(
            pipeline,
            prompt=list(prompts),
            generator=_generators(seeds),
            output_type="pt",
            callback_on_step_end=cut,
            **rendering,
        )
    if not steps or not isinstance(out.images, Tensor) or not out.images.requires_grad:
        raise ValueError(f"{type(pipeline).__name__} draws no images that gradients lead back from.")
    return out.images.clamp(0, 1)


@torch.no_grad()
def _adherence_floor(
    pipeline: Any,
    denoiser: torch.nn.Module,
    reward: DifferentiableReward,
    texts: Sequence[str],
    seeds: Sequence[int],
    config: LoraTraining,
) -> Tensor | None:
    """`(B,)` how much of its prompt each image has to keep, by what the pipeline draws without the LoRA."""
    if not config.keep_adherence:
        return None
    adapters = [module for module in denoiser.modules() if isinstance(module, BaseTunerLayer)]
    for adapter in adapters:
        adapter.enable_adapters(False)
    try:
        out = pipeline(prompt=list(texts), generator=_generators(seeds), output_type="pt", **config.rendering)
    finally:
        for adapter in adapters:
            adapter.enable_adapters(True)
    without = reward.parts(out.images.float().clamp(0, 1), texts).adherence
    return without - (1 - config.keep_adherence) * without.abs()


def _generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def _denoiser(pipeline: Any) -> torch.nn.Module:
    for name in ("transformer", "unet"):
        if getattr(pipeline, name, None) is not None:
            return getattr(pipeline, name)
    raise ValueError(f"{type(pipeline).__name__} has neither a transformer nor a unet to train.")


def _samples(prompts: Sequence[str], config: LoraTraining, step: int) -> tuple[list[str], list[int]]:
    """A step's prompts and seeds: they follow from the step, so a resumed run takes the same."""
    at = range(step * config.batch_size, (step + 1) * config.batch_size)
    return [prompts[i % len(prompts)] for i in at], [config.seed + i for i in at]


def _save(
    output: Path, step: int, arguments: dict[str, Any], denoiser: Any, optimizer: Any, lines: Sequence[str]
) -> None:
    state = {
        "step": step,
        "arguments": json.dumps(arguments, sort_keys=True),
        "lora": get_peft_model_state_dict(denoiser),
        "optimizer": optimizer.state_dict(),
    }
    write_text(output / LOG, "\n".join(lines) + "\n")
    with replacing_file(output / STATE) as staged:
        torch.save(state, staged)


def _restore(file: Path, arguments: dict[str, Any], denoiser: Any, optimizer: Any) -> int:
    if not file.is_file():
        return 0
    state = torch.load(file, map_location="cpu", weights_only=True)
    if state["arguments"] != json.dumps(arguments, sort_keys=True):
        raise ValueError(f"{file} is of another configuration. Train into a new folder, or without resume.")
    set_peft_model_state_dict(denoiser, state["lora"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def _write_lora(pipeline: Any, denoiser: Any, output: Path) -> Path:
    name = "transformer_lora_layers" if denoiser is getattr(pipeline, "transformer", None) else "unet_lora_layers"
    layers = {key: value.detach().cpu().contiguous() for key, value in get_peft_model_state_dict(denoiser).items()}
    pipeline.save_lora_weights(output, **{name: layers})
    return output / "pytorch_lora_weights.safetensors"
