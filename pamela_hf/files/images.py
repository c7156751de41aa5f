"""Image files from anywhere: opened safely, always as upright 8-bit RGB; and which of them are near-duplicates."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 << 20

_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {  # EXIF value → what makes the picture upright (EXIF 2.3, 4.6.4)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class ImageError(ValueError):
    """An image file that cannot be used: the message names the file, what is allowed and what to do."""


def open_image_checked(source: str | Path | bytes | BinaryIO, name: str | None = None) -> Image.Image:
    """Opens and decodes an image file.

    The pixel count is read from the header before anything is decoded. EXIF orientation is applied;
    transparency is laid on white; grayscale, palette, CMYK and 16-bit images become RGB (16 bits: the upper
    8); of an animation the first frame counts.

    Args:
        source: path, bytes, or a seekable stream of the file's bytes.
        name: what to call the file in errors; None: the path.

    Returns:
        A decoded image of mode RGB; nothing is left open.

    Raises:
        ImageError: not PNG, JPEG or WEBP; more than 64 megapixels or 256 MiB; truncated or damaged; no such file.
    """
    name = name if name is not None else str(source) if isinstance(source, (str, Path)) else "image"
    if isinstance(source, (str, Path)):
        try:
            with open(source, "rb") as stream:
                return _decode(stream, name)
        except OSError as error:
            raise ImageError(f"{name}: cannot be opened ({error.strerror}). Give an image file.") from None
    return _decode(io.BytesIO(source) if isinstance(source, bytes) else source, name)


def _decode(stream: BinaryIO, name: str) -> Image.Image:
    with _naming(name):
        image, _ = _complete(stream, name)
    return upright_rgb(image, name)


def upright_rgb(image: Image.Image, name: str | None = None) -> Image.Image:
    """A PIL image as :func:`open_image_checked` returns that of a file; `image` itself stays as it is.

    Raises:
        ImageError: no pixels, or its file turns out to be truncated or damaged.
    """
    name = name or getattr(image, "filename", "") or "PIL image"
    with _naming(name):
        if not image.width or not image.height:
            raise ImageError(f"{name}: {image.width} × {image.height} pixels. Give an image that has some.")
        image.load()
        upright = _ORIENTATIONS.get(_orientation(image))
        picture = _rgb(image)
        picture = picture.transpose(upright) if upright is not None else picture
        picture.info = {}  # says which way is up, but of the image as it was
        return picture


def verify_image(stream: BinaryIO, name: str) -> bytes:
    """The file's bytes, once they have proved to be a whole image within the limits.

    A PNG is walked chunk by chunk against its checksums, which finds any damage at a tenth of the cost of
    decoding; other formats have no checksums and are decoded.

    Raises:
        ImageError: as :func:`open_image_checked`.
    """
    with _naming(name):
        image, data = _complete(stream, name)
        if image.format == "PNG":
            image.verify()
        else:
            image.load()
        return data


@contextmanager
def _naming(name: str) -> Iterator[None]:
    # Decoders meet hostile bytes here and fail in ways of their own (struct, zlib, index, memory errors …):
    # whatever they raise means that this file is no usable image.
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        what = str(error)[:100] or "it cannot be decoded"
        raise ImageError(f"{name}: damaged image ({what}). Replace the file.") from None


def _complete(stream: BinaryIO, name: str) -> tuple[Image.Image, bytes]:
    """The opened, undecoded image and its bytes; limits are checked on the header, before the rest is read."""
    try:
        image = Image.open(stream, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(_too_large(name, "too many")) from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: no {', '.join(FORMATS)} image. Convert or replace the file.") from None
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_large(name, f"{image.width} × {image.height}"))
    stream.seek(0)
    data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{name}: more than {MAX_FILE_BYTES >> 20} MiB; save the image smaller.")
    if not _is_complete(data, image.format):
        raise ImageError(f"{name}: damaged image (it is cut off). Replace the file.")
    return Image.open(io.BytesIO(data), formats=FORMATS), data


def _too_large(name: str, size: str) -> str:
    return f"{name}: {size} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed. Scale the image down."


def _is_complete(data: bytes, format: str | None) -> bool:
    """Whether the file runs to its end mark: decoders forgive a missing tail, filling in grey."""
    if format == "PNG":
        return data.rfind(_PNG_END) > 0
    if format == "WEBP":
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    # JPEG (or MPO): walk the segments to the scan; an end mark before it belongs to an embedded thumbnail
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        if data[place + 1] == 0xFF:  # fill byte
            place += 1
            continue
        if data[place + 1] == 0xDA:
            return data.find(b"\xff\xd9", place) > 0
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # unreadable EXIF says nothing of orientation, and every viewer shows such a photo
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grayscale, which Pillow's convert would clip instead of scale
        pixels = np.asarray(image).astype(np.int64).clip(0, 65_535) >> 8
        return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return image.convert("RGB")


