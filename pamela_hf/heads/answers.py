"""A person's answers, checked: ratings, likes and choices of images given in whatever form."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from ..embeddings import Embeddings, check_encoder
from ..files.csv import open_table
from ..files.images import open_image
from ..model.losses import CUTPOINT_PAD
from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import is_missing
from ..scoring import PamelaScorer, encode_ratings
from .fitting import Answers, linearize
from .folder import HeadError


@dataclass
class PersonAnswers:
    """Checked answers about N images.

    Attributes:
        keys: N distinct images, by name or by content.
        positions: where each of them occurs first in what was given.
        image_embeds: `(N, D)` features of the images.
        text_embeds: `(N, Dt)` features of their prompts, a row of zeros = no prompt; or `None`.
        metadata: N dicts, one an image.
        rated: the image of each rating, as its index in `keys`.
        scores: the score of each rating.
        liked: the image of each like, as its index in `keys`.
        likes: the verdict of each like.
        pairs: `(n, 2)` the images of each choice, as their indices in `keys`.
        rating_range: see [`pamela_hf.heads.head.UserHead.fit`].
        scale_id: which rating scale of the model counts.
        level_values: the levels of that scale.
        cutpoints: the cutpoints of that scale, one fewer than its levels.
        style: `(2, H)` of the model.
        even: see [`even_variances`].
        notes: what was odd, in words.
    """

    keys: list[str]
    positions: list[int]
    image_embeds: np.ndarray
    text_embeds: np.ndarray | None
    metadata: list[Mapping[str, Any]]
    rated: np.ndarray
    scores: np.ndarray
    liked: np.ndarray
    likes: np.ndarray
    pairs: np.ndarray
    rating_range: tuple[float, float] | str | None
    scale_id: int
    level_values: np.ndarray
    cutpoints: np.ndarray
    style: np.ndarray
    even: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    _levels: np.ndarray | None = None

    def counts(self) -> dict[str, int]:
        return {
            "ratings": len(self.rated),
            "likes": len(self.liked),
            "choices": len(self.pairs),
            "images": len(self.keys),
        }

    def utilities(
        self, scorer: PamelaScorer, demographics: Mapping[str, Any] | None
    ) -> Callable[[np.ndarray], np.ndarray]:
        """The base's utilities of these images as a function of rows: `(R, H)` → `(N, R)`."""
        people = scorer.processor.field_ids("demographics", demographics, 1)
        return partial(scorer.utilities, **self.inputs(scorer), demographic_ids=people)

    def inputs(self, scorer: PamelaScorer) -> dict[str, Any]:
        """Features and metadata ids of the images, as [`PamelaScorer.utilities`] takes them."""
        return {
            "image_embeds": self.image_embeds,
            "text_embeds": self.text_embeds,
            "metadata_ids": scorer.processor.field_ids("metadata", self.metadata, len(self.keys)),
        }

    def answers(self, utility: np.ndarray, slope: np.ndarray) -> Answers:
        """The answers for fitting; `utility (N,)`, `slope (N, H)` from [`pamela_hf.heads.fitting.linearize`]."""
        cutpoints = self.cutpoints
        if self._levels is None:
            self._levels = self._to_levels(utility)
        # a like says which side of the scale's middle an image is on
        like = np.concatenate([[np.median(cutpoints)], CUTPOINT_PAD * np.arange(1, len(cutpoints))])
        return Answers(
            utility,
            slope,
            self.style,
            np.concatenate([self.rated, self.liked]).astype(np.int64),
            np.concatenate([self._levels, self.likes]).astype(np.int64),
            np.concatenate([np.tile(cutpoints, (len(self.rated), 1)), np.tile(like, (len(self.liked), 1))]),
            np.concatenate([np.zeros(len(self.rated)), np.ones(len(self.liked))]),
            self.pairs,
            self.even,
        )

    def _to_levels(self, utility: np.ndarray) -> np.ndarray:
        top = len(self.level_values) - 1
        if self.rating_range is None:
            # the nearest level; of two, the upper, as with a range
            return top - np.abs(self.scores[:, None] - self.level_values[::-1]).argmin(1)
        if self.rating_range == "rank":
            # the share of lower ratings finds the level that everyone gives these images as seldom or as often
            below = 1 / (1 + np.exp(utility[self.rated][:, None] - self.cutpoints))
            share = (rankdata(self.scores) - 0.5) / len(self.scores) if len(self.scores) else self.scores
            return np.searchsorted(below.mean(0), share) if len(self.scores) else np.zeros(0, np.int64)
        low, high = self.rating_range
        return np.floor((self.scores - low) / (high - low) * top + 0.5).clip(0, top)


def collect(
    scorer: PamelaScorer,
    ratings: Any,
    likes: Any,
    choices: Iterable[tuple[Any, Any]],
    *,
    rating_range: tuple[float, float] | str | None = None,
    scale: str | None = None,
    embeddings: Embeddings | None = None,
    prompts: Mapping[Any, str] | None = None,
    metadata: Mapping[Any, Mapping[str, Any]] | None = None,
    batch_size: int = 32,
    only_images: bool = False,
) -> PersonAnswers:
    """Checks answers and finds the features of their images; the arguments are those of `UserHead.fit`."""
    if hasattr(ratings, "columns"):
        ratings, table_prompts, table_metadata = _from_table(ratings, scorer.config.metadata, embeddings is not None)
        prompts, metadata = {**table_prompts, **(prompts or {})}, {**table_metadata, **(metadata or {})}
    rated, liked, chosen = _pairs("ratings", ratings), _pairs("likes", likes), _pairs("choices", choices)
    if not only_images:
        liked = [*liked, *((i, s) for i, s in rated if isinstance(s, (bool, np.bool_)))]
        rated = [(i, s) for i, s in rated if not isinstance(s, (bool, np.bool_))]
    if not rated and not liked and not chosen:
        raise HeadError("Nothing was rated. Give a rating, like or choice; before that, score with user=None.")
    images: dict[str, Any] = {}
    positions: list[int] = []

    def index(image: Any, position: int) -> int:
        key = key_of(image, embeddings is not None)
        if key not in images:
            images[key] = image
            positions.append(position)
        return list_of_keys.setdefault(key, len(list_of_keys))

    list_of_keys: dict[str, int] = {}
    rated_at = np.array([index(image, i) for i, (image, _) in enumerate(rated)], np.int64)
    liked_at = np.array([index(image, i) for i, (image, _) in enumerate(liked)], np.int64)
    pairs = np.array([[index(image, i) for image in pair] for i, pair in enumerate(chosen)], np.int64).reshape(-1, 2)
    scale_id = scorer.processor.scale_id(scale)
    name = list(scorer.config.rating_scales)[scale_id]
    levels = np.asarray(scorer.config.rating_scales[name])
    notes: list[str] = []
    scores = np.zeros(0) if only_images else _scores(rated, rating_range, levels, name)
    verdicts = np.array([_verdict(image, v) for image, v in liked], np.int64)
    for i, (a, b) in enumerate(pairs):
        if a == b:
            raise HeadError(f"choices[{i}] prefers {_shown(chosen[i][0])} to itself. Choose between two images.")
    if not only_images:
        notes = _notes(rated_at, scores, liked_at, verdicts, pairs, levels if rating_range is None else None)
    given = _by_key("prompts", prompts, images, embeddings is not None)
    facts = _by_key("metadata", metadata, images, embeddings is not None)
    image_embeds, text_embeds = _features(scorer, images, given, embeddings, batch_size)
    cutpoints = scorer.model.scale_cutpoints()[scale_id].detach().cpu().double().numpy()[: len(levels) - 1]
    return PersonAnswers(
        keys=list(images), positions=positions, image_embeds=image_embeds, text_embeds=text_embeds,
        metadata=[facts.get(key, {}) for key in images], rated=rated_at if not only_images else np.zeros(0, np.int64),
        scores=scores, liked=liked_at, likes=verdicts, pairs=pairs, rating_range=rating_range, scale_id=scale_id,
        level_values=levels, cutpoints=cutpoints,
        style=scorer.model.scale_use().detach().cpu().double().numpy(), even=even_variances(scorer.model), notes=notes,
    )  # fmt: skip


def key_of(image: Any, is_id: bool = False) -> str:
    """What an image is known by: its file, however the path is written, or its id (`is_id`: of an embeddings file); or
    the content of what has neither, a PIL image's as the encoder sees it."""
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image) if is_id else os.path.realpath(image)
    if isinstance(image, Image.Image):
        image = open_image(image)
    content = _array(image)
    return hashlib.sha256(repr((content.shape, str(content.dtype))).encode() + content.tobytes()).hexdigest()


def _by_key(what: str, given: Mapping[Any, Any] | None, images: Mapping[str, Any], is_id: bool) -> dict[str, Any]:
    """What was given for images, by their keys; what is for other images is left alone unless all of it is."""
    given = given or {}
    found = {k if isinstance(k, str) and k in images else key_of(k, is_id): v for k, v in given.items()}
    if found and not found.keys() & images.keys():
        raise HeadError(
            f"{what}: {_shown(next(iter(given)))} is not among the {len(images)} images, nor is any other of its keys. "
            "Name images there as where they are rated."
        )
    return found


def _shown(image: Any) -> str:
    return repr(os.fspath(image)) if isinstance(image, (str, os.PathLike)) else f"a {type(image).__name__}"


def _from_table(
    table: Any, fields: Iterable[str], is_id: bool
) -> tuple[list[tuple[Any, Any]], dict[str, str], dict[str, dict[str, str]]]:
    """`(image, score)` pairs, image → prompt and image → metadata of a DataFrame, as of a CSV file."""
    opened = open_table(table, ("image", "score"), ("participant", "prompt", *fields), HeadError)
    rows = [row for _, row in opened.rows()]
    people = sorted({str(row["participant"]) for row in rows}) if "participant" in opened.names else []
    if len(people) > 1:
        raise HeadError(
            f"ratings has rows of {len(people)} participants ({', '.join(people[:8])}), and a head is one person's. "
            f"Pass the rows of one: ratings[ratings[{opened.called('participant')!r}] == NAME]."
        )
    prompts = {key_of(row["image"], is_id): str(row["prompt"]) for row in rows if row.get("prompt")}
    facts = {
        key_of(row["image"], is_id): {field: str(row[field]) for field in fields if row.get(field)} for row in rows
    }
    return [(row["image"], row["score"]) for row in rows], prompts, {key: fact for key, fact in facts.items() if fact}


def _pairs(what: str, given: Any) -> list[tuple[Any, Any]]:
    if hasattr(given, "columns"):  # a table
        columns = {"likes": ("image", "score"), "choices": ("preferred", "other")}[what]
        opened = open_table(given, columns, error=HeadError)
        return [(row[columns[0]], row[columns[1]]) for _, row in opened.rows()]
    pairs = list(given.items()) if isinstance(given, Mapping) else list(given)
    for i, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise HeadError(f"{what}[{i}] is {str(pair)[:80]!r}; expected a pair, such as ('photo.jpg', 4).")
    return [tuple(pair) for pair in pairs]


def _verdict(image: Any, value: Any) -> int:
    if value not in (True, False, 0, 1):
        raise HeadError(f"likes: {_shown(image)} has {value!r}; a like is True or False. Scores go into ratings.")
    return int(value)


def _scores(rated: list[tuple[Any, Any]], rating_range: Any, levels: np.ndarray, scale: str) -> np.ndarray:
    if rating_range is not None and rating_range != "rank":
        try:
            low, high = (float(end) for end in rating_range)
        except (TypeError, ValueError):
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise HeadError(
                f"rating_range={rating_range!r}: give the lowest and the highest score, such as (1, 5), or 'rank'."
            )
        allowed = f"{low:g}..{high:g}"
    else:
        low, high = (-math.inf, math.inf) if rating_range == "rank" else (levels[0], levels[-1])
        allowed = "a finite number" if rating_range == "rank" else f"{low:g}..{high:g}, the model's scale {scale!r}"
    out = np.zeros(len(rated))
    for i, (image, score) in enumerate(rated):
        number = isinstance(score, (int, float, np.integer, np.floating)) and math.isfinite(score)
        if not number or not low <= score <= high:
            raise HeadError(
                f"ratings[{i}]: {_shown(image)} has the score {score!r}; allowed: {allowed}. Correct it, or say which "
                "scale it is on (rating_range=(lowest, highest), --rating-min/--rating-max)."
            )
        out[i] = score
    return out


def _notes(
    rated: np.ndarray,
    scores: np.ndarray,
    liked: np.ndarray,
    likes: np.ndarray,
    pairs: np.ndarray,
    levels: np.ndarray | None,
) -> list[str]:
    """What is odd about answers, in words; `levels` if scores should be among them."""
    notes = []
    total = len(rated) + len(liked) + len(pairs)
    if total < 5:
        notes.append(f"Only {total} answer{'s' * (total > 1)}: the head stays close to everyone's taste.")
    if len(rated) > 1 and np.ptp(scores) == 0 and not len(pairs):
        notes.append("All ratings are equal: they say how the scale is used, but hardly which images are liked.")
    if len(liked) > 1 and np.ptp(likes) == 0:
        notes.append("All likes are equal: they hardly say which images are liked more.")
    if twice := len(rated) + len(liked) - len(np.union1d(rated, liked)):
        notes.append(f"{twice} rating{'s' * (twice > 1)} of an image that was rated already; each counts.")
    if between := 0 if levels is None else int((abs(scores[:, None] - levels).min(1) > 1e-6).sum()):
        notes.append(f"{between} score{'s' * (between > 1)} between levels of the scale: the nearest level counts.")
    chosen = {(int(a), int(b)) for a, b in pairs}
    if against := sum((b, a) in chosen for a, b in chosen) // 2:
        notes.append(f"{against} pair{'s' * (against > 1)} of images chosen both ways: they count against each other.")
    edges = np.array([(a, b) for a, b in chosen if (b, a) not in chosen], np.int64).reshape(-1, 2)
    count = int(edges.max(initial=-1)) + 1
    if count:
        graph = csr_array((np.ones(len(edges)), edges.T), shape=(count, count))
        _, circle = connected_components(graph, connection="strong")
        if size := sum(n for n in np.bincount(circle).tolist() if n > 1):
            notes.append(f"Choices go round in circles among {size} images: they are weighed against each other.")
    given: dict[int, list[float]] = {}
    for image, score in zip(rated.tolist(), scores):
        given.setdefault(image, []).append(score)
    both = [(a, b) for a, b in edges.tolist() if a in given and b in given]
    if against := sum(bool(np.mean(given[a]) < np.mean(given[b])) for a, b in both):
        notes.append(f"{against} choice{'s' * (against > 1)} against the ratings of the same images: both count.")
    return notes


def _features(
    scorer: PamelaScorer,
    images: Mapping[str, Any],
    prompts: Mapping[str, str],
    embeddings: Embeddings | None,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Features `(N, D)` and `(N, Dt)` or `None` of images by key."""
    config = scorer.config
    if embeddings is not None:
        check_encoder(config, embeddings)
    image_embeds: list[np.ndarray | None] = [None] * len(images)
    text_embeds = np.zeros((len(images), config.text_embed_dim), np.float32)
    pixels: list[int] = []
    values = list(images.values())
    for i, (key, image) in enumerate(images.items()):
        if embeddings is not None and isinstance(image, (str, os.PathLike)):
            row = embeddings.rows([key])[0]
            image_embeds[i] = embeddings.image_embeds[row]
            if embeddings.text_embeds is not None and config.text_embed_dim:
                text_embeds[i] = embeddings.text_embeds[row]
        elif _is_features(image):
            vector = _array(image).astype(np.float32)
            if vector.shape != (config.image_embed_dim,) or not np.isfinite(vector).all():
                raise HeadError(
                    f"Features of image {i} have shape {vector.shape}; expected ({config.image_embed_dim},), finite."
                )
            image_embeds[i] = vector
        else:
            pixels.append(i)
    for start in range(0, len(pixels), batch_size):
        part = pixels[start : start + batch_size]
        made = scorer.encoder.embed_images([open_image(values[i]) for i in part])
        for i, vector in zip(part, made):
            image_embeds[i] = vector
    texts = [None if is_missing(prompts.get(key)) else prompts[key] for key in images]
    at = [i for i, text in enumerate(texts) if text is not None]
    if at and config.text_embed_dim:
        text_embeds[at] = scorer.encoder.embed_prompts([texts[i] for i in at])
    return np.stack(image_embeds).astype(np.float32), text_embeds if text_embeds.any() else None


def _array(image: Any) -> np.ndarray:
    if not isinstance(image, torch.Tensor):
        return np.asarray(image)
    image = image.detach().cpu()
    return np.asarray(image.float() if image.is_floating_point() else image)  # NumPy has no bfloat16


def _is_features(image: Any) -> bool:
    if isinstance(image, (str, os.PathLike, Image.Image)):
        return False
    return getattr(image, "ndim", 2) == 1 or (isinstance(image, (list, tuple)))


def answers_of_table(
    scorer: PamelaScorer, table: pd.DataFrame, embeddings: Embeddings, covariance: np.ndarray
) -> Answers:
    """One person's rows of a ratings table as answers, one image each, with that person's demographics.

    Args:
        scorer: the base.
        table: rows of one person, see [`pamela_hf.ratings.table.RatingData`].
        embeddings: features of their images.
        covariance: `(H, H)` of the prior, see [`pamela_hf.heads.head.prior_of`].

    Raises:
        ValueError: a score that is not a level of its rating scale.
    """
    model, arrays = scorer.model, encode_ratings(table, scorer.config, embeddings)
    if len(bad := np.flatnonzero(arrays.labels < 0)):
        row = table.iloc[int(bad[0])]
        levels = scorer.config.rating_scales[str(row["rating_scale"])]
        raise ValueError(
            f"participant {row['participant_id']!r}, image {row['image_id']!r}: score {row['score']} is not a level of "
            f"the model's scale {row['rating_scale']!r} ({levels[0]}..{levels[-1]}). Prepare the ratings again with "
            "the right scale."
        )
    text = embeddings.text_embeds if scorer.config.text_embed_dim else None
    utilities = partial(
        scorer.utilities,
        image_embeds=embeddings.image_embeds[arrays.image_rows],
        text_embeds=None if text is None else text[arrays.image_rows],
        metadata_ids=torch.from_numpy(arrays.metadata_ids),
        demographic_ids=torch.from_numpy(arrays.demographic_ids[:1]),
    )
    return Answers(
        *linearize(utilities, np.sqrt(np.diag(covariance))),
        style=model.scale_use().detach().cpu().double().numpy(),
        image=np.arange(len(table)),
        level=arrays.labels,
        cutpoints=model.scale_cutpoints().detach().cpu().double().numpy()[arrays.scale_ids],
        is_like=np.zeros(len(table)),
        even=even_variances(model),
    )


def even_variances(model: PamelaRewardModel) -> np.ndarray | None:
    """`(H,)` as [`pamela_hf.heads.fitting.Answers`] takes them, of a blank base; `None` of a trained one."""
    if not model.config.blank:
        return None
    factors = model.features.even_variances().double().cpu().numpy()
    return np.concatenate([np.ones(model.config.hidden_size), factors])
