"""Images of prompts by any text-to-image pipeline, each with a seed of its own."""

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image


def draw(pipeline: Any, pairs: Sequence[tuple[str, int]], rendering: Mapping[str, Any]) -> list[Image.Image]:
    """Images of (prompt, seed) pairs, in one call of the pipeline.

    Args:
        pipeline: called as `pipeline(prompt=[…], generator=[…], **rendering)`; returns PIL images or arrays
            `(H, W, 3)`, as `.images` or as the first of a tuple.
        pairs: n of them.
        rendering: further arguments; of those that are texts about prompts, such as `negative_prompt`, the pipeline
            gets one for each.

    Returns:
        n RGB images; what a safety checker flagged is black.

    Raises:
        ValueError: the pipeline returns something else than an image for each prompt.
    """
    takes_type = _knows_output_type(type(pipeline)) and "output_type" not in rendering
    arguments = {**rendering, **({"output_type": "pil"} if takes_type else {})}
    # such as negative_prompt and prompt_2: pipelines want as many as prompts
    arguments |= {k: [v] * len(pairs) for k, v in arguments.items() if "prompt" in k and isinstance(v, str)}
    with rendering_alone(pipeline), _quiet(pipeline):
        out = pipeline(
            prompt=[prompt for prompt, _ in pairs],
            generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in pairs],
            **arguments,
        )
    images = out[0] if isinstance(out, tuple) else out.images
    maker = type(pipeline).__name__
    if isinstance(images, torch.Tensor) or not hasattr(images, "__len__") or len(images) != len(pairs):
        shape = tuple(images.shape) if isinstance(images, torch.Tensor) else getattr(images, "__len__", lambda: "?")()
        raise ValueError(
            f"{maker} returned {type(images).__name__} ({shape}) for {len(pairs)} prompts; an image each is needed. "
            "Use a text-to-image pipeline with output_type='pil', not one ending in latents."
        )
    flags = getattr(out, "nsfw_content_detected", None) or [False] * len(pairs)
    return [_as_image(image, maker, bool(flag)) for image, flag in zip(images, flags)]


def join_lists(parts: Sequence[list]) -> list:
    """One list of several, in order."""
    return list(chain(*parts))


def is_blank(image: Image.Image) -> bool:
    """Whether all pixels are alike, as in what a safety checker leaves: nothing to score."""
    return all(low == high for low, high in image.getextrema())


_PLACES = threading.Lock()
_turns: "WeakKeyDictionary[Any, threading.Lock]" = WeakKeyDictionary()


@contextmanager
def rendering_alone(pipeline: Any) -> Iterator[None]:
    """Lets one thread at a time render with a pipeline: its scheduler keeps the steps of a single call."""
    with _PLACES:
        turn = _turns.setdefault(pipeline, threading.Lock())
    with turn:
        yield


@contextmanager
def _quiet(pipeline: Any) -> Iterator[None]:
    """Hides the nested pipeline's bars, of which a run would draw hundreds, unless they were set up on purpose."""
    if getattr(pipeline, "_progress_bar_config", None) or not hasattr(pipeline, "set_progress_bar_config"):
        yield
        return
    pipeline.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        pipeline.set_progress_bar_config()


@cache
def _knows_output_type(pipeline: type) -> bool:
    return "output_type" in inspect.signature(pipeline.__call__).parameters


def _as_image(image: Any, maker: str, blanked: bool) -> Image.Image:
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[-1] == 3:
        if image.dtype != np.uint8:
            image = (np.nan_to_num(image).clip(0, 1) * 255).round().astype(np.uint8)
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        shape = f" of shape {tuple(image.shape)}" if hasattr(image, "shape") else ""
        raise ValueError(
            f"{maker} returned a {type(image).__name__}{shape} where an image is needed. Use a text-to-image pipeline "
            "with output_type='pil', not one that stops at latents."
        )
    # a flagged image is made black, which is how it is known again when the run is resumed
    if blanked:
        return Image.new("RGB", image.size)
    return image if image.mode == "RGB" else image.convert("RGB")
