"""Where models are loaded from and to: a folder or a Hub id that is there, a device that works."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


@contextmanager
def folder_or_repository(name: str | os.PathLike) -> Iterator[None]:
    """Stands around what loads `name`, a folder or a Hub id, and says of a mistyped one that it is neither.

    Raises:
        FileNotFoundError: no folder, and nothing that a repository can be called; nothing was asked of the Hub.
        OSError: no folder, and the Hub did not give it; transformers' own error is its cause.
    """
    if Path(name).is_dir():
        yield
        return
    name = os.fspath(name)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise FileNotFoundError(f"{name!r}: no folder here, and no Hub id (owner/name). Correct the path.") from error
    try:
        yield
    except OSError as error:
        raise OSError(f"{name!r} is no folder here, and could not be had from the Hub: {error}") from error


def default_device() -> torch.device:
    """CUDA if there is one, else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def usable_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name (None: `default_device`), once it has been seen to work. Raises ValueError otherwise."""
    if name is None:
        return default_device()
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        what = str(error).splitlines()[0]
        raise ValueError(f"device={str(name)!r} is not here ({what}). Leave it out: {default_device()} is.") from None
