"""The forms in which frameworks hand images over, and the features of prompts that repeat."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..scoring import PamelaScorer, open_image


def split_batch(images: Any) -> list[Any]:
    """A batch as a list of pictures; a list stays one, and a single picture is a list of one.

    Args:
        images: a list, or an array or tensor `(N, …)` of four dimensions.
    """
    if isinstance(images, (torch.Tensor, np.ndarray)):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, Image.Image) or not isinstance(images, Sequence) or isinstance(images, (str, bytes)):
        return [images]
    return list(images)


def open_picture(picture: Any) -> Image.Image:
    """What [`open_image`] takes, and the arrays of RL: `(3, H, W)` or `(H, W, 3)`, float 0–1 or uint8.

    Raises:
        ValueError: any other form, or a float outside 0–1.
    """
    if not isinstance(picture, (torch.Tensor, np.ndarray)):
        return open_image(picture)
    array = picture.detach().cpu() if isinstance(picture, torch.Tensor) else picture
    array = np.asarray(array.float() if isinstance(array, torch.Tensor) and array.is_floating_point() else array)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        if array.shape[2] in (1, 3, 4):
            raise ValueError(f"An image array of shape {array.shape} may be (C, H, W) or (H, W, C). Give a PIL image.")
        array = array.transpose(1, 2, 0)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < -1e-4 or array.max() > 1 + 1e-4:
            raise ValueError(f"A float image has values {array.min():g}..{array.max():g}; expected 0..1, finite.")
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)
    return open_image(np.ascontiguousarray(array))


def encode_distinct(scorer: PamelaScorer, texts: Sequence[str | None]) -> Tensor:
    """Features `(N, text_embed_dim)` of texts, zeros for a missing one; each distinct text is encoded once."""
    distinct = list(dict.fromkeys(text for text in texts if text))
    width = scorer.config.text_embed_dim or 1
    found = scorer.encoder.encode_prompts(distinct) if distinct else torch.zeros(0, width, device=scorer.model.device)
    rows = torch.cat([found, found.new_zeros(1, found.shape[1])])
    at = {text: i for i, text in enumerate(distinct)}
    return rows[[at.get(text, len(distinct)) for text in texts]]
