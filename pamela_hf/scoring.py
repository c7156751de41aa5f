"""Scores: what any scorer gives (`Scorer`, `Predictions`) and the reward model as one (`PamelaScorer`)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm.auto import tqdm
from transformers.utils import logging

from .embeddings import Embeddings, check_encoder
from .encoder import FrozenEncoder, usable_device
from .files.csv import read_header, read_rows
from .files.images import open_image_checked, upright_rgb
from .files.locations import folder_or_repository
from .files.writing import replacing_file
from .model.configuration_pamela import PamelaConfig
from .model.modeling_pamela import PamelaRewardModel
from .model.processing_pamela import PamelaProcessor

logger = logging.get_logger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass
class Predictions:
    """Predicted ratings of n (person, image) pairs, in the order asked.

    Attributes:
        scores: `(n,)` expected rating. std: `(n,)` its standard deviation, in rating units, or `None`.
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
    labels: np.ndarray  # level indices, -1 where the rating is none of the scale's levels

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


@dataclass
class ScoreResult:
    """Scores of N images: `scores` and `std`, `(N,)`, or `(N, U)` when several `users` were asked."""

    scores: np.ndarray
    std: np.ndarray

    def __iter__(self):
        return iter((self.scores, self.std))


class PamelaScorer:
    """The reward model with its processor: paths, images or arrays in, numbers out.

    Args:
        model, processor: as loaded by transformers; `from_pretrained` does both.
        name: how reports call it.

    Example:

    ```python
    scorer = PamelaScorer.from_pretrained("runs/demo/model")
    scorer.score("photo.jpg", user="p0001").scores
    ```
    """

    personal = True
    higher_is_better = True

    def __init__(self, model: PamelaRewardModel, processor: PamelaProcessor | None = None, name: str = "pamela"):
        self.model = model.eval()
        self.processor = processor if processor is not None else PamelaProcessor(model.config)
        self.name = name
        self._identity: str | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = torch.float32,
        **kwargs: Any,
    ) -> "PamelaScorer":
        """Loads model and processor from a folder or the Hub; `kwargs` go to both `from_pretrained` calls.

        Raises:
            OSError: no such folder or repository. ValueError: a device that is not here, weights that are not whole.
        """
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

    def score(
        self,
        images: Any = None,
        prompts: str | Sequence[str | None] | None = None,
        user: str | Head | Sequence[str | Head | None] | None = None,
        demographics: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        *,
        users: Sequence[str | Head | None] | None = None,
        scale: str | None = None,
        image_embeds: torch.Tensor | None = None,
        text_embeds: torch.Tensor | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> ScoreResult:
        """Scores images for a person, each image for its own person, or every image for several people.

        Args:
            images: one or N of: path, PIL image, array `(H, W, 3)` uint8; the same picture scores the same as any.
            prompts: what the images were made from, one for all or one each.
            user: a trained participant or a head for all images, or one for each; `None` = everyone's taste.
            users: U of them → a grid `(N, U)`; then `demographics` are theirs, one for all or U of them.
            demographics, metadata: see [`PamelaProcessor`].
            scale: rating scale of the answer; default: the model's `default_scale`.
            image_embeds: in place of `images`: the encoder's features of N of them, `(N, image_embed_dim)`.
            text_embeds: in place of `prompts`: the encoder's features of N of them, `(N, text_embed_dim)`.
            batch_size: images the encoder takes at a time. progress: show a progress bar.

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
        if images is not None:
            single = isinstance(images, (str, os.PathLike, Image.Image)) or getattr(images, "ndim", 0) in (2, 3)
            images = [images] if single else list(images)
        n = len(images if images is not None else image_embeds)
        if not n:
            raise ValueError("images is empty; pass at least one path, PIL image or array.")
        if text_embeds is not None and len(text_embeds) != n:
            raise ValueError(f"text_embeds= has {len(text_embeds)} rows for {n} images; give one each.")
        align = self.processor._align
        prompts, metadata = align("prompts", prompts, n), align("metadata", metadata, n)
        scale_id = self.processor.scale_id(scale)
        if users is not None:
            people = self.encode_people(len(users), list(users), demographics)
            out_shape: tuple[int, ...] = (n, len(users))
        else:
            pairs = self.encode_people(n, user, demographics)
            out_shape = (n,)
        scores, std = np.empty(out_shape), np.empty(out_shape)
        for start in tqdm(range(0, n, batch_size), "scoring images", disable=not progress):
            part = slice(start, start + batch_size)
            inputs = self.processor(
                images=[open_image(image) for image in images[part]] if images is not None else None,
                image_embeds=image_embeds[part] if image_embeds is not None else None,
                prompts=prompts[part] if any(prompts[part]) else None,
                text_embeds=text_embeds[part] if text_embeds is not None else None,
                metadata=metadata[part],
                scale=scale,
            )
            for name in ("user_ids", "demographic_ids", "scale_ids"):
                inputs.pop(name)
            if users is not None:
                out = self.model.score_matrix(**inputs, **people, scale=scale_id)
            else:
                rows = {name: ids[part] for name, ids in pairs.items()}
                with torch.inference_mode():
                    scale_ids = torch.full((min(batch_size, n - start),), scale_id)
                    out = self.model(**inputs, **rows, scale_ids=scale_ids)
            scores[part], std[part] = out.scores.float().cpu().numpy(), out.std.float().cpu().numpy()
        return ScoreResult(scores, std)

    @property
    def identity(self) -> str:
        """The base identity: sha256 over all that gives a person's row its meaning, as it is when first asked for."""
        if self._identity is None:
            self._identity = self.model.base_identity()
        return self._identity

    def encode_people(self, n: int, user: Any, demographics: Any = None) -> dict[str, torch.Tensor]:
        """Model inputs of `n` people: `user_ids (n,)`, or where heads are among them `user_embeds (n, row_size)`;
        and `demographic_ids (n, F)`.

        Raises:
            ValueError: an unknown user, a head of another base, lengths that don't fit.
        """
        people = self.processor._align("user", [user] * n if hasattr(user, "row") else user, n)
        heads = {i: one for i, one in enumerate(people) if hasattr(one, "row")}
        known = [None if i in heads else one for i, one in enumerate(people)]
        encoded = self.processor.encode_people(n, known, demographics)
        if heads:
            told = self.processor._align("demographics", demographics, n)
            for i, head in heads.items():
                if not told[i] and getattr(head, "about", {}).get("uses_demographics"):
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
        for start in range(0, len(order), batch_size):
            at = order[start : start + batch_size]
            low, high = index[at[0]], index[at[-1]] + 1
            with torch.inference_mode():
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


def open_image(image: Any) -> Image.Image:
    """A path, PIL image or uint8 array `(H, W)` or `(H, W, C)`, C = 1, 3, or 2 and 4 with alpha, as an upright RGB
    image, transparency on white. Raises ValueError for anything else."""
    if isinstance(image, (str, os.PathLike)):
        return open_image_checked(Path(image), name=str(image))
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    array = image.detach().cpu() if isinstance(image, torch.Tensor) else np.asarray(image)
    shape = tuple(array.shape)
    fits = len(shape) == 2 or (len(shape) == 3 and 1 <= shape[2] <= 4)
    if array.dtype not in (np.uint8, torch.uint8) or not fits or 0 in shape:
        raise ValueError(
            f"An image array has shape {shape} and dtype {array.dtype}; expected (H, W, 3) or (H, W), uint8, not empty."
        )
    array = np.asarray(array)
    return upright_rgb(Image.fromarray(array[..., 0] if shape[2:] == (1,) else array), "image array")


def score_folder(
    scorer: PamelaScorer,
    images: str | os.PathLike,
    output: str | os.PathLike | None = None,
    *,
    prompts: str | Path | None = None,
    user: str | Head | None = None,
    scale: str | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Scores every image of a folder for one person.

    Args:
        images: a folder, read recursively, or one file.
        output: a `.csv` or `.parquet` file to write as well, whole or not at all.
        prompts: one text for all images, or the `Path` of a CSV with columns `image` and any of `prompt` and the
            model's metadata fields.

    Returns:
        Table with columns `image` (path below the folder), `score`, `std`, best first.

    Raises:
        ValueError: no images there, an image that cannot be read, a CSV without these columns, an unknown user.
    """
    folder = Path(images)
    found = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{folder} holds no images ({', '.join(SUFFIXES)}).")
    names = [p.name if folder.is_file() else p.relative_to(folder).as_posix() for p in found]
    metadata = None
    if isinstance(prompts, Path):
        columns, _ = read_header(prompts)
        told = ["prompt", *scorer.config.metadata]
        if "image" not in columns or not set(columns) & set(told):
            raise ValueError(f"{prompts} has columns {columns}; it needs image and any of {', '.join(told)}.")
        of = {}
        for number, row in read_rows(prompts):
            if None in row:
                raise ValueError(f"{prompts}, row {number}: {row[None]} Put cells that hold a separator in quotes.")
            of[row["image"]] = row
        if strange := sorted(set(of) - set(names)):
            raise ValueError(f"{prompts} names {strange[0]!r}, which is no image of {folder}.")
        rows = [of.get(name, {}) for name in names]
        prompts = [row.get("prompt") for row in rows]
        metadata = [{field: row[field] for field in scorer.config.metadata if row.get(field)} for row in rows]
    if output is not None:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
    scores, std = scorer.score(
        found, prompts, user, metadata=metadata, scale=scale, batch_size=batch_size, progress=progress
    )
    result = pd.DataFrame({"image": names, "score": scores, "std": std})
    result = result.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    if output is not None:
        output = Path(output)
        with replacing_file(output) as staged:
            result.to_parquet(staged) if output.suffix == ".parquet" else result.to_csv(staged, index=False)
    return result
