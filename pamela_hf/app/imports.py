"""Answers from elsewhere: tables, rating rows, Argilla's and Label Studio's exports, and the stars in the pictures.

Each file is read by the source of [`pamela_hf.ratings.sources`] that `pamela prepare-ratings` reads it with, and stars
by [`pamela_hf.photos`], as `pamela taste` does: one file means the same at every door.
"""

import io
import re
import tempfile
import uuid
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from ..files.folders import NameFinder
from ..heads.csv import read_score
from ..photos.library import read_library
from ..ratings.sources import open_source
from ..ratings.sources.argilla import RECORDS, SETTINGS
from ..ratings.sources.csv import TIES
from ..ratings.sources.pamela import CHOICE_KEYS, COLUMNS, read_json_list, read_rows
from ..ratings.table import RawRow
from .pictures import PictureFolder
from .store import Answer

STARS = "stars"  # the origin of what was read from the pictures
STAR_RANGE = (1.0, 5.0)
MOST_ROWS = 200_000
MOST_UNPACKED = 256 << 20  # bytes of Argilla's records
_ANNOTATIONS = re.compile(r"annotations/[^/]*\.json")
_CHOICES = re.compile(r"annotations/(.*_)?choices_[^/]*\.json")


@dataclass(frozen=True)
class Reading:
    """How a file is read.

    Attributes:
        participant: whose rows count; `None` (default): the file's only participant's.
        range: lowest and highest possible score of the file, laid evenly on the app's scale; `None` (default): scores
            are on the app's scale, and the nearest level counts.
    """

    participant: str | None = None
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"The scale goes from {self.range[0]:g} to {self.range[1]:g}; its end must be higher.")


@dataclass
class Found:
    """What a file, or the pictures, hold.

    Attributes:
        answers: each with its origin; of several ratings of one picture the last counts.
        aside: rows that are set aside, in words.
        participants: of the file → how many rows each has, where they are several people and none was chosen; then
            there are no answers.
    """

    answers: list[Answer] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    participants: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """`ratings`, `choices`, `likes`."""
        kinds = Counter(answer.kind for answer in self.answers)
        return {f"{kind}s": kinds[kind] for kind in ("rating", "choice", "like")}


def read_answers(
    data: bytes, name: str, folder: PictureFolder, levels: Sequence[float], how: Reading = Reading()
) -> Found:
    """Answers about pictures of the folder, from a file's bytes.

    Args:
        data: the file.
        name: the file's name, which becomes the answers' origin; its ending says what kind of file it is.
        folder: the pictures, found by a path below the folder, or by a name that only one of them has.
        levels: of the app's rating scale.
        how: whose rows, and on which scale.

    Raises:
        ValueError: no file that a source reads; or nobody in it by the name of `how.participant`.
    """
    finder = _Pictures(folder)
    with tempfile.TemporaryDirectory(prefix="pamela-import") as place:
        file = Path(place) / f"file{_suffix(data, name)}"
        file.write_bytes(data)
        try:
            rows = [row for _, row in zip(range(MOST_ROWS + 1), _rows(file, folder.folder))]
        except (ValueError, zipfile.BadZipFile) as error:
            raise ValueError(str(error).replace(str(file), name).replace(f"{place}/", "")) from None
    if len(rows) > MOST_ROWS:
        raise ValueError(f"{name} has more than {MOST_ROWS:,} rows. Bring in a part of it.")
    return _collected(rows, name, finder, levels, how)


def read_stars(folder: PictureFolder, levels: Sequence[float]) -> Found:
    """The stars, likes and rejections in the folder's pictures and sidecars; see [`pamela_hf.photos.stars`]. A rejected
    picture counts as one star."""
    library = read_library(folder.folder, progress=False)
    found = Found(aside=[f"{path.name}: {why}" for path, why in library.problems])
    how = Reading(range=None if list(levels) == [1, 2, 3, 4, 5] else STAR_RANGE)
    for photo in library.photos:
        if photo.name not in folder.by_id:
            continue
        if photo.stars.rating is not None:
            score = _on_scale(max(photo.stars.rating, STAR_RANGE[0]), levels, how)
            found.answers.append(_answer("rating", STARS, photo.name, score=score))
        elif photo.stars.liked is not None:
            found.answers.append(_answer("like", STARS, photo.name, score=float(photo.stars.liked)))
    return found


# -- files into rows ---------------------------------------------------------------------------------------------------
def _suffix(data: bytes, name: str) -> str:
    """The ending that says what the file is; of a file without a known one, what its first bytes say."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in (".csv", ".tsv", ".xlsx", ".json", ".zip"):
        return suffix
    if data.startswith(b"PK\x03\x04"):
        return ".xlsx" if b"xl/" in data[:4096] else ".zip"
    return ".json" if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") else ".csv"


def _rows(file: Path, images: Path) -> Iterator[RawRow]:
    if file.suffix == ".zip":
        yield from _zip_rows(file, images)
    elif file.suffix == ".json":
        yield from _json_rows(file, images)
    else:
        yield from _source_rows(file, None, images)


def _source_rows(path: Path, name: str | None, images: Path) -> Iterator[RawRow]:
    source = open_source(path, name, images=images)
    for read in (*source.rows.values(), *source.choices.values()):
        yield from read()


def _json_rows(file: Path, images: Path) -> Iterator[RawRow]:
    with open(file, "rb") as stream:
        _, first = next(read_json_list(stream, str(file)), (0, None))
    keys = set(first) if isinstance(first, dict) else set()
    if keys & {"participant_id", "original_score", "preferred_id"}:
        with open(file, "rb") as stream:
            yield from read_rows(stream, str(file), CHOICE_KEYS if "preferred_id" in keys else COLUMNS)
    elif {"fields", "responses"} <= keys:
        raise ValueError(
            f"{file} holds Argilla's records without their settings. Pack the whole folder that Argilla wrote "
            f"({RECORDS} and {SETTINGS}) into a zip file, and bring in that."
        )
    else:
        yield from _source_rows(file, "label_studio", images)


def _zip_rows(file: Path, images: Path) -> Iterator[RawRow]:
    with zipfile.ZipFile(file) as archive:  # members are read by name; none is unpacked to where its name says
        inside = {}
        for info in archive.infolist():
            plain = info.filename.removeprefix("./")
            inside[plain] = inside[plain.partition("/")[2]] = info
        if RECORDS in inside and SETTINGS in inside:
            unpacked = file.parent / "argilla"
            for name in (RECORDS, SETTINGS):
                (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
                (unpacked / name).write_bytes(_member(archive, inside[name]))
            yield from _source_rows(unpacked, "argilla", images)
            return
        annotations = [name for name in inside if _ANNOTATIONS.fullmatch(name)]
        if not annotations:
            raise ValueError(
                f"{file} holds neither Argilla's {RECORDS} and {SETTINGS} nor annotations/*.json. Bring in one of "
                "these, or a CSV with the columns image and score."
            )
        for name in annotations:
            columns = CHOICE_KEYS if _CHOICES.fullmatch(name) else COLUMNS
            yield from read_rows(io.BytesIO(_member(archive, inside[name])), name, columns)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as stream:
            data = stream.read(MOST_UNPACKED + 1)
    except (RuntimeError, NotImplementedError, zlib.error, EOFError) as error:  # encrypted, damaged, another method
        raise ValueError(f"{info.filename} cannot be unpacked ({error}). Pack it again.") from None
    if len(data) > MOST_UNPACKED:
        raise ValueError(f"{info.filename} has more than {MOST_UNPACKED >> 20} MiB unpacked. Bring in a part of it.")
    return data


# -- rows into answers -------------------------------------------------------------------------------------------------
class _Pictures:
    """The folder's pictures, by what a row calls them."""

    def __init__(self, folder: PictureFolder):
        self.by_id = folder.by_id
        self._finder = NameFinder(folder.folder)
        self._by_name: dict[str, list[str]] = {}
        for id in folder.ids:
            self._by_name.setdefault(PurePosixPath(id).name, []).append(id)

    def find(self, *written: Any) -> str | None:
        """The id of the picture that a row means; `None` if it means none, or could mean several."""
        texts = [text for text in written if isinstance(text, str) and 0 < len(text) <= 4096]
        texts += [text.removeprefix("images/") for text in texts if text.startswith("images/")]
        for text in texts:
            if text in self.by_id:
                return text
        for text in dict.fromkeys([*texts, *map(unquote, texts)]):
            try:
                name = self._finder.find(text)
            except ValueError:
                continue
            if name in self.by_id:
                return name
            same = self._by_name.get(PurePosixPath(name.replace("\\", "/")).name, [])
            if len(same) == 1:
                return same[0]
        return None


def _collected(
    rows: Sequence[RawRow], origin: str, pictures: _Pictures, levels: Sequence[float], how: Reading
) -> Found:
    people = Counter(str(row["participant_id"]) for _, _, row in rows if _names_somebody(row))
    if how.participant is not None and how.participant not in people:
        raise ValueError(f"{origin} holds nothing of {how.participant!r}; it has {', '.join(sorted(people)[:8])}.")
    if how.participant is None and len(people) > 1:
        return Found(participants=dict(people.most_common(200)))
    found, ratings = Found(), {}
    for _, number, row in rows:
        if how.participant is not None and _names_somebody(row) and str(row["participant_id"]) != how.participant:
            continue
        try:
            answer = _read_row(row, origin, pictures, levels, how)
        except ValueError as error:
            found.aside.append(f"row {number}: {error}")
            continue
        if answer is None:
            continue
        if answer.kind == "rating":
            ratings[answer.image_id] = answer
        else:
            found.answers.append(answer)
    found.answers = [*ratings.values(), *found.answers]
    return found


def _names_somebody(row: Any) -> bool:
    return isinstance(row, dict) and row.get("participant_id") is not None


def _read_row(row: Any, origin: str, pictures: _Pictures, levels: Sequence[float], how: Reading) -> Answer | None:
    """A row's answer. Raises ValueError, in words, for one that is none."""
    if not isinstance(row, dict):
        raise ValueError(f"{str(row)[:60]!r} is not a row")
    if row.get(None):
        raise ValueError(row[None])
    if "preferred_id" in row:
        sides = [_found(pictures, row.get(f"{side}_path"), row.get(f"{side}_id")) for side in ("preferred", "other")]
        if sides[0] == sides[1]:
            raise ValueError(f"both pictures are {sides[0]!r}")
        tie = row.get("tie")
        tie = TIES.get(tie.lower(), False) if isinstance(tie, str) else bool(tie)
        return _answer("choice", origin, *sides, score=0.5 if tie else None)
    image = _found(pictures, row.get("image_path"), row.get("image_id"))
    score = read_score(row.get("score"))
    if score is None:
        raise ValueError(f"score {str(row.get('score'))[:20]!r} is neither a number nor true or false")
    if isinstance(score, bool):
        return _answer("like", origin, image, score=float(score))
    return _answer("rating", origin, image, score=_on_scale(score, levels, how))


def _found(pictures: _Pictures, path: Any, id: Any) -> str:
    image = pictures.find(path, id)
    if image is None:
        raise ValueError(f"{str(path or id)[:80]!r} is not one picture of this folder")
    return image


def _on_scale(score: float, levels: Sequence[float], how: Reading) -> float:
    """The level that a score counts as. Raises ValueError for one off the scale."""
    low, high = how.range or (levels[0], levels[-1])
    if not low <= score <= high:
        raise ValueError(f"score {score:g} is not a number from {low:g} to {high:g}")
    if how.range is not None:
        score = levels[0] + (score - low) / (high - low) * (levels[-1] - levels[0])
    return min(levels, key=lambda level: (abs(level - score), -level))


def _answer(kind: str, origin: str, image: str, other: str | None = None, score: float | None = None) -> Answer:
    # the store knows by its content whether it has the answer already
    return Answer(f"import/{uuid.uuid4().hex}", kind, image, other, score, origin=origin[:200])
