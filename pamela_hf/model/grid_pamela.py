"""Every one of N images for every one of U people: what `score_matrix` is made of.

A pair's utility is that of [`PamelaFusion`], arranged so that what does not depend on the pair is computed once. With
one block and one query, every token belongs to the image, to the person or to everybody, and what a head attends to is
a blend: so much of what the image's tokens give, the rest of what the person's give, how much of each being the sigmoid
of a difference of log-sum-exps. All that is linear up to the next nonlinearity can then be done to the two ends of the
blend: the output projection, and the feed-forward layer's first product, as layer norms are folded into the weights
around them and only their division is left. For a pair remain the blend, GELU and one matrix product.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .fusion_pamela import ImageSide, PairTokens, PamelaFusion
from .quick_pamela import gelu_of_first_


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
        level: `(n, heads)` log Σ exp(q·k) over their tokens.
        ends: `(n, heads, hidden_size + intermediate_size)` what a head that attends to their tokens alone adds to the
            residual stream, and by that to the feed-forward layer's input before its norm's division.
        factors: `(n, interaction_rank)` of the multiplicative term; `None` = there is no such term.
    """

    level: Tensor
    ends: Tensor
    factors: Tensor | None

    def part(self, low: int, high: int) -> "GridSide":
        """The same of numbers `low` to `high`."""
        factors = None if self.factors is None else self.factors[low:high]
        return GridSide(self.level[low:high], self.ends[low:high], factors)


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
        heads = (block.num_heads, width // block.num_heads)
        query = block.q_proj(block.norm1(member.score_token + member.token_type[0])).view(heads) * heads[1] ** -0.5
        self.key_weight = torch.einsum("hs,hsd->dh", query, block.k_proj.weight.unflatten(0, heads))
        # Both norms that follow centre their input, so every term is centred once and for all: the mean never matters.
        out_weight = _centred(block.out_proj.weight.T).unflatten(0, heads)
        out_bias = _centred(block.out_proj.bias + member.score_token[0] + member.token_type[0])
        in_weight = (block.fc1.weight * block.norm2.weight).T
        self.end_weight = torch.cat([out_weight, out_weight @ in_weight], dim=-1)
        # of each head a share of what is the same for all: a blend's two weights sum to one
        self.end_bias = torch.cat([out_bias, out_bias @ in_weight]) / block.num_heads
        self.in_bias = block.fc1.bias + block.fc1.weight @ block.norm2.bias
        self.back_weight = _centred(block.fc2.weight.T)
        self.back_bias = _centred(block.fc2.bias)
        self.read_weight = member.head.weight[0] * member.norm.weight
        self.read_bias = member.head.weight[0] @ member.norm.bias + member.head.bias
        self.in_eps, self.read_eps = torch.tensor([block.norm2.eps, member.norm.eps], device=query.device)

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
        """Of tokens, each of its kind `(hidden_size,)`; what depends on a token alone is computed once for each
        distinct one."""
        logits, values = [], []
        for token, kind in zip(tokens, kinds):
            normed = self.block.norm1(token.distinct + kind)
            logits.append(token.pairs(normed @ self.key_weight))
            values.append(token.pairs(self.block.v_proj(normed)).unflatten(-1, self.end_weight.shape[:2]))
        logits = torch.stack(torch.broadcast_tensors(*logits))
        attended = sum(share.unsqueeze(-1) * value for share, value in zip(logits.softmax(0), values))
        ends = torch.bmm(attended.transpose(0, 1), self.end_weight).add_(self.end_bias)
        return GridSide(logits.logsumexp(0), ends.transpose(0, 1), factors)

    def utilities(self, images: GridSide, people: GridSide, memory: Tensor, out: Tensor) -> None:
        """Writes utilities `(I, U)` into `out`.

        Args:
            memory: `(2, at least I · U, hidden_size + intermediate_size)` of any contents: tensors that are used again
                for each block of pairs, since fresh ones would cost as much as what is done to them.
        """
        shape = (len(images.level), len(people.level))
        memory = memory[:, : shape[0] * shape[1]]
        both, other = memory
        x, inner = both[:, : self.width], both[:, self.width :]
        share = torch.sigmoid(images.level[:, None] - people.level)
        theirs = torch.bmm((1 - share).transpose(0, 1), people.ends, out=other.view(*shape[::-1], -1))
        torch.bmm(share, images.ends, out=both.view(*shape, -1)).add_(theirs.transpose(0, 1))
        spread = self._inverse_spread(x, self.in_eps).unsqueeze(-1)
        torch.addcmul(self.in_bias, inner, spread, out=inner)
        gelu_of_first_(memory[..., self.width :])
        torch.addmm(x.add_(self.back_bias), inner, self.back_weight, out=x)
        utility = (x @ self.read_weight).mul_(self._inverse_spread(x, self.read_eps)).add_(self.read_bias)
        out.copy_(utility.view(shape))
        if images.factors is not None:
            out.add_(images.factors @ people.factors.T)

    def _inverse_spread(self, x: Tensor, eps: Tensor) -> Tensor:
        """What a layer norm multiplies centred rows `(n, hidden_size)` by, `(n,)`."""
        norm = torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32)
        return torch.addcmul(eps, norm, norm, value=1 / self.width).rsqrt_().to(x.dtype)


def _centred(weight: Tensor) -> Tensor:
    """A weight `(…, out)` less its mean over what it gives out."""
    return (weight - weight.mean(-1, keepdim=True)).contiguous()
