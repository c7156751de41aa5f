"""Scores: what any scorer gives (`Scorer`, `Predictions`) and the reward model as one (`PamelaScorer`)."""

import json
import numbers
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from .embeddings import Embeddings, check_encoder
from .encoder import FrozenEncoder, usable_device
from .files.csv import open_table
from .files.escaping import csv_cell, writable_name
from .files.folders import NameFinder, walk
from .files.images import IMAGE_SUFFIXES, ImageError, each_image, is_single, open_image
from .files.locations import folder_or_repository
from .files.writing import replacing_file, write_text
from .folder_cache import embed_folder
from .model.configuration_pamela import PamelaConfig
from .model.modeling_pamela import PamelaRewardModel
from .model.processing_pamela import PamelaProcessor, align, clean_prompts

logger = logging.get_logger(__name__)
FEATURES_AT_A_TIME = 512  # images scored from features that are there already


@dataclass
class Predictions:
    """Predicted ratings of n (person, image) pairs, in the order asked.

    Attributes:
        scores: `(n,)` expected rating.
        std: `(n,)` its standard deviation, in rating units, or `None`.
        probs: `(n, K)` probability of each level of the pair's rating scale, or `None`.
        level_values: `(n, K)` those levels, NaN beyond a scale's own.
    """

    scores: np.ndarray
    std: np.ndarray | None = None
    probs: np.ndarray | None = None
    level_values: np.ndarray | None = None


class Scorer(Protocol):
    """What evaluation asks of a scorer. Higher scores mean liked more unless `higher_is_better` is False."""

    name: str
    personal: bool
    score_range: tuple[float, float] | None
    higher_is_better: bool

    def predict(self, ratings: pd.DataFrame, embeddings: Embeddings) -> Predictions: ...


@dataclass
class RatingArrays:
    """Ratings as a model's row numbers, n of each: what training and prediction feed to the model."""

    image_rows: np.ndarray  # rows of the embeddings
    people: np.ndarray  # who rated, numbered in the order of their names, whether the model knows them or not
    user_ids: np.ndarray  # 0 = unknown
    demographic_ids: np.ndarray  # (n, F)
    metadata_ids: np.ndarray  # (n, M)
    scale_ids: np.ndarray
    labels: np.ndarray  # level indices, -1 where the rating is not a level of the scale

    def __len__(self) -> int:
        return len(self.image_rows)


def encode_ratings(ratings: pd.DataFrame, config: PamelaConfig, embeddings: Embeddings) -> RatingArrays:
    """Row numbers of a table of ratings; people and values the model does not know are row 0.

    Raises:
        ValueError: a rating scale the model does not have. EmbeddingError: an image without an embedding.
    """

    def ids(column: str, vocabulary: Sequence[str]) -> np.ndarray:
        row = {value: i + 1 for i, value in enumerate(vocabulary)}
        return _per_category(ratings[column], lambda values: np.array([row.get(v, 0) for v in values], np.int64), 0)

    def fields(vocabularies: Mapping[str, Sequence[str]]) -> np.ndarray:
        columns = [ids(field, values) for field, values in vocabularies.items()]
        return np.stack(columns, 1) if columns else np.zeros((len(ratings), 0), np.int64)

    names = list(config.rating_scales)
    scale_ids = _scale_ids(ratings["rating_scale"], names)
    scores = ratings["score"].to_numpy(np.float32)
    labels = np.full(len(ratings), -1, np.int64)
    for i, values in enumerate(config.rating_scales.values()):
        levels = np.asarray(values, np.float32)
        here = np.flatnonzero(scale_ids == i)
        index = np.searchsorted(levels, scores[here]).clip(0, len(levels) - 1)
        labels[here] = np.where(levels[index] == scores[here], index, -1)
    return RatingArrays(
        image_rows=_per_category(ratings["image_id"], embeddings.rows),
        people=pd.factorize(ratings["participant_id"].astype(str), sort=True)[0],
        user_ids=ids("participant_id", config.users),
        demographic_ids=fields(config.demographics),
        metadata_ids=fields(config.metadata),
        scale_ids=scale_ids,
        labels=labels,
    )


@dataclass
class ChoiceArrays:
    """Choices as a model's row numbers, m of each; of two images the preferred one first."""

    image_rows: np.ndarray  # (m, 2) rows of the embeddings
    people: np.ndarray  # who chose, numbered in the order of their names
    user_ids: np.ndarray  # 0 = unknown
    demographic_ids: np.ndarray  # (m, F)
    metadata_ids: np.ndarray  # (m, 2, M)
    ties: np.ndarray  # bool

    def __len__(self) -> int:
        return len(self.ties)


def encode_choices(choices: pd.DataFrame, config: PamelaConfig, embeddings: Embeddings) -> ChoiceArrays:
    """Row numbers of a table of choices; people and values the model does not know are row 0.

    Raises:
        EmbeddingError: an image without an embedding.
    """

    def ids(column: str, vocabulary: Sequence[str]) -> np.ndarray:
        row = {value: i + 1 for i, value in enumerate(vocabulary)}
        return _per_category(choices[column], lambda values: np.array([row.get(v, 0) for v in values], np.int64), 0)

    def stacked(columns: list[np.ndarray]) -> np.ndarray:
        return np.stack(columns, -1) if columns else np.zeros((len(choices), 0), np.int64)

    sides = ("preferred", "other")
    metadata = [stacked([ids(f"{side}_{field}", v) for field, v in config.metadata.items()]) for side in sides]
    return ChoiceArrays(
        image_rows=stacked([_per_category(choices[f"{side}_id"], embeddings.rows) for side in sides]),
        people=pd.factorize(choices["participant_id"].astype(str), sort=True)[0],
        user_ids=ids("participant_id", config.users),
        demographic_ids=stacked([ids(field, values) for field, values in config.demographics.items()]),
        metadata_ids=np.stack(metadata, 1),
        ties=choices["tie"].to_numpy(bool),
    )


def _per_category(column: pd.Series, function: Any, missing: int | None = None) -> np.ndarray:
    """`function(distinct values)` spread over a column, so that a lookup is done once for each distinct value."""
    codes, values = pd.factorize(column)
    looked_up = np.asarray(function([str(v) for v in values]), np.int64)
    if missing is None:
        return looked_up[codes]
    return np.append(looked_up, missing)[codes]  # code -1 is a missing value


def _scale_ids(column: pd.Series, names: list[str]) -> np.ndarray:
    def look_up(values: list[str]) -> list[int]:
        if unknown := [v for v in values if v not in names]:
            raise ValueError(
                f"rating_scale={unknown[0]!r} is not a scale of this model; it has {names}. Score with one of them: "
                "a table's `rating_scale` column says which scale its scores are on."
            )
        return [names.index(v) for v in values]

    return _per_category(column, look_up)


class Head(Protocol):
    """A person whom the model was not trained on, such as [`pamela_hf.heads.UserHead`]: a row and the base it is of."""

    name: str
    row: np.ndarray  # (row_size,)
    base_identity: str


class SingleScore(np.ndarray):
    """The figure of one image, `(1,)` like that of a list of one, which is also a number: `float(score)`."""

    def __float__(self) -> float:
        return float(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec)


@dataclass
class ScoreResult:
    """Scores of N images.

    Attributes:
        scores: `(N,)`, or `(N, U)` when several `users` were asked; of one image that was not in a list a
            [`SingleScore`] `(1,)`, so that both `float(result.scores)` and `result.scores[0]` are its score.
        std: the same shape, standard deviation of the rating, in rating units.
    """

    scores: np.ndarray
    std: np.ndarray

    def __iter__(self):
        return iter((self.scores, self.std))


class PamelaScorer:
    """The reward model with its processor: paths, images or arrays in, numbers out.

    Args:
        model: the reward model, as loaded by transformers; `from_pretrained` loads it and the processor.
        processor: its processor, as loaded by transformers; default: one made from the model's config.
        name: how reports call it; default: "pamela".

    Example:

    ```python
    scorer = PamelaScorer.from_pretrained("runs/demo/model")
    scorer.score("photo.jpg", user="p0001").scores
    ```
    """

    personal = True
    higher_is_better = True

    def __init__(self, model: PamelaRewardModel, processor: PamelaProcessor | None = None, name: str = "pamela"):
        self.model = model
        self.processor = processor if processor is not None else PamelaProcessor(model.config)
        self.name = name
        self._identity: str | None = None
        self._encoder: FrozenEncoder | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        *,
        torch_dtype: str | torch.dtype | None = None,
        **kwargs: Any,
    ) -> "PamelaScorer":
        """Loads model and processor from a folder or the Hub.

        Args:
            model: folder or Hub id.
            device: where it runs; default: CUDA, MPS or CPU.
            dtype: in what precision; default: float32.
            torch_dtype: the older name of `dtype`.
            kwargs: for both `from_pretrained` calls: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder`;
                `encoder_token` (a token, or True for the login saved on this machine; default: none), if the encoder
                lies in a private or gated repository of its own.

        Raises:
            OSError: no such folder or repository.
            ValueError: a device that is not available, weights that are not whole, both names of one argument.
        """
        if dtype is not None and torch_dtype is not None:
            raise ValueError(
                f"dtype={dtype!r} and torch_dtype={torch_dtype!r} are the same argument; pass dtype alone."
            )
        dtype = dtype if dtype is not None else torch_dtype if torch_dtype is not None else torch.float32
        device = usable_device(device)
        with folder_or_repository(model):
            loaded = PamelaRewardModel.from_pretrained(model, dtype=dtype, **kwargs).to(device)
            # one config: a rating scale added to the model moves the ids that the processor gives, too
            return cls(loaded, PamelaProcessor.from_pretrained(model, config=loaded.config, **kwargs))

    @classmethod
    def blank(
        cls, features: Embeddings, levels: Sequence[float] = (1, 2, 3, 4, 5), encoder: FrozenEncoder | None = None
    ) -> "PamelaScorer":
        """A base for heads from images alone, before anybody's ratings: see [`PamelaRewardModel.blank`].

        Args:
            features: of N images such as those that will be rated.
            levels: ascending levels of the rating scale.
            encoder: what made `features`; without it the scorer takes features only, unless they name an encoder on
                the Hub.

        Raises:
            ValueError: fewer than two different images, or levels that do not ascend.
        """
        if encoder is None:
            return cls(PamelaRewardModel.blank(features, levels))
        model = PamelaRewardModel.blank(features, levels, encoder=encoder.model)
        return cls(model, PamelaProcessor(model.config, encoder.image_processor, encoder.tokenizer))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes model and processor as `from_pretrained` reads them."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    @property
    def config(self) -> PamelaConfig:
        return self.model.config

    @property
    def score_range(self) -> tuple[float, float]:
        """Lowest and highest level of the default rating scale."""
        levels = self.config.rating_scales[self.config.default_scale]
        return levels[0], levels[-1]

    @property
    def encoder(self) -> FrozenEncoder:
        """The model's own encoder, loaded when first asked for.

        Raises:
            ValueError: the model names no encoder. OSError: it cannot be loaded.
        """
        backbone = self.model.backbone
        if self._encoder is None or self._encoder.model is not backbone:
            self._encoder = FrozenEncoder.of(self.model, self.processor)
        return self._encoder

    def score(
        self,
        images: Any = None,
        prompts: str | Iterable[str | None] | None = None,
        user: str | Head | Iterable[str | Head | None] | None = None,
        demographics: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any] | None] | None = None,
        *,
        users: str | Head | Iterable[str | Head | None] | None = None,
        scale: str | None = None,
        image_embeds: torch.Tensor | None = None,
        text_embeds: torch.Tensor | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> ScoreResult:
        """Scores images for a person, each image for its own person, or every image for several people.

        Several threads may score at once. The model scores in eval mode, and is left in the mode it was in. `None`,
        NaN, `pd.NA` and empty text mean that a prompt, person, demographic or metadata value is not known.

        Args:
            images: one or N of: path, PIL image, array `(H, W, 3)` uint8; the same picture scores the same as any.
            prompts: what the images were made from, one for all or one each.
            user: a trained participant or a head for all images, or one for each; `None` = everyone's taste.
            users: U of them, or one → a grid `(N, U)`; then `demographics` are theirs, one for all or U of them.
            demographics: of the person, see [`PamelaProcessor`].
            metadata: of the images, see [`PamelaProcessor`].
            scale: rating scale of the answer; default: the model's `default_scale`.
            image_embeds: in place of `images`: the encoder's features of N of them, `(N, image_embed_dim)`.
            text_embeds: in place of `prompts`: the encoder's features of N of them, `(N, text_embed_dim)`.
            batch_size: images the encoder takes at a time; fewer where memory runs out.
            progress: show a progress bar.

        Returns:
            [`ScoreResult`] in the order of `images`.

        Raises:
            ValueError: no images, or both images (prompts) and features; an image that cannot be read, an unknown user,
                field or scale, a head of another base, lengths that don't fit.
        """
        if user is not None and users is not None:
            raise ValueError("user= goes with the images one to one, users= asks for a grid; pass one of the two.")
        if (images is None) == (image_embeds is None):
            raise ValueError("Pass either images= or image_embeds=, one of the two.")
        if prompts is not None and text_embeds is not None:
            raise ValueError("Pass prompts= or text_embeds=, at most one of the two.")
        if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r} must be a whole number of at least 1.")
        single = False
        if images is not None:
            images, single = _image_list(images)
        n = len(images if images is not None else image_embeds)
        if not n:
            given, what = ("images", "path, PIL image or array") if image_embeds is None else ("image_embeds", "row")
            raise ValueError(f"{given} is empty; pass at least one {what}.")
        if text_embeds is not None and len(text_embeds) != n:
            raise ValueError(f"text_embeds= has {len(text_embeds)} rows for {n} images; give one each.")
        texts = clean_prompts(prompts, n)
        metadata_ids = self.processor.field_ids("metadata", metadata, n)
        scale_id = self.processor.scale_id(scale)
        if users is not None:
            users = _people_list(users)
            people, shape = self.encode_people(len(users), users, demographics), (n, len(users))
        else:
            people, shape = self.encode_people(n, user, demographics), (n,)
        out = np.empty((2, *shape))
        with scoring_mode(self.model):
            for start in tqdm(range(0, n, batch_size), "scoring images", disable=not progress):
                part = slice(start, min(start + batch_size, n))
                inputs = {
                    "image_embeds": self._image_features(images[part]) if images is not None else image_embeds[part],
                    "text_embeds": self._text_features(texts[part]) if text_embeds is None else text_embeds[part],
                    "metadata_ids": metadata_ids[part],
                }
                out[:, part] = self._score_part(inputs, people, part, scale_id, users is not None)
        scores, std = (values.view(SingleScore) if single and users is None else values for values in out)
        return ScoreResult(scores, std)

    def _image_features(self, images: Sequence[Any]) -> torch.Tensor:
        """Features of images. One picture is open at a time, whatever their sizes: what the encoder takes is small."""
        encoder = self.encoder
        return encoder.encode_prepared([encoder.prepare_images([np.asarray(open_image(image))]) for image in images])

    def _text_features(self, prompts: Sequence[str | None]) -> torch.Tensor | None:
        """Features `(n, text_embed_dim)` of prompts, zeros for a missing one; each distinct prompt is encoded once.
        `None` where there is none, or the model takes none."""
        distinct = list(dict.fromkeys(text for text in prompts if text is not None))
        if not distinct or not self.config.text_embed_dim:
            return None
        features = self.encoder.encode_prompts(distinct)
        row = {text: i for i, text in enumerate(distinct)}
        features = torch.cat([features, torch.zeros_like(features[:1])])
        return features[[row.get(text, -1) for text in prompts]]

    @torch.inference_mode()
    def _score_part(
        self, inputs: Mapping[str, Any], people: Mapping[str, torch.Tensor], part: slice, scale_id: int, grid: bool
    ) -> np.ndarray:
        """Scores and their standard deviations `(2, …)` of some images, for everybody (`grid`) or each for its own
        person."""
        inputs = {name: torch.as_tensor(value) for name, value in inputs.items() if value is not None}
        if grid:
            out = self.model.score_matrix(**inputs, **people, scale=scale_id)
        else:
            rows = {name: ids[part] for name, ids in people.items()}
            out = self.model(**inputs, **rows, scale_ids=torch.full((part.stop - part.start,), scale_id))
        return torch.stack([out.scores, out.std]).float().cpu().numpy()

    def utilities(
        self,
        rows: np.ndarray,
        image_embeds: np.ndarray,
        text_embeds: np.ndarray | None,
        metadata_ids: torch.Tensor,
        demographic_ids: torch.Tensor,
    ) -> np.ndarray:
        """Utilities of images as a function of people's rows: what a new person's row is fitted by.

        Args:
            rows: `(R, row_size)`.
            image_embeds: `(N, image_embed_dim)`.
            text_embeds: `(N, text_embed_dim)`, a row of zeros = no prompt; `None` = no image has one.
            metadata_ids: `(N, fields)` of the images.
            demographic_ids: `(1, fields)` of the person.

        Returns:
            `(N, R)` float64, in logits.
        """
        with scoring_mode(self.model):
            out = self.model.score_matrix(
                image_embeds=torch.from_numpy(image_embeds),
                text_embeds=None if text_embeds is None else torch.from_numpy(text_embeds),
                metadata_ids=metadata_ids,
                user_embeds=torch.from_numpy(np.asarray(rows, np.float32)),
                demographic_ids=demographic_ids.expand(len(rows), -1),
            )
        return out.utility.double().cpu().numpy()

    @property
    def identity(self) -> str:
        """The base identity: sha256 over all that gives a person's row its meaning, as it is when first asked for."""
        if self._identity is None:
            self._identity = self.model.base_identity()
        return self._identity

    def encode_people(self, n: int, user: Any, demographics: Any = None) -> dict[str, torch.Tensor]:
        """Model inputs of `n` people.

        Args:
            user: a trained participant or a head for all, or one each; a missing value = everyone's taste.
            demographics: see [`PamelaProcessor`].

        Returns:
            `user_ids (n,)`, or where heads are among them `user_embeds (n, row_size)`; and `demographic_ids (n, F)`.

        Raises:
            ValueError: an unknown user, a head of another base, lengths that don't fit.
        """
        people = align("user", user, n)
        heads = {i: one for i, one in enumerate(people) if hasattr(one, "row")}
        known = [None if i in heads else one for i, one in enumerate(people)]
        theirs = align("demographics", demographics, n)
        encoded = self.processor.encode_people(n, known, theirs)
        if heads:
            for i, head in heads.items():
                if not theirs[i] and getattr(head, "about", {}).get("uses_demographics"):
                    logger.warning_once(
                        f"Head {head.name!r} was fitted on top of its person's demographics, which are not in it. Give "
                        "the same demographics= for the scores it was fitted to give."
                    )
            rows = self.model.user_embedding(encoded.pop("user_ids").to(self.model.device)).detach().clone()
            for i, head in heads.items():
                rows[i] = self._row(head).to(rows)
            encoded["user_embeds"] = rows
        return encoded

    def _row(self, head: Head) -> torch.Tensor:
        if head.base_identity != self.identity:
            raise ValueError(
                f"Head {head.name!r} belongs to base {head.base_identity[:12]}…, and this model is "
                f"{self.identity[:12]}…. Score with the base it was fitted on, or fit it again on this one."
            )
        row = torch.as_tensor(head.row)
        if row.shape != (self.config.row_size,) or not torch.isfinite(row).all():
            raise ValueError(
                f"Head {head.name!r} has a row of shape {tuple(row.shape)}; this model's rows are "
                f"({self.config.row_size},), finite."
            )
        return row

    def predict(
        self,
        ratings: pd.DataFrame,
        embeddings: Embeddings,
        batch_size: int = 2048,
        rows: Mapping[str, np.ndarray] | None = None,
    ) -> Predictions:
        """Predicts the ratings of a table (see [`pamela_hf.ratings.table.RatingData`]) from precomputed features.

        Args:
            rows: participant_id → that person's row `(row_size,)`, for people the model was not trained on.

        Raises:
            EmbeddingError: the features are another encoder's, or an image has none.
            ValueError: a rating scale the model does not have.
        """
        check_encoder(self.config, embeddings)
        arrays = encode_ratings(ratings, self.config, embeddings)
        used, index = np.unique(arrays.image_rows, return_inverse=True)
        image_embeds = torch.from_numpy(embeddings.image_embeds[used])
        text_embeds = None
        if embeddings.text_embeds is not None and self.config.text_embed_dim:
            text_embeds = torch.from_numpy(embeddings.text_embeds[used])
        table, person = None, arrays.user_ids
        if rows is not None:
            codes, names = pd.factorize(ratings["participant_id"])
            new = torch.from_numpy(np.stack([rows[str(name)] for name in names]).astype(np.float32))
            table, person = new, codes
        # an image's features and projections are shared by all who rated it, so batches follow the images
        order = np.argsort(index, kind="stable")
        parts: list[Any] = []
        with scoring_mode(self.model), torch.inference_mode():
            for start in range(0, len(order), batch_size):
                at = order[start : start + batch_size]
                low, high = index[at[0]], index[at[-1]] + 1
                out = self.model(
                    image_embeds=image_embeds[low:high],
                    text_embeds=None if text_embeds is None else text_embeds[low:high],
                    image_index=torch.from_numpy(index[at] - low).to(self.model.device),
                    user_ids=torch.from_numpy(person[at]) if table is None else None,
                    user_embeds=None if table is None else table[person[at]],
                    demographic_ids=torch.from_numpy(arrays.demographic_ids[at]),
                    metadata_ids=torch.from_numpy(arrays.metadata_ids[at]),
                    scale_ids=torch.from_numpy(arrays.scale_ids[at]),
                )
                names = ("scores", "std", "probs", "level_values")
                parts.append([getattr(out, name).double().cpu().numpy() for name in names])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Predictions(*(np.concatenate(column)[back] for column in zip(*parts)))

    def predict_choices(
        self, choices: pd.DataFrame, embeddings: Embeddings, batch_size: int = 1024
    ) -> np.ndarray:
        """Probabilities `(m, 3)` that the first image of a choice is preferred, neither is, and the second is, as a
        model answers that was trained on choices; one that was not knows no ties.

        Args:
            choices: table of m choices, see [`pamela_hf.ratings.table.RatingData`].
            embeddings: features of the images.
            batch_size: choices at a time.

        Raises:
            EmbeddingError: the features are another encoder's, or an image has none.
        """
        check_encoder(self.config, embeddings)
        arrays = encode_choices(choices, self.config, embeddings)
        has_text = embeddings.text_embeds is not None and self.config.text_embed_dim
        found = [np.zeros((0, 3))]
        with scoring_mode(self.model), torch.inference_mode():
            for start in range(0, len(arrays), batch_size):
                part = slice(start, start + batch_size)
                rows, index = np.unique(arrays.image_rows[part].reshape(-1), return_inverse=True)
                out = self.model(
                    image_embeds=torch.from_numpy(embeddings.image_embeds[rows]),
                    text_embeds=torch.from_numpy(embeddings.text_embeds[rows]) if has_text else None,
                    image_index=torch.from_numpy(index).to(self.model.device),
                    user_ids=torch.from_numpy(np.repeat(arrays.user_ids[part], 2)),
                    demographic_ids=torch.from_numpy(np.repeat(arrays.demographic_ids[part], 2, 0)),
                    metadata_ids=torch.from_numpy(arrays.metadata_ids[part].reshape(len(index), -1)),
                )
                utility = out.utility.float().view(-1, 2)
                found.append(self.model.choice_probs(utility[:, 0] - utility[:, 1]).double().cpu().numpy())
        return np.concatenate(found)


def choice_credit(probs: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """How right each of m choices was foreseen: 1 where the likelier of the two images was preferred, ½ for a tie or
    where both were as likely, else 0.

    Args:
        probs: `(m, 3)` as [`PamelaScorer.predict_choices`] gives them.
        ties: `(m,)` bool, whether neither was preferred.
    """
    ahead = np.sign(probs[:, 0] - probs[:, 2])
    return np.where(ties, 0.5, 0.5 + 0.5 * ahead)


_MODES = threading.Lock()
_in_use: "WeakKeyDictionary[torch.nn.Module, tuple[int, list[torch.nn.Module]]]" = WeakKeyDictionary()


@contextmanager
def scoring_mode(model: torch.nn.Module) -> Iterator[None]:
    """Holds a model in eval mode; afterwards each of its modules is in the mode it was in.

    Where several threads score at once, the first of them changes the mode and the last changes it back.
    """
    with _MODES:
        count, training = _in_use.get(model, (0, []))
        if not count:
            training = [module for module in model.modules() if module.training]
            if training:
                model.eval()
        _in_use[model] = count + 1, training
    try:
        yield
    finally:
        with _MODES:
            count, training = _in_use.pop(model)
            if count > 1:
                _in_use[model] = count - 1, training
            else:
                for module in training:
                    module.training = True


def _image_list(images: Any) -> tuple[list[Any], bool]:
    """Images as a list, and whether it was a single one that was not in a list."""
    single = is_single(images)
    if not single and not isinstance(images, Iterable):
        raise ValueError(f"images={images!r}: give a path, PIL image or array, or several of them.")
    return list(each_image(images)), single


def _people_list(users: Any) -> list[Any]:
    one = isinstance(users, (str, numbers.Integral)) or hasattr(users, "row")
    if not one and (not isinstance(users, Iterable) or isinstance(users, Mapping)):
        raise ValueError(f"users={users!r}: give a list of trained participants' names and heads.")
    people = [users] if one else list(users)
    if not people:
        raise ValueError("users is empty; give at least one name or head, or leave it out for everyone's taste.")
    return people


def score_folder(
    scorer: PamelaScorer,
    images: str | os.PathLike,
    output: str | os.PathLike | None = None,
    *,
    prompts: str | Path | pd.DataFrame | None = None,
    user: str | Head | None = None,
    scale: str | None = None,
    embeddings: str | os.PathLike | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Scores every image of a folder for one person.

    What can be checked is checked before the first score. An image that cannot be read never ends the run: it is left
    out, with its reason. One picture is decoded at a time, whatever their number and sizes.

    Args:
        scorer: the model.
        images: a folder, walked as [`pamela_hf.files.folders.walk`] does, or one file.
        output: a `.csv` or `.parquet` file to write as well, whole or not at all; beside it `….skipped.csv` with the
            columns `image,reason` where images were left out. In a CSV, names that a spreadsheet would take for
            formulas have an apostrophe in front ([`pamela_hf.files.escaping.csv_cell`]).
        prompts: one text for all images, or the `Path` of a table (or a DataFrame) with columns `image` and any of
            `prompt` and the model's metadata fields.
        user: a trained participant or a head; `None` = everyone's taste.
        scale: rating scale of the scores; default: the model's.
        embeddings: a file that keeps the folder's features from run to run ([`pamela_hf.folder_cache`]): images that
            it knows are not encoded again. Default: nothing is kept. The scores are the same.
        batch_size: images the encoder takes at a time.
        progress: show a progress bar.

    Returns:
        Table with columns `image` (path below the folder; bytes that are not UTF-8 written as `\\xff`), `score`, `std`,
        best first. Its `attrs["skipped"]` lists (image, reason) of those left out.

    Raises:
        FileNotFoundError: `images` does not exist. ValueError: no images there, or none that can be read; a table
            without these columns; an unknown user or scale; an output of another format. EmbeddingError: `embeddings`
            is damaged or was made by another encoder.
    """
    folder = Path(images)
    output = None if output is None else Path(output)
    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise ValueError(f"output {output} must end in .csv or .parquet.")
    scorer.encode_people(1, user)
    scorer.processor.scale_id(scale)
    facts = None if prompts is None or isinstance(prompts, str) else _image_facts(prompts, folder, scorer.config)
    total = _count_images(folder, facts, prompts)
    with _staged(output) as part:
        names: list[str] = []
        scores: list[np.ndarray] = []
        skipped: list[tuple[str, str]] = []
        bar = tqdm(total=total, desc="scoring images", disable=not progress)
        if embeddings is None:
            batches = _encoded_batches(scorer, folder, batch_size, skipped, bar)
        else:
            batches = _cached_batches(scorer, folder, embeddings, batch_size, skipped, bar)
        for of_batch, what in batches:
            of = [facts.get(name, {}) for name in of_batch] if facts is not None else None
            result = scorer.score(
                prompts=prompts if of is None else [row.get("prompt") for row in of],
                user=user,
                metadata=None if of is None else [{k: v for k, v in row.items() if k != "prompt"} for row in of],
                scale=scale,
                batch_size=max(batch_size, len(of_batch)),
                **what,
            )
            names += of_batch
            scores.append(np.stack([result.scores, result.std]))
        bar.close()
        if not names:
            raise ValueError(f"{folder}: none of {total} images can be read: {skipped[0][0]}: {skipped[0][1]}")
        score, std = np.concatenate(scores, 1)
        table = pd.DataFrame({"image": names, "score": score, "std": std})
        table = table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
        if part is not None:
            _write_scores(table, skipped, output, part)
    table.attrs["skipped"] = skipped
    return table


def skipped_path(output: str | os.PathLike) -> Path:
    """Where the images are listed that could not be read: `scores.csv` → `scores.skipped.csv`."""
    return Path(output).with_suffix(".skipped.csv")


def _image_facts(table: Any, folder: Path, config: PamelaConfig) -> dict[str, dict[str, str]]:
    """Image's name in a walk of `folder` → what a table tells of it: `prompt` and metadata."""
    known = ("prompt", *config.metadata)
    opened = open_table(table, [("image", fact) for fact in known], known)
    finder = NameFinder(folder.parent if folder.is_file() else folder)
    facts = {}
    for number, row in opened.rows():
        if None in row:
            raise ValueError(f"{opened.where(number)}: {row[None]} Put cells that hold a separator in quotes.")
        if not row["image"]:
            raise ValueError(f"{opened.where(number)}: image is empty. Name one, or remove the row.")
        try:
            name = writable_name(finder.find(str(row["image"])))
        except ValueError as error:
            raise ValueError(f"{opened.where(number)}: image {error}. Correct the row.") from None
        facts[name] = {fact: str(row[fact]) for fact in known if row.get(fact)}
    return facts


def _count_images(folder: Path, facts: Mapping[str, Any] | None, table: Any) -> int:
    total, missing = 0, set(facts or ())
    for found in walk(folder):
        total += 1
        missing.discard(found.name)
    if not total:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES)[:6])}, …).")
    if missing:
        raise ValueError(f"{table} names {min(missing)!r}, which is not an image of {folder}.")
    return total


def _encoded_batches(
    scorer: PamelaScorer, folder: Path, batch_size: int, skipped: list[tuple[str, str]], bar: tqdm
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Names and features of a walk's images, a batch at a time, the features as [`PamelaScorer.score`] takes them;
    images that cannot be read go to `skipped` with their reasons."""
    encoder, readable = scorer.encoder, _prepared_images(scorer.encoder, folder, skipped, bar)
    while batch := list(islice(readable, batch_size)):
        with scoring_mode(scorer.model):
            features = encoder.encode_prepared([prepared for _, prepared in batch])
        yield [name for name, _ in batch], {"image_embeds": features}


def _prepared_images(
    encoder: FrozenEncoder, folder: Path, skipped: list[tuple[str, str]], bar: tqdm
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Name of each readable image of a walk, and what the encoder takes of it."""
    for found in walk(folder):
        bar.update()
        try:
            if found.problem is not None:
                raise ImageError(f"{found.name}: {found.problem}.")
            yield found.name, encoder.prepare_images([np.asarray(open_image(found.path, found.name))])
        except ImageError as error:
            skipped.append((found.name, str(error).removeprefix(f"{found.name}: ")))


def _cached_batches(
    scorer: PamelaScorer,
    folder: Path,
    embeddings: str | os.PathLike,
    batch_size: int,
    skipped: list[tuple[str, str]],
    bar: tqdm,
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """As [`_encoded_batches`], with features that a file keeps."""
    found = embed_folder(folder, embeddings, _OwnEncoder(scorer), batch_size=batch_size, progress=not bar.disable)
    skipped += found.skipped.items()
    bar.update(len(found.skipped))
    features = torch.from_numpy(found.embeddings.image_embeds)
    for start in range(0, len(features), FEATURES_AT_A_TIME):
        names = found.embeddings.image_ids[start : start + FEATURES_AT_A_TIME]
        yield names, {"image_embeds": features[start : start + FEATURES_AT_A_TIME]}
        bar.update(len(names))


class _OwnEncoder:
    """A scorer's own encoder, as [`pamela_hf.folder_cache.Source`]."""

    def __init__(self, scorer: PamelaScorer):
        self._scorer = scorer
        config = scorer.config
        self.made_by = {
            "backbone": config.backbone, "revision": config.backbone_revision, "preprocessing": config.preprocessing,
        }  # fmt: skip
        self.stamp = json.dumps([*self.made_by.values(), str(scorer.model.dtype)])

    @property
    def encoder(self) -> FrozenEncoder:
        return self._scorer.encoder


@contextmanager
def _staged(output: Path | None) -> Iterator[Path | None]:
    """Where to write what `output` becomes when all went well; a place that cannot be written to is known at once."""
    if output is None:
        yield None
        return
    if output.is_dir():
        raise ValueError(f"output {output} is a folder. Name a .csv or .parquet file.")
    with replacing_file(output) as part:
        yield part


def write_skipped(path: str | os.PathLike, skipped: Iterable[tuple[str, str]]) -> None:
    """Lists images that were left out in a CSV with columns `image,reason`; of none, removes that of an earlier run.

    Args:
        path: the CSV file, such as [`skipped_path`] names it.
        skipped: image and reason.
    """
    rows = [(csv_cell(writable_name(image)), csv_cell(writable_name(reason))) for image, reason in skipped]
    if rows:
        write_text(path, pd.DataFrame(rows, columns=["image", "reason"]).to_csv(index=False))
    else:
        Path(path).unlink(missing_ok=True)


def _write_scores(table: pd.DataFrame, skipped: list[tuple[str, str]], output: Path, part: Path) -> None:
    write_skipped(skipped_path(output), skipped)
    if output.suffix == ".parquet":
        table.to_parquet(part)
    else:
        table.assign(image=[csv_cell(name) for name in table["image"]]).to_csv(part, index=False)
