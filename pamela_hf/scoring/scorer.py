"""The reward model as a scorer: paths, images or arrays in, numbers out."""

import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from ..embeddings import Embeddings, check_encoder
from ..encoder import FrozenEncoder, usable_device
from ..files.images import each_image, is_single, open_image
from ..files.locations import folder_or_repository
from ..model.configuration_pamela import PamelaConfig
from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import PamelaProcessor, align, clean_prompts
from .arrays import encode_choices, encode_ratings
from .mode import scoring_mode
from .predictions import Predictions

logger = logging.get_logger(__name__)
_END = object()


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
            images: one or N of: path, PIL image, array `(H, W, 3)` uint8; the same picture scores the same as any. Of
                an iterator, such as a generator of a million paths, `batch_size` are read at a time and no more kept;
                what there is one each of (`prompts`, `user`, …) may then be iterators, too.
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
        if isinstance(images, Iterator) and not is_single(images):  # an open file is an iterator, too
            each = {"prompts": prompts, "user": user, "metadata": metadata}
            same = {"users": users, "scale": scale, "batch_size": batch_size}
            (each if users is None else same)["demographics"] = demographics
            return self._score_iterator(images, each, same, progress)
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

    def _score_iterator(
        self, images: Iterator[Any], each: Mapping[str, Any], same: Mapping[str, Any], progress: bool
    ) -> ScoreResult:
        """Scores of images as they come, a batch at a time. `each`: arguments of which there may be one an image."""
        images = each_image(images)
        each = {name: value if _is_one(value) else iter(value) for name, value in each.items()}
        parts: list[ScoreResult] = []
        with tqdm(desc="scoring images", disable=not progress) as bar:
            while batch := list(islice(images, same["batch_size"])):
                theirs = {
                    name: list(islice(value, len(batch))) if isinstance(value, Iterator) else value
                    for name, value in each.items()
                }
                parts.append(self.score(batch, **theirs, **same))
                bar.update(len(batch))
        n = sum(len(part.scores) for part in parts)
        if not n:
            raise ValueError("images is empty; pass at least one path, PIL image or array.")
        for name, value in each.items():
            if isinstance(value, Iterator) and next(value, _END) is not _END:
                raise ValueError(f"{name}= has more than {n} entries for {n} images; give one for all, or one each.")
        return ScoreResult(*(np.concatenate(column) for column in zip(*parts)))

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

    def taste_slopes(
        self, image_embeds: np.ndarray, text_embeds: np.ndarray | None, metadata_ids: torch.Tensor
    ) -> np.ndarray:
        """`(N, tastes)` float64: what a unit of each of a row's last numbers adds to the [`utilities`] of images, whose
        arguments these are; utilities are linear in them."""
        with scoring_mode(self.model):
            text = None if text_embeds is None else torch.from_numpy(text_embeds)
            return self.model.taste_slopes(torch.from_numpy(image_embeds), text, metadata_ids).double().cpu().numpy()

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
                names = ("scores", "std", "probs", "level_values", "utility")
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


def _image_list(images: Any) -> tuple[list[Any], bool]:
    """Images as a list, and whether it was a single one that was not in a list."""
    single = is_single(images)
    if not single and not isinstance(images, Iterable):
        raise ValueError(f"images={images!r}: give a path, PIL image or array, or several of them.")
    return list(each_image(images)), single


def _is_one(value: Any) -> bool:
    """Whether an argument is one for all images, rather than one each."""
    if isinstance(value, (str, Mapping, numbers.Integral)) or hasattr(value, "row"):
        return True
    return not isinstance(value, Iterable)


def _people_list(users: Any) -> list[Any]:
    one = isinstance(users, (str, numbers.Integral)) or hasattr(users, "row")
    if not one and (not isinstance(users, Iterable) or isinstance(users, Mapping)):
        raise ValueError(f"users={users!r}: give a list of trained participants' names and heads.")
    people = [users] if one else list(users)
    if not people:
        raise ValueError("users is empty; give at least one name or head, or leave it out for everyone's taste.")
    return people
