"""Google Photos' export (Takeout): a JSON file beside each photo says whether it is a favourite.

`IMG.jpg` goes with `IMG.jpg.supplemental-metadata.json`, whose middle is cut so that the whole name has at most 51
characters (`IMG.jpg.supplemental-me.json`, `IMG.jpg.s.json`, `IMG.jpg..json`), or with `IMG.jpg.json` in older exports,
where a long photo's own name is cut as well. The number of a second `IMG(1).jpg` stands at the end of the JSON's name:
`IMG.jpg.supplemental-metadata(1).json`. `IMG-edited.jpg` has none of its own and shares that of `IMG.jpg`.
`"favorited": true` marks a favourite; the field is absent otherwise. Google publishes no description; these are the
findings of blog.mmclar.net/posts/reading-google-takeout-photos and github.com/papa-vova/gphotos-321sync
(Google_Takeout_Structure.md).
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

MAX_BYTES = 1 << 20
_SUFFIX = "supplemental-metadata"
_LONGEST = 51 - len(".json")
_NUMBERED = re.compile(r"(.*)(\(\d+\))", re.DOTALL)


class TakeoutError(ValueError):
    """A JSON file that is none of Takeout's, or damaged; the message says why."""


def match_json(photos: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """Which JSON file of a folder belongs to which photo.

    Args:
        photos: names of the folder's pictures.
        files: names of the folder's files that end in `.json`.

    Returns:
        Photo → JSON file, for those that have one.
    """
    names = set(photos)
    found: dict[str, str] = {}
    for file in sorted(files):
        stem, number = file[: -len(".json")], ""
        if match := _NUMBERED.fullmatch(stem):
            stem, number = match.groups()
        head, dot, tail = stem.rpartition(".")
        base = head if dot and head and _SUFFIX.startswith(tail) else stem
        photo = _numbered(base, number)
        if photo not in names and len(stem) >= _LONGEST - len(number):
            longer = [name for name in names if name.startswith(stem)]
            photo = longer[0] if len(longer) == 1 else photo
        if photo in names:
            found.setdefault(photo, file)
    for photo in names - set(found):
        stem, dot, extension = photo.rpartition(".")
        original = stem.removesuffix("-edited") + dot + extension
        if original != photo and original in found:
            found[photo] = found[original]
    return found


def is_favourite(path: Path) -> bool:
    """Whether a Takeout JSON marks its photo as a favourite.

    Raises:
        TakeoutError: it is no JSON of one photo, or larger than [`MAX_BYTES`]. OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise TakeoutError(f"it is larger than {MAX_BYTES >> 20} MB")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise TakeoutError("it is no JSON") from None
    if not isinstance(values, dict) or "photoTakenTime" not in values:
        raise TakeoutError("it is not what Takeout writes about a photo (it has no photoTakenTime)")
    return values.get("favorited") is True


def _numbered(name: str, number: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return f"{stem}{number}{dot}{extension}" if number and dot else name + number
