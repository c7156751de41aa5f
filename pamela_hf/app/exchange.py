"""Answers in the shapes that others read and write: CSV, rating rows, Argilla, Label Studio."""

import csv
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.csv import read_header, read_number, read_rows
from .store import Answer


def ratings_csv(answers: Sequence[Answer]) -> str:
    """CSV `image,score`, a row a rating, in the order they were given: what `pamela fit-user` reads."""
    return _csv(["image", "score"], ([a.image_id, _number(a.score)] for a in answers if a.kind == "rating"))


def choices_csv(answers: Sequence[Answer]) -> str:
    """CSV `preferred,other`, without ties: what `pamela fit-user --choices` reads."""
    chosen = (a for a in answers if a.kind == "choice" and a.score is None)
    return _csv(["preferred", "other"], ([a.image_id, a.other_id] for a in chosen))


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
    data: bytes, known: Mapping[str, Any], levels: Sequence[float]
) -> tuple[list[tuple[str, float]], list[str]]:
    """Ratings of a CSV `image,score` whose images are in the folder, by their ids or by file names that only one has.

    Returns:
        (id, score) pairs, scores at the nearest of `levels`; and what was set aside, in words with row numbers.

    Raises:
        ValueError: no CSV in UTF-8, or without these columns.
    """
    by_name: dict[str, list[str]] = {}
    for id in known:
        by_name.setdefault(Path(id).name, []).append(id)
    found, aside = [], []
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "ratings.csv"
        file.write_bytes(data)
        columns, _ = read_header(file)
        if missing := [name for name in ("image", "score") if name not in columns]:
            raise ValueError(f"The table has no column {missing[0]!r}; it needs image and score.")
        for number, row in read_rows(file):
            name, score = row.get("image", ""), read_number(row.get("score", ""))
            same = [name] if name in known else by_name.get(Path(name).name, [])
            if len(same) != 1:
                what = "several pictures" if same else "no picture"
                aside.append(f"row {number}: {name[:80]!r} is {what} of this folder")
            elif score is None or not levels[0] <= score <= levels[-1]:
                cell = row.get("score", "")[:20]
                aside.append(f"row {number}: score {cell!r} is no number from {levels[0]:g} to {levels[-1]:g}")
            else:
                found.append((same[0], min(levels, key=lambda level: (abs(level - score), -level))))
    return found, aside


def _number(value: float | None) -> int | float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _csv(header: Sequence[str], rows: Any) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()
