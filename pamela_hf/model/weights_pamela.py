"""What weights are known by: the identity of a base, and a hash over a whole checkpoint that tells damage."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.hub import get_checkpoint_shard_files

NOT_OF_THE_BASE = ("backbone.", "user_embedding.", "cutpoints.", "choice_link")
_CASTS = (
    (),
    (torch.bfloat16,),
    (torch.float16,),
    (torch.bfloat16, torch.float16),
    (torch.float16, torch.bfloat16),
)


def base_hash(tensors: Mapping[str, Tensor], casts: Iterable[torch.dtype] = ()) -> str:
    """sha256 over all that gives a person's row its meaning: every tensor but the rows themselves, the encoder, the
    rating scales' cutpoints and the link of choices, in float32 after `casts`."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if not name.startswith(NOT_OF_THE_BASE):
            value = tensor.detach().cpu()
            for dtype in casts:
                value = value.to(dtype)
            digest.update(name.encode())
            digest.update(value.float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def cast_hashes(tensors: Mapping[str, Tensor]) -> list[str]:
    """[`base_hash`] of the weights and of what is left of them after casts to lower precisions."""
    return [base_hash(tensors, casts) for casts in _CASTS]


def content_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over tensors, sorted by name, as they are stored: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def checkpoint_hash(name: str | os.PathLike, **where: Any) -> str:
    """[`content_hash`] of the weights files of a model that has just been loaded from a folder or the Hub.

    Raises:
        OSError: no safetensors file there.
    """
    index = cached_file(name, SAFE_WEIGHTS_INDEX_NAME, _raise_exceptions_for_missing_entries=False, **where)
    if index is not None:
        files, _ = get_checkpoint_shard_files(name, index, **where)
    else:
        files = [cached_file(name, SAFE_WEIGHTS_NAME, **where)]
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        place = {key: file for file in opened for key in file.keys()}
        return content_hash((key, place[key].get_tensor(key)) for key in sorted(place))
