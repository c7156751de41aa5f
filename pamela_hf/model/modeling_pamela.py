"""`PamelaRewardModel`: how much this person will like this image.

A frozen image–text encoder gives pooled features. A few small fusion networks, each a shallow transformer over the
tokens score, image, prompt, user, demographics and metadata plus a multiplicative user × image term, turn them into a
utility. An ordinal link turns the utility into the probability of every level of a rating scale.
(Maerten et al., *Personalizing Text-to-Image Generation to Individual Taste*, arXiv 2604.07427.)
"""

import hashlib
import math
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_pamela import LOCAL_ENCODER, PamelaConfig
from .features_pamela import PamelaFeatures
from .fusion_pamela import PairTokens, PamelaFusion, PamelaFusionBlock
from .losses import CUTPOINT_PAD, ordinal_log_probs, ordinal_nll, pairwise_logistic, within_group_pairs


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


def encode_images(backbone: nn.Module, **pixel_inputs: Tensor) -> Tensor:
    """Pooled image features `(B, D)`; `pixel_inputs` are what the encoder's image processor returned."""
    return _pooled(backbone.get_image_features(**pixel_inputs))


def encode_prompts(backbone: nn.Module, **token_inputs: Tensor) -> Tensor:
    """Pooled text features `(B, Dt)`; `token_inputs` are what the encoder's tokenizer returned."""
    return _pooled(backbone.get_text_features(**token_inputs))


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


class PamelaRewardModel(PreTrainedModel):
    r"""Predicts a person's rating of an image.

    A person is one vector of `row_size`, the deviation from everyone's taste: row 0 of `user_embedding`, the
    unknown person, is the zero vector and stays it. `forward` and `score_matrix` take `user_ids` (rows of trained
    participants) or such vectors themselves as `user_embeds`.
    """

    config_class = PamelaConfig
    base_model_prefix = "pamela"
    main_input_name = "image_embeds"
    _keys_to_ignore_on_load_missing = [r"^backbone\."]

    def __init__(self, config: PamelaConfig):
        super().__init__(config)
        self._where: dict[str, Any] = {}  # how from_pretrained reached the model's own repository
        self._own_hashes: set[str] = set()  # of the weights that config.base_identity names, in each precision
        self.backbone: nn.Module | None = None  # loaded when pixels first need it, see load_backbone
        self.user_embedding = nn.Embedding(len(config.users) + 1, config.row_size, padding_idx=0)
        self.style = nn.Linear(config.hidden_size, 2, bias=False)  # shift and log-stretch of a person's scale use
        self.unknown_stretch = nn.Parameter(torch.zeros(1))  # log-stretch of an unknown person's predictions
        self.members = nn.ModuleList(PamelaFusion(config) for _ in range(config.num_fusion_members))
        self.cutpoints = nn.ParameterDict(
            {_key(name): torch.zeros(len(values) - 1) for name, values in config.rating_scales.items()}
        )
        if len(self.cutpoints) < len(config.rating_scales):
            raise ValueError(f"rating_scales={list(config.rating_scales)}: names must differ in more than '.' and '·'.")
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
        elif isinstance(module, PamelaFeatures):
            for name, buffer in module.named_buffers():
                (init.ones_ if name.endswith("_scale") else init.zeros_)(buffer)

    # -- the frozen encoder ------------------------------------------------------------------------------------
    def load_backbone(self, **kwargs: Any) -> nn.Module:
        """Loads the frozen encoder named in the config, once; `forward` calls it when pixels first need it.

        Raises:
            ValueError: the config names no encoder.
        """
        if self.backbone is None:
            config = self.config
            if config.backbone is None:
                raise ValueError(
                    "This model was trained from embeddings and its config names no encoder (backbone=None): pass "
                    "image_embeds= instead of pixel_values=."
                )
            local = config.backbone == LOCAL_ENCODER
            where = dict(self._where)
            subfolder = where.pop("subfolder", "")
            if local:
                where["subfolder"] = posixpath.join(subfolder, LOCAL_ENCODER[2:])
            else:
                where["revision"] = config.backbone_revision
            name = self.name_or_path if local else config.backbone
            kwargs = {"dtype": self.dtype, "use_safetensors": True, **where, **kwargs}
            self.set_backbone(AutoModel.from_pretrained(name, **kwargs))
        return self.backbone

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> "PamelaRewardModel":
        """As in transformers, but whole or not at all, and from safetensors only: a pickle can run code when loaded.

        Raises:
            ValueError: the weights lack some of this model's tensors; transformers would fill them with random numbers.
        """
        if kwargs.setdefault("use_safetensors", True) is not True:
            raise ValueError("use_safetensors must stay True: weights are read from safetensors files only.")
        asked = kwargs.pop("output_loading_info", False)
        keep = ("cache_dir", "local_files_only", "token", "revision", "subfolder")
        where = {k: v for k, v in kwargs.items() if k in keep and v is not None}
        model, info = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        if missing := sorted(info["missing_keys"]):
            raise ValueError(
                f"{pretrained_model_name_or_path}: the weights lack {len(missing)} of this model's tensors "
                f"({', '.join(missing[:3])}…). They are damaged or of another version of pamela_hf; train or download "
                "the model again."
            )
        model._where = where
        model._own_hashes = model._hashes()
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
        shares = torch.arange(1, len(levels)) / len(levels)
        model.cutpoints[_key(scale)].copy_(_from_cutpoints(torch.logit(shares)))
        if encoder is not None:
            model.set_backbone(encoder)
        return model

    def set_backbone(self, backbone: nn.Module) -> None:
        """Takes an encoder as it is, frozen; it is never saved with the model's own weights."""
        if self.config.backbone_config is None:
            self.config.backbone_config = backbone.config
        self.backbone = backbone.to(self.device).requires_grad_(False).eval()
        self._keys_to_ignore_on_save = {f"backbone.{key}" for key in backbone.state_dict()}

    def train(self, mode: bool = True) -> "PamelaRewardModel":
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """As in transformers; writes the base identity, and the encoder when it has no home but this model's folder."""
        identity = self.base_identity()
        if identity != self.config.base_identity:  # else the weights may be a cast of those that the name was made from
            self.config.base_identity, self._own_hashes = identity, self._hashes()
        super().save_pretrained(save_directory, **kwargs)
        if self.config.backbone == LOCAL_ENCODER:
            self.load_backbone().save_pretrained(os.path.join(save_directory, LOCAL_ENCODER[2:]))

    def base_identity(self) -> str:
        """The base identity: the config's as long as the weights are those that were loaded or saved with it, cast or
        not; of weights that were changed since, their own."""
        own = self.compute_base_identity()
        return self.config.base_identity or own if own in self._own_hashes else own

    def _hashes(self) -> set[str]:
        return {self.compute_base_identity(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)}

    def compute_base_identity(self, dtype: torch.dtype = torch.float32) -> str:
        """sha256 over all that gives a person's row its meaning, as `dtype` holds it: every tensor but the rows
        themselves, the encoder and the rating scales' cutpoints."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            if not name.startswith(("backbone.", "user_embedding.", "cutpoints.")):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().to(dtype).float().contiguous().numpy().tobytes())
        return digest.hexdigest()

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
        image, text, has_prompt = self.encode(image_embeds, text_embeds, {})
        read = self._with_prompts(*self.features.read(image, text, has_prompt), None, None)
        linear = read[:, self.config.taste_factors].float()  # alike for all kinds of images
        utility = self.score_matrix(image_embeds, text_embeds).utility[:, 0].float()
        self.train(was_training)
        networks = (utility - share * (linear + self.features.linear_offset)) / (1 - share)
        self.features.match_linear(linear, networks)

    @torch.no_grad()
    def fit_cutpoints(self, scale: str, labels: Tensor) -> None:
        """Starts a scale's cutpoints at its ratings' shares: `labels (n,)` are training level indices.

        The shares' logits are widened by 1.3: one person's ratings of one image spread less than everybody's of all.
        """
        raw = self.cutpoints[_key(scale)]
        counts = torch.bincount(labels, minlength=len(raw) + 1).float() + 1
        points = 1.3 * torch.logit(counts.cumsum(0)[:-1] / counts.sum())
        raw.copy_(_from_cutpoints(points))

    # -- rating scales -----------------------------------------------------------------------------------------
    def add_rating_scale(self, name: str, level_values: list[float]) -> None:
        """Adds a scale to train on or to answer on. Raises ValueError if the name is taken.

        `scale_ids` count the scales in the order of their names, so they may move: `PamelaProcessor.scale_id(name)`
        of a processor that shares this model's config.
        """
        if name in self.config.rating_scales:
            raise ValueError(f"Rating scale {name!r} exists already, with levels {self.config.rating_scales[name]}.")
        if _key(name) in self.cutpoints:
            raise ValueError(f"Rating scale {name!r}: names must differ in more than '.' and '·'; choose another.")
        values = [float(v) for v in level_values]
        PamelaConfig(rating_scales={name: values})  # the config's own check of level values
        self.config.rating_scales = dict(sorted({**self.config.rating_scales, name: values}.items()))
        # equal shares of a standard logistic: right for a scale of which nothing is known yet
        share = torch.arange(1, len(values)) / len(values)
        raw = _from_cutpoints(torch.logit(share))
        self.cutpoints[_key(name)] = nn.Parameter(raw.to(self.device, self.dtype))

    def scale_cutpoints(self) -> Tensor:
        """`(S, K - 1)` float32 ascending cutpoints of every scale, padded for [`ordinal_log_probs`]."""
        longest = max(len(p) for p in self.cutpoints.values())
        out = []
        for name in self.config.rating_scales:
            raw = self.cutpoints[_key(name)].float()
            points = raw[0] + F.pad(F.softplus(raw[1:]).cumsum(0), (1, 0))
            pad = CUTPOINT_PAD * torch.arange(1, longest - len(raw) + 1, device=raw.device)
            out.append(torch.cat([points, pad]))
        return torch.stack(out)

    def scale_levels(self) -> Tensor:
        """`(S, K)` level values of every scale, NaN beyond a scale's own."""
        values = list(self.config.rating_scales.values())
        longest = max(len(v) for v in values)
        padded = [v + [math.nan] * (longest - len(v)) for v in values]
        return torch.tensor(padded, device=self.device)

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

    def encode(
        self, image_embeds: Tensor | None, text_embeds: Tensor | None, inputs: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Standardized features `(N, D)`, `(N, Dt)` and which images have a prompt `(N,)`, from pixels and token ids
        where no features are given."""
        token_names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
        tokens = {k: inputs.pop(k) for k in token_names if inputs.get(k) is not None}
        pixels = {k: v for k, v in inputs.items() if v is not None}
        if image_embeds is None:
            if not pixels:
                raise ValueError("Pass pixel_values= (from PamelaProcessor) or image_embeds=.")
            backbone = self.load_backbone()
            with torch.no_grad():
                image_embeds = encode_images(backbone, **_to(pixels, backbone))
        elif pixels:
            raise ValueError(f"image_embeds= and {next(iter(pixels))}= were both given; pass one of the two.")
        if text_embeds is None and tokens and self.config.text_embed_dim:
            backbone = self.load_backbone()
            with torch.no_grad():
                text_embeds = encode_prompts(backbone, **_to(tokens, backbone))
        image = self.features.standardize("image", image_embeds)
        if text_embeds is None or not self.config.text_embed_dim:
            return image, None, None
        return image, self.features.standardize("text", text_embeds), text_embeds.to(self.device).any(dim=-1)

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
        **encoder_inputs: Tensor,
    ) -> PamelaRewardOutput:
        r"""Scores B pairs of an image and a person.

        Args:
            image_embeds: `(N, image_embed_dim)` pooled features; or pixels as [`PamelaProcessor`] makes them.
            text_embeds: `(N, text_embed_dim)`; a row of zeros = no prompt. Or `input_ids`.
            prompt_mask: `(B,)` bool, False = score as if there were no prompt.
            user_ids: `(B,)` rows of trained participants, 0 = unknown; or `user_embeds` `(B, row_size)`.
            demographic_ids, metadata_ids: `(B, fields)`, 0 = unknown. scale_ids: `(B,)`, default `default_scale`.
            image_index: `(B,)` which of the N images a pair is about; default: pair i is about image i.
            labels: `(B,)` level indices on the asked scale → `loss`.
            group_ids: `(B,)` one number per person and scale: the pairwise loss compares within it. Default: each
                pair of the same `user_ids`.
            weights: `(B,)` weight of each rating in the loss.
            row_penalty: `(B,)` what the squared length of a pair's row adds to the loss: a Gaussian prior on rows.
            pairwise_weight: λ of the within-person pairwise loss; 0 = off.
            squared_error: squared error of the expected rating in place of the ordinal likelihood (an ablation).
            loss_normalizers: total weight of ratings and of pairs to divide by (over all processes of a step).

        Returns:
            [`PamelaRewardOutput`].
        """
        image, text, has_prompt = self.encode(image_embeds, text_embeds, encoder_inputs)
        n = len(image) if image_index is None else len(image_index)
        people = self._people(user_ids, user_embeds, n)
        rows = self._for_networks(people)
        demographic_ids = self._ids(demographic_ids, n, len(self.config.demographics), "demographic_ids")
        metadata_ids = self._ids(metadata_ids, n, len(self.config.metadata), "metadata_ids")
        if image_index is not None:
            image_index = image_index.to(self.device)
        if prompt_mask is not None:
            prompt_mask = prompt_mask.to(self.device)
        fields = PairTokens(demographic_ids), PairTokens(metadata_ids)
        utilities = [
            member(member.image_side(image, text), image_index, has_prompt, prompt_mask, rows, *fields)
            for member in self.members
        ]
        utilities = torch.stack(utilities).float()  # (members, B)
        seen = self._with_prompts(*self.features.read(image, text, has_prompt), image_index, prompt_mask)
        seen = self.features.of_kind(seen, metadata_ids)
        utilities = self._add_linear(utilities, people, seen)
        log_probs, levels = self.link(utilities, rows, scale_ids)
        out = self._summarize(utilities, log_probs, levels)
        if labels is not None:
            labels = labels.to(self.device)
            if group_ids is None:
                group_ids = user_ids if user_ids is not None else torch.zeros_like(labels)
            weights = torch.ones_like(labels, dtype=torch.float32) if weights is None else weights.to(self.device)
            total_ratings, total_pairs = loss_normalizers if loss_normalizers is not None else (weights.sum(), None)
            # each member's own loss: members stay different, which is what their average lives from
            if squared_error:
                error = (log_probs.exp() * levels.nan_to_num(0.0)).sum(-1) - levels.gather(-1, labels[:, None]).T
                rating_loss = error.square().mean(0)
            else:
                rating_loss = ordinal_nll(log_probs, labels.expand(len(utilities), -1)).mean(0)
            if row_penalty is not None:
                rating_loss = rating_loss + rows.pairs(rows.distinct.float().square().sum(-1)) * row_penalty
            out.loss = (rating_loss * weights).sum() / total_ratings
            if pairwise_weight:
                preferred, other = within_group_pairs(labels, group_ids.to(self.device))
                pairs = pairwise_logistic(utilities.T, preferred, other).mean(-1)
                total_pairs = weights[preferred].sum() if total_pairs is None else total_pairs
                out.loss = out.loss + pairwise_weight * (pairs * weights[preferred]).sum() / total_pairs.clamp_min(1e-9)
        return out

    @staticmethod
    def _with_prompts(
        seen: Tensor, read: Tensor | None, image_index: Tensor | None, prompt_mask: Tensor | None
    ) -> Tensor:
        """Readings of B pairs: of their images and, unless masked, of the images' prompts."""
        if read is None:
            return PairTokens(seen, image_index).pairs()
        if prompt_mask is None:
            return PairTokens(seen + read, image_index).pairs()
        read = PairTokens(read, image_index).pairs() * prompt_mask.unsqueeze(-1)
        return PairTokens(seen, image_index).pairs() + read

    def _for_networks(self, people: PairTokens) -> PairTokens:
        """The part of people's rows that the fusion networks and the link take."""
        return PairTokens(people.distinct[:, : self.config.hidden_size], people.index)

    def _add_linear(self, utilities: Tensor, people: PairTokens, seen: Tensor) -> Tensor:
        """Utilities `(members, B)` with what is linear in the readings `(B, taste_factors + 1)`.

        Linear taste takes its share at inference only: it is fitted to the very ratings that the networks learn from,
        and networks trained on what it leaves over would learn from errors that it makes on no new image.
        """
        share = 0.0 if self.training else self.config.linear_share
        if not share:
            return utilities
        linear = seen[:, -1].float() + self.features.linear_offset
        if self.config.taste_factors:
            tastes = people.pairs(people.distinct[:, self.config.hidden_size :])
            linear = linear + (tastes * seen[:, :-1]).sum(-1).float()
        return (1 - share) * utilities + share * linear

    def link(self, utilities: Tensor, rows: PairTokens, scale_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Ordinal link of B pairs' utilities `(…, B)`: log-probabilities `(…, B, K)` and level values `(B, K)`.

        A scale's cutpoints are shared by all who use it, shifted and stretched by the person's row: people use the
        same scale differently. The less is known of a person (the nearer the row is to 0), the wider the prediction:
        utility and cutpoints shrink together, which leaves the order of images as it is.
        """
        if scale_ids is None:
            default = list(self.config.rating_scales).index(self.config.default_scale)
            scale_ids = torch.full((utilities.shape[-1],), default, device=self.device)
        scale_ids = scale_ids.to(self.device)
        style = rows.pairs(self.style(rows.distinct).float())
        shift, stretch = style[:, :1], style[:, 1:].clamp(-1.6, 1.6).exp()
        cutpoints = self.scale_cutpoints()[scale_ids] * stretch + shift
        known = rows.distinct.float().square().sum(-1, keepdim=True) / (2 * self.config.unknown_width**2)
        width = rows.pairs((self.unknown_stretch.float() * (-known).exp()).exp())
        log_probs = ordinal_log_probs(utilities * width.squeeze(-1), cutpoints * width)
        return log_probs, self.scale_levels()[scale_ids]

    @staticmethod
    def _summarize(utilities: Tensor, log_probs: Tensor, levels: Tensor) -> PamelaRewardOutput:
        probs = log_probs.detach().exp().mean(0)
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
        max_pairs: int = 8192,
        **encoder_inputs: Tensor,
    ) -> PamelaRewardOutput:
        r"""Scores every one of N images for every one of U people; each image is encoded once.

        Args:
            image_embeds, text_embeds, prompt_mask, metadata_ids: as in `forward`, N rows.
            user_ids `(U,)` or user_embeds `(U, row_size)`, demographic_ids `(U, fields)`: the people.
            scale: index of the rating scale; default: the config's `default_scale`.
            max_pairs: pairs in one pass; bounds the memory (a few kB a pair at the default sizes).

        Returns:
            [`PamelaRewardOutput`] with `scores`, `std` and `utility` of shape `(N, U)`.
        """
        image, text, has_prompt = self.encode(image_embeds, text_embeds, encoder_inputs)
        if prompt_mask is not None and has_prompt is not None:
            has_prompt = has_prompt & prompt_mask.to(self.device)
        n = len(image)
        u = len(user_embeds) if user_embeds is not None else 1 if user_ids is None else len(user_ids)
        rows = self.embed_users(user_ids, user_embeds, u)
        demographic_ids = self._ids(demographic_ids, u, len(self.config.demographics), "demographic_ids")
        metadata_ids = self._ids(metadata_ids, n, len(self.config.metadata), "metadata_ids")
        sides = [member.image_side(image, text) for member in self.members]
        seen = self._with_prompts(*self.features.read(image, text, has_prompt), None, None)
        seen = self.features.of_kind(seen, metadata_ids)
        out = {name: torch.empty(n * u, device=self.device) for name in ("utility", "scores", "std")}
        scale_ids = None if scale is None else torch.full((max_pairs,), scale, device=self.device)
        for start in range(0, n * u, max_pairs):
            pair = torch.arange(start, min(start + max_pairs, n * u), device=self.device)
            i, j = pair // u, pair % u
            low, high = int(i[0]), int(i[-1]) + 1
            i = i - low
            whole, demographics = PairTokens(rows, j), PairTokens(demographic_ids, j)
            people = self._for_networks(whole)
            metadata = PairTokens(metadata_ids[low:high], i)
            prompted = None if has_prompt is None else has_prompt[low:high]
            utilities = [
                member(
                    {name: value[low:high] for name, value in side.items()},
                    i,
                    prompted,
                    None,
                    people,
                    demographics,
                    metadata,
                )
                for member, side in zip(self.members, sides)
            ]
            asked = None if scale_ids is None else scale_ids[: len(pair)]
            utilities = self._add_linear(torch.stack(utilities).float(), whole, seen[low:high][i])
            part = self._summarize(utilities, *self.link(utilities, people, asked))
            for name, value in out.items():
                value[start : start + len(pair)] = part[name]
        return PamelaRewardOutput(**{name: value.view(n, u) for name, value in out.items()})


_TAKEN = frozenset(dir(nn.ParameterDict()))


def _key(scale: str) -> str:
    """A parameter's name for a scale: it may hold no dot, not be empty, and not be that of another attribute."""
    key = scale.replace(".", "·")
    return f"{key}·" if not key or key in _TAKEN else key


def _from_cutpoints(points: Tensor) -> Tensor:
    """`(K - 1,)` the parameters of ascending cutpoints: the first, then what softplus makes their distances."""
    return torch.cat([points[:1], torch.log(torch.expm1(points.diff()))])


def _to(inputs: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    like = next(backbone.parameters())
    return {k: v.to(like.device, like.dtype if v.is_floating_point() else v.dtype) for k, v in inputs.items()}
