"""Where a model is loaded from: a folder, or a Hub id."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


