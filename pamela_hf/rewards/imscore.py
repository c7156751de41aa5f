"""A reward with the method of imscore's models: `score(pixels, prompts) -> (B,)`, differentiable.

Checked against RE-N-Y/imscore, README.md and src/imscore/preference/model.py at commit cb28b8b: `pixels` are floats
`(B, 3, H, W)` in 0–1, `prompts` a list of as many texts, and gradients reach the pixels. For DRaFT, ReNO, AlignProp and
other methods that follow the reward's gradient.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..model.encoder_pamela import encode_images
from ..scoring import Head
from ._features import encode_distinct
from ._personal import PersonalReward


class DifferentiableReward(nn.Module):
    """Rewards through which gradients reach the pixels. Made by `load_reward("imscore", …)`."""

    def __init__(self, reward: PersonalReward):
        super().__init__()
        self.reward = reward
        self.model = reward.scorer.model.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "DifferentiableReward":
        """The reward is never trained: it stays in eval mode."""
        return super().train(False)

    def forward(
        self,
        pixels: Tensor,
        prompts: Sequence[str | None] | str | None = None,
        users: Sequence[str | Head | None] | None = None,
    ) -> Tensor:
        """Rewards `(B,)`, with the reward's options.

        Args:
            pixels: `(B, 3, H, W)` floats 0–1.
            prompts: B of them, or one for all; `None` = unknown.
            users: B people; default: the reward's own.

        Raises:
            ValueError: pixels of another shape, an unknown user; `standardize`, which has no use here.
        """
        reward, options, scorer = self.reward, self.reward.options, self.reward.scorer
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            found = f"shape {tuple(pixels.shape)} and dtype {pixels.dtype}"
            raise ValueError(f"pixels has {found}; expected (B, 3, H, W) floats in 0..1.")
        n = len(pixels)
        texts = reward._texts(prompts, n)
        metadata = [{options.user_key: user} for user in users] if users is not None else None
        people = reward.people(metadata, n)
        inputs = scorer.processor.preprocess_tensor(pixels.float())
        image_embeds = encode_images(scorer.encoder.model, **inputs).float()
        text_embeds = encode_distinct(scorer, texts) if any(texts) else None
        told = {
            "image_embeds": image_embeds,
            "text_embeds": text_embeds if scorer.config.text_embed_dim else None,
            "scale_ids": torch.full((n,), scorer.processor.scale_id(options.scale)),
        }
        out = self.model(**told, **scorer.encode_people(n, people))
        value = out.scores - options.uncertainty_penalty * out.std if options.uncertainty_penalty else out.scores
        if options.personal_only:
            value = value - self.model(**told).scores
        if options.adherence_floor is not None and text_embeds is not None:
            lack = options.adherence_floor - reward.adherence(image_embeds, text_embeds)
            asked = torch.tensor([text is not None for text in texts], device=lack.device)
            # a cliff has no gradient that leads back: below the floor the reward falls with every lost cosine
            width = abs(reward.lowest) + 1
            value = value - width * (lack.clamp_min(0) * 10) * asked
        return value

    def score(self, pixels: Tensor, prompts: Any = None) -> Tensor:
        """As imscore calls it: `forward` for the reward's own person."""
        return self(pixels, prompts)


def build(reward: PersonalReward) -> DifferentiableReward:
    """The module. Raises ValueError with `standardize`: a gradient is of each image's own reward."""
    if reward.options.standardize:
        raise ValueError("standardize=True is of whole groups, and a gradient of one image's own reward. Leave it out.")
    return DifferentiableReward(reward)
