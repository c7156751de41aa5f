"""Pictures as they are published: pixels and colour profile, nothing else.

Cameras, phones and editors write much more into a picture's file: where it was taken, who took it, with what, an
earlier version of it as a thumbnail, a second picture behind the first. Of an upright PNG or JPEG everything but pixels
and colour is left out and no pixel is coded anew; of any other picture a PNG of its upright pixels is made.

Sources: PNG, third edition (https://www.w3.org/TR/png-3/, chunks); JPEG (ITU-T T.81, annex B, markers); JFIF (ITU-T
T.871); ICC.1:2022, annex B (profiles in PNG and JPEG files).
"""

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import pyarrow.parquet as pq
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..files.images import FORMATS, ImageError, open_image_checked
from ..hub.scan import scan_text
from ..hub.transfer import HubError

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_COLOUR = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"sBIT")  # numbers alone; iCCP is written anew
_LONGEST = {b"PLTE": 768, b"tRNS": 256, b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"sBIT": 4, b"IEND": 0}
_MAX_PROFILE = 4 << 20  # bytes; those of displays and printers have up to some 2 MB
_ICC = b"ICC_PROFILE\0"
_JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\x00\x00\x01\x00\x01\x00\x00"  # no density, no thumbnail
_STANDALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length: TEM, RST0 to RST7
_SCAN, _END = 0xDA, 0xD9
_TABLES = (0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF)  # Huffman, arithmetic, quantization, lines, restarts, hierarchies
_FRAMES = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # what Pillow writes as PNG without changing a value


class _Uncleanable(ValueError):
    """A file that holds more than is known of its format, or is damaged."""


def cleaned_picture(data: bytes, name: str) -> tuple[bytes, bool]:
    """A picture's file with its pixels and its colour profile and nothing else, and whether it is a PNG made anew.

    An upright PNG keeps its pixels' very bytes, an upright JPEG its coefficients' (no loss); any other picture becomes
    a PNG of the same pixels, upright. The same picture always gives the same bytes.

    Args:
        data: bytes of an image file that [`pamela_hf.files.images`] reads.
        name: what to call it in errors.

    Raises:
        HubError: it cannot be read, or its colour profile holds an address, a path or an access token.
    """
    try:
        opened = _opened(data)
        if opened is not None and _is_upright(opened):
            whole = {"PNG": _clean_png, "JPEG": _clean_jpeg, "MPO": _clean_jpeg}.get(opened.format)
            try:
                if whole is not None:
                    return whole(data), False
            except _Uncleanable:
                pass  # odd, but perhaps its pixels can be read
        return _as_png(opened, data, name), True
    except HubError:
        raise
    # decoders meet hostile bytes here and fail in ways of their own
    except Exception as error:
        why = str(error)[:200] if isinstance(error, ImageError) else f"{name}: {str(error)[:100]}"
        raise HubError(
            f"Nothing was pushed: a picture could not be cleaned of what it may say of people and places ({why}). "
            "Save it anew as PNG or JPEG, or leave it out, and prepare the ratings again."
        ) from None


def _opened(data: bytes) -> Image.Image | None:
    """The image, not decoded; None where it takes more than Pillow to read it, or to find out what it is."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _is_upright(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in (0, 1)
    except Exception:  # unreadable EXIF says nothing of orientation
        return True


def cleaned_rows(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The rows of a prepared folder's `images/*.parquet`, their pictures cleaned, a few at a time.

    Raises:
        HubError: see [`cleaned_picture`].
    """
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(8):
            for row in batch.to_pylist():
                if row["image"] and row["image"]["bytes"] is not None:
                    data, is_new = cleaned_picture(row["image"]["bytes"], f"image {row['image_id']!r}")
                    path = row["image"]["path"] or ""
                    path = PurePath(path).with_suffix(".png").name if is_new and path else PurePath(path).name
                    row["image"] = {"bytes": data, "path": path or None}
                yield row


# -- PNG -----------------------------------------------------------------------------------------------------------
def _clean_png(data: bytes) -> bytes:
    chunks = list(_png_chunks(data))
    kept = [(kind, body) for kind, body in chunks if kind in _PIXELS or kind in _COLOUR]
    profile = next((body for kind, body in chunks if kind == b"iCCP"), None)
    if profile is not None:
        kept.insert(1, (b"iCCP", b"ICC\0\0" + zlib.compress(_checked_profile(_inflated(profile)), 9)))
    for kind, body in kept:
        if len(body) > _LONGEST.get(kind, len(body)):
            raise _Uncleanable(f"a chunk {kind!r} of {len(body)} bytes")
    return _PNG + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in kept
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each chunk to the end mark; what lies behind it is not part of the picture."""
    place = len(_PNG)
    while place + 12 <= len(data):
        (length,), kind = struct.unpack_from(">I", data, place), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + length]
        if len(body) < length:
            break
        if place == len(_PNG) and (kind, length) != (b"IHDR", 13):
            break
        yield kind, body
        if kind == b"IEND":
            return
        place += 12 + length
    raise _Uncleanable("a PNG without an end")


def _inflated(chunk: bytes) -> bytes:
    """The profile in an iCCP chunk: name, 0, method, compressed profile."""
    name, _, rest = chunk.partition(b"\0")
    decoder = zlib.decompressobj()
    try:
        profile = decoder.decompress(rest[1:], _MAX_PROFILE + 1)
    except zlib.error:
        raise _Uncleanable("a damaged colour profile") from None
    if len(profile) > _MAX_PROFILE or len(name) > 79:
        raise _Uncleanable("a colour profile that is too large")
    return profile


# -- JPEG ----------------------------------------------------------------------------------------------------------
def _clean_jpeg(data: bytes) -> bytes:
    """Frame, tables and scans of the first picture in the file, its JFIF and Adobe marks (they say what the colours
    are) without more, and its colour profile."""
    out: list[bytes] = []
    profile: dict[int, bytes] = {}
    has_jfif = False
    for marker, body in _jpeg_segments(data):
        if marker == 0xE0:
            has_jfif = has_jfif or body[:5] == b"JFIF\0"
        elif marker == 0xE2 and body.startswith(_ICC) and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            out.append(_segment(marker, body[:12]))
        elif marker == _SCAN:
            out.append(b"\xff\xda" + body)
        elif marker in _FRAMES or marker in _TABLES:
            if not _is_whole(marker, body):
                raise _Uncleanable(f"a segment {marker:02x} with more in it than its format has")
            out.append(_segment(marker, body))
    head = [b"\xff\xd8", _JFIF if has_jfif else b""]
    if profile:
        head += _profile_segments(_checked_profile(b"".join(profile[number] for number in sorted(profile))))
    return b"".join([*head, *out, b"\xff\xd9"])


def _is_whole(marker: int, body: bytes) -> bool:
    """Whether a frame header or table has the length that its content says (T.81, B.2.2 to B.2.4)."""
    if marker in _FRAMES:
        return len(body) > 5 and len(body) == 6 + 3 * body[5]
    if marker in (0xDB, 0xC4):
        place = 0
        while place < len(body):
            if marker == 0xDB:
                place += 129 if body[place] >> 4 else 65
            else:
                place += 17 + sum(body[place + 1 : place + 17])
        return place == len(body)
    return len(body) == {0xDD: 2, 0xDC: 2, 0xDF: 1}.get(marker, len(body)) and len(body) <= 64


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of each segment to the first picture's end mark; of a scan, its header with the length and the
    coded data."""
    place = 2
    while True:
        while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] == b"\xff":
            place += 1  # fill bytes
        if place + 4 > len(data) or data[place] != 0xFF:
            if data[place : place + 2] == b"\xff\xd9":
                return
            raise _Uncleanable("a JPEG whose segments do not follow each other")
        marker = data[place + 1]
        if marker == _END:
            return
        if marker in _STANDALONE or marker in (0x00, 0xD8):
            raise _Uncleanable(f"a marker {marker:02x} outside a scan")
        (length,) = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        if length < 2 or end > len(data):
            raise _Uncleanable("a cut segment")
        if marker == _SCAN:
            end = _end_of_scan(data, end)
            yield marker, data[place + 2 : end]
        else:
            yield marker, data[place + 4 : end]
        place = end


_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


def _end_of_scan(data: bytes, place: int) -> int:
    """Where the coded data that begin at `place` end: at the next marker that is neither a stuffed 0 nor a restart."""
    found = _NEXT_MARKER.search(data, place)
    if found is None:
        raise _Uncleanable("a JPEG without an end")
    return found.start()


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _profile_segments(profile: bytes) -> list[bytes]:
    most = 65_519  # bytes of a profile in one segment (ICC.1, annex B.4)
    parts = [profile[start : start + most] for start in range(0, len(profile), most)]
    return [_segment(0xE2, _ICC + bytes((number, len(parts))) + part) for number, part in enumerate(parts, 1)]


# -- all others ----------------------------------------------------------------------------------------------------
def _as_png(opened: Image.Image | None, data: bytes, name: str) -> bytes:
    """A PNG of the upright pixels; in the picture's own mode and with its profile where PNG and the profile allow."""
    checked = open_image_checked(data, name)  # refuses what is too large or damaged
    picture, kept = checked, {}
    if opened is not None and opened.mode in _MODES and opened.size in (checked.size, checked.size[::-1]):
        picture = ImageOps.exif_transpose(opened)
        profile = opened.info.get("icc_profile")
        kept = {"icc_profile": _checked_profile(profile)} if profile else {}
    if picture.mode == "P" or "transparency" in picture.info:
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    out = io.BytesIO()
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(out, "PNG", **kept)
    made = _clean_png(out.getvalue())
    if open_image_checked(made, name).tobytes() != checked.tobytes():
        raise _Uncleanable("its pixels would not be the same")
    return made


def _checked_profile(profile: bytes) -> bytes:
    """The profile, unless its descriptions hold what no profile needs. They are ASCII or UTF-16."""
    if len(profile) < 128 or profile[36:40] != b"acsp":
        raise _Uncleanable("a colour profile that is none")
    texts = (profile.decode("latin-1"), *(profile[start:].decode("utf-16-be", "ignore") for start in (0, 1)))
    for text in texts:
        if found := scan_text(re.sub(r"[^\x20-\x7e]+", " ", text)):
            raise HubError(
                f"Nothing was pushed: a picture's colour profile holds something that must not be published ({found[0]}"
                "). Convert the picture to sRGB, and prepare the ratings again."
            )
    return profile
