"""`PersonalReward`: what every adapter scores with. Images, prompts and metadata in, one number each out."""

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.utils import logging

from ..files.images import each_image, open_image
from ..scoring import Head, PamelaScorer
from ._adherence import UNRELATED_PROMPTS, encoder_adherence
from ._features import encode_distinct
from ._heads import HeadFolder

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class RewardOptions:
    """What a reward is made of.

    Attributes:
        user_key: key of a sample's metadata that names whom it is for (a trained participant, or one of the heads);
            a sample without it is for the reward's own `user`.
        scale: rating scale of the score; default: the model's `default_scale`.
        personal_only: less everyone's score, so that only what is personal is rewarded, not what all people like. With
            care: nothing then keeps an optimizer from images that the person dislikes, if everyone else is predicted to
            dislike them more. In the simulated world (tests/rewards/test_grpo.py) 4 of 8 people liked their refiner's
            prompts less than before. Look at the plain score beside it, and set an `adherence_floor`.
        uncertainty_penalty: λ ≥ 0 of the lower confidence bound score − λ · std, in standard deviations; 0 = off.
        adherence_floor: samples whose image is less like its own prompt than this ([`encoder_adherence`], a difference
            of cosines, about 0 for an unrelated image) get the lowest rating: no reward is earned with images of
            something else. `None` = off. Samples without a prompt pass.
        standardize: mean 0 and standard deviation 1 within each group of samples with the same prompt and person; one
            alone is 0. Off: rating units, calibrated.
        batch_size: images the encoder takes at a time.
    """

    user_key: str = "user"
    scale: str | None = None
    personal_only: bool = False
    uncertainty_penalty: float = 0.0
    adherence_floor: float | None = None
    standardize: bool = False
    batch_size: int = 32

    def __post_init__(self) -> None:
        penalty, floor = self.uncertainty_penalty, self.adherence_floor
        if not isinstance(penalty, Real) or not 0 <= penalty < math.inf:
            raise ValueError(f"uncertainty_penalty={penalty!r} must be a number of at least 0; 0 = off.")
        if floor is not None and (not isinstance(floor, Real) or not -2 <= floor <= 2):
            raise ValueError(f"adherence_floor={floor!r} is a difference of cosines, -2..2; None = off.")
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size!r} must be a whole number of at least 1.")


class PersonalReward:
    """One reward for one person, or for each sample's own.

    Args:
        scorer: model and processor.
        user: whom samples are scored for that name nobody; `None` = everyone's taste.
        options: [`RewardOptions`].
        heads: name → head of people whom samples may name beside the trained participants.

    Raises:
        ValueError: an unknown user or scale, a head of another model.
    """

    def __init__(
        self,
        scorer: PamelaScorer,
        user: str | Head | None = None,
        options: RewardOptions | None = None,
        heads: Mapping[str, Head] | None = None,
    ):
        self.scorer, self.options = scorer, options or RewardOptions()
        self.heads = heads if heads is not None else {}
        self._unrelated: torch.Tensor | None = None
        self.user = self.person(user)
        scorer.encode_people(1, self.user)  # a name that is not known fails now, not in the middle of a run
        scorer.processor.scale_id(self.options.scale)

    @classmethod
    def load(
        cls,
        model: Any,
        user: Any = None,
        options: RewardOptions | None = None,
        *,
        head: str | os.PathLike | None = None,
        heads: Mapping[str, Head] | str | os.PathLike | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> "PersonalReward":
        """Loads the parts; arguments as in [`load_reward`]."""
        if user is not None and head is not None:
            raise ValueError("user= and head= both say whom to score for; pass one of the two.")
        if isinstance(model, PamelaScorer):
            scorer = model
        else:
            scorer = PamelaScorer.from_pretrained(model, device, torch.float32 if dtype is None else dtype)
        if head is not None:
            from ..heads.head import UserHead

            user = UserHead.from_pretrained(head, scorer)
        if isinstance(heads, (str, os.PathLike)):
            heads = HeadFolder(heads, scorer)
        return cls(scorer, user, options, heads)

    # -- whom for ------------------------------------------------------------------------------------------------
    def person(self, name: Any) -> str | Head | None:
        """A person as the scorer takes one: a head by its name, a participant, or `None`."""
        return self.heads[name] if isinstance(name, str) and name in self.heads else name

    def people(self, metadata: Any, n: int) -> list[str | Head | None]:
        """Each sample's own person.

        Args:
            metadata: one mapping for all, one each, or `None`.
            n: how many samples.

        Raises:
            ValueError: another number of mappings.
        """
        rows = [metadata] * n if metadata is None or isinstance(metadata, Mapping) else list(metadata)
        if len(rows) != n:
            raise ValueError(f"metadata= has {len(rows)} entries for {n} images; give one for all, or one each.")
        named = [row.get(self.options.user_key) if isinstance(row, Mapping) else None for row in rows]
        resolved = {name: self.person(name) for name in {one for one in named if isinstance(one, str)}}
        return [self.user if one is None else resolved.get(one, one) if isinstance(one, str) else one for one in named]

    @property
    def lowest(self) -> float:
        """The lowest reward there is without an uncertainty penalty, in rating units."""
        config = self.scorer.config
        levels = config.rating_scales[self.options.scale or config.default_scale]
        return levels[0] - (levels[-1] if self.options.personal_only else 0)

    def without_nan(self, rewards: np.ndarray) -> np.ndarray:
        """For frameworks that take an average without looking: the lowest rating, or 0 among standardized rewards, in
        place of NaN."""
        return np.where(np.isfinite(rewards), rewards, 0.0 if self.options.standardize else self.lowest)

    # -- rewards -------------------------------------------------------------------------------------------------
    def __call__(self, images: Any, prompts: Any = None, metadata: Any = None) -> np.ndarray:
        """Rewards of samples.

        Args:
            images: N pictures in any form of [`pamela_hf.files.images.open_image`], or an array or tensor of a batch:
                `(N, 3, H, W)` or `(N, H, W, 3)`, float 0–1 or uint8.
            prompts: what they were made from, one for all or one each; `None` or "" = unknown.
            metadata: one mapping for all or one each; its [`user_key`] names whom a sample is for.

        Returns:
            `(N,)` float64; NaN for an image that cannot be read, which is logged.

        Raises:
            ValueError: an unknown user, lengths that don't fit.
        """
        pictures = list(each_image(images))
        n = len(pictures)
        texts = self._texts(prompts, n)
        people = self.people(metadata, n)
        self.scorer.encode_people(n, people)  # a wrong name is an error of the run, whatever its image is like
        out = np.full(n, np.nan)
        size = self.options.batch_size
        for start in range(0, n, size):
            part = range(start, min(start + size, n))
            opened = {i: picture for i in part if (picture := self._opened(pictures[i], i)) is not None}
            at, features = self._encode(opened)
            if features is not None:
                out[at] = self.of_features(features, [texts[i] for i in at], [people[i] for i in at])
        return self._standardized(out, texts, people) if self.options.standardize else out

    @staticmethod
    def _texts(prompts: Any, n: int) -> list[str | None]:
        texts = [prompts] * n if prompts is None or isinstance(prompts, str) else list(prompts)
        if len(texts) != n:
            raise ValueError(f"prompts= has {len(texts)} entries for {n} images; give one for all, or one each.")
        return [text if isinstance(text, str) and text.strip() else None for text in texts]

    @staticmethod
    def _opened(picture: Any, index: int) -> Image.Image | None:
        try:
            return open_image(picture)
        except ValueError as error:
            logger.warning("Sample %d has no reward: %s", index, error)
            return None

    def _encode(self, opened: Mapping[int, Image.Image]) -> tuple[list[int], torch.Tensor | None]:
        """Indices and features of pictures: prepared together, which is faster, or one by one where one of them is of a
        shape that the encoder does not take."""
        if not opened:
            return [], None
        encoder = self.scorer.encoder
        try:
            return list(opened), encoder.encode_images(list(opened.values()))
        except ValueError:
            prepared = {}
            for index, picture in opened.items():
                try:
                    prepared[index] = encoder.prepare_images([picture])
                except ValueError as error:
                    logger.warning("Sample %d has no reward: %s", index, error)
            return list(prepared), encoder.encode_prepared(list(prepared.values())) if prepared else None

    def of_features(
        self, image_embeds: torch.Tensor, texts: Sequence[str | None], people: Sequence[str | Head | None]
    ) -> np.ndarray:
        """Rewards `(B,)` of images whose features are known, before any standardization.

        Args:
            image_embeds: `(B, image_embed_dim)`.
            texts: B prompts, `None` = unknown.
            people: B of them, as [`people`] gives them.
        """
        options = self.options
        text_embeds = None
        if any(texts) and (self.scorer.config.text_embed_dim or options.adherence_floor is not None):
            text_embeds = encode_distinct(self.scorer, texts)
        known = {
            "image_embeds": image_embeds,
            "text_embeds": text_embeds if self.scorer.config.text_embed_dim else None,
            "scale": options.scale,
            "batch_size": len(texts),
        }
        scores, std = self.scorer.score(user=people, **known)
        reward = scores - options.uncertainty_penalty * std if options.uncertainty_penalty else scores
        if options.personal_only:
            reward = reward - self.scorer.score(**known).scores
        if options.adherence_floor is not None and text_embeds is not None:
            adherence = self.adherence(image_embeds, text_embeds).cpu().numpy()
            strays = (adherence < options.adherence_floor) & np.array([text is not None for text in texts])
            reward = np.where(strays, np.minimum(reward, self.lowest), reward)
        return reward

    def adherence(self, image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """[`encoder_adherence`] `(B,)` of images `(B, D)` to their prompts `(B, D)`."""
        if self._unrelated is None:
            self._unrelated = encode_distinct(self.scorer, UNRELATED_PROMPTS)
        return encoder_adherence(image_embeds, text_embeds, self._unrelated)

    @staticmethod
    def _standardized(rewards: np.ndarray, texts: Sequence[Hashable], people: Sequence[Any]) -> np.ndarray:
        groups: dict[Hashable, list[int]] = {}
        for i, (text, person) in enumerate(zip(texts, people)):
            groups.setdefault((text, person if isinstance(person, (str, type(None))) else id(person)), []).append(i)
        out = rewards.copy()
        for rows in groups.values():
            values = rewards[rows]
            usable = np.isfinite(values)
            if usable.any():
                spread = values[usable].std()
                out[rows] = (values - values[usable].mean()) / (spread if spread > 1e-8 else 1.0)
        return out
