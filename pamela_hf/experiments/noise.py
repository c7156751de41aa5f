"""An image that leans towards one person without training: the noise that a pipeline starts from, led by the reward.

ReNO (Eyring et al., *ReNO: Enhancing One-step Text-to-Image Models through Reward-based Noise Optimization*, arXiv
2406.04312; github.com/ExplainableML/ReNO, training/trainer.py at commit 172e997): gradient ascent on the noise of a
one-step pipeline, whose length is held near what Gaussian noise has, so that the images stay ones that it draws.

```python
reward = load_reward("imscore", model="runs/my-model", user="ann", adherence_floor=0.0)
noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))  # what SDXL-Turbo takes as latents=
found = optimize_noise(pipeline, reward, "a cottage by the sea", noise, num_inference_steps=1, guidance_scale=0.0)
found.image.save("cottage.png"), found.rewards
```
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..rewards.imscore import DifferentiableReward
from .lora import draw_with_gradients


@dataclass
class OptimizedNoise:
    """What [`optimize_noise`] found.

    Attributes:
        image: the image with the highest reward.
        noise: the noise it was drawn from, of the shape given.
        rewards: of the image of every step, in rating units; the first is that of the noise given.
        best: which step's image it is.
    """

    image: Image.Image
    noise: Tensor
    rewards: list[float]
    best: int


def optimize_noise(
    pipeline: Any,
    reward: DifferentiableReward,
    prompt: str,
    noise: Tensor,
    *,
    steps: int = 50,
    learning_rate: float = 5.0,
    regularization: float = 0.01,
    max_grad_norm: float = 0.1,
    seed: int = 0,
    **rendering: Any,
) -> OptimizedNoise:
    """Follows the reward's gradient to better noise for one image.

    The gradient goes back through all denoising steps, so memory grows with them: one step is what this is for.

    Args:
        pipeline: a text-to-image pipeline of diffusers that takes `latents=`; its weights stay as they are.
        reward: of `load_reward("imscore", …)`; an `adherence_floor` keeps the image with its prompt.
        prompt: what to draw.
        noise: `(1, …)` float, where to start: what the pipeline takes as `latents=`.
        steps: of gradient ascent.
        learning_rate: of stochastic gradient ascent with Nesterov's momentum (.9).
        regularization: weight of the log-density of the noise's length, a chi distribution's; 0 = off.
        max_grad_norm: the gradient is scaled down to this length.
        seed: of what else the pipeline draws at random, the same in each step.
        rendering: arguments of the pipeline's call, such as `num_inference_steps`.

    Raises:
        ValueError: steps below 1, noise of several images, a pipeline that gradients do not lead back through.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1.")
    if len(noise) != 1:
        raise ValueError(f"noise has shape {tuple(noise.shape)}; one image at a time is optimized: (1, …).")
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False)
    latents = noise.detach().clone().requires_grad_()
    optimizer = torch.optim.SGD([latents], learning_rate, momentum=0.9, nesterov=True)
    rewards: list[float] = []
    for _ in range(steps):
        # no step's latents are cut from their past
        pixels = draw_with_gradients(pipeline, [prompt], [seed], math.inf, {**rendering, "latents": latents})
        value = reward(pixels.float(), prompt).squeeze(0)
        rewards.append(float(value.detach()))
        if rewards[-1] >= max(rewards):
            best, image, found = len(rewards) - 1, pixels.detach(), latents.detach().clone()
        (regularization * _length_penalty(latents) - value).backward()
        torch.nn.utils.clip_grad_norm_([latents], max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    shown = (image[0].float().cpu().permute(1, 2, 0) * 255).round().byte().numpy()
    return OptimizedNoise(Image.fromarray(shown), found, rewards, best)


def _length_penalty(noise: Tensor) -> Tensor:
    """Minus the log-density of the length of Gaussian noise, up to a constant."""
    length = torch.linalg.vector_norm(noise.float())
    return length.square() / 2 - (noise.numel() - 1) * length.log()
