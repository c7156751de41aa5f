"""Tables of one's own, as people have them: the one reader of ratings, choices, repeats, studies and prompts.

A table is a CSV file, an Excel workbook's first sheet (`.xlsx`, extra `excel`) or a pandas DataFrame. A CSV file is
UTF-8, with or without its mark, or UTF-16 with its mark, as Excel writes "Unicode text"; separated by commas,
semicolons, tabs, `|` or `=`, whichever gives the needed columns (Excel's first line `sep=;` is understood). Names of
columns in any case, with spaces, hyphens or underscores; each column may go by any of its synonyms (`SYNONYMS`). Rows
without any content count as rows and are skipped. Row numbers are a spreadsheet's: the header is row 1. Cells that
[`pamela_hf.files.escaping.csv_cell`] wrote come back as they were.

What could be read in two ways is refused, with both. Sizes are bounded before anything is kept.
"""

import csv
import io
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from .escaping import from_csv_cell

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "image": ("image_id", "image_path", "image_name", "image_file", "file", "file_name", "filename", "path", "photo",
              "picture"),
    "score": ("rating", "stars", "original_score", "liking"),
    "participant": ("participant_id", "user", "user_id", "user_name", "username", "rater", "rater_id", "annotator",
                    "annotator_id", "worker", "worker_id", "person", "subject", "subject_id", "completed_by"),
    "prompt": ("caption",),
    "preferred": ("preferred_id", "preferred_image", "chosen", "winner", "winner_id"),
    "other": ("other_id", "other_image", "rejected", "loser", "loser_id"),
    "rating_scale": ("scale",),
    "age_binned": ("age_group", "age_band", "age_range"),
    "gender": ("sex",),
    "nationality": ("country",),
    "group": ("category",),
}  # fmt: skip
"""Name of a column → what else it may be called; spaces and hyphens count as underscores."""

MAX_HEADER = 1 << 16  # characters
MAX_COLUMNS = 1000
MAX_LINE = 1 << 20  # characters of a line
MAX_WORKBOOK_BYTES = 256 << 20  # of a workbook, unpacked
SEPARATORS = ",;\t|="

_NUMBER = re.compile(r"[+-]?\d{1,300}(\.\d{0,300})?([eE][+-]?\d{1,3})?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d{1,300},\d{1,2}", re.ASCII)  # three digits would be thousands
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)

Row = dict[str | None, Any]
"""Column → cell without spaces around it, "" where it is empty (of a DataFrame, the value itself); what is wrong with
the number of cells stands, in a sentence, under None."""


@dataclass(frozen=True)
class Table:
    """An opened table.

    Attributes:
        label: what messages call it.
        names: of its columns: those asked for by the names they were asked for, others in lower case.
        read: starts reading the rows anew, as (row number, `Row`).
        written: the columns' names as they stand in the table, in the order of `names`.
    """

    label: str
    names: list[str]
    read: Callable[[], Iterator[tuple[int, Row]]]
    written: Sequence[str] = ()

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Row numbers and rows, as they are read. Raises the error that the table was opened with."""
        return self.read()

    def where(self, number: int) -> str:
        """How messages name a row."""
        return f"{self.label}, row {number}"

    def called(self, name: str) -> str:
        """How messages name a column: as it stands in the table."""
        return dict(zip(self.names, self.written)).get(name, name)


def open_table(
    source: Any,
    needed: Sequence[str] | Sequence[Sequence[str]],
    optional: Iterable[str] = (),
    error: type[ValueError] = ValueError,
    enforce: bool = True,
    fallback: str | None = None,
) -> Table:
    """Opens a table and finds its columns.

    Args:
        source: path of a CSV file or workbook, or a DataFrame.
        needed: names of the columns that must be there, or several such lists, one of which must be.
        optional: names of further columns that are looked for under their synonyms, too.
        error: what is raised.
        enforce: refuse a table that lacks a needed column; False: the caller says what is missing.
        fallback: encoding of a CSV file that is not UTF-8 from its first byte to its last, such as "latin-1"; default:
            it is refused.

    Raises:
        ValueError: as `error`: not such a file, a needed column is missing, or one could be either of two. OSError: the
            file cannot be read.
    """
    choices = [tuple(needed)] if not needed or isinstance(needed[0], str) else [tuple(names) for names in needed]
    wanted = list(dict.fromkeys([*(name for names in choices for name in names), *optional]))
    if hasattr(source, "columns"):
        return _frame_table(source, choices, wanted, error)
    label = os.fspath(source)
    with open(source, "rb") as stream:
        head = stream.read(4)
    if head.startswith(b"PK\x03\x04"):
        return _workbook_table(label, choices, wanted, error)
    encoding = _encoding(head, label, error)
    if fallback is not None and not _decodes(label, encoding):
        encoding = fallback
    lines, separator = _header_lines(label, encoding, error)
    skipped = 1 if separator else 0
    readings = {}
    for sign in [separator] if separator else SEPARATORS:
        try:
            header = next(csv.reader([lines[skipped]], delimiter=sign), [])
        except csv.Error:
            continue
        readings[sign] = header
    sign = _separator(readings, choices, wanted, label, error)
    names = _named(readings.get(sign, []), choices if enforce else [()], wanted, f"{label}, row {skipped + 1}", error)
    written = [text.strip() for text in readings.get(sign, [])[: len(names)]]
    return Table(label, names, lambda: _csv_rows(label, encoding, sign, names, skipped + 1, error), written)


def columns_of(names: Sequence[Any], wanted: Iterable[str]) -> list[str]:
    """Names of columns, those among `wanted` by the names they are wanted by, others in lower case.

    Raises:
        ValueError: two columns could be the same one.
    """
    meaning = {_key(synonym): name for name in wanted for synonym in (*SYNONYMS.get(name, ()), name)}
    meaning |= {_key(name): name for name in wanted}  # a wanted name is never another's synonym
    out = [meaning.get(_key(str(name)), str(name).strip().lower()) for name in names]
    for name in dict.fromkeys(out):
        if name and out.count(name) > 1:
            written = [str(names[at]).strip() for at, other in enumerate(out) if other == name]
            if len({_key(text) for text in written}) == 1:
                raise ValueError(f"has {name} twice")
            raise ValueError(
                f"has columns {' and '.join(map(repr, written))}, and each could be the {name}. Remove or rename all "
                "but one"
            )
    return out


def read_number(cell: Any) -> int | float | None:
    """The number that a cell says, with a decimal point or comma; None if it says none, or none that is finite."""
    if hasattr(cell, "item"):
        cell = cell.item()
    if isinstance(cell, Real) and not isinstance(cell, bool):
        number = float(cell)
        return None if not math.isfinite(number) else int(number) if number.is_integer() else number
    if not isinstance(cell, str):
        return None
    if _DECIMAL_COMMA.fullmatch(cell):
        cell = cell.replace(",", ".")
    elif not _NUMBER.fullmatch(cell):
        return None
    number = float(cell)
    return int(number) if number.is_integer() else number


def shown_names(names: Iterable[Any], most: int = 8) -> str:
    """A few of many names, for a message."""
    names = [str(name)[:40] for name in names]
    return repr(names[:most]) if len(names) <= most else f"{repr(names[:most])[:-1]}, …] ({len(names):,} columns)"


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().lower()).strip("_")


def _named(
    header: Sequence[Any], choices: Sequence[tuple[str, ...]], wanted: list[str], where: str, error: type[ValueError]
) -> list[str]:
    """The header's columns by the names they are wanted by, all needed ones among them."""
    header = list(header)
    while header and not str(header[-1]).strip():  # spreadsheets write empty columns
        header.pop()
    if len(header) > MAX_COLUMNS:
        raise error(f"{where}: the header {shown_names(header)} has too many columns; at most {MAX_COLUMNS} are read.")
    try:
        names = columns_of(header, wanted)
    except ValueError as problem:
        raise error(f"{where}: the header {shown_names(header)} {problem}.") from None
    if not any(set(names) >= set(choice) for choice in choices):
        lacking = min(([name for name in choice if name not in names] for choice in choices), key=len)
        forms = " or ".join(", ".join(choice) for choice in choices)
        possible = [name for name in wanted if not any(name in choice for choice in choices)]
        also = f"; possible: {', '.join(possible)}" if possible else ""
        raise error(f"{where}: the header {shown_names(header)} lacks {', '.join(lacking)}. Needed: {forms}{also}.")
    return names


def _encoding(head: bytes, label: str, error: type[ValueError]) -> str:
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise error(f"{label} is not UTF-8 text (it is UTF-32). Save it as 'CSV UTF-8'.")
    return "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def _decodes(label: str, encoding: str) -> bool:
    with open(label, encoding=encoding) as stream:
        try:
            while stream.read(1 << 20):
                pass
        except UnicodeError:
            return False
    return True


def _header_lines(label: str, encoding: str, error: type[ValueError]) -> tuple[list[str], str | None]:
    """The first line, or Excel's line that names the separator and the one after it; and that separator."""
    try:
        with open(label, encoding=encoding, newline="") as stream:
            lines = [stream.readline(MAX_HEADER)]
            named = _SEPARATOR_LINE.fullmatch(lines[0])
            if named:
                lines.append(stream.readline(MAX_HEADER))
    except UnicodeError as problem:
        raise error(f"{label} is not UTF-8 text ({_reason(problem)}). Save it as 'CSV UTF-8'.") from None
    if "\0" in lines[-1]:
        raise error(f"{label} is not UTF-8 text (it holds zero bytes). Save it as 'CSV UTF-8'.")
    if len(lines[-1]) >= MAX_HEADER:
        first = re.split(f"[{SEPARATORS}]", lines[-1][:500])
        raise error(
            f"{label}, row 1: a header of {MAX_HEADER:,} characters or more, which begins {shown_names(first[:5])}; a "
            "table has a few columns. Give one with a row for each rating."
        )
    return lines, named.group(1) if named else None


def _separator(
    readings: Mapping[str, list[str]], choices: list[tuple[str, ...]], wanted: list[str], label: str,
    error: type[ValueError],
) -> str:  # fmt: skip
    """The separator that gives the needed columns; where none does, the one that gives most."""
    fitting = []
    for sign, header in readings.items():
        try:
            names = set(columns_of(header[:MAX_COLUMNS], wanted))
        except ValueError:
            names = {name for name in wanted for text in header[:MAX_COLUMNS] if columns_of([text], [name]) == [name]}
        if any(names >= set(choice) for choice in choices):
            fitting.append(sign)
    if len(fitting) > 1:
        first, second = (f"{sign!r} gives {shown_names(readings[sign])}" for sign in fitting[:2])
        raise error(f"{label}, row 1: could be separated in two ways: {first}, {second}. Put names in quotes.")
    return fitting[0] if fitting else max(readings or {",": []}, key=lambda sign: len(readings[sign]))


def _reason(problem: UnicodeError) -> str:
    return getattr(problem, "reason", None) or str(problem)


def _lines(stream: io.TextIOBase, label: str, error: type[ValueError]) -> Iterator[str]:
    while line := stream.readline(MAX_LINE):
        if len(line) >= MAX_LINE and not line.endswith(("\n", "\r")):
            raise error(f"{label}: a line of {MAX_LINE:,} characters or more. Give a table with a row for each rating.")
        yield line


def _csv_rows(
    label: str, encoding: str, separator: str, names: list[str], header: int, error: type[ValueError]
) -> Iterator[tuple[int, Row]]:
    number = 0
    try:
        with open(label, encoding=encoding, newline="") as stream:
            lines = _lines(stream, label, error)
            for number, cells in enumerate(csv.reader(lines, delimiter=separator, strict=True), 1):
                if number > header and any(map(str.strip, cells)):
                    yield number, _row(names, cells)
    except (csv.Error, UnicodeError) as problem:
        why = _reason(problem) if isinstance(problem, UnicodeError) else problem
        raise error(
            f"{label}, row {number + 1}: not readable as CSV in UTF-8 ({why}). Save it again as 'CSV UTF-8'."
        ) from None


def _row(names: list[str], cells: list[str]) -> Row:
    row: Row = {name: from_csv_cell(cell.strip()) for name, cell in zip(names, cells)}
    if len(cells) < len(names) or any(map(str.strip, cells[len(names) :])):
        row[None] = f"{len(cells)} fields; the header has {len(names)}."
    return row


def _frame_table(frame: Any, choices: list[tuple[str, ...]], wanted: list[str], error: type[ValueError]) -> Table:
    """A DataFrame; the row numbers count its rows from 0, as `iloc` does."""
    names = _named(list(frame.columns), choices, wanted, "the table", error)

    def read() -> Iterator[tuple[int, Row]]:
        for number, values in enumerate(frame.itertuples(index=False, name=None)):
            yield number, {name: _value(value) for name, value in zip(names, values)}

    return Table("the table", names, read, [str(name).strip() for name in frame.columns])


def _value(value: Any) -> Any:
    """A DataFrame's value; "" where it is missing (None, NaN, NA, NaT)."""
    if isinstance(value, str):
        return value.strip()
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return ""
    return value


def _workbook_table(label: str, choices: list[tuple[str, ...]], wanted: list[str], error: type[ValueError]) -> Table:
    try:
        import openpyxl
    except ImportError:
        raise error(f"{label}: Excel workbooks need the extra excel: pip install 'pamela_hf[excel]'; or save it as "
                    "'CSV UTF-8'.") from None  # fmt: skip
    try:
        with zipfile.ZipFile(label) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as problem:
        raise error(f"{label}: not a readable workbook ({str(problem)[:100]}). Save it as 'CSV UTF-8'.") from None
    if size > MAX_WORKBOOK_BYTES:
        most = MAX_WORKBOOK_BYTES >> 20
        raise error(f"{label}: {size >> 20} MiB unpacked; at most {most} MiB. Save it as 'CSV UTF-8'.")

    def cells() -> Iterator[list[str]]:
        try:
            book = openpyxl.load_workbook(label, read_only=True, data_only=True)
            try:
                for row in book.worksheets[0].iter_rows(max_col=MAX_COLUMNS + 1, values_only=True):
                    yield [_text(value) for value in row]
            finally:
                book.close()
        except Exception as problem:
            if isinstance(problem, error):
                raise
            raise error(f"{label}: not a readable workbook ({str(problem)[:100]}). Save it as 'CSV UTF-8'.") from None

    header = next(cells(), [])
    names = _named(header, choices, wanted, f"{label}, row 1", error)

    def read() -> Iterator[tuple[int, Row]]:
        for number, row in enumerate(cells(), 1):
            if number > 1 and any(map(str.strip, row)):
                yield number, _row(names, row + [""] * (len(names) - len(row)))

    return Table(label, names, read, [text.strip() for text in header[: len(names)]])


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)
