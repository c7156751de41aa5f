"""An image folder as `datasets` reads it: pictures beside ``metadata.csv`` or ``metadata.jsonl``.

Format: https://huggingface.co/docs/datasets/image_dataset (ImageFolder): one metadata file in the folder, or one in
each of its folders, with a column ``file_name``, the picture's path from that file. Further columns are those of one's
own CSV, under the same synonyms (:mod:`pamela_hf.files.csv`): ``score`` is needed. Splits of a dataset say nothing of
people, so the ratings come unsplit; without a column ``participant`` all rows are one person's. One's own raters:
published under pseudonyms only.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...files.csv import Row, columns_of, open_table, read_number
from ...files.folders import NameFinder, is_ignored
from ..table import RATING_COLUMNS, UNSPLIT, RatingError, RatingSource, RawRow, digest_files, integer_levels
from ._files import Files

NAMES = ("metadata.csv", "metadata.jsonl")
NEEDED = ("image", "score")
OPTIONAL = ("participant", *RATING_COLUMNS[2:])
ALIASES = {"image": "image_id", "participant": "participant_id"}
MAX_LINE = 1 << 20  # bytes


def matches(path: Path) -> bool:
    """A folder with one of the two files, itself or in a folder of it."""
    if not path.is_dir() or (path / "annotations").is_dir() or (path / "ratings").is_dir():
        return False
    return bool(_metadata_files(path))


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    participant: str = "me",
) -> RatingSource:
    """Opens the folder.

    Args:
        path: the folder.
        rating_min: lower end of the rating scale; default: the smallest score.
        rating_max: upper end of the rating scale; default: the largest score.
        participant: who rated, where there is no column ``participant``.

    Raises:
        RatingError: no metadata file, or one without the columns ``file_name`` and ``score``.
    """
    tables = _metadata_files(path)
    if not tables:
        raise RatingError(f"{path}: no {' or '.join(NAMES)} in it. Write one with the columns file_name,score.")
    for table in tables:
        if table.suffix == ".csv":
            open_table(table, NEEDED, OPTIONAL, RatingError)
    files = Files(path)

    def read() -> Iterator[RawRow]:
        for table in tables:
            finder = NameFinder(table.parent)
            for number, row in _csv_rows(table) if table.suffix == ".csv" else _json_rows(table):
                yield str(table), number, _raw(row, table.parent.relative_to(path), finder, participant)

    def names() -> list[str]:
        found = {row.get("image_id") for _, _, row in read() if isinstance(row, dict)}
        return sorted(name for name in found if name and files.has(name))

    def locate(image_id: str, image_path: str | None) -> str:
        if not files.has(image_id):
            raise ValueError(f"there is no image {files.label(image_id)}; correct its file_name")
        return image_id

    return RatingSource(
        name=re.sub(r"[^\w.-]", "_", path.resolve().name) or "imagefolder",
        rows={UNSPLIT: read},
        digest=lambda with_images: f"{digest_files(tables)}-{files.digest(names(), content=with_images)}-{participant}",
        labels={"image_id": "file_name"},
        level_values=integer_levels(rating_min, rating_max) if rating_min is not None else None,
        locate=locate,
        open_image=files.open,
    )


def _metadata_files(path: Path) -> list[Path]:
    folders = [path, *sorted(child for child in path.iterdir() if child.is_dir() and not is_ignored(child.name, True))]
    return [folder / name for folder in folders for name in NAMES if (folder / name).is_file()]


def _csv_rows(table: Path) -> Iterator[tuple[int, Row]]:
    yield from open_table(table, NEEDED, OPTIONAL, RatingError).rows()


def _json_rows(table: Path) -> Iterator[tuple[int, Any]]:
    with open(table, "rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE):
            number += 1
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                columns = columns_of(list(row), (*NEEDED, *OPTIONAL)) if isinstance(row, dict) else []
            except (ValueError, RecursionError) as error:
                yield number, {None: f"the line is not JSON ({str(error)[:80]})."}
                continue
            yield number, dict(zip(columns, row.values())) if isinstance(row, dict) else row


def _raw(row: Any, below: Path, finder: NameFinder, participant: str) -> Any:
    """A row of the ratings' table; a name that leads out of its folder is the row's problem."""
    if not isinstance(row, dict):
        return row
    out: dict[Any, Any] = {"participant_id": participant}
    out |= {ALIASES.get(name, name): None if cell == "" else cell for name, cell in row.items()}
    if isinstance(out.get("image_id"), str):
        try:
            out["image_id"] = (below / finder.find(out["image_id"])).as_posix()
        except ValueError as error:
            out[None] = f"file_name {error}."
    for column in ("score", "age"):
        if isinstance(out.get(column), str) and (number := read_number(out[column])) is not None:
            out[column] = number
    return out
