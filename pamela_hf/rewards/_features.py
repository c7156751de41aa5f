"""Features of prompts that repeat: a group of samples has one prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..scoring import PamelaScorer


def encode_distinct(scorer: PamelaScorer, texts: Sequence[str | None]) -> Tensor:
    """Features `(N, text_embed_dim)` of texts, zeros for a missing one; each distinct text is encoded once."""
    distinct = list(dict.fromkeys(text for text in texts if text))
    if not distinct:
        return torch.zeros(len(texts), scorer.config.text_embed_dim or 1, device=scorer.model.device)
    found = scorer.encoder.encode_prompts(distinct)
    rows = torch.cat([found, found.new_zeros(1, found.shape[1])])
    at = {text: i for i, text in enumerate(distinct)}
    return rows[[at.get(text, len(distinct)) for text in texts]]
