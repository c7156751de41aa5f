"""Where a model is loaded from: a folder, or a Hub id."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


@contextmanager
def folder_or_repository(name: str | os.PathLike) -> Iterator[None]:
    """Stands around what loads `name`, a folder or a Hub id, and reports a mistyped one.

    Raises:
        FileNotFoundError: neither a folder nor a possible Hub id; the Hub was not asked.
        OSError: not a folder, and the Hub did not give it; transformers' own error is its cause.
    """
    if Path(name).is_dir():
        yield
        return
    name = os.fspath(name)
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise FileNotFoundError(
            f"{name!r}: the folder does not exist, and it is not a Hub id (owner/name). Correct the path."
        ) from error
    try:
        yield
    except OSError as error:
        raise OSError(f"{name!r} does not exist as a folder, and could not be loaded from the Hub: {error}") from error


