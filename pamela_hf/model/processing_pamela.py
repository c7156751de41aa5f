"""`PamelaProcessor`: images, prompts, people and metadata in; the tensors of [`PamelaRewardModel`] out.

Vocabularies and the encoder's name are read from the model's `config.json`, so that they are written in one place.
"""

import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging

from .configuration_pamela import LOCAL_ENCODER, PamelaConfig
from .encoder_pamela import (
    LOADING,
    asked_without_token,
    encoder_place,
    load_encoder_config,
    load_preprocessors,
    tokenize_prompts,
)

logger = logging.get_logger(__name__)


def is_missing(value: Any) -> bool:
    """Whether a value is how people and tables write "not known": `None`, NaN, `pd.NA`, `pd.NaT`, empty text."""
    if value is None or isinstance(value, str):
        return not (value and value.strip())
    if isinstance(value, (Mapping, Sequence)) or getattr(value, "ndim", 0):
        return False
    unequal = value != value  # NaN and NaT differ from themselves; of pd.NA even that is unknown
    return unequal is value or bool(unequal)


def align(name: str, value: Any, n: int) -> list[Any]:
    """One value for each of n images, from one for all (a text, a mapping, a head, a number, or nothing) or one each.

    Args:
        name: of the argument, for errors.

    Raises:
        ValueError: another number of values than n.
    """
    one = value is None or isinstance(value, (str, Mapping)) or hasattr(value, "row")
    if one or not isinstance(value, Iterable):
        return [value] * n
    values = list(value)
    if len(values) != n:
        raise ValueError(f"{name}= has {len(values)} entries for {n} images; give one for all, or one each.")
    return values


class PamelaProcessor(ProcessorMixin):
    r"""Prepares pairs of an image and a person.

    Args:
        config ([`PamelaConfig`]): vocabularies, rating scales and the encoder's name.
        image_processor (*optional*): the encoder's own; loaded from it when first needed.
        tokenizer (*optional*): the encoder's own; loaded from it when first needed.
    """

    attributes = []

    def __init__(self, config: PamelaConfig | None = None, image_processor: Any = None, tokenizer: Any = None):
        super().__init__()
        self.config = config if config is not None else PamelaConfig()
        self._image_processor, self._tokenizer = image_processor, tokenizer
        self._encoder_config: Any = None
        self._source: tuple[str, dict[str, Any]] | None = None  # where from_pretrained found it
        # by what each vocabulary is of: a field may be called "user"
        self._user_rows = _rows(self.config.users)
        self._field_rows = {
            kind: {field: _rows(values) for field, values in getattr(self.config, kind).items()}
            for kind in ("demographics", "metadata")
        }

    @classmethod
    def get_attributes(cls) -> list[str]:
        return []  # nothing of the encoder's is saved with the model unless the encoder itself is

    @property
    def encoder_config(self) -> Any:
        """The encoder's own configuration: prompts are tokenized as its family was trained."""
        if self.config.backbone_config is not None:
            return self.config.backbone_config
        if self._encoder_config is None:
            with LOADING:
                if self._encoder_config is None:
                    name, where = self._encoder_place()
                    with asked_without_token(name, where):
                        self._encoder_config = load_encoder_config(name, **where)
        return self._encoder_config

    # -- the encoder's own preprocessors, loaded when pixels or prompts first need them -------------------------
    def _load(self) -> None:
        if self._image_processor is None or self._tokenizer is None:
            with LOADING:
                if self._image_processor is None or self._tokenizer is None:
                    name, where = self._encoder_place()
                    where = {**where, "config": self.config.backbone_config}
                    with asked_without_token(name, where):
                        image_processor, tokenizer = load_preprocessors(name, **where)
                    self._image_processor = self._image_processor or image_processor
                    self._tokenizer = self._tokenizer or tokenizer

    def _encoder_place(self) -> tuple[str, dict[str, Any]]:
        source, where = self._source or (None, {})
        return encoder_place(self.config, source, where)

    @property
    def image_processor(self) -> Any:
        self._load()
        return self._image_processor

    @property
    def tokenizer(self) -> Any:
        self._load()
        return self._tokenizer

    # -- saving and loading: processor_config.json carries the auto_map only, the rest lies in config.json -------
    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        out = {"processor_class": type(self).__name__}
        if getattr(self, "auto_map", None):
            out["auto_map"] = self.auto_map
        return out

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> Any:
        out = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        if not os.path.exists(os.path.join(save_directory, "config.json")):
            self.config.save_pretrained(save_directory)
        if self.config.backbone == LOCAL_ENCODER:
            target = os.path.join(save_directory, LOCAL_ENCODER[2:])
            self.image_processor.save_pretrained(target)
            self.tokenizer.save_pretrained(target)
        return out

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "PamelaProcessor":
        """The processor of a saved model; the encoder's own preprocessors are loaded when they are first needed.

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            kwargs: `cache_dir`, `force_download`, `local_files_only`, `token`, `revision`, `subfolder`; `config`, the
                model's, if it is loaded already; `encoder_token` as in [`PamelaRewardModel.from_pretrained`].

        Raises:
            OSError: no such folder or repository.
        """
        keep = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
        where = {k: v for k, v in kwargs.items() if k in keep and v is not None}
        config = kwargs.get("config")
        encoder_token = kwargs.get("encoder_token")
        if not isinstance(config, PamelaConfig):
            config = PamelaConfig.from_pretrained(pretrained_model_name_or_path, **where)
        processor = cls(config)
        if encoder_token is not None:
            where = {**where, "encoder_token": encoder_token}
        processor._source = str(pretrained_model_name_or_path), where
        return processor

    # -- inputs ----------------------------------------------------------------------------------------------------
    def __call__(
        self,
        images: Any = None,
        prompts: str | Sequence[str | None] | None = None,
        user: str | Sequence[str | None] | None = None,
        demographics: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        scale: str | Sequence[str | None] | None = None,
        image_embeds: Any = None,
        text_embeds: Any = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        r"""Inputs of one batch of (image, person) pairs, aligned: one of each for every image, or one for all.

        Args:
            images: upright RGB PIL images or arrays `(H, W, 3)` uint8, as [`pamela_hf.files.images.open_image`] makes
                them of anything; or give `image_embeds` `(B, image_embed_dim)` instead.
            prompts: what an image was made from; a missing value ([`is_missing`]) = unknown.
            user: trained participants' ids; a missing value = a person the model has not met.
            demographics: `{"age": 34, "gender": "female", …}` (fields: `config.demographics`; `age` in years finds
                its bin).
            metadata: `{"group": "animal", "type": "Art", …}` (fields: `config.metadata`).
            scale: rating scale of the answer; default: `config.default_scale`.
            text_embeds: `(B, text_embed_dim)` in place of prompts; a row of zeros = no prompt.
            return_tensors: only "pt".

        Returns:
            `BatchFeature` with `pixel_values` (and what else the encoder takes) or `image_embeds`; `input_ids`,
            `prompt_mask (B,)` or `text_embeds`; `user_ids (B,)`, `demographic_ids (B, F)`, `metadata_ids (B, M)`,
            `scale_ids (B,)`.

        Raises:
            ValueError: no image, lengths that don't fit, an unknown user, field or scale.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors={return_tensors!r}: only 'pt' (PyTorch) is supported.")
        if (images is None) == (image_embeds is None):
            raise ValueError("Pass either images= or image_embeds=, one of the two; everything else is optional.")
        data: dict[str, Any] = {}
        if images is not None:
            images = list(images) if isinstance(images, (list, tuple)) else [images]
            n = len(images)
            if not n:
                raise ValueError("images=[] is empty; pass at least one image.")
            data.update(self.image_processor(images, return_tensors="pt"))
        else:
            data["image_embeds"] = torch.atleast_2d(torch.as_tensor(image_embeds))
            n = len(data["image_embeds"])
        if text_embeds is not None:
            data["text_embeds"] = torch.atleast_2d(torch.as_tensor(text_embeds)).expand(n, -1)
        elif prompts is not None:
            texts = clean_prompts(prompts, n)
            data["prompt_mask"] = torch.tensor([text is not None for text in texts])
            if data["prompt_mask"].any():
                data.update(tokenize_prompts(self.tokenizer, [t or "" for t in texts], self.encoder_config))
        data.update(self.encode_people(n, user, demographics))
        data["metadata_ids"] = self.field_ids("metadata", metadata, n)
        data["scale_ids"] = torch.tensor([self.scale_id(s) for s in align("scale", scale, n)])
        return BatchFeature(data)

    def preprocess_tensor(self, pixels: torch.Tensor) -> BatchFeature:
        """Model inputs of images given as a tensor, differentiable: gradients of a score reach the pixels.

        The same as a call gives of the same images up to the rounding to 8 bits that PIL images go through (scores of
        photographs differ by less than .01 of a rating unit on a scale of five levels).

        Args:
            pixels: `(N, 3, H, W)` floats in 0..1, RGB, upright.

        Returns:
            `BatchFeature` with `pixel_values`, and what else the encoder takes, on the device of `pixels`.

        Raises:
            ValueError: another shape, values outside 0..1, an encoder whose preprocessing has no counterpart.

        Example:

        ```python
        pixels = pixels.requires_grad_()
        model(**processor.preprocess_tensor(pixels), user_ids=torch.tensor([1])).scores.sum().backward()
        ```
        """
        from .pixels_pamela import preprocess_pixels  # for gradients only

        return BatchFeature(preprocess_pixels(self.image_processor, pixels))

    def encode_people(self, n: int, user: Any = None, demographics: Any = None) -> dict[str, torch.Tensor]:
        """`user_ids (n,)` and `demographic_ids (n, F)` of `n` people; arguments as in a call."""
        return {
            "user_ids": torch.tensor([self.user_id(u) for u in align("user", user, n)]),
            "demographic_ids": self.field_ids("demographics", demographics, n),
        }

    def user_id(self, user: str | int | None) -> int:
        """Row of a trained participant.

        Args:
            user: the participant's id (a whole number stands for its digits); a missing value is row 0, everyone.

        Raises:
            ValueError: a name the model does not know, or something else than a name.
        """
        if is_missing(user):
            return 0
        name = str(user) if isinstance(user, numbers.Integral) and not isinstance(user, bool) else user
        row = self._user_rows.get(name) if isinstance(name, str) else None
        if row is None:
            raise ValueError(
                f"user={user!r} is not among the {len(self.config.users)} people this model was trained on"
                f"{_examples(self.config.users)}. Pass None for the generic score, or fit a head for a new person."
            )
        return row

    def scale_id(self, scale: str | None) -> int:
        """Index of a rating scale; a missing value is the default one. Raises ValueError for one the model does not
        have."""
        names = list(self.config.rating_scales)
        scale = self.config.default_scale if is_missing(scale) else scale
        if scale not in names:
            raise ValueError(
                f"scale={scale!r} is not a rating scale of this model; it has {names}. "
                "`model.add_rating_scale(name, level_values)` adds one."
            )
        return names.index(scale)

    def field_id(self, kind: str, field: str, value: Any) -> int:
        """Row of a field's value.

        Args:
            kind: "demographics" or "metadata".
            field: one of the config's fields of that kind.
            value: a missing one is row 0, and so is one that did not occur in training, which is reported once.
        """
        if is_missing(value):
            return 0
        row = self._field_rows[kind][field].get(str(value))
        if row is None:
            logger.warning_once(f"{kind}: {field}={value!r} did not occur in training; it is taken as unknown.")
        return row or 0

    def field_ids(self, kind: str, values: Any, n: int) -> torch.Tensor:
        """Rows `(n, fields)` of what is known of n people or images.

        Args:
            kind: "demographics" or "metadata".
            values: one mapping field → value for all, or one each; a missing mapping = nothing is known. Of people,
                `age` in years, or as one of the model's bins, stands for `age_binned`.

        Raises:
            ValueError: not a mapping, a field that the model does not have, an age that is not a number.
        """
        fields = list(getattr(self.config, kind))
        ids = [self._ids_of(kind, fields, given) for given in align(kind, values, n)]
        return torch.tensor(ids, dtype=torch.long).reshape(n, len(fields))

    def _ids_of(self, kind: str, fields: Sequence[str], given: Any) -> list[int]:
        if not isinstance(given, Mapping):
            if not is_missing(given):
                raise ValueError(f"{kind}={given!r}: give a mapping of fields to values; this model has {fields}.")
            given = {}
        row = dict(given)
        if kind == "demographics" and "age" in row and "age" not in fields and "age_binned" in fields:
            age = row.pop("age")
            if is_missing(row.get("age_binned")):
                row["age_binned"] = age_bin(age, self.config.demographics["age_binned"])
        if extra := [field for field in row if field not in fields]:
            raise ValueError(f"{kind}: {extra[0]!r} is not a field of this model; it has {fields}.")
        return [self.field_id(kind, field, row.get(field)) for field in fields]


def clean_prompts(prompts: Any, n: int) -> list[str | None]:
    """The prompts of n images, from one for all or one each: texts, and `None` for missing ones.

    Raises:
        ValueError: another number of prompts, or one that is not text.
    """
    texts = [None if is_missing(text) else text for text in align("prompts", prompts, n)]
    for text in texts:
        if not isinstance(text, (str, type(None))):
            raise ValueError(f"prompts={text!r}: a prompt is a text, or None where an image has none.")
    return texts


def age_bin(age: Any, bins: Sequence[str]) -> str | None:
    """The bin that an age is in.

    Args:
        age: years, as a number or its digits, or one of `bins`; a missing value has no bin.
        bins: such as "30-39" or "60+".

    Returns:
        One of `bins`, or `None` where none holds the age.

    Raises:
        ValueError: the age is neither years nor a bin.
    """
    if is_missing(age) or age in bins:
        return None if is_missing(age) else age
    try:
        years = float(age)
    except (TypeError, ValueError):
        raise ValueError(f"demographics: age={age!r}: give years such as 34, or one of {list(bins)}.") from None
    for name in bins:
        low, _, high = name.replace("–", "-").rstrip("+").partition("-")
        if low.strip().isdigit() and float(low) <= years <= (float(high) if high.strip().isdigit() else 200):
            return name
    return None


def _rows(values: Sequence[str]) -> dict[str, int]:
    return {value: i + 1 for i, value in enumerate(values)}


def _examples(values: Sequence[str]) -> str:
    return f" (such as {', '.join(repr(v) for v in values[:3])})" if values else ""
