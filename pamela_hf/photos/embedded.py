"""Metadata inside picture files: the XMP packet and EXIF's two ratings, found without decoding a pixel.

Where a packet lies is described in the XMP Specification Part 3 (ISO 16684-1 annex; JPEG: APP1, TIFF: tag 700, PNG:
iTXt `XML:com.adobe.xmp`, and for ISO base media files the uuid box), in WebP's container specification (chunks `EXIF`
and `XMP `: developers.google.com/speed/webp/docs/riff_container), in PNG's third edition (chunk `eXIf`), and for HEIC
and AVIF in ISO/IEC 23008-12 annex A (items of type `Exif` and `mime`). DNG, CR2, NEF, ARW, PEF, SRW, ORF and RW2 are
TIFF with other magic numbers (exiftool.org/TagNames); CR3 is an ISO base media file.

EXIF 0x4746 "Rating" is 0 … 5, 0x4749 "RatingPercent" 0 … 99, both in IFD0 (Microsoft's System.SimpleRating and
System.Rating: learn.microsoft.com/windows/win32/wic/-wic-photoprop-system-simplerating; exiftool.org/TagNames/EXIF).
"""

import io
import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from .xmp import MAX_BYTES

RATING, RATING_PERCENT, XMP_TAG = 0x4746, 0x4749, 700
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_UUID_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_TIFF_MAGIC = {
    b"II": ("<", (42, 0x4F52, 0x5352, 0x55)),  # TIFF, Olympus' ORF twice, Panasonic's RW2
    b"MM": (">", (42, 0x4F52)),
}
_HEAD = 1 << 16  # one read gets the metadata of most files
_MAX_ITEMS = 1 << 16


class EmbeddedError(ValueError):
    """A file whose metadata cannot be found; the message says why."""


@dataclass(frozen=True)
class Embedded:
    """`xmp`: the packet's bytes. `rating`: EXIF's stars 0 … 5. `percent`: 0 … 99. None: not in the file."""

    xmp: bytes | None = None
    rating: int | None = None
    percent: int | None = None


def read_embedded(path: str | os.PathLike) -> Embedded:
    """Reads a picture file's metadata; of a format that is none of the module's, nothing.

    Raises:
        EmbeddedError: the file is damaged. OSError: it cannot be read.
    """
    with open(path, "rb", buffering=_HEAD) as file:
        head = file.read(16)
        file.seek(0)
        try:
            return _of_format(file, head)
        except (struct.error, IndexError, ValueError, OverflowError, MemoryError, zlib.error) as error:
            if isinstance(error, EmbeddedError):
                raise
            raise EmbeddedError(f"its metadata is damaged ({error})") from None


def _of_format(file: BinaryIO, head: bytes) -> Embedded:
    if head.startswith(b"\xff\xd8"):
        return _jpeg(file)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(file)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(file)
    if head[:2] in _TIFF_MAGIC:
        return _tiff(file)
    if head[4:8] == b"ftyp":
        return _iso(file)
    return Embedded()


def _joined(xmp: bytes | None, exif: Embedded) -> Embedded:
    return Embedded(xmp or exif.xmp, exif.rating, exif.percent)


def _packet(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise EmbeddedError(f"its XMP is larger than {MAX_BYTES >> 20} MB")
    return data


def _jpeg(file: BinaryIO) -> Embedded:
    """Segments up to the scan; metadata stands before it."""
    file.seek(2)
    xmp, exif = None, Embedded()
    while True:
        marker = file.read(2)
        while marker[1:] == b"\xff":  # fill bytes
            marker = marker[1:] + file.read(1)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xDA, 0xD9):
            return _joined(xmp, exif)
        if 0xD0 <= marker[1] <= 0xD7 or marker[1] == 1:  # markers without a length
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker[1] != 0xE1:
            file.seek(length - 2, os.SEEK_CUR)
            continue
        body = file.read(length - 2)
        if xmp is None and body.startswith(_JPEG_XMP):
            xmp = body[len(_JPEG_XMP) :]
        elif body.startswith(b"Exif\0"):
            exif = _exif(body[6:])


def _png(file: BinaryIO) -> Embedded:
    file.seek(8)
    xmp, exif = None, Embedded()
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"iTXt" and length <= MAX_BYTES:
            body = file.read(length)
            if body.startswith(_PNG_XMP):
                xmp = _international_text(body[len(_PNG_XMP) :])
        elif kind == b"eXIf" and length <= MAX_BYTES:
            exif = _exif(file.read(length))
        elif kind == b"IEND":
            break
        else:
            file.seek(length, os.SEEK_CUR)
        file.seek(4, os.SEEK_CUR)
    return _joined(xmp, exif)


def _international_text(body: bytes) -> bytes:
    """What follows the keyword of an iTXt chunk: flag, method, language, translated keyword, text."""
    compressed, rest = body[0], body[2:]
    _, _, rest = rest.partition(b"\0")
    _, _, text = rest.partition(b"\0")
    if not compressed:
        return text
    plain = zlib.decompressobj().decompress(text, MAX_BYTES + 1)
    return _packet(plain)


def _webp(file: BinaryIO) -> Embedded:
    file.seek(12)
    xmp, exif = None, Embedded()
    while len(header := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", header)
        if kind in (b"XMP ", b"EXIF") and length <= MAX_BYTES:
            body = file.read(length)
            xmp, exif = (body, exif) if kind == b"XMP " else (xmp, _exif(body))
            file.seek(length % 2, os.SEEK_CUR)
        else:
            file.seek(length + length % 2, os.SEEK_CUR)
    return _joined(xmp, exif)


def _exif(data: bytes) -> Embedded:
    if data.startswith(b"Exif\0\0"):
        data = data[6:]
    if data[:2] not in _TIFF_MAGIC:
        return Embedded()
    return _tiff(io.BytesIO(data))


def _tiff(file: BinaryIO) -> Embedded:
    """IFD0's three tags."""
    head = file.read(8)
    order, magics = _TIFF_MAGIC[head[:2]]
    magic, start = struct.unpack(order + "HI", head[2:])
    if magic not in magics:
        return Embedded()  # BigTIFF, or another format that begins alike
    file.seek(start)
    (count,) = struct.unpack(order + "H", file.read(2))
    entries = file.read(12 * count)
    xmp, numbers = None, {}
    for at in range(0, len(entries) - 11, 12):
        tag, kind, size = struct.unpack_from(order + "HHI", entries, at)
        if tag == XMP_TAG and size > 4 and kind in (1, 7):
            (where,) = struct.unpack_from(order + "I", entries, at + 8)
            if size > MAX_BYTES:
                raise EmbeddedError(f"its XMP is larger than {MAX_BYTES >> 20} MB")
            file.seek(where)
            xmp = file.read(size)
        elif tag in (RATING, RATING_PERCENT) and size == 1 and kind in (1, 3, 4):
            numbers[tag] = struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}[kind], entries, at + 8)[0]
    return Embedded(xmp, numbers.get(RATING), numbers.get(RATING_PERCENT))


def _iso(file: BinaryIO) -> Embedded:
    """HEIC and AVIF: items of the meta box. CR3 and others: the uuid box of XMP."""
    end = file.seek(0, os.SEEK_END)
    xmp, exif = None, Embedded()
    for kind, start, stop in _boxes(file, 0, end):
        if kind == b"uuid":
            file.seek(start)
            if file.read(16) == _UUID_XMP:
                xmp = _packet(file.read(min(stop - start - 16, MAX_BYTES + 1)))
        elif kind == b"meta":
            for item, data in _items(file, start + 4, stop):
                if item == b"mime":
                    xmp = _packet(data)
                elif len(data) > 4:  # the offset of the TIFF header comes first
                    exif = _exif(data[4 + struct.unpack(">I", data[:4])[0] :])
    return _joined(xmp, exif)


def _boxes(file: BinaryIO, start: int, end: int):
    """Type, start and end of the contents of each box between two offsets."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            header = 16
        stop = end if size == 0 else start + size
        if stop < start + header or stop > end:
            raise EmbeddedError("a box reaches beyond the file")
        yield kind, start + header, stop
        start = stop


def _items(file: BinaryIO, start: int, end: int) -> list[tuple[bytes, bytes]]:
    """Type and bytes of the Exif item and the XMP item of a meta box."""
    boxes = {kind: (at, stop) for kind, at, stop in _boxes(file, start, end)}
    if b"iinf" not in boxes or b"iloc" not in boxes:
        return []
    wanted = _item_types(file, *boxes[b"iinf"])
    found = []
    for item, (method, extents) in _locations(file, *boxes[b"iloc"]).items():
        if item not in wanted or method > 1:
            continue
        base = boxes.get(b"idat", (0, 0))[0] if method == 1 else 0
        data = b""
        for offset, length in extents:
            file.seek(base + offset)
            data += file.read(min(length, MAX_BYTES + 1 - len(data)))
        found.append((wanted[item], data))
    return found


def _item_types(file: BinaryIO, start: int, end: int) -> dict[int, bytes]:
    """Item id → `Exif` or `mime`, of the items that hold metadata."""
    file.seek(start)
    version = file.read(4)[0]
    wide = version != 0
    file.read(4 if wide else 2)
    wanted = {}
    for kind, at, stop in _boxes(file, start + (8 if wide else 6), end):
        if kind != b"infe":
            continue
        file.seek(at)
        body = file.read(min(stop - at, 512))
        if body[0] < 2:
            continue
        identity, rest = (struct.unpack(">H", body[4:6])[0], body[8:]) if body[0] == 2 else (
            struct.unpack(">I", body[4:8])[0], body[10:])  # fmt: skip
        if rest[:4] == b"Exif" or (rest[:4] == b"mime" and b"application/rdf+xml" in rest):
            wanted[identity] = rest[:4]
    return wanted


def _locations(file: BinaryIO, start: int, end: int) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Item id → construction method and (offset, length) of its parts; ISO/IEC 14496-12, 8.11.3."""
    file.seek(start)
    body = io.BytesIO(file.read(min(end - start, MAX_BYTES)))

    def number(width: int) -> int:
        return int.from_bytes(body.read(width), "big")

    version = body.read(4)[0]
    sizes = number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    count = number(4 if version == 2 else 2)
    found = {}
    for _ in range(min(count, _MAX_ITEMS)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        body.read(2)
        base = number(base_size)
        parts = []
        for _ in range(number(2)):
            body.read(index_size)
            parts.append((base + number(offset_size), number(length_size)))
            if len(parts) > _MAX_ITEMS or body.tell() > end - start:
                break
        found[item] = (method, parts)
    return found
