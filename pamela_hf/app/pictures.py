"""The folder's pictures: found once, known by an id, shown at screen size.

An id is the picture's path below the folder, as in every CSV of ratings. A URL holds a token instead, which changes
with the file: nothing a browser sends is ever made into a path.
"""

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from PIL import Image

from ..files.folders import walk
from ..files.images import open_image_checked

SCREEN, THUMBNAIL = 1600, 400  # pixels of the longer side
CACHE_BYTES = 96 << 20
MAX_PICTURES = 200_000


@dataclass(frozen=True, slots=True)
class Picture:
    """One image file: `id`, its path below the folder; `token`, its name in URLs; `size` in bytes; `changed`, when."""

    id: str
    token: str
    path: Path = field(repr=False)
    size: int = 0
    changed: int = 0

    @property
    def url(self) -> str:
        return f"/images/{self.token}"


class PictureFolder:
    """The pictures of a folder, in the order of their ids.

    Args:
        folder: read as [`pamela_hf.files.folders.walk`] does.

    Raises:
        ValueError: no folder, or no picture in it.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"--images {self.folder} is not a folder. Name the folder that holds the pictures.")
        self.pictures = sorted(islice(self._find(), MAX_PICTURES), key=lambda picture: picture.id)
        if not self.pictures:
            raise ValueError(f"--images {self.folder} holds no picture. Name another folder.")
        self.ids = [picture.id for picture in self.pictures]
        self.by_id = {picture.id: picture for picture in self.pictures}
        self.by_token = {picture.token: picture for picture in self.pictures}
        self.screen = ScreenImages()

    def _find(self) -> Iterator[Picture]:
        for found in walk(self.folder):
            if found.problem is None:
                with suppress(OSError):  # it has just gone
                    stat = found.path.stat()
                    stamp = f"{found.name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()
                    token = hashlib.sha256(stamp).hexdigest()[:24]
                    yield Picture(found.name, token, found.path, stat.st_size, stat.st_mtime_ns)

    def __len__(self) -> int:
        return len(self.pictures)

    def screen_image(self, token: str, side: int = SCREEN) -> bytes | None:
        """A JPEG of a picture, its longer side at most `side` pixels; `None` for a token of none.

        Raises:
            ImageError: the file is gone, or no image.
        """
        picture = self.by_token.get(token)
        return None if picture is None else self.screen.get(picture.path, _key(token, side), side)

    def kept_image(self, token: str, side: int = SCREEN) -> bytes | None:
        """[`screen_image`], if it is in memory."""
        return self.screen.kept(_key(token, side))


def _key(token: str, side: int) -> str:
    return f"{token} {side}"


class ScreenImages:
    """JPEGs at screen size, the most recently used ones kept in memory."""

    def __init__(self, max_bytes: int = CACHE_BYTES):
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes, self._max_bytes = 0, max_bytes
        self._lock = threading.Lock()

    def kept(self, key: str) -> bytes | None:
        """The picture that was made as `key`, if it is still in memory."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def get(self, path: Path, key: str, side: int) -> bytes:
        """The picture at `path`, as `key` from now on."""
        if (kept := self.kept(key)) is not None:
            return kept
        made = at_screen_size(open_image_checked(path, name=path.name), side)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made)
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made


def at_screen_size(image: Image.Image, side: int) -> bytes:
    """An RGB image as JPEG, scaled down so that its longer side has at most `side` pixels."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88)
    return stream.getvalue()
