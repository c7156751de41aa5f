"""The encoder's image preprocessing as a differentiable function of tensors: gradients of a score reach the pixels."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_MODES = {2: "bilinear", 3: "bicubic"}  # PIL's numbers


def preprocess_pixels(image_processor: Any, pixels: Tensor) -> dict[str, Tensor]:
    """What an encoder takes of images, from tensors: resize, crop, normalize (and patches, for SigLIP2 NaFlex) as its
    image processor does with PIL images, but without rounding to 8 bits after the resize.

    Args:
        image_processor: the encoder's own.
        pixels: `(N, 3, H, W)` floats in 0..1, RGB, upright.

    Returns:
        `pixel_values (N, 3, height, width)`; of NaFlex `pixel_values (N, P, 3 · patch_size²)`,
        `pixel_attention_mask (N, P)` and `spatial_shapes (N, 2)`. On the device of `pixels`.

    Raises:
        ValueError: another shape or type, values outside 0..1, settings that have no counterpart for tensors.
    """
    if not isinstance(pixels, Tensor) or pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        seen = f"{pixels.dtype} {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else type(pixels).__name__
        raise ValueError(f"pixels is {seen}; expected a float tensor (N, 3, H, W) with values in 0..1.")
    low, high = pixels.detach().aminmax()
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise ValueError(f"pixels has values from {low:g} to {high:g}; expected 0..1. Scale or clamp them.")
    settings, x = image_processor, pixels.float()
    patch_size = getattr(settings, "patch_size", None) if hasattr(settings, "max_num_patches") else None
    if settings.do_resize:
        x = _resize(x, _target_size(settings, x.shape[-2], x.shape[-1], patch_size), int(settings.resample))
    if getattr(settings, "do_center_crop", False):
        x = _center_crop(x, settings.crop_size["height"], settings.crop_size["width"])
    if settings.do_normalize:
        mean, std = (torch.as_tensor(value).to(x).view(-1, 1, 1) for value in (settings.image_mean, settings.image_std))
        x = (x - mean) / std
    return {"pixel_values": x} if patch_size is None else _patches(x, patch_size, settings.max_num_patches)


def _target_size(settings: Any, height: int, width: int, patch_size: int | None) -> tuple[int, int]:
    if patch_size is not None:
        # takes a while to import, and few need it
        from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

        return get_image_size_for_max_num_patches(height, width, patch_size, settings.max_num_patches)
    size = dict(settings.size)
    if size.get("height") and size.get("width"):
        return size["height"], size["width"]
    if not (shortest := size.get("shortest_edge")) or size.get("longest_edge"):
        raise ValueError(f"The encoder's image processor resizes to {size}, which preprocess_tensor does not know.")
    short, long = min(height, width), max(height, width)
    other = int(shortest * long / short)
    return (shortest, other) if height <= width else (other, shortest)


def _resize(x: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    if resample not in _MODES:
        raise ValueError(f"The encoder's image processor resamples by PIL's method {resample}; known: {_MODES}.")
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    # with antialias the filters are Pillow's
    return F.interpolate(x, size, mode=_MODES[resample], antialias=True, align_corners=False).clamp(0, 1)


def _center_crop(x: Tensor, height: int, width: int) -> Tensor:
    missing = max(height - x.shape[-2], 0), max(width - x.shape[-1], 0)
    if any(missing):
        raise ValueError(f"Images of {tuple(x.shape[-2:])} pixels are smaller than the crop ({height}, {width}).")
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def _patches(x: Tensor, patch_size: int, most: int) -> dict[str, Tensor]:
    n, _, height, width = x.shape
    rows, columns = height // patch_size, width // patch_size
    x = x.reshape(n, -1, rows, patch_size, columns, patch_size).permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, -1)
    mask = torch.ones(n, rows * columns, dtype=torch.int32, device=x.device)
    beyond = most - rows * columns
    return {
        "pixel_values": F.pad(x, (0, 0, 0, beyond)),
        "pixel_attention_mask": F.pad(mask, (0, beyond)),
        "spatial_shapes": torch.tensor([[rows, columns]], device=x.device).expand(n, -1),
    }
