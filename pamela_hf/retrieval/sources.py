"""Where an index's images come from: a folder of pictures, a Parquet file, or features that are there already."""

import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from ..embeddings import EMBEDDINGS_NAME, Embeddings, load_embeddings
from ..encoder import FrozenEncoder, compute_embeddings
from ..files.csv import open_table
from ..files.folders import NameFinder, walk
from ..files.writing import write_text

_FEATURES = ("image_embeds", "text_embeds")


@dataclass
class ImageSource:
    """Images to index, N of them.

    Attributes:
        ids: their names.
        prompts: what they were made from, `None` = not known.
        metadata: table of N rows, a column a field.
        open: id → an open binary file or a path; `None` where there are features.
        features: of the images, where these are there already.
        problems: (id, reason) of images that are known not to be readable.
    """

    ids: list[str]
    prompts: list[str | None]
    metadata: pd.DataFrame
    open: Callable[[str], IO[bytes] | str | os.PathLike] | None = None
    features: Embeddings | None = None
    problems: Sequence[tuple[str, str]] = ()

    def embed(
        self, encoder: Callable[[], FrozenEncoder], output: Path, batch_size: int = 32
    ) -> tuple[Embeddings, pd.DataFrame, list[tuple[str, str]]]:
        """Features, metadata and (id, reason) of images left out.

        Args:
            encoder: gives the encoder, if it is needed.
            output: the index; what is embedded is kept beside it, in `OUTPUT.embeddings.safetensors`, until the index
                is written, so that a run that was cut off goes on.
            batch_size: images a forward pass.
        """
        if self.features is not None:
            return self.features, self.metadata, []
        skipped = list(self.problems)
        made = compute_embeddings(
            encoder(), self.ids, self.open, self.prompts, cache_path(output), batch_size, skipped=skipped
        )
        rows = {name: row for row, name in enumerate(self.ids)}
        metadata = self.metadata.iloc[[rows[name] for name in made.image_ids]].reset_index(drop=True)
        return made, metadata, skipped


def cache_path(output: Path) -> Path:
    """Where features lie while an index is made."""
    return output.with_name(f"{output.name}.{EMBEDDINGS_NAME}")


def open_source(images: str | os.PathLike, metadata: str | os.PathLike | None = None) -> ImageSource:
    """Images to index.

    Args:
        images: `embeddings.safetensors`, or a folder that holds one; a Parquet file or a folder of these with the
            columns `image_embeds` (and `text_embeds`) or `image` (bytes, as `datasets` stores them), `image_id`,
            `prompt` and any fields; else a folder of pictures, walked as [`pamela_hf.files.folders.walk`] does.
        metadata: a table with the column `image`, and any of `prompt` and fields, for the first and the last of them.

    Raises:
        FileNotFoundError: there is no such file or folder. ValueError: no images there; a table without these columns.
    """
    path = Path(images)
    if not path.exists():
        raise FileNotFoundError(f"{images} does not exist. Give a folder of images, Parquet or embeddings.safetensors.")
    if path.suffix == ".safetensors" or (path / EMBEDDINGS_NAME).is_file():
        features = load_embeddings(path)
        source = ImageSource(features.image_ids, [None] * len(features), pd.DataFrame(), features=features)
        return _with_table(source, metadata, lambda name: name)
    if path.suffix == ".parquet" or (path.is_dir() and any(path.rglob("*.parquet"))):
        if metadata is not None:
            raise ValueError(f"{images} is Parquet, whose own columns are its fields; leave metadata={metadata!r} out.")
        return _parquet(path)
    found = list(walk(path))
    good = {one.name: one.path for one in found if one.problem is None}
    if not good:
        raise ValueError(f"{images} holds no images.")
    problems = [(one.name, one.problem) for one in found if one.problem is not None]
    source = ImageSource(list(good), [None] * len(good), pd.DataFrame(), open=good.__getitem__, problems=problems)
    return _with_table(source, metadata, NameFinder(path.parent if path.is_file() else path).find)


def _with_table(source: ImageSource, metadata: Any, name_of: Callable[[str], str]) -> ImageSource:
    """The same images, with the prompts and fields of a table."""
    fields: dict[str, dict[str, Any]] = {}
    columns: list[str] = []
    if metadata is not None:
        table = open_table(metadata, ["image"], ["prompt"])
        columns = [name for name in table.names if name not in ("image", "prompt")]
        for number, row in table.rows():
            try:
                fields[name_of(str(row["image"]))] = dict(row)
            except ValueError as error:
                raise ValueError(f"{table.where(number)}: image {error}. Correct the row.") from None
        if not set(fields) & set(source.ids):
            raise ValueError(f"{metadata} names none of the images, such as {source.ids[0]!r}.")
    rows = [fields.get(name, {}) for name in source.ids]
    source.prompts = [row.get("prompt") or None for row in rows]
    values = {column: _numbers_or_texts([row.get(column) or None for row in rows]) for column in columns}
    source.metadata = pd.DataFrame(values, index=range(len(rows)))
    return source


def _numbers_or_texts(cells: list[Any]) -> pd.Series:
    """A field's cells: numbers where all that are not empty are numbers, so that filters can compare them."""
    texts = pd.Series(cells, dtype=object)
    numbers = pd.to_numeric(texts, errors="coerce")
    return numbers if numbers.notna().sum() == texts.notna().sum() else texts


def _parquet(path: Path) -> ImageSource:
    import pyarrow.dataset

    data = pyarrow.dataset.dataset(str(path), format="parquet")
    names = data.schema.names
    key = "image_id" if "image_id" in names else "image"
    if key not in names or not {"image", "image_embeds"} & set(names):
        raise ValueError(f"{path} has the columns {names}; image_id (or image) and image or image_embeds are needed.")
    about = [name for name in names if name not in ("image", *_FEATURES)]
    table = data.to_table(columns=[*about, *([key] if key not in about else [])]).to_pandas()
    ids = table.pop(key).astype(str).tolist()
    texts = table.pop("prompt") if "prompt" in table else [None] * len(ids)
    prompts = [text if isinstance(text, str) and text.strip() else None for text in texts]
    if "image_embeds" in names:
        features = {name: _matrix(data, name) for name in _FEATURES if name in names}
        made_by = json.loads((data.schema.metadata or {}).get(b"pamela", b"{}"))  # as `pamela embed` writes it
        encoder = {name: made_by.get(name) for name in ("backbone", "revision", "preprocessing")}
        return ImageSource(ids, prompts, table, features=Embeddings(ids, **features, **encoder))
    return ImageSource(ids, prompts, table, open=_Rows(data, ids))


def _matrix(data: Any, name: str) -> np.ndarray:
    column = data.to_table(columns=[name])[name]
    return np.stack([np.asarray(value, np.float32) for value in column.to_pylist()])


class _Rows:
    """Opens images of a Parquet dataset by their ids."""

    def __init__(self, data: Any, ids: list[str]):
        self.data, self.row = data, {name: row for row, name in enumerate(ids)}

    def __call__(self, name: str) -> IO[bytes] | str:
        image = self.data.take([self.row[name]], columns=["image"])["image"][0].as_py()
        if isinstance(image, bytes):
            return io.BytesIO(image)
        return io.BytesIO(image["bytes"]) if image.get("bytes") is not None else image["path"]


def write_skipped(output: Path, skipped: Sequence[tuple[str, str]]) -> Path:
    """Writes `OUTPUT.skipped.csv`, columns `image,reason`, or removes that of an earlier run; returns its path."""
    from ..files.escaping import csv_cell

    path = output.with_name(f"{output.name}.skipped.csv")
    if not skipped:
        path.unlink(missing_ok=True)
        return path
    rows = [[csv_cell(text) for text in row] for row in skipped]
    write_text(path, pd.DataFrame(rows, columns=["image", "reason"]).to_csv(index=False))
    return path
