"""Members of the reward: each a shallow transformer over a pair's tokens plus a multiplicative user × image term."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_pamela import PamelaConfig


@dataclass(eq=False, repr=False)
class PairTokens:
    """One kind of token of B pairs: distinct tokens `(n, hidden_size)` and which of them each pair has, `(B,)`.

    `index=None`: pair i has token i. Few distinct tokens make many pairs (one image is shown to many people), so what
    depends on a token alone is computed once for each distinct one.
    """

    distinct: Tensor
    index: Tensor | None = None

    def pairs(self, value: Tensor | None = None) -> Tensor:
        """`value` (default: the tokens themselves), one row for each distinct token, spread over the pairs."""
        value = self.distinct if value is None else value
        if self.index is None:
            return value
        # value[index] takes up to thirty times as long backwards on CPUs: that was a third of a training step
        rows = F.embedding(self.index, value.reshape(len(value), -1))
        return rows.reshape(*self.index.shape, *value.shape[1:])


@dataclass(eq=False, repr=False)
class ImageSide:
    """What one member makes of N images and of their prompts: tokens `(N, hidden_size)`, and factors of the
    multiplicative term `(N, interaction_rank)`; `None` = there are no prompts, or no such term."""

    token: Tensor
    factors: Tensor | None = None
    text_token: Tensor | None = None
    text_factors: Tensor | None = None

    def part(self, low: int, high: int) -> "ImageSide":
        """The same of images `low` to `high`."""
        values = (self.token, self.factors, self.text_token, self.text_factors)
        return ImageSide(*(None if value is None else value[low:high] for value in values))


@dataclass(eq=False, repr=False)
class ReadImages:
    """What the model makes of N images before it looks at people.

    Attributes:
        sides: of each member, to be gone through once unless it is a list.
        image: `(N, D)` standardized features.
        text: `(N, Dt)` the same of their prompts; `None` = no prompts.
        has_prompt: `(N,)` bool; `None` = no prompts.
    """

    sides: Iterable[ImageSide]
    image: Tensor
    text: Tensor | None
    has_prompt: Tensor | None

    def part(self, low: int, high: int) -> "ReadImages":
        """The same of images `low` to `high`."""
        values = (self.image, self.text, self.has_prompt)
        cut = (None if value is None else value[low:high] for value in values)
        return ReadImages([side.part(low, high) for side in self.sides], *cut)


@dataclass(eq=False, repr=False)
class Pairs:
    """B pairs of an image and a person.

    Attributes:
        people: rows `(n, row_size)` of the pairs' people.
        network_rows: the part of them that the networks and the link take.
        demographics: ids `(n, fields)` of the demographics of the pairs' people, 0 = unknown.
        metadata: ids `(n, fields)` of the metadata of the pairs' images, 0 = unknown.
        image_index: `(B,)` which of N images a pair is about; `None`: pair i is about image i.
        has_prompt: `(N,)` bool, which images have a prompt; `None`: no image has.
        prompt_mask: `(B,)` bool, pairs whose prompt is used; `None`: all.
    """

    people: PairTokens
    network_rows: PairTokens
    demographics: PairTokens
    metadata: PairTokens
    image_index: Tensor | None = None
    has_prompt: Tensor | None = None
    prompt_mask: Tensor | None = None

    def with_prompts(self, image: Tensor, text: Tensor | None) -> Tensor:
        """Values of the pairs' images `(N, …)`, with what the images' prompts add, `text (N, …)`, unless masked."""
        if text is None:
            return PairTokens(image, self.image_index).pairs()
        if self.prompt_mask is None:
            return PairTokens(image + text, self.image_index).pairs()
        text = PairTokens(text, self.image_index).pairs() * self.prompt_mask.unsqueeze(-1)
        return PairTokens(image, self.image_index).pairs() + text


class Dropout(nn.Dropout):
    """[`feature_dropout`] as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` as it goes on, of the same shape."""
        return feature_dropout(x, self.p, self.training)


class PamelaFusionBlock(nn.Module):
    """Pre-norm transformer block over a pair's tokens."""

    def __init__(self, config: PamelaConfig):
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.norm1 = nn.LayerNorm(width)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)  # a bias here shifts all of a query's logits alike
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, width)
        self.dropout = Dropout(config.fusion_dropout)

    def forward(self, tokens: list[PairTokens]) -> list[PairTokens]:
        """Every token of every pair, updated."""
        x = torch.stack(torch.broadcast_tensors(*(t.pairs(self.norm1(t.distinct)) for t in tokens)), dim=1)
        q, k, v = (self._heads(proj(x)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = torch.stack(torch.broadcast_tensors(*(t.pairs() for t in tokens)), dim=1)
        x = self._finish(x, mixed)
        return [PairTokens(token) for token in x.unbind(1)]

    def read_out(self, tokens: list[PairTokens]) -> Tensor:
        """The first token alone, updated, `(B, hidden_size)`: all that the last block is asked for.

        With one query, softmax attention is a ratio of two sums over tokens, Σ exp(q·k) v / Σ exp(q·k). A term of them
        depends on its token alone while the query is the same for all pairs, so both sums are taken over distinct
        tokens first, and over those that come and go together before they are spread over the pairs.
        """
        sizes = [len(t.distinct) for t in tokens]
        normed = self.norm1(torch.cat([t.distinct for t in tokens]))
        query = self._heads(self.q_proj(normed[: sizes[0]]))
        k, v = self._heads(self.k_proj(normed)), self._heads(self.v_proj(normed))
        query = query * query.shape[-1] ** -0.5
        if len(query) == 1:
            logits = (query * k).sum(-1)
        else:  # the query differs between pairs, and by now so does everything else
            query = tokens[0].pairs(query)
            logits = torch.cat([(query * part).sum(-1) for part in k.split(sizes)])
        weight = (logits - logits.detach().amax(0)).exp().unsqueeze(-1)  # any constant will do; this is safe
        sums: dict[int, tuple[PairTokens, Tensor]] = {}
        for token, terms in zip(tokens, torch.cat([weight * v, weight], dim=-1).split(sizes)):
            key = id(token if token.index is None else token.index)
            sums[key] = (token, sums[key][1] + terms if key in sums else terms)
        both = sum(token.pairs(terms) for token, terms in sums.values())
        return self._finish(tokens[0].pairs(), (both[..., :-1] / both[..., -1:]).flatten(-2))

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        # in place: a fresh tensor for each sum is a tenth of the time
        x = self.dropout(self.out_proj(mixed)).add_(x)
        return self.dropout(self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))).add_(x)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1))


class PamelaFusion(nn.Module):
    """One member: tokens → transformer → utility, plus the multiplicative path."""

    def __init__(self, config: PamelaConfig):
        super().__init__()
        width, rank = config.hidden_size, config.interaction_rank
        self.config = config
        self.image_proj = nn.Linear(config.image_embed_dim, width)
        self.user_proj = nn.Linear(width, width)
        self.score_token = nn.Parameter(torch.zeros(1, width))
        # one table a field, in the order of the config's fields
        self.demographics = nn.ModuleList(nn.Embedding(len(v) + 1, width) for v in config.demographics.values())
        self.metadata = nn.ModuleList(nn.Embedding(len(v) + 1, width) for v in config.metadata.values())
        if config.text_embed_dim:
            self.text_proj = nn.Linear(config.text_embed_dim, width)
            self.no_prompt = nn.Parameter(torch.zeros(1, width))
        num_tokens = 3 + bool(config.text_embed_dim) + len(self.demographics) + len(self.metadata)
        self.token_type = nn.Parameter(torch.zeros(num_tokens, width))
        self.blocks = nn.ModuleList(PamelaFusionBlock(config) for _ in range(config.num_fusion_layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        if rank:
            self.interaction_user = nn.Linear(width, rank, bias=False)
            self.interaction_image = nn.Linear(config.image_embed_dim, rank, bias=False)
            if config.text_embed_dim:
                self.interaction_text = nn.Linear(config.text_embed_dim, rank, bias=False)

    def image_side(self, image: Tensor, text: Tensor | None) -> ImageSide:
        """What depends on the images `(N, D)`, or on their prompts `(N, Dt)`, alone."""
        image = feature_dropout(image, self.config.image_dropout, self.training)
        side = ImageSide(self.image_proj(image))
        if self.config.interaction_rank:
            side.factors = self.interaction_image(image)
        if text is not None:
            text = feature_dropout(text, self.config.text_dropout, self.training)
            side.text_token = self.text_proj(text)
            if self.config.interaction_rank:
                side.text_factors = self.interaction_text(text)
        return side

    def forward(self, side: ImageSide, pairs: Pairs) -> Tensor:
        """Utilities `(B,)` of pairs that are about the N images of `side`."""
        rows = pairs.network_rows
        tokens = self._tokens(side, pairs, rows)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        utility = self.head(self.norm(self.blocks[-1].read_out(tokens))).squeeze(-1)
        if self.config.interaction_rank:
            theirs = PairTokens(self.interaction_user(rows.distinct), rows.index).pairs()
            text = None if pairs.has_prompt is None else side.text_factors * pairs.has_prompt.unsqueeze(-1)
            factors = theirs * pairs.with_prompts(side.factors, text)
            utility = utility + factors.sum(-1) * (3 / math.sqrt(self.config.interaction_rank))
        return utility

    def _tokens(self, side: ImageSide, pairs: Pairs, rows: PairTokens) -> list[PairTokens]:
        device = self.score_token.device
        zero = torch.zeros(1, dtype=torch.long, device=device)
        tokens = [
            PairTokens(self.score_token, zero),
            PairTokens(side.token, pairs.image_index),
            PairTokens(self.user_proj(rows.distinct), rows.index),
        ]
        if self.config.text_embed_dim and pairs.has_prompt is None:
            tokens.append(PairTokens(self.no_prompt, zero))
        elif self.config.text_embed_dim:
            token = torch.where(pairs.has_prompt.unsqueeze(-1), side.text_token, self.no_prompt)
            if pairs.prompt_mask is None:
                tokens.append(PairTokens(token, pairs.image_index))
            else:
                which = pairs.image_index
                which = torch.arange(len(token), device=device) if which is None else which
                which = torch.where(pairs.prompt_mask, which, len(token))
                tokens.append(PairTokens(torch.cat([token, self.no_prompt]), which))
        for tables, fields in ((self.demographics, pairs.demographics), (self.metadata, pairs.metadata)):
            for table, ids in zip(tables, fields.distinct.unbind(-1)):
                by_value = fields.index is None  # then the table's few rows are the distinct tokens
                tokens.append(PairTokens(table.weight, ids) if by_value else PairTokens(table(ids), fields.index))
        for token, kind in zip(tokens, self.token_type):
            token.distinct = token.distinct + kind
        return tokens


def feature_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`F.dropout` of `x (N, D)`, on CPUs in a third of its time, which was half of a training step's.

    There a random byte decides on each number, so it is kept with a probability of `1 - p` to the nearest 256th, by
    which it is divided.
    """
    kept = min(max(round(256 * (1 - p)), 1), 255)
    if not training or not p or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.dropout(x, p, training)
    eight = torch.empty(math.ceil(x.numel() / 8), dtype=torch.int64).random_(-(2**63), None)
    mask = eight.view(torch.uint8)[: x.numel()].view_as(x).lt_(kept)  # bytes: booleans take twice as long
    return (x * mask).mul_(256 / kept)
