"""From (prompt, seed) pairs to figures: renders with any text-to-image pipeline, scores for one person, measures how
much of the unoptimized prompt is still in the image. Whatever goes wrong with a single image costs that image only.
"""

import inspect
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image

from ..encoder import in_halves
from ..refiners import prompt_parts
from .run_folder import RunFolder
from .search import PromptSearch

UNRELATED_PROMPTS = (
    "a photo", "a painting", "a dog", "a cup of coffee", "a crowded street", "a mountain lake", "a woman's face",
    "an old car", "a bowl of fruit", "a tall building", "abstract shapes", "a football player", "a boat at sea",
    "a flower", "a kitchen", "the night sky",
)  # fmt: skip
"""What images are compared with, too, to see how much more they are like the prompt than like anything."""


class CandidateImages:
    """Renders and scores the candidates of one run; use it in a `with` statement. `search` is set once there is one.

    In the background, while images are rendered, their prompts are encoded and those that are done made ready for the
    encoder.

    Args:
        pipe: a `PamelaPromptPipeline`. prompt: the unoptimized one. user: whose taste. folder: of the run, or `None`.
        rendering: arguments for the nested pipeline. batch_size: prompts it renders at a time.
        reward_prompt, adherence, told: as in the pipeline's call; `told` are demographics, metadata and scale.
    """

    def __init__(
        self,
        pipe: Any,
        prompt: str,
        user: Any,
        folder: RunFolder | None,
        rendering: Mapping[str, Any],
        batch_size: int,
        reward_prompt: str,
        adherence: Callable[[Sequence[Image.Image], str], Sequence[float]] | None,
        told: Mapping[str, Any],
    ):
        self.pipe, self.scorer, self.prompt, self.user, self.folder = pipe, pipe.scorer, prompt, user, folder
        self.rendering, self.batch_size, self.reward_prompt = rendering, batch_size, reward_prompt
        self.adherence, self.told = adherence, told
        self.search: PromptSearch | None = None
        self.kept: dict[tuple[str, int], Image.Image] = {}  # without a folder: images that may yet be asked for
        self._texts: torch.Tensor | None = None
        self._features: dict[str, torch.Tensor] = {}  # of parts of prompts
        self._background = ThreadPoolExecutor(1, thread_name_prefix="pictures")

    def __enter__(self) -> "CandidateImages":
        return self

    def __exit__(self, *error: Any) -> None:
        self._background.shutdown(cancel_futures=True)

    def evaluate(self, pairs: Sequence[tuple[str, int]]) -> list[tuple[float, float, float]]:
        """Renders what is not rendered yet, then scores all of it in one forward; NaN for blanked images."""
        texts = self._background.submit(self._text_embeds, [prompt for prompt, _ in pairs])
        images, prepared = self._images(pairs)
        text_embeds = texts.result()
        if self.folder is None:
            keep = {c.prompt for c in (*self.search.candidates[:1], self.search.best)} if self.search.candidates else ()
            self.kept = {pair: image for pair, image in self.kept.items() if pair[0] in keep}
            self.kept.update(zip(pairs, images))
        usable = [k for k, pixels in enumerate(prepared) if pixels is not None]

        def score(part: list[int]) -> list[tuple[float, float, float]]:
            embeds = self.scorer.encoder.encode_prepared([prepared[k] for k in part])
            return self._score(embeds, [images[k] for k in part], None if text_embeds is None else text_embeds[part])

        figures = in_halves(score, usable, join_lists) if usable else []
        out = [(math.nan, math.nan, math.nan)] * len(pairs)
        for k, values in zip(usable, figures):
            out[k] = values
        return out

    def _images(self, pairs: Sequence[tuple[str, int]]) -> tuple[list[Image.Image], list[dict | None]]:
        """Images and their pixels as the encoder takes them; `None` for a blank one."""
        images: dict[tuple[str, int], Image.Image] = {}
        if self.folder is not None:
            found = {pair: self.folder.load_image(*pair) for pair in pairs}
            images = {pair: image for pair, image in found.items() if image is not None}
        waiting = {pair: self._background.submit(self._prepare, image) for pair, image in images.items()}
        missing = [pair for pair in pairs if pair not in images]
        for start in range(0, len(missing), self.batch_size):
            part, began = missing[start : start + self.batch_size], time.perf_counter()
            rendered = in_halves(self._render, part, join_lists)
            seconds = (time.perf_counter() - began) / len(part)
            for pair, image in zip(part, rendered):
                images[pair] = image
                waiting[pair] = self._background.submit(self._prepare, image)
                if self.folder is not None:
                    self.folder.save_image(image, *pair, render_seconds=seconds)
        return [images[pair] for pair in pairs], [waiting[pair].result() for pair in pairs]

    def _prepare(self, image: Image.Image) -> dict[str, torch.Tensor] | None:
        return None if _is_blank(image) else self.scorer.encoder.prepare_images([image])

    def _render(self, pairs: Sequence[tuple[str, int]]) -> list[Image.Image]:
        pipeline = self.pipe.pipeline
        arguments = {**self.rendering, **({"output_type": "pil"} if _knows_output_type(type(pipeline)) else {})}
        # such as negative_prompt and prompt_2: pipelines want as many as prompts
        arguments |= {k: [v] * len(pairs) for k, v in arguments.items() if "prompt" in k and isinstance(v, str)}
        with rendering_alone(pipeline), _quiet(pipeline):
            out = pipeline(
                prompt=[prompt for prompt, _ in pairs],
                generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in pairs],
                **arguments,
            )
        images = out[0] if isinstance(out, tuple) else out.images
        if isinstance(images, torch.Tensor) or not hasattr(images, "__len__") or len(images) != len(pairs):
            shape = (
                tuple(images.shape) if isinstance(images, torch.Tensor) else getattr(images, "__len__", lambda: "?")()
            )
            raise ValueError(
                f"{type(pipeline).__name__} returned {type(images).__name__} ({shape}) for {len(pairs)} prompts; an "
                "image each is needed. Use a text-to-image pipeline with output_type='pil', not one ending in latents."
            )
        flags = getattr(out, "nsfw_content_detected", None) or [False] * len(pairs)
        return [_as_image(image, type(pipeline).__name__, bool(flag)) for image, flag in zip(images, flags)]

    def _score(
        self, embeds: torch.Tensor, images: list[Image.Image], text_embeds: torch.Tensor | None
    ) -> list[tuple[float, float, float]]:
        scores, std = self.scorer.score(
            image_embeds=embeds, text_embeds=text_embeds, user=self.user, batch_size=len(images), **self.told
        )
        if self.adherence is not None:
            adherence = one_each("adherence", self.adherence(images, self.prompt), len(images))
        else:
            adherence = encoder_adherence(embeds, self._texts).tolist()
        return [(float(s), float(d), float(a)) for s, d, a in zip(scores, std, adherence)]

    def _text_embeds(self, prompts: Sequence[str]) -> torch.Tensor | None:
        """What the reward is told of the prompts, `(n, text_embed_dim)`; each distinct one is encoded once."""
        if self._texts is None and self.adherence is None:
            self._texts = self.scorer.encoder.encode_prompts([self.prompt, *UNRELATED_PROMPTS])
        if self.reward_prompt == "none" or not self.pipe.reward_model.config.text_embed_dim:
            return None
        told = prompts if self.reward_prompt == "candidate" else [self.prompt] * len(prompts)
        found = self._encode_all(list(dict.fromkeys(told)))
        return torch.stack([found[prompt] for prompt in told])

    def _encode_all(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        parts = [texts[start : start + 64] for start in range(0, len(texts), 64)]
        return {text: value for part in parts for text, value in zip(part, self.scorer.encoder.encode_prompts(part))}

    def text_features(self, prompts: Sequence[str]) -> np.ndarray:
        """`(n, D)`: for each prompt the sum of the encoder's features, of length 1, of its comma-separated parts.

        Variants share most of their parts, so few texts are encoded, and two prompts are as far apart as the parts in
        which they differ.
        """
        parts = [prompt_parts(prompt) or [prompt] for prompt in prompts]
        new = [part for part in dict.fromkeys(chain(*parts)) if part not in self._features]
        found = self._encode_all(new)
        self._features.update({part: F.normalize(value, dim=-1).cpu() for part, value in found.items()})
        column = {part: k for k, part in enumerate(self._features)}
        counts = torch.zeros(len(prompts), len(column))
        for row, of in zip(counts, parts):
            row[[column[part] for part in of]] = 1.0
        return (counts @ torch.stack(list(self._features.values()))).numpy()

    def images_of(self, prompt: str) -> list[Image.Image]:
        """The images of a prompt at every seed: the unoptimized one or the winner."""
        pairs = [(prompt, seed) for seed in self.search.config.seeds]
        return [self.folder.load_image(*pair) if self.folder is not None else self.kept[pair] for pair in pairs]


def encoder_adherence(image_embeds: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
    """How much more images are like a prompt than like anything: `(B,)`, cosines, higher = more.

    Cosine similarity of each image `(B, D)` and the prompt `text_embeds[0]`, less its mean similarity to the other,
    unrelated texts: 0 means that the image has no more to do with the prompt than with them, whatever the encoder's
    similarities are like (SigLIP's lie around .1, CLIP's around .3), so that a share of it can be asked for.
    """
    cosine = F.normalize(image_embeds.float(), dim=-1) @ F.normalize(text_embeds.float(), dim=-1).T.to(
        image_embeds.device
    )
    return cosine[:, 0] - cosine[:, 1:].mean(-1)


def one_each(name: str, answer: Any, n: int) -> list[float]:
    """What a function that was handed in says of n images, as n floats. Raises ValueError for anything else."""
    try:
        scores = np.asarray(answer, float)
    except (TypeError, ValueError):
        scores = np.array(math.nan)
    if scores.shape not in ((n,), (n, 1)):
        raise ValueError(f"{name}= gave {str(answer)[:80]} for {n} images; one number for each is needed.")
    return scores.ravel().tolist()


_PLACES = threading.Lock()
_turns: "WeakKeyDictionary[DiffusionPipeline, threading.Lock]" = WeakKeyDictionary()


@contextmanager
def rendering_alone(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Lets one thread at a time render with a pipeline: its scheduler keeps the steps of a single call."""
    with _PLACES:
        turn = _turns.setdefault(pipeline, threading.Lock())
    with turn:
        yield


@contextmanager
def _quiet(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Hides the nested pipeline's bars, of which a run would draw hundreds, unless they were set up on purpose."""
    if getattr(pipeline, "_progress_bar_config", None):
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


def join_lists(parts: Sequence[list]) -> list:
    """One list of several, in order."""
    return list(chain(*parts))


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


def _is_blank(image: Image.Image) -> bool:
    """Whether all pixels are alike, as in what a safety checker leaves: nothing to score."""
    return all(low == high for low, high in image.getextrema())
