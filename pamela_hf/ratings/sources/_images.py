"""Where images lie that are known by an id: in a folder, called by it, or in somebody else's Parquet files."""

import io
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from ...files.images import IMAGE_SUFFIXES
from ..table import RatingError
from ._files import Files
from ._parquet import opened

BATCH = 32  # rows of images held at a time


class ImageFolder:
    """image_id → stream, for images that are called by their id, at whatever depth of a folder.

    Args:
        folder: of the images.
        option: what messages call it.

    Raises:
        RatingError: it is not a folder.
    """

    def __init__(self, folder: Path, option: str):
        if not folder.is_dir():
            raise RatingError(f"{option}={str(folder)!r} is not a folder. Give the folder of the image files.")
        self._files = Files(folder)
        self._names: dict[str, str] = {}
        for name in self._files.names(""):
            stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
            if f".{suffix.lower()}" in IMAGE_SUFFIXES and dot:
                self._names.setdefault(stem, name)

    def locate(self, image_id: str, image_path: str | None) -> str:
        """The image's name below the folder. Raises ValueError: there is none."""
        name = self._names.get(image_id)
        if name is None or not self._files.has(name):
            raise ValueError(f"no image of {self._files.path} is called {image_id[:200]!r}; name its folder: images=…")
        return name

    def digest(self, *, content: bool) -> str:
        """Hash over the images' names and contents."""
        return self._files.digest(sorted(self._names.values()), content=content)

    def __call__(self, name: str) -> BinaryIO:
        return self._files.open(name)


class ParquetImages:
    """image_id → stream of the bytes that Parquet files hold, found when one is first asked for.

    Images are best asked for in the files' order: a batch of rows is kept at a time.

    Args:
        files: the Parquet files.
        columns: column of ids → column of bytes.
    """

    def __init__(self, files: Sequence[Path], columns: Mapping[str, str]):
        self._files, self._columns = list(files), dict(columns)
        self._places: dict[str, int] | None = None  # image_id → place in the three arrays
        self._file, self._row, self._side = array("i"), array("q"), array("b")
        self._reader: Iterator[pa.RecordBatch] | None = None
        self._at: tuple[int, int] = (-1, 0)  # file and first row of the batch that is kept
        self._batch: pa.RecordBatch | None = None

    def __getstate__(self) -> dict:
        return {"_files": self._files, "_columns": self._columns}  # an open file does not travel

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["_files"], state["_columns"])

    def locate(self, image_id: str, image_path: str | None) -> str:
        """The id itself: rows and images come from the same files."""
        return image_id

    def __call__(self, image_id: str) -> BinaryIO:
        if self._places is None:
            self._index()
        place = self._places[image_id]
        row = self._row[place]
        batch = self._batch_of(self._file[place], row)
        value = batch.column(list(self._columns.values())[self._side[place]])[row - self._at[1]].as_py()
        if not value:
            raise KeyError(image_id)
        return io.BytesIO(value)

    def _index(self) -> None:
        places: dict[str, int] = {}
        for number, file in enumerate(self._files):
            start = 0
            for batch in opened(file).iter_batches(10_000, columns=list(self._columns)):
                for side, column in enumerate(self._columns):
                    for row, image_id in enumerate(batch.column(column).to_pylist()):
                        if image_id is not None and image_id not in places:
                            places[image_id] = len(self._file)
                            self._file.append(number)
                            self._row.append(start + row)
                            self._side.append(side)
                start += len(batch)
        self._places = places

    def _batch_of(self, file: int, row: int) -> pa.RecordBatch:
        """The batch that holds a row, read on from where the last one ended."""
        if self._at[0] != file or row < self._at[1] or self._batch is None:
            self._reader = opened(self._files[file]).iter_batches(BATCH, columns=list(self._columns.values()))
            self._at, self._batch = (file, 0), next(self._reader)
        while row >= self._at[1] + len(self._batch):
            self._at = (file, self._at[1] + len(self._batch))
            self._batch = next(self._reader)
        return self._batch
