"""Text from outside (file names, participants, prompts, groups), made harmless for where it goes.

A page: `html.escape`. A CSV file: [`csv_cell`]. A terminal, a log or an error: [`printable`].
"""

import re
import unicodedata

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (text direction), surrogate, line and paragraph separator


def csv_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula: with an apostrophe in front where it begins with `=`,
    `+`, `-`, `@`, a tab or a line end, or with apostrophes before these. [`from_csv_cell`] gives it back exactly.

    Source: https://owasp.org/www-community/attacks/CSV_Injection.
    """
    return "'" + text if _FORMULA.match(text) else text


def from_csv_cell(cell: str) -> str:
    """The text that [`csv_cell`] made `cell` of; any other text as it is."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def printable(text: str, longest: int = 2000) -> str:
    r"""`text` without what a terminal obeys or hides: control characters, text direction marks and bytes that are not
    UTF-8 are written as `\x1b`, `\u202e`, `\xff`; line ends stay. Longer texts end in …"""
    if not text.isprintable():
        text = "".join(c if c == "\n" or unicodedata.category(c) not in _HIDDEN else _escaped(c) for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def writable_name(name: str) -> str:
    r"""A file's name as text that every file format takes: bytes that are not UTF-8 are written as `\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
