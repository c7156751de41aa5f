"""Several programs' opinions on one photo, and the one rule by which one of them counts.

The first opinion that is a rating counts, in this order: sidecars (`IMG.CR2.xmp`, then `IMG.xmp`, then darktable's
duplicates `IMG_01.CR2.xmp`), XMP inside the file, EXIF's Rating, EXIF's RatingPercent; of a RAW and its JPEG, the RAW's
before the JPEG's at each step. 0 is not a rating: cameras and programs write it into every file. So a rating that was
taken back in a sidecar alone still counts where the picture itself holds it. Stars that `pamela taste --stars` wrote
are nobody's opinion, wherever they were copied to; changed by a person, they are.

Favourites (Takeout, Apple Photos) and, if asked for, pick flags and colour labels count where there are no stars.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .embedded import EmbeddedError, read_embedded
from .xmp import MAX_BYTES, Packet, XmpError, read_packet, stars_of_percent

SOURCES = ("sidecar", "XMP in the file", "EXIF")


@dataclass(frozen=True)
class Opinion:
    """What one place says of a photo.

    Attributes:
        source: one of [`SOURCES`].
        rating: −1 … 5, 0 = unrated; None where it says nothing.
        pick: pick flag, which is 1, 0, −1 or None.
        label: colour label or None.
        ours: the stars that `pamela taste` wrote there, or None.
    """

    source: str
    rating: float | None = None
    pick: int | None = None
    label: str | None = None
    ours: int | None = None


@dataclass(frozen=True)
class Stars:
    """What counts of all opinions on a photo.

    Attributes:
        rating: −1 (rejected) or above 0, up to 5; None = unrated.
        liked: True for a favourite or a pick, False for a rejecting flag; None if neither, or there is a rating.
        source: where the rating or the liking stands, or None.
        conflict: whether opinions with different ratings were found.
    """

    rating: float | None = None
    liked: bool | None = None
    source: str | None = None
    conflict: bool = False


def read_opinions(files: Sequence[Path], sidecars: Sequence[Path], problems: list[tuple[Path, str]]) -> list[Opinion]:
    """All opinions on a photo, in the order in which they count; what is unreadable is added to `problems`.

    Args:
        files: the photo's picture files, RAW first.
        sidecars: the photo's sidecars, in the order in which they count.
        problems: gets a pair (file, reason) for each file that is unreadable.
    """
    opinions = []
    for sidecar in sidecars:
        try:
            opinions.append(_of_packet("sidecar", _read_sidecar(sidecar)))
        except (XmpError, OSError) as error:
            problems.append((sidecar, _reason(error)))
    inside, exif = [], []
    for file in files:
        try:
            embedded = read_embedded(file)
            if embedded.xmp is not None:
                inside.append(_of_packet("XMP in the file", read_packet(embedded.xmp)))
            if embedded.rating is not None and 0 <= embedded.rating <= 5:
                exif.append(Opinion("EXIF", float(embedded.rating)))
            if embedded.percent is not None:
                exif.append(Opinion("EXIF", float(stars_of_percent(embedded.percent))))
        except (EmbeddedError, XmpError, OSError) as error:
            problems.append((file, _reason(error)))
    return opinions + inside + exif


def resolve(
    opinions: Sequence[Opinion],
    favourite: bool = False,
    picks: bool = False,
    labels: Mapping[str, float] | None = None,
) -> Stars:
    """The rule of the module.

    Args:
        opinions: in the order in which they count.
        favourite: whether Takeout or Apple Photos call it one.
        picks: whether pick flags count, as likes; default: False.
        labels: colour label → stars it stands for; by default, no label counts.
    """
    ours = {one.ours for one in opinions if one.ours is not None}
    rated = [one for one in opinions if one.rating and one.rating not in ours]
    if rated:
        conflict = len({one.rating for one in rated}) > 1
        return Stars(rated[0].rating, None, rated[0].source, conflict)
    for one in opinions:
        if labels and one.label in labels:
            return Stars(float(labels[one.label]), None, one.source)
    if favourite:
        return Stars(None, True, "favourite")
    flag = next((one for one in opinions if one.pick), None) if picks else None
    return Stars(None, flag.pick > 0, flag.source) if flag is not None else Stars()


def _read_sidecar(path: Path) -> Packet:
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    return read_packet(data)


def _of_packet(source: str, packet: Packet) -> Opinion:
    rating = packet.rating if packet.rating else packet.percent if packet.percent else packet.rating
    return Opinion(source, None if rating is None else float(rating), packet.pick, packet.label, packet.stars)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
