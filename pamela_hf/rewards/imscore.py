"""A reward with the method of imscore's models: `score(pixels, prompts) -> (B,)`, differentiable.

Checked against RE-N-Y/imscore, README.md and src/imscore/preference/model.py at commit cb28b8b: `pixels` are floats
`(B, 3, H, W)` in 0–1, `prompts` a list of as many texts, and gradients reach the pixels. For DRaFT, ReNO, AlignProp and
other methods that follow the reward's gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..model.encoder_pamela import encode_images
from ..scoring import Head
from ._features import encode_distinct
from ._personal import PersonalReward


@dataclass
class RewardParts:
    """Rewards of B images.

    Attributes:
        rewards: `(B,)` with all of the reward's options.
        adherence: `(B,)` of each image to its prompt ([`encoder_adherence`]), NaN without one; None: no prompts.
    """

    rewards: Tensor
    adherence: Tensor | None


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
        return self.parts(pixels, prompts, users).rewards

    def parts(
        self,
        pixels: Tensor,
        prompts: Sequence[str | None] | str | None = None,
        users: Sequence[str | Head | None] | None = None,
        floor: Tensor | float | None = None,
    ) -> RewardParts:
        """Rewards and what they are made of.

        Args:
            pixels: see [`forward`].
            prompts: see [`forward`].
            users: see [`forward`].
            floor: `(B,)`, or one for all: of adherence; default: the reward's `adherence_floor`.

        Raises:
            ValueError: as [`forward`].
        """
        reward, options, scorer = self.reward, self.reward.options, self.reward.scorer
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            found = f"shape {tuple(pixels.shape)} and dtype {pixels.dtype}"
            raise ValueError(f"pixels has {found}; expected (B, 3, H, W) floats in 0..1.")
        n = len(pixels)
        texts = reward._texts(prompts, n)
        metadata = [{options.user_key: user} for user in users] if users is not None else None
        people = reward.people(metadata, n)
        image_embeds = encode_images(scorer.encoder.model, **scorer.processor.preprocess_tensor(pixels.float())).float()
        text_embeds = encode_distinct(scorer, texts) if any(texts) else None
        inputs = {
            "image_embeds": image_embeds,
            "text_embeds": text_embeds if scorer.config.text_embed_dim else None,
            "scale_ids": torch.full((n,), scorer.processor.scale_id(options.scale)),
        }
        out = self.model(**inputs, **scorer.encode_people(n, people))
        value = out.scores - options.uncertainty_penalty * out.std if options.uncertainty_penalty else out.scores
        if options.personal_only:
            value = value - self.model(**inputs).scores
        if text_embeds is None:
            return RewardParts(value, None)
        asked = torch.tensor([text is not None for text in texts], device=value.device)
        adherence = reward.adherence(image_embeds, text_embeds).where(asked, torch.nan)
        floor = options.adherence_floor if floor is None else floor
        if floor is not None:
            # a cliff has no gradient that leads back: below the floor the reward falls with every lost cosine
            width = abs(reward.lowest) + 1
            lack = (torch.as_tensor(floor, device=value.device) - adherence).where(asked, 0.0)
            value = value - width * 10 * lack.clamp_min(0)
        return RewardParts(value, adherence)

    def score(self, pixels: Tensor, prompts: Any = None) -> Tensor:
        """As imscore calls it: `forward` for the reward's own person."""
        return self(pixels, prompts)


def build(reward: PersonalReward) -> DifferentiableReward:
    """The module. Raises ValueError with `standardize`: a gradient is of each image's own reward."""
    if reward.options.standardize:
        raise ValueError("standardize=True is of whole groups, and a gradient of one image's own reward. Leave it out.")
    return DifferentiableReward(reward)
