"""A reward model's folder: read whole and unchanged, and written with what its weights are known by."""

import os
from typing import Any, TypeVar

from safetensors import SafetensorError

from .configuration_pamela import LOCAL_ENCODER
from .encoder_pamela import no_adapter
from .weights_pamela import base_hash, cast_hashes, checkpoint_hash, content_hash

_Model = TypeVar("_Model", bound="CheckpointMixin")


class CheckpointMixin:
    """`from_pretrained` and `save_pretrained` of a [`PamelaRewardModel`], and its base identity."""

    @classmethod
    def from_pretrained(cls: type[_Model], pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> _Model:
        """As in transformers, but whole, unchanged and alone: from safetensors only (a pickle can run code when
        loaded), and without any adapter that lies beside the weights.

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            args: as in transformers.
            kwargs: as in transformers. `token` is for this repository alone; `encoder_token` (a token, or True for the
                login saved on this machine; default: none) is for the repository of the encoder that its config names.

        Raises:
            ValueError: the weights lack some of this model's tensors (transformers would fill them with random
                numbers), or are not those that were saved with the config; or an adapter lies beside them that this
                transformers, older than 5.23, could not be kept from loading.
        """
        if kwargs.setdefault("use_safetensors", True) is not True:
            raise ValueError("use_safetensors must stay True: weights are read from safetensors files only.")
        asked = kwargs.pop("output_loading_info", False)
        keep = ("cache_dir", "local_files_only", "token", "revision", "subfolder")
        where = {k: v for k, v in kwargs.items() if k in keep and v is not None}
        encoder_token = kwargs.pop("encoder_token", None)
        kwargs["adapter_kwargs"] = no_adapter(pretrained_model_name_or_path)
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
