"""CSV files of one's own, as spreadsheets write them: the one reader of ratings, choices, repeats, studies and prompts.

UTF-8, with or without its mark; a header in any case, with spaces around its names; separated by commas, semicolons
or tabs; rows without any content count as rows and are skipped. Row numbers are a spreadsheet's: the header is row 1.
"""

import csv
import os
import re
from collections.abc import Iterator

_NUMBER = re.compile(r"[+-]?\d{1,300}(\.\d{0,300})?([eE][+-]?\d{1,3})?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d{1,300},\d{1,2}", re.ASCII)  # three digits would be thousands


def read_header(path: str | os.PathLike, error: type[ValueError] = ValueError) -> tuple[list[str], str]:
    """The columns' names, in lower case, and the separator. Raises `error` if the file is not UTF-8, OSError if there
    is none."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            line = stream.readline(1 << 16)
    except UnicodeDecodeError as problem:
        raise error(f"{os.fspath(path)} is not UTF-8 text ({problem.reason}). Save it as 'CSV UTF-8'.") from None
    separator = next((sign for sign in ",;\t" if sign in line), ",")
    return [name.strip().lower() for name in next(csv.reader([line], delimiter=separator), [])], separator


def read_rows(
    path: str | os.PathLike, error: type[ValueError] = ValueError
) -> Iterator[tuple[int, dict[str | None, str]]]:
    """Row numbers and rows, column → cell without spaces around it, as they are read; what is wrong with the number of
    cells stands, in a sentence, under None.

    Raises:
        ValueError: as `error`: no CSV in UTF-8. OSError: the file cannot be read.
    """
    names, separator = read_header(path, error)
    number = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            for number, cells in enumerate(csv.reader(stream, delimiter=separator, strict=True), 1):
                if number == 1 or not any(map(str.strip, cells)):
                    continue
                row: dict[str | None, str] = {name: cell.strip() for name, cell in zip(names, cells)}
                if len(cells) != len(names):
                    row[None] = f"{len(cells)} fields; the header has {len(names)}."
                yield number, row
    except (csv.Error, UnicodeDecodeError) as problem:
        raise error(
            f"{os.fspath(path)}, row {number + 1}: not readable as CSV in UTF-8 ({problem}). Save it again as "
            "'CSV UTF-8'."
        ) from None


def read_number(text: str) -> int | float | None:
    """The number that a cell says, with a decimal point or comma; None if it says none."""
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    elif not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return int(number) if number.is_integer() else number
