"""A reward model's place for its frozen encoder: loaded when pixels or prompts first need it, and kept frozen."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .configuration_pamela import check_encoder_kind
from .encoder_pamela import (
    LOADING,
    TOKEN_INPUTS,
    asked_without_token,
    encode_images,
    encode_prompts,
    encoder_place,
    encoding_with_gradients,
    load_encoder,
)

_Model = TypeVar("_Model", bound="BackboneMixin")


class BackboneMixin:
    """What a [`PamelaRewardModel`] does with its encoder, `self.backbone` (`None` as long as it is not loaded)."""

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

    def set_backbone(self, backbone: nn.Module) -> None:
        """Takes an encoder as it is, frozen; it is never saved with the model's own weights. Raises ValueError if it is
        of a kind without image and text features."""
        check_encoder_kind(backbone.config.model_type, "backbone")
        if self.config.backbone_config is None:
            self.config.backbone_config = backbone.config
        self.backbone = backbone.to(self.device).requires_grad_(False).eval()
        self._keys_to_ignore_on_save = {f"backbone.{key}" for key in backbone.state_dict()}

    def train(self: _Model, mode: bool = True) -> _Model:
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
            if "pixel_values" not in given:
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
