"""Anyone's own ratings: a table with the columns ``image,score[,participant][,prompt][,metadata…]``; or choices, with
``preferred,other[,tie][,participant][,prompt][,metadata…]``, where ``tie`` is yes or no.

``image`` (``preferred``, ``other``) is a path relative to the CSV's folder (or to ``images=FOLDER``), or an id of an
``embeddings.safetensors`` in the CSV's folder (or of ``embeddings=FILE``). Metadata columns bear the names of
`RATING_COLUMNS`, of choices those of `CHOICE_COLUMNS`. What such a file may look like, and what its columns may be
called: :mod:`pamela_hf.files.csv`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...files.csv import Table, open_table, read_number
from ...files.folders import NameFinder
from ..table import (
    CHOICE_COLUMNS,
    RATING_COLUMNS,
    UNSPLIT,
    RatingError,
    RatingSource,
    RawRow,
    digest_files,
    integer_levels,
)
from ._files import Files, embedded_ids, inner_path
from .label_studio import is_csv_export

ALIASES = {"image": "image_id", "participant": "participant_id"}
CHOICE_ALIASES = {"preferred": "preferred_id", "other": "other_id", "participant": "participant_id"}
FORMS = (("image", "score"), ("preferred", "other"))
TIES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def matches(path: Path) -> bool:
    """A file whose name ends in .csv, .tsv or .xlsx; not Label Studio's CSV export, which has a source of its own."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".xlsx") and not is_csv_export(path)


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    embeddings: str | Path | None = None,
    participant: str = "me",
) -> RatingSource:
    """Opens a CSV of own ratings or choices.

    Args:
        path: the CSV file.
        rating_min: lower end of the rating scale; None: the smallest score in the file.
        rating_max: upper end of the rating scale; None: the largest score in the file.
        images: folder that image paths are relative to; None: the CSV's own.
        embeddings: an embeddings file whose image_ids may stand in column ``image``; None: embeddings.safetensors
            in the CSV's folder if there is one.
        participant: who rated, where there is no column ``participant``.

    Raises:
        RatingError: no header with image and score or with preferred and other, a doubled column, a folder or file
            that does not exist.
    """
    folder = Path(images) if images is not None else path.parent
    if not folder.is_dir():
        raise RatingError(
            f"images={str(images)!r} is not a folder. Give the folder that the column image is relative to."
        )
    beside = path.parent / "embeddings.safetensors"
    vectors = Path(embeddings) if embeddings is not None else beside if beside.is_file() else None
    if vectors is not None and not vectors.is_file():
        raise RatingError(f"embeddings={str(embeddings)!r} is not a file. Give an embeddings.safetensors.")
    embedded = embedded_ids(vectors) if vectors is not None else set()
    files = Files(folder)
    finder = NameFinder(folder)
    choices = _is_choices(_opened(path))

    def locate(image_id: str, image_path: str | None) -> str | None:
        problem = ""
        try:
            inside = inner_path(image_id)
            if files.has(inside):
                return inside
        except ValueError as error:
            problem = f" ({error})"
        if image_id in embedded:
            return None
        known = f", and no id of {vectors}" if vectors is not None else ""
        raise ValueError(
            f"image is {image_id[:200]!r}, which is not a file below {folder}{known}{problem}. Paths are relative to "
            "the CSV's folder, or to images=FOLDER (--images FOLDER)."
        )

    def digest(with_images: bool) -> str:
        vectors_digest = digest_files([vectors], content=False) if vectors is not None else ""
        pictures = ""
        if with_images:
            columns = CHOICE_COLUMNS[1:3] if choices else ("image_id",)
            names = {row.get(column) for _, _, row in _rows(path, participant, finder) for column in columns}
            pictures = files.digest(sorted(name for name in names if name and _is_file(files, name)))
        return f"{digest_files([path])}-{vectors_digest}-{pictures}-{participant}"

    return RatingSource(
        name=re.sub(r"[^\w.-]", "_", path.stem) or "ratings",
        rows={} if choices else {UNSPLIT: lambda: _rows(path, participant, finder)},
        choices={UNSPLIT: lambda: _rows(path, participant, finder)} if choices else {},
        digest=digest,
        labels={column: name for name, column in {**ALIASES, **CHOICE_ALIASES}.items()},
        level_values=integer_levels(rating_min, rating_max) if rating_min is not None else None,
        locate=locate,
        open_image=files.open,
        embeddings=vectors,
    )


def _is_file(files: Files, name: str) -> bool:
    try:
        return files.has(inner_path(name))
    except ValueError:
        return False


def _opened(path: Path) -> Table:
    further = [column for column in dict.fromkeys(RATING_COLUMNS[2:] + CHOICE_COLUMNS[3:]) if column != "score"]
    return open_table(path, FORMS, ("participant", *further), RatingError)


def _is_choices(table: Table) -> bool:
    both = [form for form in FORMS if set(form) <= set(table.names)]
    if len(both) == 2:
        raise RatingError(f"{table.label}: has columns of ratings and of choices {table.names}. Give a file of each.")
    return both == [FORMS[1]]


def _rows(path: Path, participant: str, finder: NameFinder) -> Iterator[RawRow]:
    table = _opened(path)
    choices = _is_choices(table)
    aliases = CHOICE_ALIASES if choices else ALIASES
    images = CHOICE_COLUMNS[1:3] if choices else ("image_id",)
    label = str(path)
    number = 0
    for number, cells in table.rows():
        row: dict[Any, Any] = {"participant_id": participant}
        row |= {aliases.get(name, name): cell or None for name, cell in cells.items()}
        for column in images:
            if image := row.get(column):
                row[column] = _found(image, finder)
        for column in ("age",) if choices else ("score", "age"):
            if (text := row.get(column)) is not None and (number_read := read_number(text)) is not None:
                row[column] = number_read
        if choices and isinstance(tie := row.get("tie"), str):
            row["tie"] = TIES.get(tie.lower(), tie)
        yield label, number, row
    if not number:
        raise RatingError(f"{label}: holds no rows below its header; at least one is needed.")


def _found(image: str, finder: NameFinder) -> str:
    """An image's name below the folder, however it is written; one that leads elsewhere, or an id, stays as it is."""
    try:
        return finder.find(image)
    except ValueError:
        return image
