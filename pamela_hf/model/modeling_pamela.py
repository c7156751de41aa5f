"""`PamelaRewardModel`: how much this person will like this image.

A frozen image–text encoder gives pooled features. A few small fusion networks, each a shallow transformer over the
tokens score, image, prompt, user, demographics and metadata plus a multiplicative user × image term, turn them into a
utility. An ordinal link turns the utility into the probability of every level of a rating scale.
(Maerten et al., *Personalizing Text-to-Image Generation to Individual Taste*, arXiv 2604.07427.)
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .backbone_pamela import BackboneMixin
from .checkpoint_pamela import CheckpointMixin
from .configuration_pamela import LOCAL_ENCODER, PamelaConfig
from .features_pamela import PamelaFeatures
from .fusion_pamela import Pairs, PairTokens, PamelaFusion, PamelaFusionBlock, ReadImages
from .losses import ChoiceTargets, RatingTargets, choice_log_probs, preference_probability
from .matrix_pamela import GridScoringMixin
from .scales_pamela import PamelaRewardOutput, RatingScalesMixin, equal_cutpoints, scale_key, summarize


class PamelaRewardModel(BackboneMixin, CheckpointMixin, GridScoringMixin, RatingScalesMixin, PreTrainedModel):
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



    @classmethod
    @torch.no_grad()
    def blank(
        cls,
        features: Any,
        levels: Sequence[float] = (1, 2, 3, 4, 5),
        *,
        scale: str = "rating",
        encoder: nn.Module | None = None,
        max_factors: int = 384,
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
            max_factors (`int`, defaults to 384): at most so many axes. The time to fit a head goes with its square.

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
            taste_axes=0,
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


    @torch.no_grad()
    def set_tastes(self, tastes: Tensor) -> None:
        """How much each trained participant likes each direction of linear taste, `(U, tastes)`, into their rows,
        around the mean: row 0 is the mean person."""
        rows = self.user_embedding.weight
        rows[1:, self.config.hidden_size :] = (tastes - tastes.mean(0)).to(rows)

    def scale_use(self) -> Tensor:
        """`(2, row_size)` what a unit of a row adds to the shift and log-stretch of the person's cutpoints."""
        return F.pad(self.style.weight, (0, self.config.tastes))

    @torch.no_grad()
    def match_linear(self, image_embeds: Tensor, text_embeds: Tensor | None = None) -> None:
        """Brings the linear reading of everyone's taste to the fusion networks' own mean and spread over the training
        images `(N, D)`, `(N, Dt)`."""
        if not self.config.linear_share:
            return
        was_training, share = self.training, self.config.linear_share
        self.eval()
        images = self.read_images(image_embeds, text_embeds)
        readings = self.features.read(images.image, images.text, images.has_prompt)
        linear = readings[:, -1].float()  # alike for all kinds of images
        utility = self.score_matrix(image_embeds, text_embeds).utility[:, 0].float()
        self.train(was_training)
        networks = (utility - share * (linear + self.features.linear_offset)) / (1 - share)
        self.features.match_linear(linear, networks)

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
        return ReadImages(sides, image, text, has_prompt)


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
        n = len(images.image) if image_index is None else len(image_index)
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
        wanted = images.image.requires_grad
        out = summarize(utilities, log_probs if wanted else log_probs.detach(), levels)
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
        share, taste_share = self.shares()
        if not share and not taste_share:
            return utilities
        readings = self._pair_readings(images, pairs)
        linear = share * (readings[:, -1].float() + self.features.linear_offset)
        if taste_share:
            tastes = pairs.people.pairs(pairs.people.distinct[:, self.config.hidden_size :])
            linear = linear + taste_share * (tastes * readings[:, :-1]).sum(-1).float()
        return (1 - share) * utilities + linear

    def shares(self) -> tuple[float, float]:
        """Weights of everyone's linear taste and of a person's own; 0 while training, and where there is none."""
        if self.training:
            return 0.0, 0.0
        return self.config.linear_share, self.config.taste_share if self.config.tastes else 0.0

    @torch.inference_mode()
    def taste_slopes(self, image_embeds: Tensor, text_embeds: Tensor | None, metadata_ids: Tensor) -> Tensor:
        """What a unit of each of a row's last numbers, the tastes, adds to N images' utilities, `(N, tastes)` float32:
        utilities are linear in them.

        Args:
            image_embeds: as in `forward`, N rows.
            text_embeds: as in `forward`, N rows; `None` = no image has a prompt.
            metadata_ids: as in `forward`, N rows.
        """
        images = self.read_images(image_embeds, text_embeds)
        ids = self._ids(metadata_ids, len(images.image), len(self.config.metadata), "metadata_ids")
        readings = self.features.read(images.image, images.text, images.has_prompt, ids)
        return self.shares()[1] * readings[:, :-1].float()

    def _pair_readings(self, images: ReadImages, pairs: Pairs) -> Tensor:
        """Readings `(B, tastes + 1)` of the pairs' images as the kind of image that they are."""
        image, text, has_prompt = images.image, images.text, images.has_prompt
        index, metadata_ids = pairs.image_index, pairs.metadata.distinct
        if pairs.metadata.index is not index or pairs.prompt_mask is not None:  # they may differ between pairs
            index = torch.arange(len(image), device=self.device) if index is None else index
            used = torch.zeros_like(index) if has_prompt is None else has_prompt[index].long()
            used = used if pairs.prompt_mask is None else used * pairs.prompt_mask
            pair = torch.cat([torch.stack([index, used], 1), pairs.metadata.pairs()], 1)
            pair, index = torch.unique(pair, dim=0, return_inverse=True)
            at, has_prompt, metadata_ids = pair[:, 0], pair[:, 1].bool(), pair[:, 2:]
            image, text = image[at], None if text is None else text[at]
        return PairTokens(self.features.read(image, text, has_prompt, metadata_ids), index).pairs()

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


