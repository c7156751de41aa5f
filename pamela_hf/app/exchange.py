"""Answers in the shapes that others read and write: CSV, rating rows, Argilla, Label Studio."""

import csv
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..files.csv import open_table, read_number
from ..files.escaping import csv_cell
from ..files.folders import NameFinder
from .pictures import PictureFolder
from .store import Answer


def ratings_csv(answers: Sequence[Answer]) -> str:
    """CSV `image,score`, a row a rating, in the order they were given: what `pamela fit-user` reads."""
    return _csv(["image", "score"], ([csv_cell(a.image_id), _number(a.score)] for a in answers if a.kind == "rating"))


def choices_csv(answers: Sequence[Answer]) -> str:
    """CSV `preferred,other`, without ties: what `pamela fit-user --choices` reads."""
    chosen = (a for a in answers if a.kind == "choice" and a.score is None)
    return _csv(["preferred", "other"], ([csv_cell(a.image_id), csv_cell(a.other_id)] for a in chosen))


def rating_rows(answers: Sequence[Answer], person: str) -> str:
    """JSON rows of a ratings folder (`<name>_train.json`), as `pamela prepare-ratings` reads them."""
    rows = [
        {"participant_id": person, "image_id": a.image_id, "image_path": a.image_id, "original_score": _number(a.score)}
        for a in answers
        if a.kind == "rating"
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1)


def argilla_records(answers: Sequence[Answer], person: str) -> str:
    """JSON records with responses, as Argilla's `Dataset.records` exports them
    (https://docs.argilla.io/latest/how_to_guides/import_export/)."""
    rows = [
        {
            "id": a.id,
            "fields": {"image": a.image_id},
            "responses": {"score": [{"value": _number(a.score), "user_id": person, "status": "submitted"}]},
        }
        for a in answers
        if a.kind == "rating"
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1)


def label_studio_tasks(answers: Sequence[Answer], person: str) -> str:
    """JSON tasks with annotations, as Label Studio exports and imports them (https://labelstud.io/guide/export)."""
    rows = []
    for a in answers:
        if a.kind != "rating":
            continue
        result = {"from_name": "score", "to_name": "image", "type": "number", "value": {"number": _number(a.score)}}
        rows.append({"data": {"image": a.image_id}, "annotations": [{"completed_by": person, "result": [result]}]})
    return json.dumps(rows, ensure_ascii=False, indent=1)


EXPORTS: Mapping[str, tuple[str, str, Callable[..., str]]] = {
    "csv": ("ratings.csv", "text/csv; charset=utf-8", lambda answers, person: ratings_csv(answers)),
    "choices": ("choices.csv", "text/csv; charset=utf-8", lambda answers, person: choices_csv(answers)),
    "rows": ("ratings.json", "application/json", rating_rows),
    "argilla": ("argilla.json", "application/json", argilla_records),
    "label-studio": ("label_studio.json", "application/json", label_studio_tasks),
}


def read_ratings(
    data: bytes, folder: PictureFolder, levels: Sequence[float]
) -> tuple[list[tuple[str, float]], list[str]]:
    """Ratings of a table `image,score` of pictures in the folder.

    Args:
        data: the bytes of a CSV file or a workbook; see [`pamela_hf.files.csv`].
        folder: images are named as [`NameFinder`] takes them, or by a file's name that only one of them has.
        levels: of the scale; a score counts as its nearest level.

    Returns:
        (id, score) pairs; and what was set aside, in words with row numbers.

    Raises:
        ValueError: no such table.
    """
    finder = NameFinder(folder.folder)
    by_name: dict[str, list[str]] = {}
    for id in folder.ids:
        by_name.setdefault(PurePosixPath(id).name, []).append(id)
    found, aside = [], []
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "table"
        file.write_bytes(data)
        try:
            table = open_table(file, ("image", "score"))
            for number, row in table.rows():
                id, score = _picture(row["image"], finder, folder, by_name), read_number(row["score"])
                if id is None:
                    aside.append(f"row {number}: {row['image'][:80]!r} is not one picture of this folder")
                elif score is None or not levels[0] <= score <= levels[-1]:
                    cell = str(row["score"])[:20]
                    aside.append(f"row {number}: score {cell!r} is not a number from {levels[0]:g} to {levels[-1]:g}")
                else:
                    found.append((id, min(levels, key=lambda level: (abs(level - score), -level))))
        except ValueError as error:
            raise ValueError(str(error).replace(str(file), "The table")) from None
    return found, aside


def _picture(written: str, finder: NameFinder, folder: PictureFolder, by_name: Mapping[str, list[str]]) -> str | None:
    """The id of the picture that a cell means; `None` if it means none, or could mean several."""
    if written in folder.by_id:
        return written
    try:
        name = finder.find(written)
    except ValueError:
        name = written
    if name in folder.by_id:
        return name
    same = by_name.get(PurePosixPath(name).name, [])
    return same[0] if len(same) == 1 else None


def _number(value: float | None) -> int | float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _csv(header: Sequence[str], rows: Any) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()
