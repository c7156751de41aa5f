"""Heads by name, from a folder that may change while a server or a training run reads it."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from transformers.utils import logging

from ..heads.head import UserHead
from ..scoring import PamelaScorer

logger = logging.get_logger(__name__)


class HeadFolder(Mapping):
    """Name → [`UserHead`], of the heads that lie in a folder now; a head that was replaced is read again.

    A folder below that holds no head of this model is left out, and why is logged once.

    Args:
        folder: holds one folder for each head, as `pamela fit-user` writes it.
        scorer: the base that they belong to.

    Raises:
        ValueError: no such folder.
    """

    def __init__(self, folder: str | os.PathLike, scorer: PamelaScorer):
        self.folder, self.scorer = Path(folder), scorer
        if not self.folder.is_dir():
            raise ValueError(f"heads={str(folder)!r} is not a folder. Give one that holds the heads' folders.")
        self._read: dict[Path, tuple[int, UserHead | None]] = {}

    def _current(self) -> dict[str, UserHead]:
        found = {}
        for file in sorted(self.folder.glob("*/head.json")):
            try:
                changed = file.stat().st_mtime_ns
            except OSError:  # it went away meanwhile
                continue
            if self._read.get(file, (None,))[0] != changed:
                self._read[file] = changed, self._load(file.parent)
            if (head := self._read[file][1]) is not None:
                found[head.name] = head
        return found

    def _load(self, folder: Path) -> UserHead | None:
        try:
            return UserHead.load(folder, self.scorer)
        except (ValueError, OSError) as error:
            logger.warning("The head in %s is left out: %s", folder.name, error)
            return None

    def __getitem__(self, name: str) -> UserHead:
        return self._current()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())
