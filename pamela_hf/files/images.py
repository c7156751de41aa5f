"""Pictures from anywhere: opened safely, always as upright 8-bit RGB; the same picture is the same in every form.

[`open_image`] takes one picture in any form, [`open_image_checked`] the bytes of a file, [`each_image`] splits what
holds several.

Formats are an allow-list (`FORMATS`): what Pillow decodes in this process, without another program (EPS, WMF) and
without another image inside (ICO, ICNS). HEIF needs pillow-heif, camera raw files (their embedded preview is read)
need rawpy: ``pip install 'pamela_hf[photos]'``. PyTorch is never imported here.
"""

import base64
import binascii
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import ExifTags, Image, ImageOps, Jpeg2KImagePlugin, JpegImagePlugin, UnidentifiedImageError

from .arrays import ArrayError, image_of_array, images_of_array, is_array
from .downloads import DownloadError, download, shown_address

FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "PCX", "QOI", "SGI", "PSD",
    "DDS",
)  # fmt: skip
"""Pillow's formats that are read, by content. MPO is a JPEG with more behind it; TGA has no mark and is known by its
name."""
RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2"
    " .srf .srw .x3f".split()
)
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"})
IMAGE_SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .jif .mpo .webp .gif .bmp .dib .tif .tiff .avif .avifs .jp2 .j2k .jpc .jpf .jpx"
    " .j2c .ppm .pgm .pbm .pnm .pfm .pcx .qoi .sgi .rgb .bw .psd .dds .tga".split()
) | RAW_SUFFIXES | HEIF_SUFFIXES  # fmt: skip
"""Names that are taken for pictures, in lower case."""
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 << 20

_DNG_VERSION = 50706  # the TIFF tag that makes a file a DNG (Adobe, Digital Negative Specification)
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_RAW_MARKS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb")
_DATA_URL = re.compile(r"data:(image/[\w.+-]+)?(;[\w.+-]+=[^;,]*)*(;base64)?,", re.ASCII | re.IGNORECASE)
_JPEG_SCALES = (1, 2, 4, 8)  # what libjpeg can reduce by while decoding


class ImageError(ValueError):
    """A picture that cannot be used: the message names it, what is allowed and what to do."""


def open_image(image: Any, name: str | None = None, *, private_redirects: bool = False) -> Image.Image:
    """One picture, in whatever form it comes.

    Args:
        image: a path; a `file://`, `http(s)://` or `data:` URL; bytes or a binary stream of an image file; a mapping
            with `bytes` or `path` (as `datasets` gives undecoded images); a PIL image; a NumPy array or torch tensor,
            see [`pamela_hf.files.arrays.images_of_array`] (a batch must hold one image).
        name: what to call it in errors; default: the path or URL, else what kind of thing it is.
        private_redirects: an `http(s)://` address may redirect to a private or loopback address; default: refused.

    Returns:
        A decoded image of mode RGB, upright, on white where it was transparent; nothing is left open.

    Raises:
        ImageError: it cannot be read, or is too large; see [`open_image_checked`] and [`images_of_array`].
    """
    if isinstance(image, Image.Image):
        return upright_rgb(image, name)
    if isinstance(image, str) and (opened := _open_url(image, name, private_redirects)) is not None:
        return opened
    if isinstance(image, (str, os.PathLike)):
        return open_image_checked(Path(image), name if name is not None else os.fspath(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return open_image_checked(bytes(image), name or "image bytes")
    if hasattr(image, "read"):
        return open_image_checked(_seekable(image, name), name or _stream_name(image))
    if isinstance(image, Mapping):
        return _open_mapping(image, name)
    if is_array(image):
        try:
            return image_of_array(image)
        except ArrayError as error:
            raise ImageError(f"{name}: {error}" if name else str(error)) from None
    raise ImageError(
        f"{name or 'image'}: a value of type {type(image).__name__} is not a picture. Give a path, URL, bytes, "
        "binary stream, PIL image, NumPy array or torch tensor."
    )


def each_image(images: Any) -> Iterator[Any]:
    """The single pictures in `images`, unopened: one picture in any form of [`open_image`], an array that holds a batch
    of them, or any iterable of these, generators included (read as needed, never as a whole).

    Raises:
        ImageError: an array that is not a picture.
    """
    if is_array(images):
        try:
            yield from images_of_array(images)
        except ArrayError as error:
            raise ImageError(str(error)) from None
    elif is_single(images):
        yield images
    elif isinstance(images, Iterable):
        for image in images:
            yield from each_image(image) if is_array(image) else [image]
    else:
        yield images  # opening it says what is wrong with it


def is_single(image: Any) -> bool:
    """Whether this is one picture rather than several; of arrays, by their number of dimensions."""
    if is_array(image):
        return image.ndim < 4
    return isinstance(image, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, Mapping)) or hasattr(
        image, "read"
    )


def has_image_name(name: str) -> bool:
    """Whether a file of this name is taken for a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def looks_like_image(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes or more is a picture in one of the usual formats."""
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (*_HEIF_BRANDS, b"avif", b"avis"))
    )


def open_image_checked(
    source: str | Path | bytes | BinaryIO, name: str | None = None, *, smallest_side: int | None = None
) -> Image.Image:
    """Opens and decodes an image file.

    The pixel count is read from the header before anything is decoded. EXIF orientation is applied; transparency is
    laid on white; grayscale, palette, CMYK (by its colour profile where it has one) and 16-bit images become RGB (16
    bits: the upper 8); of an animation the first frame counts, of a raw file its embedded preview. JPEG and JPEG 2000
    of more than 64 megapixels are decoded at half, a quarter or an eighth of their size.

    Args:
        source: path, bytes, or a seekable stream of the file's bytes.
        name: what to call the file in errors; default: the path. Its ending tells raw files and TGA.
        smallest_side: a JPEG is decoded at a half, a quarter or an eighth of its size as long as both sides keep so
            many pixels: several times as fast, and the pixels differ a little. Default: at its full size.

    Returns:
        A decoded image of mode RGB; nothing is left open.

    Raises:
        ImageError: none of the formats; more than 64 megapixels or 256 MiB; truncated or damaged; no such file; a
            format whose optional package is missing, named.
    """
    name = name if name is not None else str(source) if isinstance(source, (str, Path)) else "image"
    if isinstance(source, (str, Path)):
        with _opened(Path(source), name) as stream:
            return _decode(stream, name, smallest_side)
    return _decode(io.BytesIO(source) if isinstance(source, bytes) else source, name, smallest_side)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[BinaryIO]:
    """The file at `path`; where there is none, at the same path in another Unicode form or with Windows' separators."""
    spelled = [path, *(Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))]
    if os.sep == "/" and "\\" in str(path) and ".." not in PureWindowsPath(path).parts:
        spelled.append(Path(str(path).replace("\\", "/")))
    found = next((candidate for candidate in spelled if os.path.lexists(candidate)), path)
    try:
        if found.exists() and not found.is_file():
            raise ImageError(f"{name}: {'a folder' if found.is_dir() else 'not a regular file'}. Give an image file.")
        stream = open(found, "rb")
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        why = getattr(error, "strerror", None) or str(error)
        if found.is_symlink() and not found.exists():
            why = "a link to a file that does not exist"
        raise ImageError(f"{name}: cannot be opened ({why}). Give an image file.") from None
    with stream:
        yield stream


def _open_url(address: str, name: str | None, private_redirects: bool) -> Image.Image | None:
    """The picture of a URL; None if this is a path."""
    scheme = address[:8].partition(":")[0].lower()
    if scheme == "data" and address.lower().startswith("data:"):
        return open_image_checked(_data_url_bytes(address, name or "data URL"), name or "data URL")
    if scheme == "file" and "//" in address[:8]:
        parts = urlsplit(address)
        if parts.netloc not in ("", "localhost"):
            raise ImageError(f"{name or address[:200]}: a file on another machine. Give a file of this one.")
        return open_image_checked(Path(url2pathname(parts.path)), name or address)
    if scheme in ("http", "https") and "://" in address[:8]:
        try:
            data = download(address, max_bytes=MAX_FILE_BYTES, private_redirects=private_redirects)
        except DownloadError as error:
            raise ImageError(str(error)) from None
        return open_image_checked(data, name or shown_address(address))
    return None


def _data_url_bytes(address: str, name: str) -> bytes:
    match = _DATA_URL.match(address)
    if match is None:
        raise ImageError(f"{name}: not an image. Give data:image/png;base64,… .")
    if len(address) - match.end() > MAX_FILE_BYTES * 4 // 3 + 4:
        raise ImageError(f"{name}: more than {MAX_FILE_BYTES >> 20} MiB. Give a smaller image.")
    body = unquote_to_bytes(address[match.end() :])
    if match.group(3) is None:
        return body
    try:
        return base64.b64decode(re.sub(rb"\s", b"", body), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(f"{name}: its base64 is broken. Encode the image file's bytes again.") from None


def _open_mapping(image: Mapping[str, Any], name: str | None) -> Image.Image:
    if image.get("bytes") is not None:
        return open_image(image["bytes"], name or image.get("path") or None)
    if image.get("path"):
        return open_image(image["path"], name)
    raise ImageError(f"{name or 'image'}: a mapping with keys {list(image)[:5]}; bytes or path is needed.")


def _stream_name(stream: Any) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) else "image stream"


def _seekable(stream: Any, name: str | None) -> BinaryIO:
    """The stream itself, or what an unseekable one (a response, a pipe) holds, within the limit."""
    name = name or _stream_name(stream)
    if getattr(stream, "closed", False):
        raise ImageError(f"{name}: this stream is closed. Open it again.")
    try:
        if stream.seekable():
            return stream
        data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, AttributeError) as error:
        raise ImageError(f"{name}: this stream cannot be read ({error}).") from None
    if not isinstance(data, bytes):
        raise ImageError(f"{name}: this stream gives text; open it in binary mode.")
    return io.BytesIO(data)


def _decode(stream: BinaryIO, name: str, smallest_side: int | None = None) -> Image.Image:
    with _naming(name):
        image, _ = _complete(stream, name)
        if smallest_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            scale = max(scale for scale in _JPEG_SCALES if scale == 1 or min(image.size) // scale >= smallest_side)
            image.draft(None, (image.width // scale, image.height // scale))
    return upright_rgb(image, name)


def upright_rgb(image: Image.Image, name: str | None = None) -> Image.Image:
    """A PIL image as [`open_image_checked`] returns that of a file; `image` itself stays as it is.

    Raises:
        ImageError: no pixels; a closed image; numbers that are not those of a picture; a file that turns out to be
            truncated or damaged.
    """
    name = name or getattr(image, "filename", "") or "PIL image"
    with _naming(name):
        if not image.width or not image.height:
            raise ImageError(f"{name}: {image.width} × {image.height} pixels. Give an image that has some.")
        image.load()
        orientation = _orientation(image)
        picture = _rgb(image, name)
        if (scale := _scale_within_limit(picture)) > 1:  # made in memory, or opened by the caller's own hand
            picture = picture.reduce(scale)
        if orientation != 1:
            picture = picture.copy() if picture is image else picture
            picture.info = {}
            picture.getexif()[ExifTags.Base.Orientation] = orientation
            picture = ImageOps.exif_transpose(picture)
        picture.info = {}  # tells which way is up, but of the image as it was
        return picture


def verify_image(stream: BinaryIO, name: str) -> bytes:
    """A file's bytes, once they have proved to be a whole image within the limits: what `datasets.Image` decodes with
    Pillow alone. Of HEIF and raw files, which Pillow does not read, a PNG of the picture.

    A PNG is walked chunk by chunk against its checksums, which finds any damage at a tenth of the cost of decoding;
    other formats have no checksums and are decoded.

    Raises:
        ImageError: as [`open_image_checked`].
    """
    with _naming(name):
        image, data = _complete(stream, name)
        if image.format == "PNG":
            image.verify()
            return data
        image.load()
        if data is not None:
            return data
        out = io.BytesIO()
        upright_rgb(image, name).save(out, "PNG")
        return out.getvalue()


@contextmanager
def _naming(name: str) -> Iterator[None]:
    # Decoders meet hostile bytes here and fail in ways of their own (struct, zlib, index, memory errors …):
    # whatever they raise means that this file is not a usable image.
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        what = str(error)[:100].strip() or "its data cannot be decoded"
        if "closed" in what and isinstance(error, ValueError):
            raise ImageError(
                f"{name}: this PIL image is closed. Pass it before closing it, or open it again."
            ) from None
        raise ImageError(f"{name}: damaged image ({what}). Replace the file.") from None


def _complete(stream: BinaryIO, name: str) -> tuple[Image.Image, bytes | None]:
    """The opened, undecoded image and its bytes (None where Pillow alone does not read them); limits are checked on the
    header, before the rest is read."""
    stream.seek(0)
    head = stream.read(64)
    stream.seek(0)
    if not head:
        raise ImageError(f"{name}: an empty file. Replace it.")
    suffix = PurePosixPath(str(getattr(stream, "name", None) or name)).suffix.lower()
    if _is_raw(head, suffix):
        return _raw_preview(_read_all(stream, name), name), None
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head[8:]:
        return _heif_image(_read_all(stream, name), name), None
    image = _opened_lazily(stream, head, name, suffix)
    if _DNG_VERSION in getattr(image, "tag_v2", ()):
        stream.seek(0)
        return _raw_preview(_read_all(stream, name), name), None
    _check_size(image, name)
    stream.seek(0)
    data = _read_all(stream, name)
    image = _opened_lazily(io.BytesIO(data), head, name, suffix)
    if not _is_complete(data, image.format):
        raise ImageError(f"{name}: damaged image (it is cut off). Replace the file.")
    _reduce(image)
    return image, data


def _opened_lazily(stream: BinaryIO, head: bytes, name: str, suffix: str) -> Image.Image:
    """The image with its header read. JPEG and JPEG 2000 are opened by their own classes, without the bound on pixels
    that `Image.open` has: they can be decoded smaller."""
    try:
        if head.startswith(b"\xff\xd8\xff"):
            return JpegImagePlugin.jpeg_factory(stream)
        if head.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")):
            return Jpeg2KImagePlugin.Jpeg2KImageFile(stream)
        formats = (*FORMATS, "TGA") if suffix == ".tga" else FORMATS
        return Image.open(stream, formats=formats)
    except Image.DecompressionBombError:
        raise ImageError(_too_large(name, "too many")) from None
    except (UnidentifiedImageError, SyntaxError):
        raise ImageError(
            f"{name}: not an image in a format that is read (PNG, JPEG, WebP, GIF, TIFF, AVIF, …). Convert or "
            "replace the file."
        ) from None


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    for scale in _scales(image):
        if -(-width // scale) * -(-height // scale) <= MAX_PIXELS:
            return
    raise ImageError(_too_large(name, f"{width} × {height}"))


def _scales(image: Image.Image) -> tuple[int, ...]:
    """What an image's decoder can divide its width and height by."""
    return _JPEG_SCALES if image.format in ("JPEG", "MPO", "JPEG2000") else (1,)


def _scale_within_limit(image: Image.Image) -> int:
    """The smallest whole number by which sides may be divided to be within `MAX_PIXELS`."""
    scale = 1
    while -(-image.width // scale) * -(-image.height // scale) > MAX_PIXELS:
        scale += 1
    return scale


def _reduce(image: Image.Image) -> None:
    """Sets a decoder to the largest size within the limit: `Image.draft` of JPEG, `reduce` of JPEG 2000 (Pillow's
    handbook, "Image file formats")."""
    width, height = image.size
    if width * height <= MAX_PIXELS:
        return
    for power, scale in enumerate(_scales(image)):
        if -(-width // scale) * -(-height // scale) <= MAX_PIXELS:
            if image.format == "JPEG2000":
                image.reduce = power
            else:
                image.draft(None, (width // scale, height // scale))
            return


def _read_all(stream: BinaryIO, name: str) -> bytes:
    data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{name}: more than {MAX_FILE_BYTES >> 20} MiB; save the image smaller.")
    return data


def _too_large(name: str, size: str) -> str:
    return f"{name}: {size} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed. Scale the image down."


def _is_raw(head: bytes, suffix: str) -> bool:
    canon = head[:4] in (b"II*\0", b"MM\0*") and head[8:10] == b"CR"
    marked = canon or head.startswith(_RAW_MARKS) or (head[4:8] == b"ftyp" and head[8:11] == b"crx")
    # most others are TIFF files, of which Pillow would find the smallest preview
    return marked or (suffix in RAW_SUFFIXES and not head.startswith((b"\xff\xd8\xff", b"\x89PNG")))


def _needs_photos(name: str, kind: str) -> ImageError:
    return ImageError(f"{name}: {kind} files need the extra photos: pip install 'pamela_hf[photos]'.")


def _heif_image(data: bytes, name: str) -> Image.Image:
    """The primary image of an HEIF file; libheif turns it upright while decoding.

    Source: https://pillow-heif.readthedocs.io (`open_heif`, `HeifFile.to_pillow`).
    """
    try:
        from pillow_heif import open_heif
    except ImportError:
        raise _needs_photos(name, "HEIC and HEIF") from None
    heif = open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    if heif.size[0] * heif.size[1] > MAX_PIXELS:
        raise ImageError(_too_large(name, f"{heif.size[0]} × {heif.size[1]}"))
    return heif.to_pillow()


def _raw_preview(data: bytes, name: str) -> Image.Image:
    """The preview that a camera put into its raw file, turned as the raw image is unless it says so itself.

    Source: https://letmaik.github.io/rawpy/api/rawpy.RawPy.html (`extract_thumb`, `sizes.flip`).
    """
    try:
        import rawpy
    except ImportError:
        raise _needs_photos(name, "Camera raw") from None
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            preview, flip = raw.extract_thumb(), raw.sizes.flip
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        raise ImageError(f"{name}: a raw file without a preview. Develop it to JPEG or TIFF.") from None
    except rawpy.LibRawError as error:
        why = error.args[0] if error.args else "no reason given"
        why = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise ImageError(f"{name}: damaged or unknown raw file ({why[:100]}). Develop it to JPEG.") from None
    if preview.format == rawpy.ThumbFormat.BITMAP:
        image = Image.fromarray(preview.data)
    else:
        image, _ = _complete(io.BytesIO(preview.data), f"{name} (preview)")
    if _orientation(image) == 1 and flip in (3, 5, 6):
        image.getexif()[ExifTags.Base.Orientation] = {3: 3, 5: 8, 6: 6}[flip]
    return image


def _is_complete(data: bytes, format: str | None) -> bool:
    """Whether the file runs to its end mark: decoders forgive a missing tail, filling in grey."""
    if format == "PNG":
        return data.rfind(_PNG_END) > 0
    if format == "WEBP":
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    if format not in ("JPEG", "MPO"):
        return True  # Pillow raises for these
    # walk the segments to the scan; an end mark before it belongs to an embedded thumbnail
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        if data[place + 1] == 0xFF:  # fill byte
            place += 1
            continue
        if data[place + 1] == 0xDA:
            return data.rfind(b"\xff\xd9", place) > 0  # from the end, where it stands
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # unreadable EXIF says nothing of orientation, and every viewer shows such a photo
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, name).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        return _from_profile(image)
    return image.convert("RGB")


def _deep_grey(image: Image.Image, name: str) -> Image.Image:
    """Grey of more than 8 bits, which Pillow's own conversion would clip instead of scale.

    16 bits: the upper 8. Mode I of a PNG or PNM file holds 16 bits; otherwise what `convert("I")` puts there, 0 to 255,
    unless a value is larger. Mode F: 0 to 1, or 0 to 255 where a value is larger than 1.
    """
    pixels = np.asarray(image)
    low, high = float(pixels.min()), float(pixels.max())
    if image.mode == "F":
        if not (0 <= low and high <= 255):  # NaN compares false
            raise ImageError(f"{name}: mode F with values from {low:g} to {high:g}; 0 to 1 or 0 to 255 are allowed.")
        grey = np.rint(pixels * (255 if high <= 1 else 1))
    elif low < 0 or high > 65_535:
        raise ImageError(
            f"{name}: mode {image.mode} with values from {low:g} to {high:g}; 0 to 255 or 0 to 65,535 are allowed."
        )
    elif image.mode.startswith("I;16") or image.format in ("PNG", "PPM") or high > 255:
        grey = pixels.astype(np.int64) >> 8
    else:
        grey = pixels
    return Image.fromarray(grey.astype(np.uint8))


def _from_profile(image: Image.Image) -> Image.Image:
    """CMYK as its colour profile means it; as Pillow converts it where the profile is unusable."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB")
