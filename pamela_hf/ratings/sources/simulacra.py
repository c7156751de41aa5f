"""Simulacra Aesthetic Captions: generated images rated from 1 to 10 by users of a bot, known by their survey answers.

Obtain it from https://github.com/JD-P/simulacra-aesthetic-captions (CC0-1.0): ``sac_public_2022_06_29.sqlite``, and the
images from the archives named there. Cite Pressman, Crowson et al., *Simulacra Aesthetic Captions*, Stability AI 2022.

Format: the release's README; tables and columns as its public reader lists them
(https://github.com/alecsharpie/pysimulacra)::

    survey       id, qid, rating           answers to 20 questions; "a unique combination of ratings on the aesthetic
                                           survey also serves as a synthetic user ID"
    ratings      sid, iid, rating, verified     sid: the survey's id; iid: the image's
    images       id, gid, idx
    generations  id, sid, method, prompt, verified
    paths        iid, path                 of the image file

Surveys with other than 20 answers are corrupted, as the README says; who answered them is not known, so their ratings
are left out, like those without a survey. Surveys with the very same answers are one person's. A second rating of an
image by one person is a bad row: set it aside with ``--quarantine FILE``.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ..table import UNSPLIT, RatingError, RatingSource, RawRow, Release, digest_files, integer_levels
from ._files import Files
from ._tables import embeddings_beside, image_locator

logger = logging.getLogger(__name__)

QUESTIONS = 20
TABLES = {
    "survey": {"id", "qid", "rating"},
    "ratings": {"sid", "iid", "rating"},
    "images": {"id", "gid"},
    "generations": {"id", "prompt"},
    "paths": {"iid", "path"},
}
RELEASE = Release(
    license="cc0-1.0",
    url="https://github.com/JD-P/simulacra-aesthetic-captions",
    citation="Pressman, Crowson and Simulacra Captions Contributors, Simulacra Aesthetic Captions, Stability AI 2022",
)


def matches(path: Path) -> bool:
    """A file whose name ends in .sqlite, or a folder with one called sac_*.sqlite."""
    return _database(path) is not None


def open_source(
    path: Path,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    images: str | Path | None = None,
    embeddings: str | Path | None = None,
) -> RatingSource:
    """Opens the release.

    Args:
        path: the SQLite file, or its folder.
        rating_min: lowest level of another scale, together with `rating_max`; default: 1.
        rating_max: highest level of another scale, together with `rating_min`; default: 10.
        images: folder that the paths of table ``paths`` start from; default: no images.
        embeddings: file of the images' features; default: embeddings.safetensors beside the SQLite file.

    Raises:
        RatingError: no SQLite database with these tables, or `images` is not a folder.
    """
    database = _database(path)
    if database is None:
        raise RatingError(f"{path}: holds no sac_*.sqlite. Download sac_public_2022_06_29.sqlite.")
    if images is not None and not Path(images).is_dir():
        raise RatingError(f"images={str(images)!r} is not a folder. Give the folder of the unpacked archives.")
    _check_tables(database)
    files = Files(Path(images)) if images is not None else None
    ends = (1, 10) if rating_min is None else (rating_min, rating_max)

    def digest(with_images: bool) -> str:
        return digest_files([database]) + (files.digest(files.names(""), content=with_images) if files else "")

    return RatingSource(
        name="simulacra",
        rows={UNSPLIT: lambda: _rows(database)},
        digest=digest,
        labels={"participant_id": "sid", "image_id": "iid", "score": "rating"},
        level_values=integer_levels(*ends),
        locate=image_locator(files, "") if files is not None else None,
        open_image=files.open if files is not None else None,
        embeddings=embeddings_beside(path, embeddings),
        release=RELEASE,
    )


def _database(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in (".sqlite", ".sqlite3") else None
    found = sorted(path.glob("sac_*.sqlite"))
    return found[0] if found else None


def _connected(database: Path) -> closing:
    return closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True))


def _check_tables(database: Path) -> None:
    try:
        with _connected(database) as connection:
            for table, columns in TABLES.items():
                there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                if missing := sorted(columns - there):
                    raise RatingError(f"{database}: table {table} lacks {', '.join(missing)}. Download it again.")
    except sqlite3.Error as error:
        raise RatingError(f"{database}: no readable SQLite database ({error}). Download it again.") from None


def _people(connection: sqlite3.Connection) -> dict[Any, Any]:
    """Id of a whole survey → that of the first with the same answers."""
    answers: dict[Any, dict[Any, Any]] = {}
    corrupted = set()
    for survey, question, rating in connection.execute("SELECT id, qid, rating FROM survey ORDER BY id, qid"):
        of_survey = answers.setdefault(survey, {})
        if question in of_survey or rating is None:
            corrupted.add(survey)
        of_survey[question] = rating
    first: dict[tuple, Any] = {}
    people = {}
    for survey, of_survey in answers.items():
        if len(of_survey) == QUESTIONS and survey not in corrupted:
            people[survey] = first.setdefault(tuple(of_survey.items()), survey)
    return people


def _rows(database: Path) -> Iterator[RawRow]:
    label, number, left_out = f"{database}, table ratings", 0, 0
    try:
        with _connected(database) as connection:
            people = _people(connection)
            query = (
                "SELECT ratings.rowid, ratings.sid, ratings.iid, ratings.rating, generations.prompt, paths.path "
                "FROM ratings LEFT JOIN images ON images.id = ratings.iid "
                "LEFT JOIN generations ON generations.id = images.gid LEFT JOIN paths ON paths.iid = images.id "
                "ORDER BY ratings.rowid"
            )
            before = None
            for number, survey, image, rating, prompt, path in connection.execute(query):
                if number == before:
                    continue  # an image of two paths has two rows here
                before = number
                if survey not in people:
                    left_out += 1
                    continue
                yield label, number, {
                    "participant_id": people[survey],
                    "image_id": image,
                    "image_path": path,
                    "score": int(rating) if isinstance(rating, float) and rating.is_integer() else rating,
                    "prompt": prompt,
                }
    except sqlite3.Error as error:
        raise RatingError(f"{label}, row {number + 1}: unreadable ({error}). Download it again.") from None
    if left_out:
        logger.warning("%s: %d ratings of people without a whole survey are left out.", label, left_out)
