"""From (prompt, seed) pairs to figures: renders with any text-to-image pipeline, scores for one person, measures how
much of the unoptimized prompt is still in the image. Whatever goes wrong with a single image costs that image only.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..encoder import in_halves
from ..refiners import prompt_parts
from ..rewards import UNRELATED_PROMPTS, encoder_adherence
from ..rewards._drawing import draw, is_blank, join_lists
from ..scoring import PamelaScorer, ScoreResult
from .run_folder import RunFolder
from .search import PromptSearch


@dataclass(frozen=True)
class Request:
    """What the reward is asked about each image of a run.

    Attributes:
        prompt: the unoptimized one.
        user: whose taste: a participant's name, a head, or `None` = everyone's.
        reward_prompt: the text that goes with an image: its own ("candidate"), the unoptimized one ("original"), or
            "none".
        demographics: of the person.
        metadata: of the images.
        scale: rating scale of the scores; `None` = the model's default.
        adherence: `(images, prompt) → scores`, or `None` = the reward's own encoder.
    """

    prompt: str
    user: Any = None
    reward_prompt: str = "candidate"
    demographics: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    scale: str | None = None
    adherence: Callable[[Sequence[Image.Image], str], Sequence[float]] | None = None

    def texts(self, prompts: Sequence[str]) -> list[str] | None:
        """What images made from `prompts` are scored with."""
        if self.reward_prompt == "none":
            return None
        return list(prompts) if self.reward_prompt == "candidate" else [self.prompt] * len(prompts)

    def score(self, scorer: PamelaScorer, **images: Any) -> ScoreResult:
        """Scores of `images` (arguments of [`PamelaScorer.score`]) for this request's user."""
        return scorer.score(
            user=self.user, demographics=self.demographics, metadata=self.metadata, scale=self.scale, **images
        )


class CandidateImages:
    """Renders and scores the candidates of one run; use it in a `with` statement. `search` is set once there is one.

    In the background, while images are rendered, their prompts are encoded and those that are done made ready for the
    encoder.

    Args:
        pipe: a `PamelaPromptPipeline`.
        request: what is asked about the images.
        folder: of the run; `None`: images are kept in memory as long as they may be asked for.
        rendering: arguments for the nested pipeline.
        batch_size: prompts it renders at a time.
    """

    def __init__(
        self,
        pipe: Any,
        request: Request,
        folder: RunFolder | None = None,
        rendering: Mapping[str, Any] | None = None,
        batch_size: int = 1,
    ):
        self.pipe, self.scorer, self.request, self.folder = pipe, pipe.scorer, request, folder
        self.rendering, self.batch_size = dict(rendering or {}), batch_size
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
        return None if is_blank(image) else self.scorer.encoder.prepare_images([image])

    def _render(self, pairs: Sequence[tuple[str, int]]) -> list[Image.Image]:
        return draw(self.pipe.pipeline, pairs, self.rendering)

    def _score(
        self, embeds: torch.Tensor, images: list[Image.Image], text_embeds: torch.Tensor | None
    ) -> list[tuple[float, float, float]]:
        scores, std = self.request.score(
            self.scorer, image_embeds=embeds, text_embeds=text_embeds, batch_size=len(images)
        )
        if self.request.adherence is not None:
            answer = self.request.adherence(images, self.request.prompt)
            adherence = one_each("adherence", answer, len(images))
        else:
            adherence = encoder_adherence(embeds, self._texts[:1], self._texts[1:]).tolist()
        return [(float(s), float(d), float(a)) for s, d, a in zip(scores, std, adherence)]

    def _text_embeds(self, prompts: Sequence[str]) -> torch.Tensor | None:
        """Features `(n, text_embed_dim)` of the text that goes with each image; each distinct one is encoded once."""
        if self._texts is None and self.request.adherence is None:
            self._texts = self.scorer.encoder.encode_prompts([self.request.prompt, *UNRELATED_PROMPTS])
        texts = self.request.texts(prompts)
        if texts is None or not self.pipe.reward_model.config.text_embed_dim:
            return None
        found = self._encode_all(list(dict.fromkeys(texts)))
        return torch.stack([found[text] for text in texts])

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


def one_each(name: str, answer: Any, n: int) -> list[float]:
    """What a function that was handed in says of n images, as n floats. Raises ValueError for anything else."""
    try:
        scores = np.asarray(answer, float)
    except (TypeError, ValueError):
        scores = np.array(math.nan)
    if scores.shape not in ((n,), (n, 1)):
        raise ValueError(f"{name}= gave {str(answer)[:80]} for {n} images; one number for each is needed.")
    return scores.ravel().tolist()
