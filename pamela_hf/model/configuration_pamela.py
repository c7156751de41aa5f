"""Configuration of the PAMELA reward: sizes, vocabularies, rating scales and the name of the frozen encoder."""

import math
import re
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
        linear_share (`float`): share of linear taste in the utility, beside the fusion networks; 0 = off.
        linear_axes (`int`): principal axes of the features on which everyone's linear taste is fitted, by ridge
            regression of the images' mean ratings. linear_penalty (`float`): its penalty.
        taste_factors (`int`): directions of the features along which people's linear tastes differ from it; how much a
            person likes each is the rest of the row. 0 = off. factor_penalty (`float`): ridge penalty of the
            directions, in ratings an image.
        text_share (`float`): share of the prompt in the variance of the features that linear taste is about.
        metadata_share (`float`): share that what the features mean among images of one kind, by their metadata, has in
            the variance of those that taste factors are directions of; 0 = taste factors are the same for all kinds.
        normalize_embeds (`bool`): features are scaled to unit length before they are standardized.
        image_dropout, text_dropout, fusion_dropout (`float`): dropout of the features and inside the blocks; 0 = off.
        users (`list[str]`): trained participants.
        demographics, metadata (`dict[str, list[str]]`): vocabulary of each demographic and each image-metadata field.
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
        initializer_range (`float`): standard deviation of the embedding tables at the start.

    Raises:
        ValueError: a size that does not divide, an unknown form of `backbone`, an empty or unordered rating scale,
            a vocabulary with a repeated entry.
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
    linear_axes: int = 112
    linear_penalty: float = 0.3
    taste_factors: int = 16
    factor_penalty: float = 12.0
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
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.backbone_config, dict):
            values = dict(self.backbone_config)
            check_encoder_kind(values.get("model_type"))
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
        """Numbers in a person's row: `hidden_size` for the networks, then `taste_factors`."""
        return self.hidden_size + self.taste_factors

    def to_diff_dict(self) -> dict[str, Any]:
        """All values, defaults too: the difference to the defaults is taken against a default encoder's configuration,
        whose token ids transformers then warns about at every load."""
        return self.to_dict()

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
        for name in ("text_embed_dim", "interaction_rank", "taste_factors"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 (off) or more.")
        if self.unknown_width <= 0:
            raise ValueError(f"unknown_width={self.unknown_width} must be above 0.")
        shares = ("text_share", "metadata_share", "linear_share")
        for name in ("image_dropout", "text_dropout", "fusion_dropout", *shares):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1).")
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
