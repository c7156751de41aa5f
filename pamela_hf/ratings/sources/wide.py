"""A wide table, as psychology shares ratings: a row an image and a column a person, or the other way round.

CSV or XLSX. What such a file may look like (separators, encodings, decimal commas): :mod:`pamela_hf.files.csv`::

    image,     p01, p02, p03            participant, beach.jpg, street.jpg
    beach.jpg, 5,   ,    4              p01,         5,         2
    street.jpg,2,   3,   NA             p02,         ,          3

An empty cell, or one of `MISSING`, is not a rating. With ``rows=images`` columns named ``prompt``, ``group``, ``style``
and ``type`` are the image's; with ``rows=people`` columns ``age``, ``age_binned``, ``gender`` and ``nationality`` are
the person's; other columns that are not ratings are named with ``ignore``. Any CSV may be such a table, so it is read
when asked for: ``--source wide``. One's own raters: published under pseudonyms only.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...files.csv import Table, open_table, read_number, shown_names
from ...files.folders import NameFinder
from ..table import (
    DEMOGRAPHIC_FIELDS,
    IMAGE_COLUMNS,
    UNSPLIT,
    RatingError,
    RatingSource,
    RawRow,
    digest_files,
    integer_levels,
)
from ._files import Files
from ._tables import embeddings_beside, image_locator

MISSING = frozenset({"", "na", "nan", "n/a", "null", "none", ".", "-"})
ROWS = {"images": ("image", IMAGE_COLUMNS[1:]), "people": ("participant", ("age", *DEMOGRAPHIC_FIELDS))}
"""What a row may be → the column that names it, and further columns about it."""


def matches(path: Path) -> bool:
    """Never: any CSV may be such a table."""
    return False


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    rows: str = "images",
    column: str | None = None,
    ignore: str = "",
    images: str | Path | None = None,
    embeddings: str | Path | None = None,
    slider: bool | str = False,
) -> RatingSource:
    """Opens a wide table.

    Args:
        path: the CSV file or workbook.
        rating_min: lowest rating of the scale; default: the smallest rating in the table.
        rating_max: highest rating of the scale; default: the largest rating in the table.
        rows: ``images`` or ``people``: what a row is; the columns are the others.
        column: name of the column that names the rows; default: ``image`` or ``participant``, or a synonym.
        ignore: names of columns that are not ratings, separated by commas.
        images: folder that images' names start from; default: the table's, if there are images of these names.
        embeddings: file of the images' features; default: embeddings.safetensors beside the table.
        slider: a rating between two levels is moved to the nearer one.

    Raises:
        RatingError: an unknown `rows`, no column of that name, one to ignore that is not there, or none of ratings.
    """
    if rows not in ROWS:
        raise RatingError(f"rows is {rows!r}; a row of a wide table is one of {', '.join(ROWS)}.")
    if images is not None and not Path(images).is_dir():
        raise RatingError(f"images={str(images)!r} is not a folder. Give the folder of the image files.")
    layout = _Layout(path, rows, column, frozenset(name.strip().lower() for name in ignore.split(",") if name.strip()))
    layout.rated()
    vectors = embeddings_beside(path, embeddings)
    files = Files(Path(images) if images is not None else path.parent)
    with_files = images is not None or vectors is None
    finder = NameFinder(files.path) if with_files else None
    return RatingSource(
        name=re.sub(r"[^\w.-]", "_", path.stem) or "ratings",
        rows={UNSPLIT: lambda: layout.read(finder)},
        digest=lambda with_images: digest_files([path]) + (
            files.digest(sorted(layout.image_files(files, finder)), content=True) if with_images and with_files else ""
        ),
        level_values=integer_levels(rating_min, rating_max) if rating_min is not None else None,
        slider=str(slider).lower() in ("true", "yes"),
        locate=image_locator(files, "") if with_files else None,
        open_image=files.open if with_files else None,
        embeddings=vectors,
    )  # fmt: skip


class _Layout:
    """Which column of a table is what."""

    def __init__(self, path: Path, rows: str, column: str | None, ignore: frozenset[str]):
        self.path, self.rows, self.ignore = path, rows, ignore
        self.name, self.facts = ROWS[rows]
        self.column = self.name if column is None else column.strip().lower()

    def open(self) -> Table:
        return open_table(self.path, (self.column,), self.facts, RatingError)

    def rated(self) -> dict[str, str]:
        """Column of ratings → whom or what it is of.

        Raises:
            RatingError: there is none, or a column to ignore does not exist.
        """
        table = self.open()
        if unknown := sorted(self.ignore - {name.lower() for name in (*table.names, *table.written)}):
            known = shown_names(table.written)
            raise RatingError(f"{self.path}: ignore names {unknown[0]!r}; its columns are {known}.")
        found = {
            name: written
            for name, written in zip(table.names, table.written)
            if name not in (self.column, *self.facts) and not {name, written.lower()} & self.ignore
        }
        if not found:
            known = shown_names(table.written)
            raise RatingError(f"{self.path}: has no column of ratings beside {self.column}: {known}.")
        return found

    def read(self, finder: NameFinder | None) -> Iterator[RawRow]:
        label, rated, number = str(self.path), self.rated(), 0
        for number, cells in self.open().rows():
            facts = {fact: cells[fact] or None for fact in self.facts if cells.get(fact)}
            if (age := read_number(facts.get("age", ""))) is not None:
                facts["age"] = age
            for column, of in rated.items():
                cell = cells.get(column, "")
                if str(cell).lower() in MISSING and None not in cells:
                    continue
                image, person = (cells[self.column], of) if self.rows == "images" else (of, cells[self.column])
                score = read_number(cell)
                row: dict[Any, Any] = {
                    "participant_id": person,
                    "image_id": _found(image, finder),
                    "score": cell if score is None else score,
                    **facts,
                }
                if None in cells:
                    row[None] = cells[None]
                yield label, number, row
                if None in cells:
                    break  # reported once
        if not number:
            raise RatingError(f"{label}: holds no rows below its header; at least one is needed.")

    def image_files(self, files: Files, finder: NameFinder | None) -> set[str]:
        names = {row["image_id"] for _, _, row in self.read(finder)}
        return {name for name in names if name and _is_file(files, name)}


def _is_file(files: Files, name: str) -> bool:
    try:
        return files.has(image_locator(files, "")(name, None))
    except ValueError:
        return False


def _found(image: str, finder: NameFinder | None) -> str:
    """An image's name below the folder, however it is written; one that is not a file, or an id, stays as it is."""
    if finder is None or not image:
        return image
    try:
        return finder.find(image)
    except ValueError:
        return image
