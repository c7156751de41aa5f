"""Members of the reward: each a shallow transformer over a pair's tokens plus a multiplicative user × image term."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_pamela import PamelaConfig


@dataclass
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
        return value if self.index is None else value[self.index]


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
        self.dropout = nn.Dropout(config.fusion_dropout)

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

    def image_side(self, image: Tensor, text: Tensor | None) -> dict[str, Tensor]:
        """All that depends on the image, or on its prompt, alone: tokens and factors, `(N, …)`."""
        image = F.dropout(image, self.config.image_dropout, self.training)
        features = {"image": image}
        if text is not None:
            features["text"] = F.dropout(text, self.config.text_dropout, self.training)
        return {
            f"{name}_{what}": getattr(self, module)(value)
            for name, value in features.items()
            for what, module in (
                ("token", f"{name}_proj"),
                ("factors", f"interaction_{name}"),
            )
            if hasattr(self, module)
        }

    def forward(
        self,
        side: dict[str, Tensor],
        image_index: Tensor | None,
        has_prompt: Tensor | None,
        prompt_mask: Tensor | None,
        rows: PairTokens,
        demographics: PairTokens,
        metadata: PairTokens,
    ) -> Tensor:
        """Utilities `(B,)`.

        `side`, `has_prompt (N,)`: of N images, of which pair i is about `image_index[i]`; `prompt_mask (B,)`: pairs
        whose prompt is used; `rows`: people's rows; `demographics`, `metadata`: ids of fields `(n, fields)`.
        """
        device = self.score_token.device
        zero = torch.zeros(1, dtype=torch.long, device=device)
        tokens = [
            PairTokens(self.score_token, zero),
            PairTokens(side["image_token"], image_index),
            PairTokens(self.user_proj(rows.distinct), rows.index),
        ]
        if self.config.text_embed_dim and has_prompt is None:
            tokens.append(PairTokens(self.no_prompt, zero))
        elif self.config.text_embed_dim:
            token = torch.where(has_prompt.unsqueeze(-1), side["text_token"], self.no_prompt)
            if prompt_mask is None:
                tokens.append(PairTokens(token, image_index))
            else:
                which = torch.arange(len(token), device=device) if image_index is None else image_index
                which = torch.where(prompt_mask, which, len(token))
                tokens.append(PairTokens(torch.cat([token, self.no_prompt]), which))
        for tables, fields in ((self.demographics, demographics), (self.metadata, metadata)):
            for table, ids in zip(tables, fields.distinct.unbind(-1)):
                by_value = fields.index is None  # then the table's few rows are the distinct tokens
                tokens.append(PairTokens(table.weight, ids) if by_value else PairTokens(table(ids), fields.index))
        for token, kind in zip(tokens, self.token_type):
            token.distinct = token.distinct + kind
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        utility = self.head(self.norm(self.blocks[-1].read_out(tokens))).squeeze(-1)

        def with_prompt(what: str) -> Tensor:
            value = side[f"image_{what}"]
            if has_prompt is None:
                return PairTokens(value, image_index).pairs()
            text = side[f"text_{what}"] * has_prompt.unsqueeze(-1)
            if prompt_mask is None:
                return PairTokens(value + text, image_index).pairs()
            value, text = PairTokens(value, image_index).pairs(), PairTokens(text, image_index).pairs()
            return value + text * prompt_mask.unsqueeze(-1)

        if self.config.interaction_rank:
            factors = PairTokens(self.interaction_user(rows.distinct), rows.index).pairs() * with_prompt("factors")
            utility = utility + factors.sum(-1) * (3 / math.sqrt(self.config.interaction_rank))
        return utility
