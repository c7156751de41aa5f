"""Raw rows → rows of the tables: the one gate that every rating and every choice passes, wherever it comes from."""

import json
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from ...files.writing import replacing_file
from ..table import (
    CHOICE_COLUMNS,
    DEMOGRAPHIC_FIELDS,
    MAX_LEVELS,
    METADATA_FIELDS,
    RATING_COLUMNS,
    SIDES,
    TEXT_COLUMNS,
    UNSPLIT,
    RatingError,
    RatingSource,
    integer_levels,
)

logger = logging.getLogger(__name__)

MAX_TEXT = 20_000  # characters of one text cell; a longer one is another file's content, not a prompt
AGES = (1, 120)
_HALVES = ". Of ratings in half steps, double every one (1.5 becomes 3) and the ends of the scale"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


class RowChecker:
    """Turns a source's raw rows into rows of the table, or says what is wrong with them.

    A bad row raises :class:`RatingError`; with `quarantine` it is written to that file instead, one JSON
    object a line: ``{"file", "row", "problem", "values"}``. The file appears when :meth:`close` is called.

    Args:
        source: where the rows are.
        quarantine: file for bad rows; it is replaced if it exists.
        skip: leave bad rows out without a word (to look at a scale before reading).
        check_image: what raises ValueError for an image file that cannot be read, given its stream and name; its rows
            are bad rows then. Default: images are not opened.

    Attributes:
        image_paths: image_id → what ``source.locate`` returned, for the rows read so far.
        quarantined: number of rows set aside.
    """

    def __init__(
        self,
        source: RatingSource,
        *,
        quarantine: str | Path | None = None,
        skip: bool = False,
        check_image: Callable[[BinaryIO, str], Any] | None = None,
    ):
        self.source = source
        self.image_paths: dict[str, Any] = {}
        self.ignored: set[str] = set()
        self.quarantined = 0
        self._skip = skip
        self._check_file = check_image
        self._unreadable: dict[str, str] = {}  # image_id → what is wrong with its file
        self._quarantine = Path(quarantine) if quarantine is not None else None
        self._quarantine_part = None
        if self._quarantine is not None:
            self._staging = ExitStack()
            part = self._staging.enter_context(replacing_file(self._quarantine))
            self._quarantine_part = self._staging.enter_context(open(part, "w", encoding="utf-8"))
        self._levels = {name: self._lookup(levels) for name, levels in source.scales.items()}
        if source.level_values is not None:
            self._levels[source.name] = self._lookup(source.level_values)
        self._found: dict[str, set[float]] = {}  # scale → scores met, while its levels are still unknown
        self._seen: dict[str, set[int]] = {}  # split → (participant, image) pairs, as one integer each
        self._participants: dict[str, int] = {}
        self._images: dict[str, int] = {}
        self._texts: set[str] = set()
        self._raw_paths: dict[str, Any] = {}

    @staticmethod
    def _lookup(levels: Sequence[float]) -> dict[float, float]:
        """level as written, or as float32 → as float32: so that .1 read back from Parquet is still .1"""
        rounded = {float(level): float(np.float32(level)) for level in levels}
        return rounded | {value: value for value in rounded.values()}

    @property
    def level_values(self) -> dict[str, tuple[float, ...]]:
        """Rating scale → ascending levels, of the scales known so far."""
        return {name: tuple(sorted(set(levels.values()))) for name, levels in self._levels.items()}

    def infer_levels(self) -> None:
        """Finds an unknown rating scale: reads train once, or all splits where there is no train."""
        if self.source.level_values is not None or self.source.scales or not self.source.rows:
            return
        scout = RowChecker(self.source, skip=True)
        if "train" in self.source.rows:
            names: Iterable[str] = ["train"]
        else:
            names = list(self.source.rows)
            if UNSPLIT not in self.source.rows:
                logger.warning(
                    "%s has no train split: the rating scale is read from all of %s. Pass rating_min and "
                    "rating_max if it is wider.",
                    self.source.name,
                    sorted(names),
                )
        for name in names:
            for _ in scout.rows(name, settle=False):
                pass
        scout._settle()
        self._levels = scout._levels

    def rows(self, split: str, *, settle: bool = True) -> Iterator[tuple]:
        """Checked rows of one split, values in the order of `RATING_COLUMNS`, missing = None.

        With an unknown rating scale and `settle`, reading train to its end fixes the scale; any other split
        has it found first (:meth:`infer_levels`).

        Raises:
            RatingError: a bad row (without quarantine), an unreadable file, or a split without a valid row.
        """
        if split not in self.source.rows:
            raise RatingError(f"split {split!r} is not in {self.source.name}; it has {sorted(self.source.rows)}.")
        if settle and split not in ("train", UNSPLIT) and not self._levels:
            self.infer_levels()
        self._seen[split] = seen = set()
        yield from self._checked(self.source.rows[split], lambda values: self._check(values, split, seen), split)
        if settle and split in ("train", UNSPLIT):
            self._settle()

    def choices(self, split: str) -> Iterator[tuple]:
        """Checked choices of one split, values in the order of `CHOICE_COLUMNS`, missing = None.

        Raises:
            RatingError: as [`rows`].
        """
        if split not in self.source.choices:
            raise RatingError(f"split {split!r} has no choices in {self.source.name}: {sorted(self.source.choices)}.")
        yield from self._checked(self.source.choices[split], self._check_choice, split)

    def _checked(
        self, read: Callable[[], Iterable[tuple[str, int, Any]]], check: Callable[[Any], tuple], split: str
    ) -> Iterator[tuple]:
        """The rows that pass, the others set aside."""
        ignored_before = set(self.ignored)
        count = number = 0
        file = self.source.name
        for file, row, values in read():
            number += 1
            try:
                checked = check(values)
            except ValueError as problem:
                self._set_aside(file, row, values, str(problem))
                continue
            count += 1
            yield checked
        if new := self.ignored - ignored_before:
            logger.warning("%s: unknown keys are left out: %s", self.source.name, ", ".join(sorted(new)))
        if not count and not self._skip:
            found = "holds no rows" if not number else f"has no valid row among its {number}"
            raise RatingError(
                f"{file}: split {split!r} {found}; at least one is needed. Remove the file if the split does not "
                "exist, or correct it."
            )

    def _settle(self) -> None:
        """Takes the smallest to largest integer met as the levels of each scale that was unknown."""
        for scale, scores in self._found.items():
            low, high = min(scores), max(scores)
            if not 2 <= high - low + 1 <= MAX_LEVELS:
                raise RatingError(
                    f"{self.source.name}: scores of scale {scale!r} run from {low:g} to {high:g}; a scale has 2 to "
                    f"{MAX_LEVELS} levels. Pass rating_min and rating_max (--rating-min A --rating-max B)."
                )
            levels = integer_levels(low, high)
            if unused := [f"{level:g}" for level in levels if level not in scores]:
                logger.warning(
                    "%s: no rating of train says %s, yet the scale is %g to %g. If an end is a mistake, "
                    "pass rating_min and rating_max.",
                    self.source.name,
                    ", ".join(unused),
                    low,
                    high,
                )
            self._levels[scale] = self._lookup(levels)
        self._found = {}

    def _set_aside(self, file: str, row: int, values: Any, problem: str) -> None:
        if self._skip:
            return
        if self._quarantine_part is None:
            raise RatingError(
                f"{file}, row {row}: {problem} Correct the row, or set bad rows aside with "
                "quarantine=FILE (--quarantine FILE)."
            )
        self.quarantined += 1
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if key is not None}
        line = {"file": file, "row": row, "problem": problem, "values": values}
        self._quarantine_part.write(json.dumps(line, default=repr) + "\n")

    def close(self) -> None:
        """Puts the quarantine file, complete, in its place (empty if no row was bad)."""
        if self._quarantine_part is not None:
            self._staging.close()
            self._quarantine_part = None
            if self.quarantined:
                logger.warning("%s: %d bad rows set aside in %s", self.source.name, self.quarantined, self._quarantine)

    def discard(self) -> None:
        """Removes an unfinished quarantine file: what was read before a failure is not the whole of it."""
        if self._quarantine_part is not None:
            discarded = InterruptedError("not all rows were read")
            self._staging.__exit__(type(discarded), discarded, None)
            self._quarantine_part = None

    # One call a row: written for speed, a million rows have to pass in seconds.
    def _check(self, values: Any, split: str, seen: set[int]) -> tuple:
        self._check_keys(values, _KNOWN_KEYS)
        participant_id = self._id(values, "participant_id")
        image_id = self._id(values, "image_id")
        get = values.get
        scale = get("rating_scale")
        scale = self.source.name if scale is None else self._text("rating_scale", scale) or self.source.name
        score = self._score(get("score"), scale)
        age = get("age")
        if age is not None:
            age = self._age(age)
        texts = self._text_values(get, _TEXT_COLUMNS)
        self._check_image(image_id, get("image_path"))
        participant = self._participants.setdefault(participant_id, len(self._participants))
        pair = participant << 32 | self._images.setdefault(image_id, len(self._images))
        for name, pairs in self._seen.items():
            if pair in pairs:
                raise ValueError(
                    f"participant {_shown(participant_id)} rates image {_shown(image_id)} again (first in split "
                    f"{name!r}); one rating for each (participant, image) is allowed."
                )
        seen.add(pair)
        prompt, *rest = texts
        return (participant_id, image_id, prompt, score, scale, age, *rest)

    def _check_choice(self, values: Any) -> tuple:
        self._check_keys(values, _KNOWN_CHOICE_KEYS)
        participant_id = self._id(values, "participant_id")
        preferred_id, other_id = self._id(values, "preferred_id"), self._id(values, "other_id")
        if preferred_id == other_id:
            raise ValueError(f"{self._label('preferred_id')} and {self._label('other_id')} are both "
                             f"{_shown(other_id)}; a choice is between two images.")  # fmt: skip
        get = values.get
        tie = get("tie")
        if tie is None:
            tie = False
        elif type(tie) is not bool:
            raise ValueError(f"{self._label('tie')} is {_shown(tie)}; true, false or null is needed.")
        age = get("age")
        if age is not None:
            age = self._age(age)
        prompt, *rest = self._text_values(get, _CHOICE_TEXTS)
        self._check_image(preferred_id, get("preferred_path"), "preferred_path")
        self._check_image(other_id, get("other_path"), "other_path")
        return (participant_id, preferred_id, other_id, tie, prompt, age, *rest)

    def _check_keys(self, values: Any, known: frozenset[str]) -> None:
        if not isinstance(values, dict):
            raise ValueError(f"the row is {_shown(values)}, a {type(values).__name__}; an object with keys is needed.")
        if not values.keys() <= known:
            if None in values:
                raise ValueError(values[None])
            self.ignored |= values.keys() - known

    def _text_values(self, get: Callable[[str], Any], columns: Sequence[str]) -> list[str | None]:
        texts, known = [], self._texts
        for column in columns:
            text = get(column)
            if text is not None and (type(text) is not str or text not in known):
                text = self._text(column, text)
            texts.append(text or None)  # "" says no more than null
        return texts

    def _label(self, column: str) -> str:
        return self.source.labels.get(column, column)

    def _id(self, values: dict, column: str) -> str:
        value = values.get(column)
        if type(value) is int:
            value = str(value)
        if type(value) is not str or not value.strip():
            what = "is missing" if value is None else f"is {_shown(value)}"
            raise ValueError(f"{self._label(column)} {what}; a string or an integer is needed.")
        return value if value in self._texts else self._text(column, value)

    def _text(self, column: str, value: Any) -> str:
        if type(value) is not str:
            raise ValueError(f"{self._label(column)} is {_shown(value)}; a string or null is needed.")
        if len(value) > MAX_TEXT:
            raise ValueError(f"{self._label(column)} has {len(value)} characters; at most {MAX_TEXT} are allowed.")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{self._label(column)} is {_shown(value)}, which is not valid Unicode text.") from None
        self._texts.add(value)
        return value

    def _score(self, value: Any, scale: str) -> float:
        kind = type(value)
        if (kind is not int and kind is not float) or not -1e6 < value < 1e6:  # NaN compares false
            what = "is missing" if value is None else f"is {_shown(value)}"
            raise ValueError(f"{self._label('score')} {what}; {self._allowed(scale)}.")
        levels = self._levels.get(scale)
        if levels is None:
            if self.source.scales:
                raise ValueError(f"rating_scale is {scale!r}; known scales: {sorted(self.source.scales)}.")
            if value != value // 1:
                raise ValueError(f"{self._label('score')} is {_shown(value)}; {self._allowed(scale)}{_HALVES}.")
            self._found.setdefault(scale, set()).add(float(value))
            return float(value)
        level = levels.get(value)
        if level is None:
            ends = min(levels), max(levels)
            if not (self.source.slider and ends[0] <= value <= ends[1]):
                halves = _HALVES if value % 1 and all(level % 1 == 0 for level in levels) else ""
                raise ValueError(f"{self._label('score')} is {_shown(value)}; {self._allowed(scale)}{halves}.")
            level = levels[min(levels, key=lambda level: abs(level - value))]
        return level

    def _allowed(self, scale: str) -> str:
        if (levels := self._levels.get(scale)) is None:
            return "a finite integer is needed"
        values = sorted(set(levels.values()))
        if self.source.slider:
            return f"a number from {values[0]:g} to {values[-1]:g} is allowed on scale {scale!r}"
        shown = (
            ", ".join(f"{value:g}" for value in values)
            if len(values) <= 12
            else (f"{values[0]:g}, {values[1]:g}, … {values[-1]:g}")
        )
        return f"allowed on scale {scale!r}: {shown}"

    def _age(self, value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not AGES[0] <= value <= AGES[1]
            or value % 1
        ):
            raise ValueError(
                f"{self._label('age')} is {_shown(value)}; whole years from {AGES[0]} to {AGES[1]}, or null."
            )
        return int(value)

    def _check_image(self, image_id: str, image_path: Any, column: str = "image_path") -> None:
        if image_id in self._unreadable:
            raise ValueError(self._unreadable[image_id])
        known = self._raw_paths.get(image_id, self)
        if known is not self and (known is image_path or known == image_path):
            return
        if image_path is not None and type(image_path) is not str:
            raise ValueError(f"{self._label(column)} is {_shown(image_path)}; a string is needed.")
        located = self.source.locate(image_id, image_path) if self.source.locate is not None else None
        if known is not self and located != self.image_paths[image_id]:
            raise ValueError(
                f"image {_shown(image_id)} is at {_shown(image_path)} here, at {_shown(known)} in an "
                "earlier row; an image has one file."
            )
        if known is self:
            self._check_readable(image_id, located)
            self._raw_paths[image_id] = image_path
            self.image_paths[image_id] = located

    def _check_readable(self, image_id: str, located: Any) -> None:
        if self._check_file is None or located is None or self.source.open_image is None:
            return
        try:
            with self.source.open_image(located) as stream:
                name = getattr(stream, "name", None)
                self._check_file(stream, name if isinstance(name, str) else image_id)
        except (ValueError, OSError, KeyError) as error:
            self._unreadable[image_id] = str(error)
            raise ValueError(self._unreadable[image_id]) from None


_TEXT_COLUMNS = ("prompt", *DEMOGRAPHIC_FIELDS, *METADATA_FIELDS)
_KNOWN_KEYS = frozenset(RATING_COLUMNS) | {"image_path"}
_CHOICE_TEXTS = ("prompt", *CHOICE_COLUMNS[6:])
_KNOWN_CHOICE_KEYS = frozenset(CHOICE_COLUMNS) | {f"{side}_path" for side in SIDES}
_NUMBERS = {"score": "f", "age": "i", "tie": "b"}  # columns that are not texts, and how they are stored
_SAME_VALUES = {"preferred_id": "image_id", "other_id": "image_id"}  # columns that share their categories


def read_tables(checker: RowChecker, splits: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Reads splits into tables of ratings as :class:`RatingData` describes them; about 40 bytes a row."""
    return _read(checker.rows, splits, RATING_COLUMNS)


def read_choices(checker: RowChecker, splits: Iterable[str]) -> dict[str, pd.DataFrame]:
    """The same of choices; about 65 bytes a row."""
    return _read(checker.choices, splits, CHOICE_COLUMNS)


def _read(
    rows_of: Callable[[str], Iterable[tuple]], splits: Iterable[str], names: Sequence[str]
) -> dict[str, pd.DataFrame]:
    kinds = {name: _SAME_VALUES.get(name, name) for name in names}
    vocabularies: dict[str, dict[Any, int]] = {kind: {None: -1} for kind in kinds.values() if kind in _TEXT_KINDS}
    columns: dict[str, dict[str, array]] = {}
    for split in splits:
        columns[split] = {name: array(_NUMBERS.get(name, "i")) for name in names}
        appenders = [(columns[split][name].append, vocabularies.get(kind)) for name, kind in kinds.items()]
        for row in rows_of(split):
            for value, (append, vocabulary) in zip(row, appenders):
                if vocabulary is None:
                    append(-1 if value is None else value)
                elif (code := vocabulary.get(value)) is None:
                    vocabulary[value] = code = len(vocabulary) - 1
                    append(code)
                else:
                    append(code)
    orders = {
        kind: sorted(value for value in vocabulary if value is not None) for kind, vocabulary in vocabularies.items()
    }
    return {split: _table(of_split, kinds, vocabularies, orders) for split, of_split in columns.items()}


_TEXT_KINDS = {_SAME_VALUES.get(column, column) for column in TEXT_COLUMNS}


def _table(columns: dict[str, array], kinds: dict[str, str], vocabularies: dict, orders: dict) -> pd.DataFrame:
    series: dict[str, Any] = {}
    for column, values in columns.items():
        kind = kinds[column]
        numbers = np.frombuffer(values, dtype={"f": np.float32, "i": np.int32, "b": np.int8}[values.typecode])
        if column == "score":
            series[column] = numbers.copy()
        elif column == "tie":
            series[column] = numbers.astype(bool)
        elif column == "age":
            series[column] = pd.arrays.IntegerArray(numbers.astype(np.int64), numbers < 0)
        else:
            rank = np.full(len(orders[kind]) + 1, -1, dtype=np.int32)  # the last entry stands for code -1
            for place, value in enumerate(orders[kind]):
                rank[vocabularies[kind][value]] = place
            categories = pd.Index(orders[kind], dtype="str")
            series[column] = pd.Categorical.from_codes(rank[numbers], categories=categories)
    return pd.DataFrame(series, copy=False)
