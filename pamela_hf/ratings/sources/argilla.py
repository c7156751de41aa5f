"""Ratings collected with Argilla 2: the folder that ``rg.Dataset.to_disk(path)`` writes.

Argilla is Apache-2.0; the ratings are yours. Format: https://docs.argilla.io/latest/how_to_guides/import_export and the
client itself, https://github.com/argilla-io/argilla (``datasets/_io/_disk.py``, ``records/_io/_json.py``,
``Record.to_dict``, ``responses.py``, ``_models/_settings/``)::

    .argilla/settings.json    {"questions": [{"name", "settings": {"type": "rating", "options": [{"value": 1}, …]}}],
                               "fields": [{"name", "settings": {"type": "image" | "text" | …}}], …}
    records.json              [{"id", "fields": {name: value}, "responses": {question: [{"value", "user_id"}]}, …}]

A response is ``submitted``, ``draft`` or ``discarded`` (``ResponseStatus`` in ``responses.py``). Only submitted ones
count; exports without ``status``, as the client writes them, hold nothing to tell by, and all count. Responses may also
be a list, one for each user, as the server gives them: ``[{"values": {question: {"value"}}, "status", "user_id"}]``.

An image field holds a data URI or a URL; of a URL the file's name is looked for in ``images=FOLDER`` (nothing is
downloaded). A text field called ``prompt`` is the image's text. One's own raters: published under pseudonyms only.
"""

import base64
import binascii
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..table import UNSPLIT, RatingError, RatingSource, RawRow, digest_files, integer_levels
from ._files import Files
from .label_studio import image_name
from .pamela import read_json_list

RECORDS = "records.json"
SETTINGS = ".argilla/settings.json"
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)
MOST_INLINE = 100 << 20  # bytes of an image within records.json


def matches(path: Path) -> bool:
    """A folder with ``records.json`` and ``.argilla/settings.json``."""
    return (path / RECORDS).is_file() and (path / SETTINGS).is_file()


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    question: str | None = None,
    image_field: str | None = None,
) -> RatingSource:
    """Opens an exported dataset.

    Args:
        path: the folder.
        rating_min: lower end of the rating scale; default: the options of the question.
        rating_max: upper end of the rating scale; default: the options of the question.
        images: folder of the image files; default: `path`.
        question: which rating question to read; default: the only one.
        image_field: which image field it is about; default: the only one.

    Raises:
        RatingError: settings that cannot be read, or no or several such questions or fields.
    """
    try:
        settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
        questions = {q["name"]: q["settings"] for q in settings["questions"] if q["settings"]["type"] == "rating"}
        fields = [f["name"] for f in settings["fields"] if f["settings"]["type"] == "image"]
        scales = {n: tuple(sorted(float(o["value"]) for o in s["options"])) for n, s in questions.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise RatingError(
            f"{path / SETTINGS}: no settings of an Argilla dataset ({error!r}). Export it again."
        ) from None
    question = _only("rating question", question, list(questions), path)
    image_field = _only("image field", image_field, fields, path)
    folder = Path(images) if images is not None else path
    if not folder.is_dir():
        raise RatingError(f"images={str(images)!r} is not a folder. Give the folder of the image files.")
    files = Files(folder)

    def read() -> Iterator[RawRow]:
        label = str(path / RECORDS)
        with open(path / RECORDS, "rb") as stream:
            for number, record in read_json_list(stream, label, max_row=MOST_INLINE * 2):
                yield from ((label, number, row) for row in _rows(record, question, image_field))

    def locate(image_id: str, image_path: str | None) -> str:
        if image_path is None:
            raise ValueError(f"field {image_field!r} is missing; a data URI or the name of an image is needed.")
        if _DATA_URI.match(image_path):
            return image_path
        name = image_name(image_path)
        if not files.has(name):
            raise ValueError(f"there is no image {files.label(name)}; download it there, or name its folder: images=…")
        return name

    def open_image(located: str) -> BinaryIO:
        if match := _DATA_URI.match(located):
            try:
                return io.BytesIO(base64.b64decode(located[match.end() :][: MOST_INLINE * 4 // 3], validate=True))
            except binascii.Error as error:
                raise RatingError(f"{path / RECORDS}: an image's data URI is not base64 ({error}).") from None
        return files.open(located)

    levels = scales[question] if rating_min is None else integer_levels(rating_min, rating_max)
    return RatingSource(
        name=re.sub(r"[^\w.-]", "_", path.resolve().name) or "argilla",
        rows={UNSPLIT: read},
        digest=lambda with_images: digest_files([path / RECORDS, path / SETTINGS]),
        labels={"score": question, "participant_id": "user_id", "image_id": "id", "image_path": image_field},
        level_values=levels,
        locate=locate,
        open_image=open_image,
    )


def _only(what: str, given: str | None, there: list[str], path: Path) -> str:
    option = "question" if "question" in what else "image_field"
    if given is None and len(there) == 1:
        return there[0]
    if given not in there:
        raise RatingError(f"{path}: {option}={given!r}; it has as {what}: {there}. Say which: {option}=NAME.")
    return given


def _rows(record: Any, question: str, image_field: str) -> Iterator[Any]:
    """The rows of one record: one for each submitted response to the question."""
    if not isinstance(record, dict):
        yield record
        return
    fields = record.get("fields")
    fields = fields if isinstance(fields, dict) else {}
    try:
        answers = _answers(record.get("responses"), question)
    except ValueError as error:
        yield {None: str(error)}
        return
    for answer in answers:
        if answer.get("status") in (None, "submitted"):
            yield {
                "participant_id": answer.get("user_id"),
                "image_id": record.get("id"),
                "image_path": fields.get(image_field),
                "prompt": fields.get("prompt"),
                "score": answer.get("value"),
            }


def _answers(responses: Any, question: str) -> list[dict]:
    """The responses to a question, whatever their state.

    Raises:
        ValueError: they have neither of the two forms.
    """
    if isinstance(responses, list):
        found = []
        for response in responses:
            if not isinstance(response, dict):
                raise ValueError(f"a response is {str(response)[:60]!r}; an object with values and user_id is needed.")
            values = response.get("values")
            if values is not None and not isinstance(values, dict):
                raise ValueError(f"the values of a response are {str(values)[:60]!r}; an object is needed.")
            if question in (values or {}):  # else this user did not answer it
                value = values[question]
                found.append({**response, "value": value.get("value") if isinstance(value, dict) else value})
        return found
    answers = responses.get(question) if isinstance(responses, dict) else responses
    if answers is not None and not isinstance(answers, list):
        raise ValueError(f"the responses are {str(answers)[:60]!r}; a list of value and user_id is needed.")
    for answer in answers or []:
        if not isinstance(answer, dict):
            raise ValueError(f"a response is {str(answer)[:60]!r}; an object with value and user_id is needed.")
    return answers or []
