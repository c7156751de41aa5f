"""Image files from anywhere: opened safely, always as upright 8-bit RGB; and which of them are near-duplicates."""

import io
from collections.abc import Iterable, Iterator, Mapping
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
        what = str(error)[:100] or type(error).__name__
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


def difference_hash(image: Image.Image) -> int:
    """64-bit dHash of an RGB image: whether each of 8 × 8 cells is brighter than its right neighbour.

    Rescaled or recompressed copies differ in few bits (N. Krawetz, *Kind of Like That*, 2013). Written out
    here: the packages that offer it bring scipy and PyWavelets for their other hashes.
    """
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS)).astype(np.int16)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def near_duplicate_groups(
    image_ids: Iterable[str],
    *,
    hashes: Mapping[str, int] | None = None,
    embeddings: np.ndarray | None = None,
    max_bits: int = 4,
    min_cosine: float = 0.95,
) -> dict[str, int]:
    """Groups images that show nearly the same, to keep each group within one split.

    Two images belong together if their hashes differ in at most `max_bits` bits, or the cosine of their
    embeddings is at least `min_cosine`; groups are the connected components.

    Args:
        image_ids: N ids.
        hashes: id → :func:`difference_hash`; ids without one are compared by embedding only.
        embeddings (N, D): in the order of `image_ids`; zero or non-finite rows match nothing.
        max_bits: 0..64.
        min_cosine: -1..1; what counts as near depends on the encoder. Among the 900 OASIS photographs with
            EfficientNet features .95 finds three pairs, .98 none; too low only keeps more images together.

    Returns:
        id → group number, 0 onwards in order of first appearance; every id has one.
    """
    from scipy.sparse import coo_array  # here: importing it takes longer than most loads of ratings
    from scipy.sparse.csgraph import connected_components

    ids = list(image_ids)
    firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    if hashes is not None:
        where = np.array([place for place, image_id in enumerate(ids) if image_id in hashes], dtype=np.int64)
        bits = np.array([hashes[ids[place]] for place in where], dtype=np.uint64)
        for start in range(0, len(where), 512):
            near = np.bitwise_count(bits[start : start + 512, None] ^ bits[None, :]) <= max_bits
            rows, columns = np.nonzero(near)
            firsts.append(where[rows + start])
            seconds.append(where[columns])
    if embeddings is not None:
        if len(embeddings) != len(ids):
            raise ValueError(f"embeddings has {len(embeddings)} rows for {len(ids)} image_ids; one row each is needed.")
        vectors = np.asarray(embeddings, dtype=np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[~np.isfinite(vectors).all(axis=1)] = 0
        for start in range(0, len(ids), 512):
            rows, columns = np.nonzero(vectors[start : start + 512] @ vectors.T >= min_cosine)
            firsts.append(rows + start)
            seconds.append(columns)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(ids), len(ids)))
    _, labels = connected_components(graph, directed=False)
    renumbered: dict[int, int] = {}
    return {image_id: renumbered.setdefault(int(label), len(renumbered)) for image_id, label in zip(ids, labels)}
