"""A folder that ``scripts/prepare_ratings.py`` wrote: ``ratings/<split>-*.parquet``, ``choices/<split>-*.parquet`` or
both, ``images/all-*.parquet`` and a card whose YAML says ``rating_scales``.

Rows are checked again when read: a file may have been edited since."""

import bisect
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...files.config import ParseError, read_yaml
from ...files.escaping import printable
from ..table import (
    CHOICE_COLUMNS,
    MAX_LEVELS,
    RATING_COLUMNS,
    SPLITS,
    RatingError,
    RatingSource,
    RawRow,
    Release,
    digest_files,
    integer_levels,
)

MAX_CARD = 1 << 20  # bytes of a card
BATCH = 10_000  # rows held as Python objects at a time
GROUP_LIMIT = 1 << 30  # bytes that a row group may unpack to
LONGEST_TEXT = 4 * 20_000  # bytes of a text; its characters are counted when rows are checked
GROUP_BYTES = 16 << 20  # of images in a Parquet row group
FILE_BYTES = 400 << 20  # of images in a Parquet file


def matches(path: Path) -> bool:
    """A folder with ``ratings/*.parquet`` or ``choices/*.parquet``."""
    return path.is_dir() and any(any((path / kind).glob("*.parquet")) for kind in ("ratings", "choices"))


def open_source(path: Path, *, rating_min: float | None = None, rating_max: float | None = None) -> RatingSource:
    """Opens a prepared folder.

    Raises:
        RatingError: a Parquet file of an unknown split, unreadable, or without the columns of the table.
    """
    ratings = _by_split(path / "ratings", RATING_COLUMNS)
    choices = _by_split(path / "choices", CHOICE_COLUMNS)
    card = read_card(path / "README.md")
    scales = {
        str(name): tuple(float(level) for level in levels) for name, levels in card.get("rating_scales", {}).items()
    }
    if rating_min is not None:
        scales = dict.fromkeys(scales or [path.resolve().name], integer_levels(rating_min, rating_max))
    images = sorted((path / "images").glob("*.parquet"))
    store = _Images(images) if _has_images(images) else None
    embeddings = path / "embeddings.safetensors"

    def locate(image_id: str, image_path: str | None) -> str:
        if store is not None and image_id not in store:
            raise ValueError(f"image {image_id!r} is not in {path / 'images'}. Prepare the ratings again.")
        return image_id

    return RatingSource(
        name=str(card.get("rating_source") or path.resolve().name),
        rows={split: partial(_rows, ratings[split], RATING_COLUMNS) for split in SPLITS if split in ratings},
        choices={split: partial(_rows, choices[split], CHOICE_COLUMNS) for split in SPLITS if split in choices},
        digest=lambda with_images: digest_files(
            [*chain(*ratings.values(), *choices.values()), *(images if with_images else [])]
        ),
        scales=scales,
        locate=locate,
        open_image=store,
        embeddings=embeddings if embeddings.is_file() else None,
        release=card_release(card),
    )


def _by_split(folder: Path, columns: Sequence[str]) -> dict[str, list[Path]]:
    """Split → its Parquet files, each with these columns."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.parquet")):
        split = file.name.split("-")[0].removesuffix(".parquet")
        if split not in SPLITS:
            raise RatingError(f"{file}: names no known split; <split>-*.parquet with one of {', '.join(SPLITS)}.")
        if missing := set(columns) - set(_opened(file).schema_arrow.names):
            raise RatingError(f"{file}: lacks the columns {sorted(missing)}. Prepare the ratings again.")
        found.setdefault(split, []).append(file)
    return found


def card_release(card: dict) -> Release | None:
    """The release that a card's YAML names under ``rating_release``, if it names one whole."""
    named = card.get("rating_release")
    fields = ("license", "url", "citation")
    if not isinstance(named, dict) or any(not isinstance(named.get(key), str) for key in fields):
        return None
    place = {key: named[key] for key in ("dataset", "revision") if isinstance(named.get(key), str)}
    return Release(*(named[key] for key in fields), **place)


def read_card(path: Path) -> dict:
    """The YAML at the head of a card; {} if there is no card or no YAML.

    Raises:
        RatingError: the YAML cannot be read, or its rating_scales is not a mapping of names to levels.
    """
    if not path.is_file():
        return {}
    with open(path, "rb") as file:
        text = file.read(MAX_CARD + 1)
    if not text.startswith(b"---"):
        return {}
    try:
        card = read_yaml(text.split(b"---", 2)[1], max_bytes=MAX_CARD) or {}
        for levels in card.get("rating_scales", {}).values():
            _check_levels(levels)
    except (ParseError, AttributeError, IndexError) as error:
        raise RatingError(
            f"{path}: its YAML does not say rating_scales as name: [ascending levels] ({printable(str(error), 200)}). "
            "Correct it, or prepare the ratings again."
        ) from None
    return card


def _check_levels(levels: Any) -> None:
    numbers = isinstance(levels, list) and all(type(x) in (int, float) and math.isfinite(x) for x in levels)
    if not numbers or not 2 <= len(levels) <= MAX_LEVELS or sorted(set(levels)) != levels:
        raise ParseError(f"levels {printable(str(levels), 100)} are not 2 to {MAX_LEVELS} ascending numbers")


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise RatingError(f"{file}: no readable Parquet file ({error}). Prepare the ratings again.") from None


def _rows(files: list[Path], columns: Sequence[str]) -> Iterator[RawRow]:
    for file in files:
        label, number = str(file), 0
        try:
            for batch in _batches(file, list(columns)):
                for values in zip(*map(_values, batch.columns)):
                    number += 1
                    yield label, number, dict(zip(columns, values))
        except (pa.ArrowException, OSError) as error:
            raise RatingError(f"{label}, row {number + 1}: unreadable ({error}). Prepare the ratings again.") from None


def _batches(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file's text and number columns, texts as dictionaries.

    A few kilobytes of a file can hold one text of megabytes and repeat it thousands of times by its number. So what is
    unpacked is bounded by the file's own metadata, and texts are looked at while they are in their dictionary.

    Raises:
        RatingError: a row group or a text beyond the bounds.
    """
    parquet = _opened(file)
    places = {parquet.schema.column(i).path: i for i in range(len(parquet.schema.names))}
    for group in range(parquet.num_row_groups):
        metadata = parquet.metadata.row_group(group)
        size = sum(metadata.column(places[column]).total_uncompressed_size for column in columns if column in places)
        if size > GROUP_LIMIT:
            raise RatingError(
                f"{file}: row group {group} unpacks to {size >> 20} MiB; at most {GROUP_LIMIT >> 20} MiB. Write it in "
                "smaller row groups."
            )
    schema = parquet.schema_arrow
    texts = [column for column in columns if column in schema.names and _is_text(schema.field(column).type)]
    for batch in pq.ParquetFile(file, read_dictionary=texts).iter_batches(BATCH, columns=columns):
        for column in texts:
            values = batch.column(column)
            values = values.dictionary if pa.types.is_dictionary(values.type) else values
            longest = pc.max(pc.binary_length(values)).as_py() or 0
            if longest > LONGEST_TEXT:
                raise RatingError(
                    f"{file}: column {column} holds a text of {longest:,} bytes; at most {LONGEST_TEXT:,}."
                )
        yield batch


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _values(column: pa.Array) -> list[Any]:
    """A column's values; a text that occurs often is one Python object."""
    if not pa.types.is_dictionary(column.type):
        return column.to_pylist()
    texts = [*column.dictionary.to_pylist(), None]
    return [texts[-1 if place is None else place] for place in column.indices.to_pylist()]


def _has_images(files: list[Path]) -> bool:
    """Whether any image is there; images known by their embeddings only have a row, but no image."""
    for file in files:
        parquet = _opened(file)
        for group in range(parquet.num_row_groups):
            for batch in parquet.iter_batches(64, row_groups=[group], columns=["image.path"]):
                if batch.column("image").null_count < len(batch):
                    return True
    return False


class _Images:
    """image_id → stream of its bytes, from Parquet files; keeps one row group (some 16 MB) for its neighbours."""

    def __init__(self, files: list[Path]):
        self._groups: list[tuple[Path, int]] = []
        self._starts: list[int] = []  # place of each row group's first image among all
        self._places: dict[str, int] = {}
        for file in files:
            parquet = _opened(file)
            for group in range(parquet.num_row_groups):
                self._groups.append((file, group))
                self._starts.append(parquet.metadata.row_group(group).num_rows)
            for batch in _batches(file, ["image_id"]):
                for image_id in batch.column("image_id").to_pylist():
                    self._places[image_id] = len(self._places)
        self._starts = [0, *accumulate(self._starts)][: len(self._starts)]
        self._kept: tuple[int, pa.Table] | None = None

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def __call__(self, image_id: str) -> BinaryIO:
        place = self._places[image_id]
        index = bisect.bisect_right(self._starts, place) - 1
        kept = self._kept
        if kept is None or kept[0] != index:
            file, group = self._groups[index]
            kept = self._kept = (index, _image_group(file, group))
        image = kept[1]["image"][place - self._starts[index]].as_py()
        if image is None or image["bytes"] is None:
            raise KeyError(image_id)
        return io.BytesIO(image["bytes"])


def _image_group(file: Path, group: int) -> pa.Table:
    """The images of a row group, read a few at a time: a dictionary may repeat a large one.

    Raises:
        RatingError: more bytes than a row group may have.
    """
    parts: list[pa.RecordBatch] = []
    size = 0
    for batch in _opened(file).iter_batches(4, row_groups=[group], columns=["image"]):
        parts.append(batch)
        size += batch.nbytes
        if size > GROUP_LIMIT:
            raise RatingError(
                f"{file}: row group {group} has more than {GROUP_LIMIT >> 20} MiB of images. Write smaller row groups."
            )
    return pa.Table.from_batches(parts)


def write_ratings(table: pd.DataFrame, path: Path, schema: pa.Schema) -> None:
    """Writes one split's table (see :class:`pamela_hf.ratings.table.RatingData`) as a Parquet file of `schema`."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(table), 100_000):  # text is repeated in full here, so a part at a time
            part = table.iloc[start : start + 100_000]
            columns = [pa.array(part[column], from_pandas=True) for column in schema.names]
            columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in columns]
            writer.write_table(pa.table([c.cast(field.type) for c, field in zip(columns, schema)], schema=schema))


def write_images(rows: Iterable[dict[str, Any]], folder: Path, schema: pa.Schema) -> int:
    """Writes rows with ``image`` = {"bytes", "path"} or None as ``all-*.parquet``; returns how many there were.

    Files are of about `FILE_BYTES`, in row groups small enough to read a single image from.
    """
    writer: pq.ParquetWriter | None = None
    files: list[Path] = []
    group: list[dict] = []
    count = in_file = in_group = 0
    for row in chain(rows, [None]):
        if row is not None:
            group.append(row)
            count += 1
            in_group += len(row["image"]["bytes"]) if row["image"] else 0
        if row is None or in_group > GROUP_BYTES or len(group) >= BATCH:
            if writer is None:
                files.append(folder / f"{len(files)}.part")
                # image bytes neither compress nor repeat: trying to would only cost time and memory
                writer = pq.ParquetWriter(
                    files[-1], schema, compression="none", use_dictionary=False, write_statistics=False
                )
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            in_file, in_group, group = in_file + in_group, 0, []
        if row is None or in_file > FILE_BYTES:
            writer.close()
            writer, in_file = None, 0
    for number, file in enumerate(files):
        file.rename(folder / f"all-{number:05d}-of-{len(files):05d}.parquet")
    return count
