"""Small pictures, and files of them, that several tests share."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(seed=0, size=(48, 40)):
    small = np.random.default_rng(seed).integers(0, 255, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def huge_png(width, height, rows=None):
    """A PNG of one grey: small as a file whatever its size in pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(width + 1)) for _ in range(rows or height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


_TIFF_TYPES = {  # number and bytes of each
    "byte": (1, 1), "text": (2, 1), "short": (3, 2), "long": (4, 4), "rational": (5, 8), "srational": (10, 8),
}  # fmt: skip


def _tiff_directory(entries, start):
    """A TIFF directory that stands at `start`, with the values that do not fit into its entries behind it."""
    place, table, behind = start + 2 + 12 * len(entries) + 4, struct.pack("<H", len(entries)), b""
    for tag, kind, values in entries:
        number, width = _TIFF_TYPES[kind]
        if not isinstance(values, bytes):
            form = {"short": "<H", "long": "<I"}.get(kind)
            numbers = [struct.pack(form, v) if form else struct.pack("<ii", round(v * 1000), 1000) for v in values]
            values = b"".join(numbers)
        field = values.ljust(4, b"\0")
        if len(values) > 4:
            field = struct.pack("<I", place + len(behind))
            behind += values + bytes(len(values) % 2)
        table += struct.pack("<HHI", tag, number, len(values) // width) + field
    return table + bytes(4) + behind


def dng(preview, orientation=1, side=64):
    """A camera's raw file: a small sensor's values, and a JPEG preview as cameras put it in.

    Adobe, Digital Negative Specification 1.4 (tags 50706 to 50778); TIFF 6.0; TIFF/EP (tags 33421, 33422).
    """
    jpeg = encoded(preview, "JPEG", quality=95)
    jpeg += bytes(len(jpeg) % 2)
    sensor = struct.pack(f"<{side * side}H", *(2000 + 700 * ((i + i // side) % 60) for i in range(side * side)))
    sensor_at, raw_at = 8 + len(jpeg), 8 + len(jpeg) + len(sensor)
    raw = _tiff_directory(
        [
            (254, "long", [0]), (256, "long", [side]), (257, "long", [side]), (258, "short", [16]),
            (259, "short", [1]), (262, "short", [32803]), (273, "long", [sensor_at]), (277, "short", [1]),
            (278, "long", [side]), (279, "long", [len(sensor)]), (33421, "short", [2, 2]),
            (33422, "byte", bytes([0, 1, 1, 2])), (50711, "short", [1]), (50717, "long", [65535]),
        ],
        raw_at,
    )  # fmt: skip
    first_at = raw_at + len(raw)
    first = _tiff_directory(
        [
            (254, "long", [1]), (256, "long", [preview.width]), (257, "long", [preview.height]),
            (258, "short", [8, 8, 8]), (259, "short", [7]), (262, "short", [6]), (271, "text", b"Test\0"),
            (272, "text", b"Test\0"), (273, "long", [8]), (274, "short", [orientation]), (277, "short", [3]),
            (278, "long", [preview.height]), (279, "long", [len(jpeg)]), (330, "long", [raw_at]),
            (50706, "byte", bytes([1, 4, 0, 0])), (50707, "byte", bytes([1, 1, 0, 0])),
            (50708, "text", b"Test Test\0"), (50721, "srational", [1, 0, 0, 0, 1, 0, 0, 0, 1]),
            (50728, "rational", [1, 1, 1]), (50778, "short", [21]),
        ],
        first_at,
    )  # fmt: skip
    return struct.pack("<2sHI", b"II", 42, first_at) + jpeg + sensor + raw + first
