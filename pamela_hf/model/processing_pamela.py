"""`PamelaProcessor`: images, prompts, people and metadata in; the tensors of [`PamelaRewardModel`] out.

Vocabularies and the encoder's name are read from the model's `config.json`, so that they are written in one place.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging

from .configuration_pamela import LOCAL_ENCODER, PamelaConfig

logger = logging.get_logger(__name__)


def load_preprocessors(
    backbone: str, revision: str | None = None, subfolder: str = "", **kwargs: Any
) -> tuple[Any, Any]:
    """Image processor (PIL backend: the same pixels wherever torchvision happens to be installed) and tokenizer."""
    # AutoTokenizer and AutoImageProcessor never run code of the encoder's repository: trust_remote_code stays off.
    where = {"revision": revision, "subfolder": subfolder, **kwargs}
    return (
        AutoImageProcessor.from_pretrained(backbone, backend="pil", **where),
        AutoTokenizer.from_pretrained(backbone, **where),
    )


def tokenize_prompts(tokenizer: Any, prompts: Sequence[str], text_config: Any, model_type: str) -> dict[str, Any]:
    """Token ids of prompts as the encoder was trained on them, as PyTorch tensors `(B, L)`.

    The SigLIP family was trained on lower-cased text padded on the right to a fixed length and without an attention
    mask (big_vision's text transformer); other encoders get the mask of their own tokenizer.
    """
    siglip = model_type.startswith("siglip")
    length = getattr(text_config, "max_position_embeddings", None) or tokenizer.model_max_length
    encoded = tokenizer(
        [p.lower() for p in prompts] if siglip else list(prompts),
        padding="max_length" if siglip else True,
        padding_side="right",
        truncation=True,
        max_length=min(length, tokenizer.model_max_length),
        return_tensors="pt",
    )
    return {"input_ids": encoded["input_ids"]} if siglip else dict(encoded)


def preprocessing_fingerprint(image_processor: Any, tokenizer: Any) -> str:
    """First 16 hex digits of the sha256 over what fixes an encoder's inputs: the image processor's settings and the
    tokenizer's vocabulary and rules. Two caches with different fingerprints hold features that don't compare."""
    # version stamps and class names differ between releases that give the same pixels; settings don't
    named = ("transformers_version", "image_processor_type", "processor_class", "_processor_class")
    settings = {k: v for k, v in image_processor.to_dict().items() if k not in named}
    rules = tokenizer.backend_tokenizer.to_str() if hasattr(tokenizer, "backend_tokenizer") else repr(tokenizer)
    text = json.dumps(settings, sort_keys=True, default=str) + hashlib.sha256(rules.encode()).hexdigest()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class PamelaProcessor(ProcessorMixin):
    r"""Prepares pairs of an image and a person.

    Args:
        config ([`PamelaConfig`]): vocabularies, rating scales and the encoder's name.
        image_processor, tokenizer (*optional*): the encoder's own; loaded from it when first needed.
    """

    attributes = []

    def __init__(self, config: PamelaConfig | None = None, image_processor: Any = None, tokenizer: Any = None):
        super().__init__()
        self.config = config if config is not None else PamelaConfig()
        self._image_processor, self._tokenizer = image_processor, tokenizer
        self._encoder_config: Any = None
        self._source: tuple[str, dict[str, Any]] | None = None  # where from_pretrained found it
        self._rows = {
            field: {value: i + 1 for i, value in enumerate(values)}
            for field, values in {
                "user": self.config.users,
                **self.config.demographics,
                **self.config.metadata,
            }.items()
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
            name, where = self._encoder_place()
            self._encoder_config = AutoConfig.from_pretrained(name, **where)
        return self._encoder_config

    # -- the encoder's own preprocessors, loaded when pixels or prompts first need them -------------------------
    def _load(self) -> None:
        if self._image_processor is not None and self._tokenizer is not None:
            return
        name, where = self._encoder_place()
        loaded = load_preprocessors(name, **where)
        self._image_processor = self._image_processor or loaded[0]
        self._tokenizer = self._tokenizer or loaded[1]

    def _encoder_place(self) -> tuple[str, dict[str, Any]]:
        if self.config.backbone is None:
            raise ValueError(
                "This model was trained from embeddings and names no encoder, so it takes no pixels and no prompt "
                "text. Pass image_embeds= (and text_embeds=) made by the encoder of its training data."
            )
        if self.config.backbone != LOCAL_ENCODER:
            where = {k: v for k, v in (self._source or ("", {}))[1].items() if k != "subfolder"}
            return self.config.backbone, {**where, "revision": self.config.backbone_revision}
        if self._source is None:
            raise ValueError("The encoder lies in the model's own folder: load the processor with from_pretrained.")
        name, where = self._source
        return name, {**where, "subfolder": posixpath.join(where.get("subfolder", ""), LOCAL_ENCODER[2:])}

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
        keep = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
        where = {k: v for k, v in kwargs.items() if k in keep and v is not None}
        config = kwargs.get("config")
        if not isinstance(config, PamelaConfig):
            config = PamelaConfig.from_pretrained(pretrained_model_name_or_path, **where)
        processor = cls(config)
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
            images: upright RGB PIL images or arrays `(H, W, 3)` uint8, as `pamela_hf.scoring.open_image` makes them of
                anything; or give `image_embeds` `(B, image_embed_dim)` instead.
            prompts: what an image was made from; `None` or "" = unknown.
            user: trained participants' ids; `None` = a person the model has not met.
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
            texts = self._align("prompts", prompts, n)
            data["prompt_mask"] = torch.tensor([bool(t and t.strip()) for t in texts])
            if data["prompt_mask"].any():
                config = self.encoder_config
                data.update(
                    tokenize_prompts(
                        self.tokenizer,
                        [t or "" for t in texts],
                        getattr(config, "text_config", config),
                        config.model_type,
                    )
                )
        data.update(self.encode_people(n, user, demographics))
        data["metadata_ids"] = self._field_ids("metadata", self._align("metadata", metadata, n))
        data["scale_ids"] = torch.tensor([self.scale_id(s) for s in self._align("scale", scale, n)])
        return BatchFeature(data)

    def encode_people(self, n: int, user: Any = None, demographics: Any = None) -> dict[str, torch.Tensor]:
        """`user_ids (n,)` and `demographic_ids (n, F)` of `n` people."""
        return {
            "user_ids": torch.tensor([self.user_id(u) for u in self._align("user", user, n)]),
            "demographic_ids": self._field_ids("demographics", self._align("demographics", demographics, n)),
        }

    def user_id(self, user: str | None) -> int:
        """Row of a trained participant; `None` is row 0. Raises ValueError for a name the model does not know."""
        if user is None:
            return 0
        try:
            return self._rows["user"][user]
        except KeyError:
            raise ValueError(
                f"user={user!r} is not among the {len(self.config.users)} people this model was trained on"
                f"{_examples(self.config.users)}. Pass None for the generic score, or fit a head for a new person."
            ) from None

    def scale_id(self, scale: str | None) -> int:
        """Index of a rating scale; `None` is the default one. Raises ValueError for one the model does not have."""
        names = list(self.config.rating_scales)
        scale = self.config.default_scale if scale is None else scale
        if scale not in names:
            raise ValueError(
                f"scale={scale!r} is not a rating scale of this model; it has {names}. "
                "`model.add_rating_scale(name, level_values)` adds one."
            )
        return names.index(scale)

    def field_id(self, kind: str, field: str, value: Any) -> int:
        """Row of one demographic (`kind="demographics"`) or metadata value; unknown values are row 0, said once."""
        if value is None or value != value:  # NaN is how tables spell a missing value
            return 0
        row = self._rows[field].get(str(value))
        if row is None:
            logger.warning_once(f"{kind}: {field}={value!r} did not occur in training; it is taken as unknown.")
        return row or 0

    def _field_ids(self, kind: str, rows: Sequence[Mapping[str, Any] | None]) -> torch.Tensor:
        fields = list(getattr(self.config, kind))
        ids = []
        for row in rows:
            row = dict(row or {})
            if kind == "demographics" and "age" in row and "age_binned" in fields:
                age = row.pop("age")
                row.setdefault("age_binned", _age_bin(age, self.config.demographics["age_binned"]))
            if extra := [k for k in row if k not in fields]:
                raise ValueError(f"{kind}: {extra[0]!r} is not a field of this model; it has {fields}.")
            ids.append([self.field_id(kind, field, row.get(field)) for field in fields])
        return torch.tensor(ids, dtype=torch.long).reshape(len(rows), len(fields))

    @staticmethod
    def _align(name: str, value: Any, n: int) -> list[Any]:
        if value is None or isinstance(value, (str, Mapping)):
            return [value] * n
        values = list(value)
        if len(values) != n:
            raise ValueError(f"{name}= has {len(values)} entries for {n} images; give one for all, or one each.")
        return values


def _examples(values: Sequence[str]) -> str:
    return f" (such as {', '.join(repr(v) for v in values[:3])})" if values else ""


def _age_bin(age: Any, bins: Sequence[str]) -> str | None:
    """The bin such as '30-39' or '60+' that holds an age in years; None where no bin does."""
    if age is None or age != age:
        return None
    for name in bins:
        low, _, high = name.replace("–", "-").rstrip("+").partition("-")
        if low.strip().isdigit() and float(low) <= float(age) <= (float(high) if high.strip().isdigit() else 200):
            return name
    return None
