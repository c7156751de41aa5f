"""Configuration of the PAMELA reward: sizes, vocabularies, rating scales and the name of the frozen encoder."""

import math
import re
from numbers import Integral, Real
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
LOCAL_ENCODER = "./encoder"
ENCODER_KINDS = (
    "aimv2", "align", "altclip", "blip", "chinese_clip", "clip", "clipseg", "groupvit", "metaclip_2", "siglip",
    "siglip2",
)  # fmt: skip
"""`model_type`s of encoders with `get_image_features` and `get_text_features`, whose classes are made of their own
configuration alone. (Some other kinds download a backbone of their own as soon as they are made.)"""


def check_encoder_kind(model_type: str | None, name: str = "backbone_config") -> None:
    """Raises ValueError unless a `model_type` is of [`ENCODER_KINDS`]; `name` is what the error calls the encoder."""
    if model_type not in ENCODER_KINDS:
        raise ValueError(
            f"{name} is of the kind {model_type!r}, which is not an image–text encoder with get_image_features and "
            f"get_text_features that is known here. Use one of the kinds {', '.join(ENCODER_KINDS)}, such as "
            "'google/siglip2-so400m-patch14-384'."
        )


_MOST = {
    "image_embed_dim": 65_536, "text_embed_dim": 65_536, "hidden_size": 8192, "num_fusion_members": 256,
    "num_fusion_layers": 64, "num_attention_heads": 256, "intermediate_size": 65_536, "interaction_rank": 4096,
    "linear_axes": 65_536, "taste_factors": 4096, "taste_axes": 4096,
}  # fmt: skip
_NUMBERS = (
    "unknown_width", "linear_share", "taste_share", "linear_penalty", "factor_penalty", "text_share", "metadata_share",
    "image_dropout", "text_dropout", "fusion_dropout", "initializer_range",
)  # fmt: skip
_TEXTS = ("backbone", "backbone_revision", "preprocessing", "default_scale", "base_identity", "weights_sha256")
MOST_TASTE_SHARE = 4
_MOST_PARAMETERS = 2_000_000_000
_MOST_PEOPLE = 10_000_000
_MOST_ENTRIES = 10_000  # of any other vocabulary, and of rating scales
_LONGEST_NAME = 1000
# controls, halves of surrogate pairs, separators of lines, overrides of text direction; joiners of letters are none
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")
_MOST_OF_AN_ENCODER = {
    "num_hidden_layers": 256, "num_layers": 256, "depth": 256, "hidden_size": 32_768, "intermediate_size": 262_144,
    "vocab_size": 4_000_000, "max_position_embeddings": 262_144, "image_size": 8192, "num_patches": 1_048_576,
    "projection_dim": 65_536, "projection_size": 65_536,
}  # fmt: skip


def check_attention(values: Any, name: str) -> None:
    """Raises ValueError if a configuration takes its attention from a repository on the Hub, which is code."""
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        if "/" in str(values.get(key) or ""):
            raise ValueError(
                f"{name}.{key}={_shown(values[key])} is code of another repository, which is never run. Use 'sdpa' or "
                "'eager'."
            )


def check_encoder_size(values: Any, name: str = "backbone_config", depth: int = 0) -> None:
    """Raises ValueError if an encoder's configuration asks for more than any encoder has, or for code of another
    repository, before it is built."""
    check_attention(values, name)
    if depth > 3:
        raise ValueError(f"{name} holds more than three configurations within each other; no encoder does.")
    for key, value in values.items():
        if isinstance(value, dict):
            check_encoder_size(value, f"{name}.{key}", depth + 1)
        elif key in _MOST_OF_AN_ENCODER and isinstance(value, Real) and not value <= _MOST_OF_AN_ENCODER[key]:
            raise ValueError(f"{name}.{key}={value!r}; at most {_MOST_OF_AN_ENCODER[key]:,} is allowed.")


class PamelaConfig(PreTrainedConfig):
    r"""What a [`PamelaRewardModel`] is made of.

    Row 0 of every table means "unknown"; entry `i` of a vocabulary below is row `i + 1`.

    Args:
        backbone (`str`, *optional*):
            The frozen encoder: a Hub id (`google/siglip2-so400m-patch14-384`), or `./encoder` when it lies in that
            subfolder of the model's own repository. `None`: the model knows embeddings only.
        backbone_revision (`str`, *optional*): commit or tag of `backbone`.
        backbone_config (`dict` or `PreTrainedConfig`, *optional*): the encoder's configuration.
        preprocessing (`str`, *optional*): fingerprint of the preprocessing its features were made with.
        image_embed_dim (`int`): width of the encoder's pooled image features.
        text_embed_dim (`int`): width of its pooled text features; 0 = the model takes no prompt.
        hidden_size (`int`): width of the tokens, and of the part of a person's row that the networks take. Everything
            personal is a function of that row.
        num_fusion_members (`int`): fusion networks trained side by side on the same rows and averaged; 1 = only one.
        num_fusion_layers (`int`): transformer blocks of each member.
        num_attention_heads (`int`): heads of each block.
        intermediate_size (`int`): width of a block's feed-forward part.
        interaction_rank (`int`): factors of each member's multiplicative user × image term; 0 = off.
        unknown_width (`float`): length of the networks' part of a row within which a person counts as hardly known:
            predictions there are as uncertain as for row 0, beyond it as for trained people.
        linear_share (`float`): share of everyone's linear taste in the utility, beside the fusion networks; 0 = off.
        taste_share (`float`): weight in the utility of what is linear in a person's own taste; 0 = off.
        linear_axes (`int`): principal axes of the features on which everyone's linear taste is fitted, by ridge
            regression of the images' mean ratings.
        linear_penalty (`float`): penalty of that ridge regression.
        taste_factors (`int`): directions of the features along which people's linear tastes differ from it; how much a
            person likes each stands in the row. 0 = off: each person's own (`taste_axes`).
        factor_penalty (`float`): ridge penalty of the directions, in ratings an image, of which 25 count at most.
        taste_axes (`int`): directions along which a person's taste may lie, too, beside those that people share:
            everyone's taste, of which some have more than others, and principal axes of the features. What a few
            ratings say of them is little; a hundred say more than the shared directions can hold. 0 = off.
        text_share (`float`): share of the prompt in the variance of the features that linear taste is about.
        metadata_share (`float`): share that what the features mean among images of one kind, by their metadata, has in
            the variance of those that taste factors are directions of; 0 = taste factors are the same for all kinds.
        normalize_embeds (`bool`): features are scaled to unit length before they are standardized.
        image_dropout (`float`): dropout of the image features; 0 = off.
        text_dropout (`float`): dropout of the text features; 0 = off.
        fusion_dropout (`float`): dropout inside the blocks; 0 = off.
        users (`list[str]`): trained participants.
        demographics (`dict[str, list[str]]`): vocabulary of each demographic.
        metadata (`dict[str, list[str]]`): vocabulary of each image-metadata field.
        rating_scales (`dict[str, list[float]]`): ascending level values of each rating scale.
        default_scale (`str`, *optional*): the scale of an answer when none is asked for; default: the first by name.
        base_identity (`str`, *optional*): sha256 over the head-relevant tensors, written when the model is saved.
        cast_identities (`list[str]`): the same of these tensors after casts to lower precisions: a cast is the same
            base.
        weights_sha256 (`str`, *optional*): hash over all saved weights, compared when they are loaded.
        simulated (`bool`): trained on simulated ratings.
        choices (`bool`): trained on choices between two images, too: it knows how a difference of utilities becomes a
            choice, and how likely a tie is. Where no ratings were trained on, a rating scale's levels are equally
            likely and scores are relative: they order images, and say nothing of how somebody would rate.
        blank (`bool`): made from features alone, before anybody's ratings: everyone's taste is the same for all images,
            and a head is all there is to know, see [`PamelaRewardModel.blank`].
        releases (`dict[str, dict[str, str]]`, *optional*): prefix of participants' ids ("" or `source/`) → license, url
            and citation of the published ratings they are known from. All other participants are somebody's own raters
            and get pseudonyms when the model is published.
        chosen (`dict[str, dict[str, float]]`, *optional*): settings that training chose itself → `value`, and `low` and
            `high`, between which it would have been as good (see [`pamela_hf.training.settings`]).
        initializer_range (`float`): standard deviation of the embedding tables at the start.

    Raises:
        ValueError: a value of another type or beyond what any model has (nothing is built then), a size that does not
            divide, an unknown form of `backbone`, an empty or unordered rating scale, a vocabulary with a repeated
            entry.
    """

    model_type = "pamela"
    sub_configs = {"backbone_config": AutoConfig}

    backbone: str | None = None
    backbone_revision: str | None = None
    preprocessing: str | None = None
    backbone_config: dict | PreTrainedConfig | None = None
    image_embed_dim: int = 1152
    text_embed_dim: int = 1152
    hidden_size: int = 64
    num_fusion_members: int = 8
    num_fusion_layers: int = 1
    num_attention_heads: int = 4
    intermediate_size: int = 128
    interaction_rank: int = 16
    unknown_width: float = 0.15
    linear_share: float = 0.5
    taste_share: float = 0.5
    linear_axes: int = 112
    linear_penalty: float = 0.3
    taste_factors: int = 16
    factor_penalty: float = 12.0
    taste_axes: int = 64
    text_share: float = 0.2
    metadata_share: float = 0.0
    normalize_embeds: bool = True
    image_dropout: float = 0.5
    text_dropout: float = 0.3
    fusion_dropout: float = 0.1
    users: list[str] | None = None
    demographics: dict[str, list[str]] | None = None
    metadata: dict[str, list[str]] | None = None
    rating_scales: dict[str, list[float]] | None = None
    default_scale: str | None = None
    base_identity: str | None = None
    cast_identities: list[str] | None = None
    weights_sha256: str | None = None
    simulated: bool = False
    choices: bool = False
    blank: bool = False
    releases: dict[str, dict[str, str]] | None = None
    chosen: dict[str, dict[str, float]] | None = None
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        self._check_types()
        check_attention(kwargs, "config")
        if isinstance(self.backbone_config, dict):
            values = dict(self.backbone_config)
            check_encoder_kind(values.get("model_type"))
            check_encoder_size(values)
            self.backbone_config = AutoConfig.for_model(values.pop("model_type"), **values)
        self.cast_identities = list(self.cast_identities or [])
        self.users = list(self.users or [])
        # fields and scales are known by their order, and JSON files sort their keys
        self.demographics = {name: list(values) for name, values in sorted((self.demographics or {}).items())}
        self.metadata = {name: list(values) for name, values in sorted((self.metadata or {}).items())}
        scales = self.rating_scales or {"rating": [1, 2, 3, 4, 5]}
        self.rating_scales = {name: [float(v) for v in values] for name, values in sorted(scales.items())}
        if self.default_scale is None:
            self.default_scale = next(iter(self.rating_scales))
        self._check()
        super().__post_init__(**kwargs)

    @property
    def row_size(self) -> int:
        """Numbers in a person's row: `hidden_size` for the networks, then `tastes`."""
        return self.hidden_size + self.tastes

    @property
    def tastes(self) -> int:
        """Directions of linear taste that people differ in: `taste_factors`, then `taste_axes`."""
        return self.taste_factors + self.taste_axes

    def to_diff_dict(self) -> dict[str, Any]:
        """All values, defaults too: the difference to the defaults is taken against a default encoder's configuration,
        whose token ids transformers then warns about at every load."""
        return self.to_dict()

    def _check_types(self) -> None:
        """A config.json is a stranger's: types, ranges and sizes of everything, before anything is made of it."""
        for name, most in _MOST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value <= most:
                raise ValueError(f"{name}={_shown(value)} must be a whole number from 0 to {most:,}.")
        for name in _NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1e6:
                raise ValueError(f"{name}={_shown(value)} must be a number from 0 to 1,000,000.")
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None and not _is_name(value):
                raise ValueError(f"{name}={_shown(value)} must be a text of 1 to {_LONGEST_NAME} printable letters.")
        for name in ("normalize_embeds", "simulated", "choices", "blank"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={_shown(getattr(self, name))} must be true or false.")
        _check_names("users", self.users, _MOST_PEOPLE)
        _check_names("cast_identities", self.cast_identities, 16)
        for name in ("demographics", "metadata", "rating_scales", "releases", "chosen"):
            fields = getattr(self, name)
            if fields is None:
                continue
            if not isinstance(fields, dict) or len(fields) > _MOST_ENTRIES:
                raise ValueError(f"{name}={_shown(fields)} must be a mapping of at most {_MOST_ENTRIES:,} entries.")
            for key, values in fields.items():
                _check_entry(name, key, values)
        if self.backbone_config is not None and not isinstance(self.backbone_config, (dict, PreTrainedConfig)):
            raise ValueError(f"backbone_config={_shown(self.backbone_config)} must be a mapping.")
        if self._fusion_parameters() > _MOST_PARAMETERS:
            raise ValueError(
                f"num_fusion_members={self.num_fusion_members}, num_fusion_layers={self.num_fusion_layers}, "
                f"hidden_size={self.hidden_size} and intermediate_size={self.intermediate_size} make more than "
                f"{_MOST_PARAMETERS:,} parameters."
            )

    def _fusion_parameters(self) -> int:
        """About how many parameters the fusion networks have."""
        hidden = self.hidden_size
        block = 4 * hidden * hidden + 2 * hidden * self.intermediate_size
        inputs = hidden * (self.image_embed_dim + self.text_embed_dim)
        return self.num_fusion_members * (self.num_fusion_layers * block + inputs + self.interaction_rank * 3 * hidden)

    def _check(self) -> None:
        if self.backbone is not None and self.backbone != LOCAL_ENCODER and not _HUB_ID.match(self.backbone):
            raise ValueError(
                f"backbone={self.backbone!r} is neither a Hub id ('owner/name') nor {LOCAL_ENCODER!r}. Put an encoder "
                f"of your own into the model's folder as 'encoder/' and name it {LOCAL_ENCODER!r}."
            )
        sizes = ("image_embed_dim", "hidden_size", "num_fusion_members", "num_fusion_layers", "num_attention_heads")
        for name in (*sizes, "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of num_attention_heads={self.num_attention_heads}."
            )
        for name in ("text_embed_dim", "interaction_rank", "taste_factors", "taste_axes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 (off) or more.")
        if self.unknown_width <= 0:
            raise ValueError(f"unknown_width={self.unknown_width} must be above 0.")
        shares = ("text_share", "metadata_share", "linear_share")
        for name in ("image_dropout", "text_dropout", "fusion_dropout", *shares):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1).")
        if not 0 <= self.taste_share <= MOST_TASTE_SHARE:
            raise ValueError(f"taste_share={self.taste_share} must lie in [0, {MOST_TASTE_SHARE}].")
        if self.blank and not self.taste_share:
            raise ValueError("taste_share=0 leaves a blank base nothing to score by; it must be above 0.")
        kinds = 1 + sum(len(values) + 1 for values in self.metadata.values())
        readings = (self.image_embed_dim + self.text_embed_dim) * kinds * (self.tastes + 1)
        if readings > _MOST_PARAMETERS:
            raise ValueError(
                f"taste_factors={self.taste_factors}, taste_axes={self.taste_axes}, {kinds:,} kinds of images by "
                f"metadata and features of width {self.image_embed_dim} make more than {_MOST_PARAMETERS:,} numbers."
            )
        if self.default_scale not in self.rating_scales:
            known = list(self.rating_scales)
            raise ValueError(f"default_scale={self.default_scale!r} is not among rating_scales: {known}.")
        for name, values in self.rating_scales.items():
            if len(values) < 2 or any(not math.isfinite(v) for v in values) or values != sorted(set(values)):
                raise ValueError(
                    f"rating_scales[{name!r}]={values} must hold at least two finite level values in ascending order."
                )
        vocabularies = {"users": self.users, **self.demographics, **self.metadata}
        for name, values in vocabularies.items():
            if len(set(values)) != len(values):
                twice = sorted({v for v in values if values.count(v) > 1})[:3]
                raise ValueError(f"The vocabulary of {name} holds {twice} more than once; each entry is one row.")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _LONGEST_NAME and not _UNPRINTABLE.search(value)


def _check_names(name: str, values: Any, most: int) -> None:
    """Raises ValueError unless `values` is None or a list of at most `most` names."""
    if values is None:
        return
    if not isinstance(values, (list, tuple)) or len(values) > most:
        raise ValueError(f"{name}={_shown(values)} must be a list of at most {most:,} texts.")
    for value in values:
        if not _is_name(value):
            raise ValueError(f"{name} holds {_shown(value)}; allowed: texts of 1 to {_LONGEST_NAME} printable letters.")


def _check_entry(name: str, key: Any, values: Any) -> None:
    """Raises ValueError unless an entry of a mapping is what that mapping holds."""
    if not (_is_name(key) or (name in ("releases", "rating_scales") and key == "")):
        raise ValueError(f"{name} has the key {_shown(key)}; allowed: texts of 1 to {_LONGEST_NAME} printable letters.")
    if name == "releases":
        if not isinstance(values, dict) or len(values) > 8 or not all(map(_is_name, values.values())):
            raise ValueError(f"releases[{_shown(key)}]={_shown(values)} must be a mapping of at most 8 texts.")
    elif name == "chosen":
        numbers = values.values() if isinstance(values, dict) and len(values) <= 8 else [None]
        if any(isinstance(v, bool) or not isinstance(v, Real) for v in numbers):
            raise ValueError(f"chosen[{_shown(key)}]={_shown(values)} must be a mapping to at most 8 numbers.")
    elif name == "rating_scales":
        numbers = isinstance(values, (list, tuple)) and len(values) <= _MOST_ENTRIES
        if not numbers or any(isinstance(v, bool) or not isinstance(v, Real) for v in values):
            raise ValueError(f"rating_scales[{_shown(key)}]={_shown(values)} must be a list of numbers.")
    else:
        _check_names(f"{name}[{_shown(key)}]", values, _MOST_ENTRIES)
