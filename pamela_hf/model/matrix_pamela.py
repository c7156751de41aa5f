"""`score_matrix`: every one of N images for every one of U people, in blocks that fit into memory."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .fusion_pamela import Pairs, PairTokens, ReadImages
from .losses import ordinal_moments
from .scales_pamela import PamelaRewardOutput, summarize

if TYPE_CHECKING:
    from .grid_pamela import GridMember, GridPeople

IMAGES_AT_ONCE = 1024
"""Images whose part in the networks is in memory at a time while a grid is scored (about 25 kB an image)."""


class GridScoringMixin:
    """How a [`PamelaRewardModel`] scores grids."""

    @torch.inference_mode()
    def score_matrix(
        self,
        image_embeds: Tensor | None = None,
        text_embeds: Tensor | None = None,
        prompt_mask: Tensor | None = None,
        user_ids: Tensor | None = None,
        user_embeds: Tensor | None = None,
        demographic_ids: Tensor | None = None,
        metadata_ids: Tensor | None = None,
        scale: int | None = None,
        max_pairs: int | None = None,
        **encoder_inputs: Tensor,
    ) -> PamelaRewardOutput:
        r"""Scores every one of N images for every one of U people; each image is encoded once.

        The result takes 12 bytes a pair. One larger than memory is made in parts: call it with some thousand images at
        a time, as the scores of an image do not depend on the others.

        Args:
            image_embeds: as in `forward`, N rows.
            text_embeds: as in `forward`, N rows.
            prompt_mask: as in `forward`, N rows.
            user_ids: `(U,)` the people, as in `forward`; or give `user_embeds`.
            user_embeds: `(U, row_size)` the people's rows, in place of `user_ids`.
            demographic_ids: `(U, fields)` of the people, as in `forward`.
            metadata_ids: as in `forward`, N rows.
            scale: index of the rating scale; default: the config's `default_scale`.
            max_pairs: pairs in one pass; bounds the memory beside the result's (a few kB a pair at the default sizes).
                Default: 4096 for each CPU thread, whose share of the last cache holds that, and at most 65536.

        Returns:
            [`PamelaRewardOutput`] with `scores`, `std` and `utility` of shape `(N, U)`.
        """
        from .grid_pamela import GridMember, GridPeople  # imported where used: importing the package stays quick

        image_embeds, text_embeds = self._encode(image_embeds, text_embeds, encoder_inputs)
        n = len(image_embeds)
        u = len(user_embeds) if user_embeds is not None else 1 if user_ids is None else len(user_ids)
        people = GridPeople(
            rows=self.embed_users(user_ids, user_embeds, u),
            demographic_ids=self._ids(demographic_ids, u, len(self.config.demographics), "demographic_ids"),
            scale=list(self.config.rating_scales).index(self.config.default_scale) if scale is None else scale,
        )
        metadata_ids = self._ids(metadata_ids, n, len(self.config.metadata), "metadata_ids")
        if max_pairs is None:
            max_pairs = min(65536, 4096 * torch.get_num_threads()) if self.device.type == "cpu" else 65536
        # several blocks mix a pair's tokens with each other, and dropout is drawn for each pair
        whole = self.config.num_fusion_layers == 1 and not self.training
        members = [GridMember(member) for member in self.members] if whole else None
        out = torch.empty(3, n, u, device=self.device)
        for low in range(0, n, IMAGES_AT_ONCE):
            part = slice(low, low + IMAGES_AT_ONCE)
            text, mask = (None if value is None else value[part] for value in (text_embeds, prompt_mask))
            images = self.read_images(image_embeds[part], text, None, mask)
            images.sides = list(images.sides)
            if members is None:
                self._score_pairs(images, metadata_ids[part], people, max_pairs, out[:, part])
            else:
                self._score_grid(members, images, metadata_ids[part], people, max_pairs, out[:, part])
        utility, scores, std = out
        return PamelaRewardOutput(utility=utility, scores=scores, std=std)

    def _score_grid(
        self,
        members: "list[GridMember]",
        images: ReadImages,
        metadata_ids: Tensor,
        people: "GridPeople",
        max_pairs: int,
        out: Tensor,
    ) -> None:
        """Writes utility, score and std `(3, N, U)` of all pairs, in blocks of `max_pairs` that a cache can hold."""
        n, u = out.shape[1:]
        (share, taste_share), width = self.shares(), self.config.hidden_size
        readings = self.features.read(images.image, images.text, images.has_prompt, metadata_ids)
        image_sides = [
            member.images(side, images.has_prompt, metadata_ids) for member, side in zip(members, images.sides)
        ]
        memory = readings.new_empty(2, max_pairs, width + self.config.intermediate_size)
        # about as many people as images in a block: what they are to each other is computed in batches of either
        at_once = min(max_pairs, max(math.isqrt(max_pairs), max_pairs // n))
        for left in range(0, u, at_once):
            some = people.part(left, left + at_once)
            rows = some.rows[:, :width]
            sides = [member.people(rows, some.demographic_ids) for member in members]
            tastes = some.rows[:, width:].T
            stretch, cutpoints, levels = self.grid_link(rows, people.scale)
            step = max(1, max_pairs // len(rows))
            for top in range(0, n, step):
                block = slice(top, top + step)
                utilities = readings.new_empty(len(members), len(readings[block]), len(rows))
                for member, theirs, persons, utility in zip(members, image_sides, sides, utilities):
                    member.utilities(theirs.part(top, top + step), persons, memory, utility)
                utilities = utilities.float()
                if share:
                    everyone = readings[block, -1:].float() + self.features.linear_offset
                    utilities.mul_(1 - share).add_(share * everyone)
                if taste_share:
                    utilities.add_(taste_share * (readings[block, :-1] @ tastes).float())
                scores, std = ordinal_moments(utilities * stretch, cutpoints, levels)
                for value, found in zip(out, (utilities.mean(0), scores, std)):
                    value[block, left : left + at_once] = found

    def _score_pairs(
        self, images: ReadImages, metadata_ids: Tensor, people: "GridPeople", max_pairs: int, out: Tensor
    ) -> None:
        """The same, one pair beside the other as `forward` takes them."""
        n, u = out.shape[1:]
        scale_ids = torch.full((max_pairs,), people.scale, device=self.device)
        for start in range(0, n * u, max_pairs):
            pair = torch.arange(start, min(start + max_pairs, n * u), device=self.device)
            image, person = pair // u, pair % u
            low, high = int(image[0]), int(image[-1]) + 1
            image = image - low
            part, rows = images.part(low, high), PairTokens(people.rows, person)
            pairs = Pairs(
                people=rows,
                network_rows=self._for_networks(rows),
                demographics=PairTokens(people.demographic_ids, person),
                metadata=PairTokens(metadata_ids[low:high], image),
                image_index=image,
                has_prompt=part.has_prompt,
            )
            utilities = self._utilities(part, pairs)
            scored = summarize(utilities, *self.link(utilities, pairs.network_rows, scale_ids[: len(pair)]))
            for value, name in zip(out, ("utility", "scores", "std")):
                value[low + image, person] = scored[name].to(value.dtype)
