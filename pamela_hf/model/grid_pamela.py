"""Every one of N images for every one of U people: `score_matrix`, and what it is made of.

A pair's utility is that of [`PamelaFusion`], arranged so that what does not depend on the pair is computed once. With
one block and one query, softmax attention is a ratio of two sums over tokens, and each token belongs to the image, to
the person or to everybody: both sums are an image's part plus a person's part. What is left for a pair is that ratio
and three matrix products. Layer norms are folded into the weights around them; only their division is left.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .fusion_pamela import ImageSide, Pairs, PairTokens, PamelaFusion, ReadImages
from .scales_pamela import PamelaRewardOutput, summarize

IMAGES_AT_ONCE = 2048
"""Images whose part in the networks is in memory at a time while a grid is scored (about 5 kB an image)."""

# tanh's polynomial in `gelu(approximate="tanh")`: √(2/π) · (x + .044715 x³) (Hendrycks & Gimpel, arXiv 1606.08415)
_GELU_LINEAR = (2 / torch.pi) ** 0.5
_GELU_CUBIC = 0.044715 * _GELU_LINEAR


@dataclass
class GridPeople:
    """U people of a grid.

    Attributes:
        rows: `(U, row_size)`.
        demographic_ids: `(U, fields)`, 0 = unknown.
        scale: index of the rating scale of all scores.
    """

    rows: Tensor
    demographic_ids: Tensor
    scale: int

    def part(self, low: int, high: int) -> "GridPeople":
        """The same of people `low` to `high`."""
        return GridPeople(self.rows[low:high], self.demographic_ids[low:high], self.scale)


@dataclass
class GridSide:
    """What one member makes of n images, or of n people.

    Attributes:
        numerator: `(n, hidden_size)` their tokens' part of Σ exp(q·k - reference) v.
        denominator: `(n, hidden_size)` the same of Σ exp(q·k - reference), a head's value at each of its dimensions.
        reference: `(hidden_size,)` the largest q·k among their tokens, of each head.
        factors: `(n, interaction_rank)` of the multiplicative term; `None` = there is no such term.
    """

    numerator: Tensor
    denominator: Tensor
    reference: Tensor
    factors: Tensor | None

    def part(self, low: int, high: int) -> "GridSide":
        """The same of numbers `low` to `high`."""
        factors = None if self.factors is None else self.factors[low:high]
        return GridSide(self.numerator[low:high], self.denominator[low:high], self.reference, factors)

    def relative_to(self, reference: Tensor) -> "GridSide":
        """The same with another, larger reference."""
        scale = (self.reference - reference).exp()
        return GridSide(self.numerator * scale, self.denominator * scale, reference, self.factors)


class GridMemory:
    """Tensors that are used again for each block of pairs: fresh ones would cost as much as what is done to them.

    Args:
        like: a tensor of the device and precision.
        pairs: the largest number of pairs of a block.
        width: `hidden_size`.
        inner: `intermediate_size`.
    """

    def __init__(self, like: Tensor, pairs: int, width: int, inner: int):
        self._narrow = [like.new_empty(pairs, width) for _ in range(3)]
        self._wide = [like.new_empty(pairs, inner) for _ in range(2)]

    def of(self, pairs: int) -> tuple[list[Tensor], list[Tensor]]:
        """Three tensors `(pairs, hidden_size)` and two `(pairs, intermediate_size)`, of any contents."""
        return [tensor[:pairs] for tensor in self._narrow], [tensor[:pairs] for tensor in self._wide]


class GridMember:
    """One member with a single block, in eval mode, as it scores grids.

    Args:
        member: the network.

    Raises:
        ValueError: it has several blocks.
    """

    def __init__(self, member: PamelaFusion):
        if len(member.blocks) != 1:
            raise ValueError(f"the member has {len(member.blocks)} blocks; grids are read out of one.")
        block, width = member.blocks[0], member.config.hidden_size
        self.member, self.block, self.width = member, block, width
        self.head_size = width // block.num_heads
        self.eps = block.norm2.eps
        query = block.q_proj(block.norm1(member.score_token + member.token_type[0]))
        self.query = query.unflatten(-1, (block.num_heads, -1)) * self.head_size**-0.5
        # Both norms that follow centre their input, so every term is centred once and for all: the mean never matters.
        self.out_weight = _centred(block.out_proj.weight.T)
        self.out_bias = _centred(block.out_proj.bias + member.score_token[0] + member.token_type[0])
        self.in_weight = (block.fc1.weight * block.norm2.weight).T.contiguous()
        self.in_bias = block.fc1.bias + block.fc1.weight @ block.norm2.bias
        self.back_weight = 0.5 * _centred(block.fc2.weight.T)  # half: see `_double_gelu`
        self.back_bias = _centred(block.fc2.bias)
        self.read_weight = member.head.weight[0] * member.norm.weight
        self.read_bias = member.head.weight[0] @ member.norm.bias + member.head.bias
        self.read_eps = member.norm.eps

    def images(self, side: ImageSide, has_prompt: Tensor | None, metadata_ids: Tensor) -> GridSide:
        """The part of n images (and of what is the same for all pairs), with metadata `(n, fields)`."""
        member = self.member
        text = member.no_prompt if member.config.text_embed_dim else None
        if text is not None and has_prompt is not None:
            text = torch.where(has_prompt.unsqueeze(-1), side.text_token, text)
        tokens = [PairTokens(member.score_token), PairTokens(side.token), *([] if text is None else [PairTokens(text)])]
        kinds = [0, 1, *([] if text is None else [3])]
        tokens += [PairTokens(table.weight, ids) for table, ids in zip(member.metadata, metadata_ids.unbind(-1))]
        kinds += range(len(member.token_type) - len(member.metadata), len(member.token_type))
        factors = side.factors
        if factors is not None and has_prompt is not None:
            factors = factors + side.text_factors * has_prompt.unsqueeze(-1)
        return self._side(tokens, member.token_type[kinds], factors)

    def people(self, rows: Tensor, demographic_ids: Tensor) -> GridSide:
        """The part of n people, from rows `(n, hidden_size)` and demographics `(n, fields)`."""
        member, rank = self.member, self.member.config.interaction_rank
        tokens = [PairTokens(member.user_proj(rows))]
        tokens += [PairTokens(table.weight, ids) for table, ids in zip(member.demographics, demographic_ids.unbind(-1))]
        first = 3 + bool(member.config.text_embed_dim)
        kinds = [2, *range(first, first + len(member.demographics))]
        factors = member.interaction_user(rows) * (3 / rank**0.5) if rank else None
        return self._side(tokens, member.token_type[kinds], factors)

    def _side(self, tokens: list[PairTokens], kinds: Tensor, factors: Tensor | None) -> GridSide:
        """Sums over tokens, each of its kind `(hidden_size,)`; what depends on a token alone is computed once for each
        distinct one."""
        logits, values = [], []
        for token, kind in zip(tokens, kinds):
            normed = self.block.norm1(token.distinct + kind)
            key = self.block.k_proj(normed).unflatten(-1, self.query.shape[1:])
            logits.append((self.query * key).sum(-1).repeat_interleave(self.head_size, -1))
            values.append(self.block.v_proj(normed))
        reference = torch.stack([one.amax(0) for one in logits]).amax(0)
        weights = [(one - reference).exp() for one in logits]
        numerator = sum(token.pairs(weight * value) for token, weight, value in zip(tokens, weights, values))
        denominator = sum(token.pairs(weight) for token, weight in zip(tokens, weights))
        return GridSide(numerator, denominator, reference, factors)

    def utilities(self, images: GridSide, people: GridSide, memory: GridMemory, out: Tensor) -> None:
        """Writes utilities `(I, U)` into `out`, for sides with the same reference."""
        shape = (len(images.numerator), len(people.numerator))
        (mixed, rest, x), (inner, gate) = memory.of(shape[0] * shape[1])
        torch.add(images.numerator[:, None], people.numerator, out=mixed.view(*shape, -1))
        torch.add(images.denominator[:, None], people.denominator, out=rest.view(*shape, -1))
        torch.addmm(self.out_bias, mixed.div_(rest), self.out_weight, out=x)
        torch.mul(x, self._inverse_spread(x, self.eps).unsqueeze(-1), out=rest)
        torch.addmm(self.in_bias, rest, self.in_weight, out=inner)
        _double_gelu(inner, gate)
        x.add_(self.back_bias).addmm_(inner, self.back_weight)
        utility = (x @ self.read_weight).mul_(self._inverse_spread(x, self.read_eps)).add_(self.read_bias)
        out.copy_(utility.view(shape))
        if images.factors is not None:
            out.add_(images.factors @ people.factors.T)

    def _inverse_spread(self, x: Tensor, eps: float) -> Tensor:
        """What a layer norm multiplies centred rows `(n, hidden_size)` by, `(n,)`."""
        squares = torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32).square_()
        return squares.div_(self.width).add_(eps).rsqrt_().to(x.dtype)


def common_reference(images: GridSide, people: GridSide) -> tuple[GridSide, GridSide]:
    """Both sides relative to the larger of their references."""
    reference = torch.maximum(images.reference, people.reference)
    return images.relative_to(reference), people.relative_to(reference)


def _centred(weight: Tensor) -> Tensor:
    """A weight `(…, out)` less its mean over what it gives out."""
    return (weight - weight.mean(-1, keepdim=True)).contiguous()


def _double_gelu(x: Tensor, gate: Tensor) -> None:
    """`x` becomes `2 · gelu(x, approximate="tanh")`; `gate`, of the same shape, is used meanwhile.

    On CPUs PyTorch's own takes three times as long as its parts, whose tanh is vectorized.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        x.copy_(F.gelu(x, approximate="tanh")).mul_(2)
        return
    torch.addcmul(x.new_tensor(_GELU_LINEAR), x, x, value=_GELU_CUBIC, out=gate)
    x.addcmul_(x, gate.mul_(x).tanh_())


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
                Default: 2048 on a CPU, whose cache holds that, else 65536.

        Returns:
            [`PamelaRewardOutput`] with `scores`, `std` and `utility` of shape `(N, U)`.
        """
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
            max_pairs = 2048 if self.device.type == "cpu" else 65536
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
        members: list[GridMember],
        images: ReadImages,
        metadata_ids: Tensor,
        people: GridPeople,
        max_pairs: int,
        out: Tensor,
    ) -> None:
        """Writes utility, score and std `(3, N, U)` of all pairs, in blocks of `max_pairs` that a cache can hold."""
        n, u = out.shape[1:]
        share, width = self.config.linear_share, self.config.hidden_size
        readings = images.readings
        if images.prompt_readings is not None:
            readings = readings + images.prompt_readings
        readings = self.features.of_kind(readings, metadata_ids)
        image_sides = [
            member.images(side, images.has_prompt, metadata_ids) for member, side in zip(members, images.sides)
        ]
        memory = GridMemory(readings, max_pairs, width, self.config.intermediate_size)
        for left in range(0, u, max_pairs):
            some = people.part(left, left + max_pairs)
            rows = some.rows[:, :width]
            sides = [
                common_reference(theirs, member.people(rows, some.demographic_ids))
                for member, theirs in zip(members, image_sides)
            ]
            tastes = some.rows[:, width:].T
            step = max(1, max_pairs // len(rows))
            for top in range(0, n, step):
                block = slice(top, top + step)
                utilities = readings.new_empty(len(members), len(readings[block]), len(rows))
                for member, (theirs, persons), utility in zip(members, sides, utilities):
                    member.utilities(theirs.part(top, top + step), persons, memory, utility)
                utilities = utilities.float()
                if share:
                    linear = readings[block, -1:].float() + self.features.linear_offset
                    if self.config.taste_factors:
                        linear = linear + (readings[block, :-1] @ tastes).float()
                    utilities.mul_(1 - share).add_(share * linear)
                scores, std = self.moments(utilities, rows, people.scale)
                for value, found in zip(out, (utilities.mean(0), scores, std)):
                    value[block, left : left + max_pairs] = found

    def _score_pairs(
        self, images: ReadImages, metadata_ids: Tensor, people: GridPeople, max_pairs: int, out: Tensor
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
