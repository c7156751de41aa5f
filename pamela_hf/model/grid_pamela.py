"""Every one of N images for every one of U people: what `score_matrix` is made of.

A pair's utility is that of [`PamelaFusion`], arranged so that what does not depend on the pair is computed once. With
one block and one query, softmax attention is a ratio of two sums over tokens, and each token belongs to the image, to
the person or to everybody: both sums are an image's part plus a person's part. What is left for a pair is that ratio
and three matrix products. Layer norms are folded into the weights around them; only their division is left.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .fusion_pamela import ImageSide, PairTokens, PamelaFusion

# tanh's polynomial in `gelu(approximate="tanh")`: √(2/π) · (x + .044715 x³) (Hendrycks & Gimpel, arXiv 1606.08415)
_GELU_LINEAR = (2 / torch.pi) ** 0.5
_GELU_CUBIC = 0.044715 * _GELU_LINEAR


@dataclass(eq=False, repr=False)
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


@dataclass(eq=False, repr=False)
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
