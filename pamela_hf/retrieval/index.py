"""Features of many images and what is known of them, stored once, in one Lance dataset.

Lance (https://lance.org) is an embedded column store with approximate vector search, filters in SQL, appends, deletions
and versions: whatever opens a Lance dataset opens an index. Chosen by measurement, see `scripts/bench_retrieval.py`.
"""

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..embeddings import EmbeddingError, Embeddings, check_encoder
from ..files.writing import locked, replacing_folder
from ..model.configuration_pamela import PamelaConfig

Filter = str | Mapping[str, Any]
"""Which images count, see [`ImageIndex.nearest`]."""
INDEXED_FROM = 50_000
"""Images from which approximate search is worth its training; below, every vector is looked at."""
PROBED = 0.25
"""Part of the clusters that a search looks into, and how many at least: a few clusters cost nothing."""
LEAST_PROBED = 32
ROWS_AT_ONCE = 65_536
_ENCODER = ("backbone", "revision", "preprocessing")
_OWN = ("image", "vector", "image_norm", "text_norm")


def check_lance() -> None:
    """Raises ImportError naming the extra to install, without importing Lance, which no process should fork after."""
    if importlib.util.find_spec("lance") is None:
        raise ImportError("An index needs pylance, which is not installed: pip install 'pamela_hf[retrieval]'")


def import_lance() -> Any:
    """The package `lance`. Raises ImportError naming the extra to install."""
    check_lance()
    import lance

    return lance


@dataclass
class IndexedImages:
    """Some images of an index, n of them.

    Attributes:
        names: as they were indexed.
        vectors: `(n, D + Dt)` float32, features of unit length, then those of prompts (zeros: no prompt).
        norms: `(n, 2)` float32, what the two parts are multiplied by to have the encoder's own features.
        metadata: table of n rows, a column a field.
    """

    names: list[str]
    vectors: np.ndarray
    norms: np.ndarray
    metadata: pd.DataFrame

    def __len__(self) -> int:
        return len(self.names)

    def features(self, width: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The encoder's features of the images, `(n, width)`, and of their prompts, `(n, Dt)` or None."""
        image = self.vectors[:, :width] * self.norms[:, :1]
        text = self.vectors[:, width:] * self.norms[:, 1:]
        return image, text if text.shape[1] else None

    def take(self, rows: np.ndarray) -> "IndexedImages":
        """Some of them, by their row numbers."""
        names = [self.names[row] for row in rows]
        return IndexedImages(names, self.vectors[rows], self.norms[rows], self.metadata.iloc[rows])


class ImageIndex:
    """An index over images: a folder that is a Lance dataset.

    Args:
        path: the folder.

    Raises:
        FileNotFoundError: there is none. ValueError: it holds something else. ImportError: Lance is not installed.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"{path} does not exist. Make an index with: pamela index --output {path} …")
        lance = import_lance()
        try:
            self._data = lance.dataset(str(self.path))
            about = json.loads((self._data.schema.metadata or {})[b"pamela"])
        except (ValueError, OSError, KeyError) as error:
            what = str(error).splitlines()[0][:200]
            raise ValueError(f"{path} is not an index of images ({what}). Make one with: pamela index") from None
        self.width: int = about["image_embed_dim"]
        self.text_width: int = about["text_embed_dim"]
        self.encoder: dict[str, str | None] = {name: about.get(name) for name in _ENCODER}

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        embeddings: Embeddings,
        metadata: pd.DataFrame | None = None,
        *,
        overwrite: bool = False,
    ) -> "ImageIndex":
        """Writes an index, whole or not at all.

        Args:
            path: the folder to write.
            embeddings: of N images; features of prompts are kept where any image has one.
            metadata: N rows in the order of the images, a column a field, for filters; fields of the reward (`group`,
                `style`, `type`) are also what it knows of an image.
            overwrite: replace an index that is there.

        Raises:
            ValueError: no images, metadata of another length or with a reserved column. FileExistsError: `path` holds
                something. ImportError: Lance is not installed.
        """
        lance = import_lance()
        if not len(embeddings):
            raise ValueError("embeddings hold no image; give at least one.")
        metadata = _checked_metadata(metadata, len(embeddings))
        if overwrite and Path(path).exists():
            cls(path)  # anything else is never replaced
        with replacing_folder(path, overwrite=overwrite) as staged:
            batches = _batches(embeddings, metadata)
            first = next(batches)
            reader = _reader(first, batches)
            data = lance.write_dataset(reader, str(staged), mode="create")
            _build(data)
        return cls(path)

    def __len__(self) -> int:
        return self._data.count_rows()

    @property
    def fields(self) -> list[str]:
        """Names of the metadata's columns."""
        return [name for name in self._data.schema.names if name not in _OWN]

    def check_model(self, config: PamelaConfig) -> None:
        """Raises EmbeddingError unless the features are of a model's own encoder."""
        one = np.zeros((1, self.width), np.float32)
        text = np.zeros((1, self.text_width), np.float32) if self.text_width else None
        check_encoder(config, Embeddings(["any"], one, text, **self.encoder), f"the features of {self.path}")

    def add(self, embeddings: Embeddings, metadata: pd.DataFrame | None = None) -> None:
        """Adds images; one whose name is there takes the place of the other.

        New images are found at once, and by the approximate search from the next [`optimize`] on.

        Args:
            embeddings: of the same encoder.
            metadata: as in [`create`], with the index's fields; a missing one is unknown.

        Raises:
            EmbeddingError: of another encoder, or of another width. ValueError: a field that the index does not have.
        """
        self._check_added(embeddings)
        metadata = _checked_metadata(metadata, len(embeddings))
        if unknown := sorted(set(metadata.columns) - set(self.fields)):
            raise ValueError(f"metadata has the column {unknown[0]!r}; the fields of {self.path} are {self.fields}.")
        metadata = metadata.reindex(columns=self.fields)
        with locked(self.path):
            self._data.checkout_latest()
            merge = self._data.merge_insert("image").when_matched_update_all().when_not_matched_insert_all()
            batches = _batches(embeddings, metadata, self.text_width)
            first = next(batches)
            merge.execute(_reader(first, batches, self._data.schema))
        self._data.checkout_latest()

    def delete(self, names: Sequence[str]) -> int:
        """Removes images by their names; returns how many there were. They are gone from searches at once, and from
        the disk with the next [`optimize`]."""
        before = len(self)
        with locked(self.path):
            self._data.checkout_latest()
            for start in range(0, len(names), 1000):
                self._data.delete(sql_filter({"image": names[start : start + 1000]}))
        return before - len(self)

    def optimize(self) -> None:
        """Takes new images into the approximate search, and removes from the disk what was deleted or replaced."""
        from datetime import timedelta

        with locked(self.path):
            self._data.checkout_latest()
            self._data.optimize.compact_files()
            if self._data.has_index:
                self._data.optimize.optimize_indices()
            else:
                _build(self._data)
            self._data.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)

    def nearest(self, query: np.ndarray, n: int, where: Filter | None = None) -> IndexedImages:
        """The n images (fewer if there are fewer) with the largest inner product with a vector, about.

        Args:
            query: `(D,)` for features of images, or `(D + Dt,)` with those of prompts.
            n: how many.
            where: only images with these values of fields, such as `{"group": "food", "type": ["Art", "Photo"]}`; or a
                filter in SQL over the fields and `image`, such as "`group` = 'food' AND year > 1900" (names that are
                words of SQL in backticks).

        Raises:
            ValueError: a filter that is no SQL or names a field that does not exist.
        """
        query = np.pad(np.asarray(query, np.float32), (0, self.width + self.text_width - len(query)))
        asked = {"column": "vector", "q": query, "k": max(1, n), "metric": "dot"}
        if self._data.has_index:
            asked |= {"nprobes": max(LEAST_PROBED, round(PROBED * _partitions(len(self))))}
        return self._read(where, nearest=asked, prefilter=True)

    def sample(self, n: int, seed: int = 0) -> IndexedImages:
        """n images drawn at random, the same ones for the same seed; all if there are no more."""
        total = len(self)
        rows = np.sort(np.random.default_rng(seed).permutation(total)[:n])
        return self._images(self._data.take(rows.tolist()))

    def _read(self, where: Filter | None, **how: Any) -> IndexedImages:
        columns = self._data.schema.names
        where = sql_filter(where) if isinstance(where, Mapping) else where
        try:
            table = self._data.to_table(columns=[*columns, "_distance"], filter=where, **how)
        except (ValueError, OSError) as error:
            if where is None:
                raise
            what = str(error).splitlines()[0][:200]
            raise ValueError(
                f"where={where!r} cannot be used ({what}). The fields are {['image', *self.fields]}."
            ) from None
        return self._images(table)

    def _images(self, table: Any) -> IndexedImages:
        vector = table["vector"].combine_chunks()
        vectors = vector.flatten().to_numpy(zero_copy_only=False).reshape(len(vector), self.width + self.text_width)
        norms = np.stack([table[name].to_numpy() for name in ("image_norm", "text_norm")], 1)
        return IndexedImages(table["image"].to_pylist(), vectors, norms, table.select(self.fields).to_pandas())

    def _check_added(self, embeddings: Embeddings) -> None:
        for name, mine in self.encoder.items():
            theirs = getattr(embeddings, name)
            if mine and theirs and mine != theirs:
                raise EmbeddingError(
                    f"{name} of {self.path} is {mine!r}, of the new images {theirs!r}: use one encoder."
                )
        if embeddings.image_embeds.shape[1] != self.width:
            raise EmbeddingError(
                f"the new images have {embeddings.image_embeds.shape[1]} features, those of {self.path} {self.width}."
            )


def sql_filter(where: Mapping[str, Any]) -> str:
    """A filter in SQL: each field has the value, or one of the values, given."""

    def literal(value: Any) -> str:
        return str(value) if isinstance(value, (int, float)) else "'" + str(value).replace("'", "''") + "'"

    def one_of(values: Any) -> str:
        values = [values] if isinstance(values, (str, int, float)) else values
        return ", ".join(literal(value) for value in values)

    return " AND ".join("`" + field.replace("`", "") + f"` IN ({one_of(values)})" for field, values in where.items())


def _checked_metadata(metadata: pd.DataFrame | None, n: int) -> pd.DataFrame:
    metadata = pd.DataFrame(index=range(n)) if metadata is None else metadata
    if len(metadata) != n:
        raise ValueError(f"metadata has {len(metadata)} rows for {n} images; give one each.")
    if taken := sorted(set(metadata.columns) & set(_OWN)):
        raise ValueError(f"metadata has the column {taken[0]!r}, which the index itself uses; rename it.")
    return metadata


def _batches(embeddings: Embeddings, metadata: pd.DataFrame, text_width: int | None = None) -> Iterator[Any]:
    """The images' rows as Arrow tables; `text_width`: of the index; default: what the images' prompts need."""
    import pyarrow as pa

    text = embeddings.text_embeds
    if text_width is None:
        text_width = 0 if text is None or not text.any() else text.shape[1]
    about = {name: getattr(embeddings, name) for name in _ENCODER}
    about |= {"image_embed_dim": embeddings.image_embeds.shape[1], "text_embed_dim": text_width}
    for start in range(0, len(embeddings), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        image = embeddings.image_embeds[part]
        given = text[part] if text is not None and text_width else np.zeros((len(image), text_width), np.float32)
        norms = [np.linalg.norm(value, axis=1).astype(np.float32) for value in (image, given)]
        parts = [value / np.maximum(norm, 1e-12)[:, None] for value, norm in zip((image, given), norms)]
        vectors = np.concatenate(parts, 1)
        columns = {
            "image": pa.array(embeddings.image_ids[part], pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
            "image_norm": pa.array(norms[0]),
            "text_norm": pa.array(norms[1]),
        }
        for name in metadata.columns:
            columns[str(name)] = pa.array(metadata[name].iloc[part], from_pandas=True)
        yield pa.table(columns).replace_schema_metadata({"pamela": json.dumps(about)})


def _reader(first: Any, rest: Iterator[Any], schema: Any = None) -> Any:
    """Tables one after the other as a stream, cast to one schema; default: the first one's."""
    import pyarrow as pa

    schema = first.schema if schema is None else schema

    def batches() -> Iterator[Any]:
        for table in chain([first], rest):
            yield from table.cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _partitions(n: int) -> int:
    # training takes as long as their number squared; this many hold a few hundred to a few thousand images each
    return max(1, round(n**0.5 / 2))


def _build(data: Any) -> None:
    """Trains approximate search: product quantization within clusters, of the whole inner product."""
    n = data.count_rows()
    if n < INDEXED_FROM:
        return
    width = data.schema.field("vector").type.list_size
    pieces = next(size for size in range(max(1, width // 4), 0, -1) if width % size == 0)
    data.create_index(
        "vector", "IVF_PQ", metric="dot", num_partitions=_partitions(n), num_sub_vectors=pieces, replace=True
    )
