"""The frozen image–text encoder, as far as the model's own folder needs it: loading, pixels, tokens, pooled features.

Everything outside this folder goes through [`pamela_hf.encoder.FrozenEncoder`], which is built on these.
"""

import hashlib
import json
import os
import posixpath
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from packaging import version
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig
from transformers import __version__ as transformers_version

# from its own module: transformers before 5.18 gives a placeholder that asks for torchvision in its place
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.utils import logging

from .configuration_pamela import LOCAL_ENCODER, PamelaConfig, check_encoder_kind, check_encoder_size
from .quick_pamela import quicker

logger = logging.get_logger(__name__)

LOADING = threading.RLock()
"""Held while anything of an encoder is loaded: once for all threads, and never while another thread uses half of it."""
CPU_PASS_BYTES = 20 * 2**20
"""Of the widest layer's output for the images of one pass on a CPU. Tensors of 32 MB and more are fresh memory each
time (glibc's largest mmap threshold), which the system fills with zeros: a tenth of the time of 16 images a pass."""
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
"""What an encoder's tokenizer may return; all else that an encoder takes is pixels."""
_CONFIG_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def no_adapter(name: Any) -> dict[str, str]:
    """`adapter_kwargs` for transformers, which would else take up any `adapter_config.json` beside a model's weights,
    and with it the base that the file names, from wherever that is.

    Args:
        name: folder or Hub id of the model.

    Raises:
        ValueError: the folder holds such a file, and this transformers could not be kept from it (before 5.23).
    """
    is_old = version.parse(transformers_version) < version.parse("5.23")
    if is_old and isinstance(name, (str, os.PathLike)) and os.path.isfile(os.path.join(name, "adapter_config.json")):
        raise ValueError(
            f"{name} holds adapter_config.json, and transformers {transformers_version} would load that adapter and "
            "the base that it names. Remove the file, or install transformers 5.23 or newer."
        )
    return {"subfolder": "no_adapter_is_ever_loaded"}


def encoder_place(config: PamelaConfig, source: str | None, where: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and `from_pretrained` arguments of a reward model's encoder.

    Args:
        config: names the encoder.
        source: folder or Hub id that the reward model was loaded from; `None` = it was not loaded.
        where: how it was reached: any of `cache_dir`, `local_files_only`, `token`, `revision`, `subfolder`, and
            `encoder_token`. `token`, and the login that is saved on this machine, are for the repository that the
            caller named: an encoder of another repository, which a file names, is asked for with `encoder_token` or
            without any.

    Raises:
        ValueError: the config names no encoder, or one in the folder of a model that was not loaded from a folder.
    """
    if config.backbone is None:
        raise ValueError(
            "This model was trained from embeddings and its config names no encoder (backbone=None), so it takes no "
            "pixels and no prompt text. Pass image_embeds= (and text_embeds=) instead of pixel_values=, made by the "
            "encoder of its training data."
        )
    if config.backbone != LOCAL_ENCODER:
        own = ("token", "encoder_token", "subfolder", "revision")
        kept = {key: value for key, value in where.items() if key not in own}
        token = where.get("token") if config.backbone == source else False
        kept["token"] = where.get("encoder_token", token)
        return config.backbone, {**kept, "revision": config.backbone_revision}
    if not source:
        raise ValueError(
            "The encoder lies in the model's own folder: load model and processor with from_pretrained, or give the "
            "encoder with set_backbone."
        )
    kept = {key: value for key, value in where.items() if key != "encoder_token"}
    return source, {**kept, "subfolder": posixpath.join(where.get("subfolder") or "", LOCAL_ENCODER[2:])}


@contextmanager
def asked_without_token(name: str, where: Mapping[str, Any]) -> Iterator[None]:
    """Stands around what loads an encoder that a config names: says how a private or gated one is reached.

    Args:
        name: of the encoder.
        where: what [`encoder_place`] returned with it.

    Raises:
        OSError: it could not be loaded.
    """
    try:
        yield
    except OSError as error:
        if where.get("token") is not False:
            raise
        reason = str(error).strip().partition("\n")[0][:300]
        raise OSError(
            f"The encoder {name!r}, which the model's config names, could not be loaded: {reason} If its repository is "
            "private or gated: your login is not sent to a repository that a file names. Allow it with "
            "from_pretrained(…, encoder_token=True), or encoder_token='hf_…' for another token; or download it first "
            f"(hf download {name}) and set HF_HUB_OFFLINE=1."
        ) from error


def load_encoder_config(name: str, **where: Any) -> PreTrainedConfig:
    """Configuration of an encoder. Raises ValueError unless it is of a kind with image and text features."""
    where = {key: value for key, value in where.items() if key in _CONFIG_ARGUMENTS}
    values, _ = PreTrainedConfig.get_config_dict(name, **where)
    check_encoder_kind(values.get("model_type"), name)
    check_encoder_size(values, name)
    # AutoConfig.from_pretrained would do the same, and warn of the token ids of every kind's default configuration
    return AutoConfig.for_model(**{key: value for key, value in values.items() if key != "auto_map"})


def load_encoder(name: str, config: PreTrainedConfig | None = None, **where: Any) -> nn.Module:
    """An encoder from a folder or the Hub: no code, no adapter and no other repository comes with it.

    Args:
        name: folder or Hub id.
        config: of the encoder; default: its own.
        where: further arguments of `from_pretrained`.

    Raises:
        OSError: no such folder or repository. ValueError: it is not an image–text encoder.
    """
    with LOADING:
        config = load_encoder_config(name, **where) if config is None else config
        check_encoder_kind(config.model_type, name)
        safe = {"use_safetensors": True, "trust_remote_code": False, "adapter_kwargs": no_adapter(name)}
        return quicker(AutoModel.from_pretrained(name, config=config, **{**where, **safe}))


def load_preprocessors(
    backbone: str,
    revision: str | None = None,
    subfolder: str = "",
    config: PreTrainedConfig | None = None,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """An encoder's image processor (PIL backend: the same pixels wherever torchvision happens to be installed) and
    tokenizer; `config` is the encoder's, which is else read again for the tokenizer."""
    where = {"revision": revision, "subfolder": subfolder, **kwargs, "trust_remote_code": False}
    known = {} if config is None else {"config": config}
    with LOADING:
        return (
            AutoImageProcessor.from_pretrained(backbone, backend="pil", **where),
            AutoTokenizer.from_pretrained(backbone, **where, **known),
        )


def encode_images(backbone: nn.Module, **pixel_inputs: Tensor) -> Tensor:
    """Pooled image features `(B, D)`; `pixel_inputs` are what the encoder's image processor returned."""
    inputs = to_encoder(pixel_inputs, backbone)
    at_once = images_at_once(inputs["pixel_values"], backbone.config)
    parts = [dict(zip(inputs, part)) for part in zip(*(value.split(at_once) for value in inputs.values()))]
    return torch.cat([_pooled(backbone.get_image_features(**part)) for part in parts])


def images_at_once(pixels: Tensor, config: PreTrainedConfig) -> int:
    """How many images a pass is to take: on a CPU as many as [`CPU_PASS_BYTES`] hold, else all."""
    vision = getattr(config, "vision_config", None)
    width, patch = getattr(vision, "intermediate_size", None), getattr(vision, "patch_size", None)
    if pixels.device.type != "cpu" or not isinstance(width, int) or not isinstance(patch, int):
        return max(1, len(pixels))
    tokens = pixels.shape[1] if pixels.ndim == 3 else pixels.shape[-2] * pixels.shape[-1] // patch**2
    return max(1, CPU_PASS_BYTES // (max(1, tokens) * width * pixels.element_size()))


def encode_prompts(backbone: nn.Module, **token_inputs: Tensor) -> Tensor:
    """Pooled text features `(B, Dt)`; `token_inputs` are what the encoder's tokenizer returned."""
    return _pooled(backbone.get_text_features(**to_encoder(token_inputs, backbone)))


def to_encoder(inputs: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Inputs on the encoder's device, floats in its precision."""
    like = next(backbone.parameters())
    return {k: v.to(like.device, like.dtype if v.is_floating_point() else v.dtype) for k, v in inputs.items()}


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


# fast tokenizers keep padding and truncation of a call as their own state
_tokenizing = threading.Lock()


def tokenize_prompts(tokenizer: Any, prompts: Sequence[str], config: PreTrainedConfig) -> dict[str, Tensor]:
    """Token ids `(B, L)` of prompts as an encoder with this configuration was trained on them.

    The SigLIP family was trained on lower-cased text padded on the right to a fixed length and without an attention
    mask (big_vision's text transformer; 64 tokens); other encoders get the mask of their own tokenizer. That a prompt
    is longer than the encoder reads is reported once.
    """
    siglip = config.model_type.startswith("siglip")
    text_config = getattr(config, "text_config", config)
    length = getattr(text_config, "max_position_embeddings", None) or tokenizer.model_max_length
    length = min(length, tokenizer.model_max_length)
    texts = [prompt.lower() for prompt in prompts] if siglip else list(prompts)
    with _tokenizing:
        _warn_if_cut(tokenizer, texts, length)
        encoded = tokenizer(
            texts,
            padding="max_length" if siglip else True,
            padding_side="right",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
    return {"input_ids": encoded["input_ids"]} if siglip else dict(encoded)


def _warn_if_cut(tokenizer: Any, texts: Sequence[str], length: int) -> None:
    # a token stands for a byte or more, and a few are added
    long = [text for text in texts if len(text.encode()) >= length // 2]
    if long and max(map(len, tokenizer(long, verbose=False)["input_ids"])) > length:
        logger.warning_once(f"This encoder reads {length} tokens of a prompt; the rest of a longer prompt is left out.")


def preprocessing_fingerprint(image_processor: Any, tokenizer: Any) -> str:
    """First 16 hex digits of the sha256 over what fixes an encoder's inputs: the image processor's settings and the
    tokenizer's vocabulary and rules. Two caches with different fingerprints hold features that don't compare."""
    # version stamps and class names differ between releases that give the same pixels; settings don't
    named = ("transformers_version", "image_processor_type", "processor_class", "_processor_class")
    settings = {k: v for k, v in image_processor.to_dict().items() if k not in named}
    rules = tokenizer.backend_tokenizer.to_str() if hasattr(tokenizer, "backend_tokenizer") else repr(tokenizer)
    text = json.dumps(settings, sort_keys=True, default=str) + hashlib.sha256(rules.encode()).hexdigest()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def encoding_with_gradients(pixels: Mapping[str, Tensor]) -> Any:
    """A context for encoding images: with gradients where they are wanted of the pixels, without everywhere else."""
    wanted = torch.is_grad_enabled() and any(value.requires_grad for value in pixels.values())
    return torch.set_grad_enabled(wanted)
