"""The k best of n images for one person: `best_of(pipeline, prompt, "runs/demo/model", user="p0001")`."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..encoder import in_halves
from ..rewards._drawing import draw, is_blank, join_lists
from ..scoring import Head, PamelaScorer


@dataclass
class BestOf:
    """The chosen images, best first.

    Attributes:
        images: k PIL images.
        seeds: `(k,)` what each was drawn with: `torch.Generator("cpu").manual_seed(seed)`.
        scores: `(k,)` predicted ratings.
        std: `(k,)` how uncertain each predicted rating is, in rating units.
        diversity: mean cosine distance of the chosen images' features, pair by pair, 0..2; NaN for one image.
        all_scores: `(n,)` of every seed, in their order; NaN for an image that was blanked by a safety checker.
    """

    images: list[Image.Image]
    seeds: list[int]
    scores: np.ndarray
    std: np.ndarray
    diversity: float
    all_scores: np.ndarray


def best_of(
    pipeline: Callable[..., Any],
    prompt: str,
    reward: PamelaScorer | str | os.PathLike,
    user: str | Head | None = None,
    *,
    n: int = 16,
    k: int = 4,
    seed: int = 0,
    diversity: float = 0.0,
    batch_size: int = 4,
    scale: str | None = None,
    **rendering: Any,
) -> BestOf:
    """Draws a prompt with n seeds and returns the k images that a person is predicted to like best.

    Args:
        pipeline: called as `pipeline(prompt=[…], generator=[…], **rendering)`; returns PIL images as `.images`. Any
            text-to-image pipeline of diffusers does.
        prompt: what to draw.
        reward: a scorer, or the folder or Hub id of a trained model.
        user: a participant or a head; default: everyone's taste.
        n: images to draw; default: 16.
        k: images to return, at most n; default: 4.
        seed: of the first image; image i has seed + i.
        diversity: rating units that an image loses for a cosine similarity of 1 to one that is chosen already: 0 = the
            k best, however alike; 1 = rather one that is somewhat worse than another view of the same.
        batch_size: images drawn at a time; fewer where memory runs out.
        scale: rating scale of the scores; default: the model's.
        rendering: further arguments of the pipeline, such as `num_inference_steps`.

    Raises:
        ValueError: n, k, batch_size or diversity out of range, an unknown user, no usable image at all.
    """
    for name, value in {"n": n, "k": k, "batch_size": batch_size}.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name}={value!r} must be a whole number of at least 1.")
    if k > n:
        raise ValueError(f"k={k} images cannot be chosen of n={n}; draw more, or ask for fewer.")
    if not isinstance(diversity, Real) or not 0 <= diversity < float("inf"):
        raise ValueError(f"diversity={diversity!r} must be a number of at least 0; 0 = off.")
    scorer = reward if isinstance(reward, PamelaScorer) else PamelaScorer.from_pretrained(reward)
    scorer.encode_people(1, user)  # a wrong name fails before anything is drawn
    seeds = [seed + i for i in range(n)]
    images: list[Image.Image] = []
    for start in range(0, n, batch_size):
        pairs = [(prompt, one) for one in seeds[start : start + batch_size]]
        images += in_halves(lambda part: draw(pipeline, part, rendering), pairs, join_lists)
    usable = [i for i, image in enumerate(images) if not is_blank(image)]
    if not usable:
        raise ValueError(f"All {n} images of {prompt[:80]!r} are blank: a safety checker may have blanked them.")
    encode = scorer.encoder.encode_images
    features = torch.cat([encode([images[i] for i in usable[at : at + 32]]) for at in range(0, len(usable), 32)])
    text = scorer.encoder.encode_prompts([prompt]) if scorer.config.text_embed_dim else None
    texts = text.expand(len(usable), -1) if text is not None else None
    scores, std = scorer.score(image_embeds=features, text_embeds=texts, user=user, scale=scale)
    similar = F.normalize(features.float(), dim=-1)
    similar = (similar @ similar.T).cpu().numpy()
    chosen = choose_diverse(scores, similar, min(k, len(usable)), diversity)
    pairs = similar[np.ix_(chosen, chosen)][np.triu_indices(len(chosen), 1)]
    all_scores = np.full(n, np.nan)
    all_scores[usable] = scores
    return BestOf(
        images=[images[usable[i]] for i in chosen],
        seeds=[seeds[usable[i]] for i in chosen],
        scores=scores[chosen],
        std=std[chosen],
        diversity=float(np.mean(1 - pairs)) if len(pairs) else float("nan"),
        all_scores=all_scores,
    )


def choose_diverse(scores: np.ndarray, similar: np.ndarray, k: int, diversity: float) -> list[int]:
    """Indices of k images, each the best given those before it; then best first.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): score less `diversity` times the highest
    similarity to an image that is chosen already.

    Args:
        scores: `(n,)` score of each image.
        similar: `(n, n)` cosine similarities of the images.
        k: how many images to choose, at most n.
        diversity: what an image's score loses for a similarity of 1 to one that is chosen already.
    """
    chosen = [int(np.argmax(scores))]
    while len(chosen) < k:
        worth = scores - diversity * similar[:, chosen].max(1)
        worth[chosen] = -np.inf
        chosen.append(int(np.argmax(worth)))
    return sorted(chosen, key=lambda i: -scores[i])
