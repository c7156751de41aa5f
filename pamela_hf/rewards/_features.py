"""Images and prompts through the reward's own encoder, and the forms in which frameworks hand images over."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..model.modeling_pamela import encode_images, encode_prompts
from ..model.processing_pamela import tokenize_prompts
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


def prepare_picture(scorer: PamelaScorer, picture: Image.Image) -> dict[str, Tensor]:
    """A picture's pixels, `(1, …)`, as the encoder takes them."""
    return dict(scorer.processor.image_processor(picture, return_tensors="pt"))


@torch.inference_mode()
def encode_prepared(scorer: PamelaScorer, prepared: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Features `(B, image_embed_dim)` of pictures ([`prepare_picture`]), in one forward."""
    backbone = scorer.model.load_backbone()
    inputs = {name: torch.cat([pixels[name] for pixels in prepared]) for name in prepared[0]}
    return encode_images(backbone, **_to(inputs, backbone)).float()


@torch.inference_mode()
def encode_texts(scorer: PamelaScorer, texts: Sequence[str]) -> Tensor:
    """Features `(B, text_embed_dim)` of texts."""
    backbone, config = scorer.model.load_backbone(), scorer.processor.encoder_config
    text_config = getattr(config, "text_config", config)
    tokens = tokenize_prompts(scorer.processor.tokenizer, texts, text_config, config.model_type)
    return encode_prompts(backbone, **_to(tokens, backbone)).float()


def _to(inputs: Mapping[str, Tensor], backbone: torch.nn.Module) -> dict[str, Tensor]:
    like = next(backbone.parameters())
    return {k: v.to(like.device, like.dtype if v.is_floating_point() else v.dtype) for k, v in inputs.items()}


def encode_distinct(scorer: PamelaScorer, texts: Sequence[str | None]) -> Tensor:
    """Features `(N, text_embed_dim)` of texts, zeros for a missing one; each distinct text is encoded once."""
    distinct = list(dict.fromkeys(text for text in texts if text))
    width = scorer.config.text_embed_dim or 1
    found = encode_texts(scorer, distinct) if distinct else torch.zeros(0, width, device=scorer.model.device)
    rows = torch.cat([found, found.new_zeros(1, found.shape[1])])
    at = {text: i for i, text in enumerate(distinct)}
    return rows[[at.get(text, len(distinct)) for text in texts]]
