"""`PamelaRewardModel`: how much this person will like this image.

A frozen image–text encoder gives pooled features. A few small fusion networks, each a shallow transformer over the
tokens score, image, prompt, user, demographics and metadata plus a multiplicative user × image term, turn them into a
utility. An ordinal link turns the utility into the probability of every level of a rating scale.
(Maerten et al., *Personalizing Text-to-Image Generation to Individual Taste*, arXiv 2604.07427.)
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_pamela import LOCAL_ENCODER, PamelaConfig, check_encoder_kind
from .encoder_pamela import (
    LOADING,
    NO_ADAPTER,
    TOKEN_INPUTS,
    asked_without_token,
    encode_images,
    encode_prompts,
    encoder_place,
    encoding_with_gradients,
    load_encoder,
)
from .features_pamela import PamelaFeatures
from .fusion_pamela import ImageSide, Pairs, PairTokens, PamelaFusion, PamelaFusionBlock
from .grid_pamela import GridMember, GridMemory, GridPeople, common_reference
from .losses import ChoiceTargets, RatingTargets, choice_log_probs, preference_probability
from .scales_pamela import RatingScalesMixin, equal_cutpoints, scale_key
from .weights_pamela import base_hash, cast_hashes, checkpoint_hash, content_hash

IMAGES_AT_ONCE = 2048
"""Images whose part in the networks is in memory at a time while a grid is scored (about 5 kB an image)."""


@dataclass
class PamelaRewardOutput(ModelOutput):
    """Scores of B pairs of an image and a person; K is the number of levels of the longest rating scale.

    Attributes:
        loss: scalar, when `labels` were given.
        utility: `(B,)`, unbounded, higher = liked more; differences are log-odds of preference for one person.
        scores: `(B,)` expected rating on the asked scale, within that scale's lowest and highest level.
        std: `(B,)` standard deviation of that rating, in rating units.
        probs: `(B, K)` probability of each level, 0 beyond a scale's own.
        level_values: `(B, K)` the levels' ratings, NaN beyond a scale's own.
    """

    loss: Tensor | None = None
    utility: Tensor | None = None
    scores: Tensor | None = None
    std: Tensor | None = None
    probs: Tensor | None = None
    level_values: Tensor | None = None


@dataclass
class ReadImages:
    """What the model makes of N images before it looks at people.

    Attributes:
        sides: of each member, to be gone through once unless it is a list.
        readings: `(N, kinds × (taste_factors + 1))` of [`PamelaFeatures.read`].
        prompt_readings: what the images' prompts add to them; `None` = no prompts.
        has_prompt: `(N,)` bool; `None` = no prompts.
    """

    sides: Iterable[ImageSide]
    readings: Tensor
    prompt_readings: Tensor | None
    has_prompt: Tensor | None

    def part(self, low: int, high: int) -> "ReadImages":
        """The same of images `low` to `high`."""
        values = (self.readings, self.prompt_readings, self.has_prompt)
        cut = (None if value is None else value[low:high] for value in values)
        return ReadImages([side.part(low, high) for side in self.sides], *cut)


class PamelaRewardModel(RatingScalesMixin, PreTrainedModel):
    r"""Predicts a person's rating of an image.

    A person is one vector of `row_size`, the deviation from everyone's taste: row 0 of `user_embedding`, the
    unknown person, is the zero vector and stays it. `forward` and `score_matrix` take `user_ids` (rows of trained
    participants) or such vectors themselves as `user_embeds`.
    """

    config_class = PamelaConfig
    base_model_prefix = "pamela"
    main_input_name = "image_embeds"
    supports_gradient_checkpointing = True
    _keys_to_ignore_on_load_missing = [r"^backbone\."]

    def __init__(self, config: PamelaConfig):
        super().__init__(config)
        self._where: dict[str, Any] = {}  # how from_pretrained reached the model's own repository
        # Loaded when pixels first need it, see load_backbone. Its place is there from the start: other threads may go
        # through the modules meanwhile.
        self.register_module("backbone", None)
        self.user_embedding = nn.Embedding(len(config.users) + 1, config.row_size, padding_idx=0)
        self.style = nn.Linear(config.hidden_size, 2, bias=False)  # shift and log-stretch of a person's scale use
        self.unknown_stretch = nn.Parameter(torch.zeros(1))  # log-stretch of an unknown person's predictions
        self.members = nn.ModuleList(PamelaFusion(config) for _ in range(config.num_fusion_members))
        if config.choices:
            self.choice_link = nn.Parameter(torch.zeros(2))  # log-stretch of differences of utilities, log ν of ties
        self._add_cutpoints(config)
        self.features = PamelaFeatures(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=std)
            if module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, PamelaFusionBlock):
            for linear in (module.out_proj, module.fc2):  # blocks start near the identity
                init.normal_(linear.weight, std=0.02)
                init.zeros_(linear.bias)
        elif isinstance(module, PamelaFusion):
            for parameter in (module.score_token, module.token_type):
                init.normal_(parameter, std=std)
            if self.config.text_embed_dim:
                init.zeros_(module.no_prompt)
            init.zeros_(module.head.bias)
            if self.config.interaction_rank:
                init.normal_(module.interaction_user.weight, std=1 / math.sqrt(self.config.hidden_size))
        elif isinstance(module, nn.ParameterDict):
            for parameter in module.values():
                init.constant_(parameter, math.log(math.expm1(0.8)))  # gaps of .8 logits
                init.constant_(parameter[:1], -2.0)
        elif isinstance(module, PamelaRewardModel):
            init.normal_(module.style.weight[0], std=0.9 / math.sqrt(self.config.hidden_size))
            init.normal_(module.style.weight[1], std=0.1)
            init.zeros_(module.unknown_stretch)
            if self.config.choices:
                init.zeros_(module.choice_link)
        elif isinstance(module, PamelaFeatures):
            for name, buffer in module.named_buffers():
                (init.ones_ if name.endswith("_scale") else init.zeros_)(buffer)

    # -- the frozen encoder ------------------------------------------------------------------------------------
    def load_backbone(self, **kwargs: Any) -> nn.Module:
        """Loads the frozen encoder named in the config, once for all threads; `forward` calls it when pixels or prompts
        first need it.

        Args:
            kwargs: for `from_pretrained`, such as `config`.

        Raises:
            ValueError: the config names no encoder, or one of a kind without image and text features.
            OSError: it cannot be loaded.
        """
        if self.backbone is None:
            with LOADING:
                if self.backbone is None:
                    name, where = encoder_place(self.config, self.name_or_path, self._where)
                    where = {"dtype": self.dtype, **where, **kwargs}
                    with asked_without_token(name, where):
                        self.set_backbone(load_encoder(name, **where))
        return self.backbone

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> "PamelaRewardModel":
        """As in transformers, but whole, unchanged and alone: from safetensors only (a pickle can run code when
        loaded), and without any adapter that lies beside the weights.

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            args: as in transformers.
            kwargs: as in transformers. `token` is for this repository alone; `encoder_token` (a token, or True for the
                login saved on this machine; default: none) is for the repository of the encoder that its config names.

        Raises:
            ValueError: the weights lack some of this model's tensors (transformers would fill them with random
                numbers), or are not those that were saved with the config.
        """
        if kwargs.setdefault("use_safetensors", True) is not True:
            raise ValueError("use_safetensors must stay True: weights are read from safetensors files only.")
        asked = kwargs.pop("output_loading_info", False)
        keep = ("cache_dir", "local_files_only", "token", "revision", "subfolder")
        where = {k: v for k, v in kwargs.items() if k in keep and v is not None}
        encoder_token = kwargs.pop("encoder_token", None)
        kwargs["adapter_kwargs"] = NO_ADAPTER
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except SafetensorError as error:
            raise ValueError(
                f"{pretrained_model_name_or_path}: the weights are damaged ({str(error)[:200]}). Train or download the "
                "model again."
            ) from None
        if missing := sorted(info["missing_keys"]):
            raise ValueError(
                f"{pretrained_model_name_or_path}: the weights lack {len(missing)} of this model's tensors "
                f"({', '.join(missing[:3])}…). They are damaged or of another version of pamela_hf; train or download "
                "the model again."
            )
        model._where = where if encoder_token is None else {**where, "encoder_token": encoder_token}
        # other variants of the weights are saved beside those that the config speaks of
        if pretrained_model_name_or_path is not None and model.config.weights_sha256 and not kwargs.get("variant"):
            if checkpoint_hash(pretrained_model_name_or_path, **where) != model.config.weights_sha256:
                raise ValueError(
                    f"{pretrained_model_name_or_path}: the weights are not those that were saved with its config.json "
                    "(weights_sha256 differs): a file is damaged or was changed. Train or download the model again."
                )
        return (model, info) if asked else model

    @classmethod
    @torch.no_grad()
    def blank(
        cls,
        features: Any,
        levels: Sequence[float] = (1, 2, 3, 4, 5),
        *,
        scale: str = "rating",
        encoder: nn.Module | None = None,
        max_factors: int = 128,
    ) -> "PamelaRewardModel":
        r"""A base for heads before anybody's ratings were trained on, from images alone.

        Everyone's taste is the same for all images. People differ along the principal axes of the images' features;
        row numbers 0 and 1 are how a person uses the scale (shift and log-stretch), the rest their tastes.

        Args:
            features ([`pamela_hf.embeddings.Embeddings`]):
                `image_embeds (N, D)` and, where images have prompts, `text_embeds (N, Dt)` of images such as those that
                will be rated; `backbone`, `revision` and `preprocessing` of the encoder that made them.
            levels (`Sequence[float]`, defaults to 1..5): ascending levels of the rating scale.
            scale (`str`, defaults to "rating"): its name.
            encoder (`nn.Module`, *optional*): that encoder, if it is loaded or has no home on the Hub.
            max_factors (`int`, defaults to 128): at most so many axes.

        Raises:
            ValueError: fewer than two different images, or levels that do not ascend.
        """
        image = torch.as_tensor(features.image_embeds)
        text = None if features.text_embeds is None else torch.as_tensor(features.text_embeds)
        if text is not None and not text.any():
            text = None
        width = image.shape[1] + (0 if text is None else text.shape[1])
        at_hand = features.backbone != LOCAL_ENCODER or encoder is not None
        config = PamelaConfig(
            backbone=features.backbone if at_hand else None,
            backbone_revision=features.revision,
            preprocessing=features.preprocessing,
            image_embed_dim=image.shape[1],
            text_embed_dim=0 if text is None else text.shape[1],
            hidden_size=2,
            num_attention_heads=1,
            num_fusion_members=1,
            intermediate_size=1,
            interaction_rank=0,
            taste_factors=max(1, min(max_factors, len(image) - 1, width)),
            rating_scales={scale: list(levels)},
            blank=True,
        )
        model = cls(config).eval()
        model.features.fit_blank(image, text)
        for parameter in model.members.parameters():  # the networks say nothing
            parameter.zero_()
        model.style.weight.copy_(torch.eye(2))
        model.cutpoints[scale_key(scale)].copy_(equal_cutpoints(len(levels)))
        if encoder is not None:
            model.set_backbone(encoder)
        return model

    def set_backbone(self, backbone: nn.Module) -> None:
        """Takes an encoder as it is, frozen; it is never saved with the model's own weights. Raises ValueError if it is
        of a kind without image and text features."""
        check_encoder_kind(backbone.config.model_type, "backbone")
        if self.config.backbone_config is None:
            self.config.backbone_config = backbone.config
        self.backbone = backbone.to(self.device).requires_grad_(False).eval()
        self._keys_to_ignore_on_save = {f"backbone.{key}" for key in backbone.state_dict()}

    def train(self, mode: bool = True) -> "PamelaRewardModel":
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
            self._mark_checkpointed_layers()
        return self

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Gradients to pixels with less memory: the encoder's layers are computed again on the way back.

        Args:
            gradient_checkpointing_kwargs: for `torch.utils.checkpoint.checkpoint`.
            kwargs: further ones of transformers' method.
        """
        backbone = self.load_backbone()
        if hasattr(backbone, "activation_checkpointing_enable"):  # its name in newer transformers
            backbone.activation_checkpointing_enable(gradient_checkpointing_kwargs, **kwargs)
        else:
            backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs)
        self._mark_checkpointed_layers()

    def gradient_checkpointing_disable(self) -> None:
        """Undoes [`gradient_checkpointing_enable`]."""
        if self.backbone is not None:
            if hasattr(self.backbone, "activation_checkpointing_disable"):
                self.backbone.activation_checkpointing_disable()
            else:
                self.backbone.gradient_checkpointing_disable()
            self.backbone.eval()

    def _mark_checkpointed_layers(self) -> None:
        from transformers.modeling_layers import GradientCheckpointingLayer  # a third of this package's import time

        # transformers checkpoints layers in training mode only; what is in a layer, dropout for one, stays in eval mode
        for module in self.backbone.modules():
            if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
                module.training = True

    def save_pretrained(self, save_directory: str | os.PathLike, *, with_encoder: bool = True, **kwargs: Any) -> None:
        """As in transformers; writes the base identity and a hash over the weights into the config, and the encoder
        when it has no home but this model's folder.

        Args:
            save_directory: the folder to write.
            with_encoder (`bool`, defaults to `True`): False where the encoder's weights lie in the folder already.
            kwargs: for transformers' `save_pretrained`.
        """
        tensors = {k: v for k, v in self.state_dict().items() if not k.startswith("backbone.")}
        identity = self.base_identity()
        if identity != self.config.base_identity:  # else the weights may be a cast of those that the name was made from
            self.config.base_identity, *self.config.cast_identities = cast_hashes(tensors)
        self.config.weights_sha256 = content_hash(sorted(tensors.items()))
        super().save_pretrained(save_directory, **kwargs)
        if self.config.backbone == LOCAL_ENCODER and with_encoder:
            self.load_backbone().save_pretrained(os.path.join(save_directory, LOCAL_ENCODER[2:]))

    def base_identity(self) -> str:
        """The base identity: the config's as long as the weights are those that were loaded or saved with it, cast or
        not; of weights that were changed since, their own. Hashes all weights at each call."""
        own = self.compute_base_identity()
        return self.config.base_identity or own if own in self.config.cast_identities else own

    def compute_base_identity(self) -> str:
        """sha256 over all that gives a person's row its meaning: every tensor but the rows themselves, the encoder and
        the rating scales' cutpoints, in float32."""
        return base_hash(self.state_dict())

    @torch.no_grad()
    def set_tastes(self, tastes: Tensor) -> None:
        """How much each trained participant likes each taste factor, `(U, taste_factors)`, into their rows, around the
        mean: row 0 is the mean person."""
        rows = self.user_embedding.weight
        rows[1:, self.config.hidden_size :] = (tastes - tastes.mean(0)).to(rows)

    def scale_use(self) -> Tensor:
        """`(2, row_size)` what a unit of a row adds to the shift and log-stretch of the person's cutpoints."""
        return F.pad(self.style.weight, (0, self.config.taste_factors))

    @torch.no_grad()
    def match_linear(self, image_embeds: Tensor, text_embeds: Tensor | None = None) -> None:
        """Brings the linear reading of everyone's taste to the fusion networks' own mean and spread over the training
        images `(N, D)`, `(N, Dt)`."""
        if not self.config.linear_share:
            return
        was_training, share = self.training, self.config.linear_share
        self.eval()
        images = self.read_images(image_embeds, text_embeds)
        linear = images.readings if images.prompt_readings is None else images.readings + images.prompt_readings
        linear = linear[:, self.config.taste_factors].float()  # alike for all kinds of images
        utility = self.score_matrix(image_embeds, text_embeds).utility[:, 0].float()
        self.train(was_training)
        networks = (utility - share * (linear + self.features.linear_offset)) / (1 - share)
        self.features.match_linear(linear, networks)

    # -- scoring -----------------------------------------------------------------------------------------------
    def embed_users(self, user_ids: Tensor | None, user_embeds: Tensor | None, n: int) -> Tensor:
        """Rows `(n, row_size)` of people given as ids, as vectors, or not at all (everyone's taste)."""
        if user_embeds is not None:
            if user_embeds.shape[-1] != self.config.row_size:
                raise ValueError(
                    f"user_embeds has shape {tuple(user_embeds.shape)}; a person's row of this model has "
                    f"{self.config.row_size} numbers."
                )
            return user_embeds.to(self.device, self.dtype).expand(n, -1)
        if user_ids is None:
            return self.user_embedding.weight.new_zeros(n, self.config.row_size)
        top = len(self.config.users)
        if len(user_ids) and not 0 <= int(user_ids.min()) <= int(user_ids.max()) <= top:
            raise ValueError(f"user_ids must lie in 0..{top}; got {int(user_ids.min())}..{int(user_ids.max())}.")
        return self.user_embedding(user_ids.to(self.device))

    def _people(self, user_ids: Tensor | None, user_embeds: Tensor | None, n: int) -> PairTokens:
        """Rows of n pairs, each distinct person once."""
        if user_embeds is not None:
            return PairTokens(self.embed_users(None, user_embeds, n))
        if user_ids is None:
            user_ids = torch.zeros(n, dtype=torch.long)
        distinct, index = torch.unique(user_ids, return_inverse=True)
        return PairTokens(self.embed_users(distinct, None, len(distinct)), index.to(self.device))

    def read_images(
        self,
        image_embeds: Tensor | None,
        text_embeds: Tensor | None,
        encoder_inputs: Mapping[str, Tensor | None] | None = None,
        prompt_mask: Tensor | None = None,
    ) -> ReadImages:
        """What the model makes of N images, from features, or from pixels and token ids where none are given.

        Args:
            image_embeds: `(N, image_embed_dim)`.
            text_embeds: `(N, text_embed_dim)`, a row of zeros = no prompt.
            encoder_inputs: what the encoder's image processor and tokenizer returned.
            prompt_mask: `(N,)` bool, False = as if there were no prompt.

        Raises:
            ValueError: neither or both of features and pixels.
        """
        image_embeds, text_embeds = self._encode(image_embeds, text_embeds, encoder_inputs)
        image, text, has_prompt = self.features.standardize("image", image_embeds), None, None
        if text_embeds is not None and self.config.text_embed_dim:
            text = self.features.standardize("text", text_embeds)
            has_prompt = text_embeds.to(self.device).any(dim=-1)
            if prompt_mask is not None:
                has_prompt = has_prompt & prompt_mask.to(self.device)
        # one after the other as they are asked for, so that dropout is drawn member by member
        sides = (member.image_side(image, text) for member in self.members)
        return ReadImages(sides, *self.features.read(image, text, has_prompt), has_prompt)

    def _encode(
        self,
        image_embeds: Tensor | None,
        text_embeds: Tensor | None,
        encoder_inputs: Mapping[str, Tensor | None] | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Features of images and, if any, of prompts, as given or from the encoder; see [`read_images`]."""
        given = {key: value for key, value in (encoder_inputs or {}).items() if value is not None}
        tokens = {key: given.pop(key) for key in TOKEN_INPUTS if key in given}
        if image_embeds is None:
            if not given:
                raise ValueError("Pass pixel_values= (from PamelaProcessor) or image_embeds=.")
            backbone = self.load_backbone()
            with encoding_with_gradients(given):
                image_embeds = encode_images(backbone, **given)
        elif given:
            raise ValueError(f"image_embeds= and {next(iter(given))}= were both given; pass one of the two.")
        if text_embeds is None and tokens and self.config.text_embed_dim:
            backbone = self.load_backbone()
            with torch.no_grad():
                text_embeds = encode_prompts(backbone, **tokens)
        return image_embeds, text_embeds

    def forward(
        self,
        image_embeds: Tensor | None = None,
        text_embeds: Tensor | None = None,
        prompt_mask: Tensor | None = None,
        user_ids: Tensor | None = None,
        user_embeds: Tensor | None = None,
        demographic_ids: Tensor | None = None,
        metadata_ids: Tensor | None = None,
        scale_ids: Tensor | None = None,
        image_index: Tensor | None = None,
        labels: Tensor | None = None,
        group_ids: Tensor | None = None,
        weights: Tensor | None = None,
        row_penalty: Tensor | None = None,
        pairwise_weight: float = 0.0,
        squared_error: bool = False,
        loss_normalizers: tuple[Tensor, Tensor] | None = None,
        choices: ChoiceTargets | None = None,
        **encoder_inputs: Tensor,
    ) -> PamelaRewardOutput:
        r"""Scores B pairs of an image and a person.

        Args:
            image_embeds: `(N, image_embed_dim)` pooled features; or pixels as [`PamelaProcessor`] makes them.
            text_embeds: `(N, text_embed_dim)`; a row of zeros = no prompt. Or `input_ids`.
            prompt_mask: `(B,)` bool, False = score as if there were no prompt.
            user_ids: `(B,)` rows of trained participants, 0 = unknown; or give `user_embeds`.
            user_embeds: `(B, row_size)` people's rows, in place of `user_ids`.
            demographic_ids: `(B, fields)`, a column for each of the config's `demographics`; 0 = unknown.
            metadata_ids: `(B, fields)`, a column for each of the config's `metadata`; 0 = unknown.
            scale_ids: `(B,)` rating scales; default: the config's `default_scale`.
            image_index: `(B,)` which of the N images a pair is about; default: pair i is about image i.
            labels: `(B,)` level indices on the asked scale → `loss`.
            group_ids: `(B,)` one number per person and scale: the pairwise loss compares within it. Default: each
                pair of the same `user_ids`.
            weights: `(B,)` weight of each rating in the loss.
            row_penalty: `(B,)` what the squared length of a pair's row adds to the loss: a Gaussian prior on rows.
            pairwise_weight: λ of the within-person pairwise loss; 0 = off.
            squared_error: squared error of the expected rating in place of the ordinal likelihood (an ablation).
            loss_normalizers: total weight of answers and of pairs to divide by (over all processes of a step).
            choices: choices between two of the B pairs → their loss is added, of a model of `config.choices`.

        Returns:
            [`PamelaRewardOutput`].
        """
        images = self.read_images(image_embeds, text_embeds, encoder_inputs)
        n = len(images.readings) if image_index is None else len(image_index)
        people = self._people(user_ids, user_embeds, n)
        demographic_ids = self._ids(demographic_ids, n, len(self.config.demographics), "demographic_ids")
        metadata_ids = self._ids(metadata_ids, n, len(self.config.metadata), "metadata_ids")
        pairs = Pairs(
            people=people,
            network_rows=self._for_networks(people),
            demographics=PairTokens(demographic_ids),
            metadata=PairTokens(metadata_ids),
            image_index=None if image_index is None else image_index.to(self.device),
            has_prompt=images.has_prompt,
            prompt_mask=None if prompt_mask is None else prompt_mask.to(self.device),
        )
        utilities = self._utilities(images, pairs)
        log_probs, levels = self.link(utilities, pairs.network_rows, scale_ids)
        # gradients go through scores only to pixels or features that ask for them: what is trained is the loss
        wanted = images.readings.requires_grad
        out = self._summarize(utilities, log_probs if wanted else log_probs.detach(), levels)
        if labels is not None:
            if group_ids is None:
                group_ids = user_ids if user_ids is not None else torch.zeros_like(labels)
            rows = pairs.network_rows
            targets = RatingTargets(
                labels=labels.to(self.device),
                group_ids=group_ids.to(self.device),
                weights=None if weights is None else weights.to(self.device),
                row_penalty=row_penalty,
                pairwise_weight=pairwise_weight,
                squared_error=squared_error,
                normalizers=loss_normalizers,
            )
            squared_rows = rows.pairs(rows.distinct.float().square().sum(-1))
            out.loss = targets.loss(utilities, log_probs, levels, squared_rows)
            if choices is not None:
                out.loss = out.loss + choices.loss(utilities, self.choice_link, squared_rows)
        return out

    def _for_networks(self, people: PairTokens) -> PairTokens:
        """The part of people's rows that the fusion networks and the link take."""
        return PairTokens(people.distinct[:, : self.config.hidden_size], people.index)

    def _utilities(self, images: ReadImages, pairs: Pairs) -> Tensor:
        """Utilities `(members, B)` float32: the networks', and what is linear in the images' readings.

        Linear taste takes its share at inference only: it is fitted to the very ratings that the networks learn from,
        and networks trained on what it leaves over would learn from errors that it makes on no new image.
        """
        utilities = torch.stack([member(side, pairs) for member, side in zip(self.members, images.sides)]).float()
        share = 0.0 if self.training else self.config.linear_share
        if not share:
            return utilities
        readings = self._pair_readings(images, pairs)
        linear = readings[:, -1].float() + self.features.linear_offset
        if self.config.taste_factors:
            tastes = pairs.people.pairs(pairs.people.distinct[:, self.config.hidden_size :])
            linear = linear + (tastes * readings[:, :-1]).sum(-1).float()
        return (1 - share) * utilities + share * linear

    def _pair_readings(self, images: ReadImages, pairs: Pairs) -> Tensor:
        """Readings `(B, taste_factors + 1)` of the pairs' images as the kind of image that they are."""
        if pairs.metadata.index is pairs.image_index and pairs.prompt_mask is None:  # then once for each image
            readings = images.readings
            if images.prompt_readings is not None:
                readings = readings + images.prompt_readings
            return PairTokens(self.features.of_kind(readings, pairs.metadata.distinct), pairs.image_index).pairs()
        readings = pairs.with_prompts(images.readings, images.prompt_readings)
        return self.features.of_kind(readings, pairs.metadata.pairs())

    @staticmethod
    def _summarize(utilities: Tensor, log_probs: Tensor, levels: Tensor) -> PamelaRewardOutput:
        probs = log_probs.exp().mean(0)
        values = levels.nan_to_num(0.0)
        mean = (probs * values).sum(-1)
        std = (probs * (values - mean.unsqueeze(-1)).pow(2)).sum(-1).clamp_min(0).sqrt()
        return PamelaRewardOutput(utility=utilities.mean(0), scores=mean, std=std, probs=probs, level_values=levels)

    def _ids(self, ids: Tensor | None, n: int, fields: int, name: str) -> Tensor:
        if ids is None:
            return torch.zeros(n, fields, dtype=torch.long, device=self.device)
        if ids.shape[-1] != fields:
            raise ValueError(f"{name} has {ids.shape[-1]} columns; this model has {fields} fields.")
        return ids.to(self.device).expand(n, -1)

    def choice_probs(self, margin: Tensor) -> Tensor:
        """Probabilities `(…, 3)` that the first of two images is preferred, neither is, and the second is, of a person
        for whom the first's utility is larger by `margin (…,)`. Without `config.choices` there are no ties."""
        if not self.config.choices:
            first = preference_probability(margin, torch.zeros_like(margin))
            return torch.stack([first, torch.zeros_like(first), 1 - first], dim=-1)
        stretch, log_nu = self.choice_link.float()
        return choice_log_probs(margin.float() * stretch.exp(), log_nu).exp()

    @torch.inference_mode()
    def score_matrix(
        self,
        image_embeds: Tensor | None = None,
        text_embeds: Tensor | None = None,
        prompt_mask: Tensor | None = None,
        user_ids: Tensor | None = None,
        user_embeds: Tensor | None = None,
        demographic_ids: Tensor | None = None,
        metadata_ids: Tensor | None = None,
        scale: int | None = None,
        max_pairs: int | None = None,
        **encoder_inputs: Tensor,
    ) -> PamelaRewardOutput:
        r"""Scores every one of N images for every one of U people; each image is encoded once.

        Args:
            image_embeds: as in `forward`, N rows.
            text_embeds: as in `forward`, N rows.
            prompt_mask: as in `forward`, N rows.
            user_ids: `(U,)` the people, as in `forward`; or give `user_embeds`.
            user_embeds: `(U, row_size)` the people's rows, in place of `user_ids`.
            demographic_ids: `(U, fields)` of the people, as in `forward`.
            metadata_ids: as in `forward`, N rows.
            scale: index of the rating scale; default: the config's `default_scale`.
            max_pairs: pairs in one pass; bounds the memory beside the result's (a few kB a pair at the default sizes).
                Default: 2048 on a CPU, whose cache holds that, else 65536.

        Returns:
            [`PamelaRewardOutput`] with `scores`, `std` and `utility` of shape `(N, U)`.
        """
        image_embeds, text_embeds = self._encode(image_embeds, text_embeds, encoder_inputs)
        n = len(image_embeds)
        u = len(user_embeds) if user_embeds is not None else 1 if user_ids is None else len(user_ids)
        people = GridPeople(
            rows=self.embed_users(user_ids, user_embeds, u),
            demographic_ids=self._ids(demographic_ids, u, len(self.config.demographics), "demographic_ids"),
            scale=list(self.config.rating_scales).index(self.config.default_scale) if scale is None else scale,
        )
        metadata_ids = self._ids(metadata_ids, n, len(self.config.metadata), "metadata_ids")
        if max_pairs is None:
            max_pairs = 2048 if self.device.type == "cpu" else 65536
        # several blocks mix a pair's tokens with each other, and dropout is drawn for each pair
        whole = self.config.num_fusion_layers == 1 and not self.training
        members = [GridMember(member) for member in self.members] if whole else None
        out = torch.empty(3, n, u, device=self.device)
        for low in range(0, n, IMAGES_AT_ONCE):
            part = slice(low, low + IMAGES_AT_ONCE)
            text, mask = (None if value is None else value[part] for value in (text_embeds, prompt_mask))
            images = self.read_images(image_embeds[part], text, None, mask)
            images.sides = list(images.sides)
            if members is None:
                self._score_pairs(images, metadata_ids[part], people, max_pairs, out[:, part])
            else:
                self._score_grid(members, images, metadata_ids[part], people, max_pairs, out[:, part])
        utility, scores, std = out
        return PamelaRewardOutput(utility=utility, scores=scores, std=std)

    def _score_grid(
        self,
        members: list[GridMember],
        images: ReadImages,
        metadata_ids: Tensor,
        people: GridPeople,
        max_pairs: int,
        out: Tensor,
    ) -> None:
        """Writes utility, score and std `(3, N, U)` of all pairs, in blocks of `max_pairs` that a cache can hold."""
        n, u = out.shape[1:]
        share, width = self.config.linear_share, self.config.hidden_size
        readings = images.readings
        if images.prompt_readings is not None:
            readings = readings + images.prompt_readings
        readings = self.features.of_kind(readings, metadata_ids)
        image_sides = [
            member.images(side, images.has_prompt, metadata_ids) for member, side in zip(members, images.sides)
        ]
        memory = GridMemory(readings, max_pairs, width, self.config.intermediate_size)
        for left in range(0, u, max_pairs):
            some = people.part(left, left + max_pairs)
            rows = some.rows[:, :width]
            sides = [
                common_reference(theirs, member.people(rows, some.demographic_ids))
                for member, theirs in zip(members, image_sides)
            ]
            tastes = some.rows[:, width:].T
            step = max(1, max_pairs // len(rows))
            for top in range(0, n, step):
                block = slice(top, top + step)
                utilities = readings.new_empty(len(members), len(readings[block]), len(rows))
                for member, (theirs, persons), utility in zip(members, sides, utilities):
                    member.utilities(theirs.part(top, top + step), persons, memory, utility)
                utilities = utilities.float()
                if share:
                    linear = readings[block, -1:].float() + self.features.linear_offset
                    if self.config.taste_factors:
                        linear = linear + (readings[block, :-1] @ tastes).float()
                    utilities.mul_(1 - share).add_(share * linear)
                scores, std = self.moments(utilities, rows, people.scale)
                for value, found in zip(out, (utilities.mean(0), scores, std)):
                    value[block, left : left + max_pairs] = found

    def _score_pairs(
        self, images: ReadImages, metadata_ids: Tensor, people: GridPeople, max_pairs: int, out: Tensor
    ) -> None:
        """The same, one pair beside the other as `forward` takes them."""
        n, u = out.shape[1:]
        scale_ids = torch.full((max_pairs,), people.scale, device=self.device)
        for start in range(0, n * u, max_pairs):
            pair = torch.arange(start, min(start + max_pairs, n * u), device=self.device)
            image, person = pair // u, pair % u
            low, high = int(image[0]), int(image[-1]) + 1
            image = image - low
            part, rows = images.part(low, high), PairTokens(people.rows, person)
            pairs = Pairs(
                people=rows,
                network_rows=self._for_networks(rows),
                demographics=PairTokens(people.demographic_ids, person),
                metadata=PairTokens(metadata_ids[low:high], image),
                image_index=image,
                has_prompt=part.has_prompt,
            )
            utilities = self._utilities(part, pairs)
            scored = self._summarize(utilities, *self.link(utilities, pairs.network_rows, scale_ids[: len(pair)]))
            for value, name in zip(out, ("utility", "scores", "std")):
                value[low + image, person] = scored[name].to(value.dtype)
