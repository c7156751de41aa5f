"""Pictures as NumPy arrays or torch tensors → PIL images. PyTorch is never imported: a tensor brings its own methods.

An image is `(H, W)` grey, `(H, W, C)` or `(C, H, W)`, C = 1 grey, 2 grey with alpha (channels last only), 3 RGB or 4
RGB with alpha; a batch has one dimension more in front: `(B, H, W, C)` as ComfyUI's, `(N, C, H, W)` as RL's. Values are
uint8 0–255, uint16 0–65,535 (the upper 8 bits count), bool, or any float (half and bfloat16 included) 0–1.
"""

from typing import Any

import numpy as np
from PIL import Image

_SLACK = 1e-3
"""How far beyond 0–1 a float may lie by rounding: a quarter of a grey level."""


class ArrayError(ValueError):
    """An array that is not a picture: the message says what was seen and what is allowed."""


def is_array(image: Any) -> bool:
    """Whether this is a NumPy array or torch tensor of two dimensions or more; a column of paths is not."""
    return hasattr(image, "dtype") and getattr(image, "ndim", 0) >= 2 and not hasattr(image, "columns")


def images_of_array(array: Any) -> list[Any]:
    """The single pictures of an array: itself, or its parts along the first dimension where it has four."""
    if array.ndim < 4:
        return [array]
    if array.ndim == 4 and len(array):
        return list(array)
    raise ArrayError(_unusable(array))


def image_of_array(array: Any) -> Image.Image:
    """The RGB image that an array shows; grey becomes RGB, alpha is laid on white.

    Raises:
        ArrayError: a shape that is not an image's or that can be read both ways (3 × N × 3), a type of number that does
            not say its range, a float outside 0–1 or not finite, a batch of several.
    """
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim not in (2, 3) or 0 in tuple(array.shape):
        raise ArrayError(_unusable(array))
    pixels = _levels(_numpy(array), array)
    if pixels.ndim == 3:
        pixels = _channels_last(pixels)
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if image.mode in ("LA", "RGBA"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")


def _unusable(array: Any) -> str:
    return (
        f"An image array has shape {tuple(array.shape)} and dtype {array.dtype}; expected (H, W), (H, W, C) or (C, H, "
        "W) with C = 1, 3 or 4, or a batch of them, not empty."
    )


def _numpy(array: Any) -> np.ndarray:
    if isinstance(array, np.ndarray) or not hasattr(array, "detach"):
        return np.asarray(array)
    tensor = array.detach().cpu()
    return np.asarray(tensor.float() if tensor.is_floating_point() else tensor)  # NumPy has no bfloat16


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    shape = pixels.shape
    last, first = shape[2] in (1, 2, 3, 4), shape[0] in (1, 3, 4)
    if last and first:
        raise ArrayError(
            f"An image array of shape {shape} can be read as channels first and as channels last. Say which by "
            "passing PIL.Image.fromarray(array), array being (H, W, C) uint8."
        )
    if not last and not first:
        raise ArrayError(
            f"An image array has shape {shape}; expected (H, W, C) or (C, H, W) with C = 1, 3 or 4. Give a batch of "
            "grey images as (B, H, W, 1)."
        )
    return pixels if last else pixels.transpose(1, 2, 0)


def _levels(pixels: np.ndarray, array: Any) -> np.ndarray:
    """The pixels as uint8."""
    kind = pixels.dtype
    if kind == np.uint8:
        return pixels
    if kind == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    if kind == np.bool_:
        return pixels.astype(np.uint8) * 255
    if kind.kind != "f":
        raise ArrayError(
            f"An image array has shape {tuple(array.shape)} and dtype {array.dtype}; expected uint8 (0 to 255) or "
            "floats (0 to 1). Convert it: array.astype('uint8')."
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (-_SLACK <= low and high <= 1 + _SLACK):  # NaN compares false
        raise ArrayError(
            f"An image array of dtype {array.dtype} has values from {low:g} to {high:g}; floats go from 0 to 1. Scale "
            "it, or pass uint8 0 to 255."
        )
    return np.rint(pixels.clip(0, 1).astype(np.float64) * 255).astype(np.uint8)
