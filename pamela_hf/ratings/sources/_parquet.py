"""What sources made of somebody else's Parquet files have in common: reading row by row in bounded memory."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..table import RatingError

BATCH = 10_000  # rows held as Python objects at a time


def opened(file: Path) -> pq.ParquetFile:
    """An opened file. Raises RatingError: it is not a readable Parquet file."""
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise RatingError(f"{file}: no readable Parquet file ({error}). Download it again.") from None


def has_columns(file: Path, needed: Iterable[str]) -> bool:
    """Whether a file is Parquet with these columns; only its footer is read."""
    try:
        return set(needed) <= set(pq.read_schema(file).names)
    except (pa.ArrowException, OSError):
        return False


def parquet_files(path: Path) -> list[Path]:
    """`path` itself, or the Parquet files in it or in its folder ``data``, by name; none if it holds none."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    for folder in (path, path / "data"):
        if files := sorted(folder.glob("*.parquet")):
            return files
    return []


def parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple]]:
    """(row number from 1, values of `columns`) of each row.

    Raises:
        RatingError: the file is damaged, or lacks a column.
    """
    parquet = opened(file)
    if missing := [name for name in columns if name not in parquet.schema_arrow.names]:
        raise RatingError(f"{file}: lacks the columns {', '.join(missing)}. Download it again.")
    count = itertools.count(1)
    try:
        for batch in parquet.iter_batches(BATCH, columns=list(columns)):
            values: list[list[Any]] = [batch.column(name).to_pylist() for name in columns]
            yield from ((next(count), row) for row in zip(*values))
    except (pa.ArrowException, OSError) as error:
        raise RatingError(f"{file}, row {next(count)}: unreadable ({error}). Download it again.") from None
