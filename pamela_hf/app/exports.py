"""Answers in the shapes that others read: CSV, rating rows, Argilla, Label Studio.

What is written here is read back by the sources of [`pamela_hf.ratings.sources`], with the app's folder as
`images=FOLDER`, and by [`pamela_hf.app.imports`].
"""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..files.escaping import csv_cell
from ..ratings.sources.argilla import RECORDS, SETTINGS
from .store import Answer


@dataclass(frozen=True)
class Exported:
    """What is exported: one person's `answers`, the `person`'s name, and the `levels` of the rating scale."""

    answers: Sequence[Answer]
    person: str
    levels: Sequence[float]

    def ratings(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.kind == "rating"]


def ratings_csv(what: Exported) -> str:
    """CSV `image,score`, a row a rating, in the order they were given: what `pamela fit-user` reads."""
    return _csv(["image", "score"], ([csv_cell(a.image_id), _number(a.score)] for a in what.ratings()))


def likes_csv(what: Exported) -> str:
    """CSV `image,score` with scores `true` and `false`, a row a like or dislike: what `pamela fit-user` reads, too."""
    likes = (answer for answer in what.answers if answer.kind == "like")
    return _csv(["image", "score"], ([csv_cell(a.image_id), "true" if a.score else "false"] for a in likes))


def choices_csv(what: Exported) -> str:
    """CSV `preferred,other`, without ties: what `pamela fit-user --choices` reads."""
    chosen = (a for a in what.answers if a.kind == "choice" and a.score is None)
    return _csv(["preferred", "other"], ([csv_cell(a.image_id), csv_cell(a.other_id)] for a in chosen))


def rating_rows(what: Exported) -> str:
    """JSON rows of a ratings folder: `annotations/<name>_train.json`, with the app's folder as `images/` beside it."""
    rows = [
        {
            "participant_id": what.person,
            "image_id": a.image_id,
            "image_path": f"images/{a.image_id}",
            "original_score": _number(a.score),
        }
        for a in latest(what.ratings())
    ]
    return _json(rows)


def argilla_dataset(what: Exported) -> bytes:
    """The folder that Argilla's `rg.Dataset.to_disk` writes and `from_disk` reads, as a zip file; see
    [`pamela_hf.ratings.sources.argilla`]."""
    records = [
        {
            "id": a.image_id,
            "fields": {"image": quote(a.image_id)},
            "metadata": {},
            "vectors": {},
            "responses": {"score": [{"value": _number(a.score), "user_id": what.person, "status": "submitted"}]},
            "suggestions": {},
        }
        for a in latest(what.ratings())
    ]
    options = [{"value": _number(level)} for level in what.levels]
    settings = {
        "guidelines": None,
        "allow_extra_metadata": True,
        "fields": [{"name": "image", "title": "image", "required": True, "settings": {"type": "image"}}],
        "questions": [
            {
                "name": "score",
                "title": "How much do you like it?",
                "required": True,
                "settings": {"type": "rating", "options": options},
            }
        ],
        "vectors": [],
        "metadata": [],
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(RECORDS, _json(records))
        archive.writestr(SETTINGS, _json(settings))
    return stream.getvalue()


def label_studio_tasks(what: Exported) -> str:
    """JSON tasks with annotations, as Label Studio exports and imports them (https://labelstud.io/guide/export)."""
    rows = []
    for number, a in enumerate(latest(what.ratings()), 1):
        result = {"from_name": "score", "to_name": "image", "type": "number", "value": {"number": _number(a.score)}}
        annotation = {"completed_by": what.person, "was_cancelled": False, "result": [result]}
        rows.append({"id": number, "data": {"image": quote(a.image_id)}, "annotations": [annotation]})
    return _json(rows)


def latest(ratings: Iterable[Answer]) -> list[Answer]:
    """The last rating of each picture: shapes that know one rating a picture and person."""
    return list({answer.image_id: answer for answer in ratings}.values())


@dataclass(frozen=True)
class Shape:
    """One shape: the file's `name`, its media `kind`, and the function that writes it."""

    name: str
    kind: str
    write: Callable[[Exported], str | bytes]


SHAPES: Mapping[str, Shape] = {
    "csv": Shape("ratings.csv", "text/csv; charset=utf-8", ratings_csv),
    "choices": Shape("choices.csv", "text/csv; charset=utf-8", choices_csv),
    "likes": Shape("likes.csv", "text/csv; charset=utf-8", likes_csv),
    "rows": Shape("ratings_train.json", "application/json", rating_rows),
    "argilla": Shape("argilla.zip", "application/zip", argilla_dataset),
    "label-studio": Shape("label_studio.json", "application/json", label_studio_tasks),
}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _number(value: float | None) -> int | float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def _csv(header: Sequence[str], rows: Any) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()
