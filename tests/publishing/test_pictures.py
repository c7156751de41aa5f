"""What published pictures carry: pixels and colour profile. Files as cameras, editors and exiftool write them."""

import io
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from pamela_hf.files.images import open_image_checked
from pamela_hf.hub.transfer import HubError
from pamela_hf.publishing.pictures import cleaned_picture

CANARY = "canary-ann-7731"
needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
TAGS = (
    f"-XMP-dc:Creator={CANARY}", f"-XMP-dc:Description={CANARY}", "-XMP-exif:GPSLatitude=50.8792",
    "-XMP-exif:GPSLongitude=4.7009", f"-XMP:Location={CANARY}", f"-Comment={CANARY}",
)  # fmt: skip
JPEG_TAGS = (
    *TAGS, "-EXIF:GPSLatitude=50.8792", "-EXIF:GPSLatitudeRef=N", f"-EXIF:Artist={CANARY}",
    f"-IPTC:By-line={CANARY}", f"-IPTC:City={CANARY}", f"-EXIF:UserComment={CANARY}",
)  # fmt: skip


def picture(mode="RGB", size=(40, 24), seed=0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 10, 3), np.uint8)).resize(size)
    return small.convert(mode)


def saved(image, format, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # with the time of its making


def tagged(data: bytes, path, *tags) -> bytes:
    """The file as exiftool writes these tags into it."""
    path.write_bytes(data)
    subprocess.run(["exiftool", "-q", "-overwrite_original", *tags, path], check=True)
    return path.read_bytes()


def everything(data: bytes, path) -> str:
    """All that exiftool finds in a file, unknown tags and embedded files too."""
    path.write_bytes(data)
    command = ["exiftool", "-a", "-u", "-ee3", "-G1", "-s", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def texts_in(data: bytes) -> bytes:
    """The bytes, and what any zlib stream among them holds."""
    out, place = data, data.find(b"\x78")
    while place >= 0:
        try:
            out += zlib.decompressobj().decompress(data[place:], 1 << 20)
        except zlib.error:
            pass
        place = data.find(b"\x78", place + 1)
    return out


def assert_clean(made: bytes, original: bytes, path) -> None:
    assert CANARY.encode() not in texts_in(made) and CANARY.encode("utf-16-be") not in texts_in(made)
    found = Image.open(io.BytesIO(made))
    assert not dict(found.getexif()) and not getattr(found, "text", {}) and getattr(found, "n_frames", 1) == 1
    kept = {"icc_profile", "jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform",
            "progressive", "progression", "gamma", "chromaticity", "srgb", "transparency"}  # fmt: skip
    assert set(found.info) <= kept, found.info.keys()
    assert open_image_checked(made).tobytes() == open_image_checked(original).tobytes()
    if shutil.which("exiftool"):
        said = everything(made, path)
        assert CANARY not in said and "GPS" not in said and "[XMP" not in said and "[IPTC" not in said
        assert "Thumbnail" not in said and "[MPF" not in said


@needs_exiftool
def test_a_png_keeps_its_very_pixels_and_loses_every_text(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", CANARY)
    info.add_text("Comment", CANARY * 20, zip=True)
    info.add_itxt("Description", CANARY * 20, zip=True)
    plain = saved(picture(), "PNG", icc_profile=PROFILE)
    data = saved(picture(), "PNG", pnginfo=info, icc_profile=PROFILE)
    data = tagged(data, tmp_path / "a.png", *TAGS) + CANARY.encode()
    assert CANARY.encode() * 3 in texts_in(data)  # it is there
    made, is_new = cleaned_picture(data, "a")
    assert_clean(made, data, tmp_path / "made.png")
    assert not is_new and Image.open(io.BytesIO(made)).info["icc_profile"] == PROFILE
    assert pixel_data(made) == pixel_data(plain)  # not coded anew
    assert cleaned_picture(made, "a")[0] == made == cleaned_picture(plain, "a")[0]


def pixel_data(png: bytes) -> bytes:
    place, out = 8, b""
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        out += png[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        place += 12 + length
    return out


@needs_exiftool
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}], ids=str)
def test_a_jpeg_loses_its_segments_thumbnail_and_second_picture(tmp_path, options):
    inner = tagged(saved(picture(size=(16, 12)), "JPEG"), tmp_path / "thumb.jpg", *JPEG_TAGS)
    data = saved(picture(), "JPEG", icc_profile=PROFILE, comment=CANARY, **options)
    plain = saved(picture(), "JPEG", icc_profile=PROFILE, **options)
    data = tagged(data, tmp_path / "a.jpg", *JPEG_TAGS, f"-ThumbnailImage<={tmp_path / 'thumb.jpg'}")
    assert everything(data, tmp_path / "seen.jpg").count(CANARY) > 6 and inner[-40:-2] in data
    data += inner  # another picture behind the first
    made, is_new = cleaned_picture(data, "a")
    assert_clean(made, data, tmp_path / "made.jpg")
    assert not is_new and Image.open(io.BytesIO(made)).info["icc_profile"] == PROFILE
    scan = plain[plain.index(b"\xff\xda") :]
    assert made.endswith(scan)  # not coded anew
    assert cleaned_picture(made, "a")[0] == made == cleaned_picture(plain, "a")[0]


@needs_exiftool
def test_a_phones_two_pictures_in_one_file_become_one(tmp_path):
    second = tagged(saved(picture(seed=1), "JPEG"), tmp_path / "second.jpg", *JPEG_TAGS)
    behind = Image.open(io.BytesIO(second))
    data = saved(picture(), "MPO", save_all=True, append_images=[behind])
    data += second
    assert Image.open(io.BytesIO(data)).format == "MPO" and CANARY.encode() in data
    made, _ = cleaned_picture(data, "a")
    assert_clean(made, data, tmp_path / "made.jpg")
    assert Image.open(io.BytesIO(made)).format == "JPEG"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_orientation_is_applied(tmp_path, orientation, format):
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = orientation, CANARY
    data = saved(picture(), format, exif=exif)
    made, is_new = cleaned_picture(data, "a")
    assert_clean(made, data, tmp_path / "made")
    assert is_new == (format == "TIFF" or orientation != 1)


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("PNG", "P", {}), ("PNG", "L", {"transparency": 3}), ("PNG", "RGBA", {}), ("PNG", "LA", {}), ("PNG", "1", {}),
        ("PNG", "I;16", {}), ("PNG", "RGB", {"transparency": (1, 2, 3)}), ("JPEG", "L", {}), ("JPEG", "CMYK", {}),
        ("GIF", "P", {"comment": CANARY.encode()}), ("WEBP", "RGB", {"lossless": True, "xmp": CANARY.encode()}),
        ("TIFF", "RGB", {"tiffinfo": {270: CANARY}}), ("TIFF", "CMYK", {}), ("BMP", "RGB", {}), ("QOI", "RGB", {}),
        ("PPM", "RGB", {}), ("PCX", "RGB", {}), ("TGA", "RGB", {}),
    ],
    ids=lambda value: str(value)[:12],
)  # fmt: skip
def test_every_mode_and_format_keeps_its_pixels(tmp_path, format, mode, options):
    image = picture().convert("L").convert("I;16") if mode == "I;16" else picture(mode)
    data = saved(image, format, **options)
    name = f"a.{format.lower()}"
    made, _ = cleaned_picture(data, name)
    assert CANARY.encode() not in texts_in(made)
    assert open_image_checked(made).tobytes() == open_image_checked(data, name).tobytes()
    assert cleaned_picture(made, "a")[0] == made


def test_what_cannot_be_cleaned_is_not_pushed():
    jpeg, png = saved(picture(), "JPEG"), saved(picture(), "PNG")
    for data in (jpeg[: len(jpeg) // 2], png[: len(png) // 2], b"no picture", b"", jpeg[:30] + png):
        with pytest.raises(HubError, match=r"Nothing was pushed.*image 'x'"):
            cleaned_picture(data, "image 'x'")
    leaking = bytearray(PROFILE)
    leaking += b"\0 /home/ann/holiday/a.icc"
    for data in (
        saved(picture(), "PNG", icc_profile=bytes(leaking)),
        saved(picture(), "JPEG", icc_profile=bytes(leaking)),
    ):
        with pytest.raises(HubError, match=r"colour profile holds something.*local path"):
            cleaned_picture(data, "image 'x'")


def test_markers_that_no_picture_needs_go_too():
    """Application and extension markers, comments between scans, a table longer than it says."""
    jpeg = saved(picture(), "JPEG", progressive=True)
    scan = jpeg.rindex(b"\xff\xda")
    for marker in (0xFE, 0xF3, 0xE7, 0xED):
        segment = bytes((0xFF, marker)) + struct.pack(">H", len(CANARY) + 2) + CANARY.encode()
        for place in (2, scan):
            made, is_new = cleaned_picture(jpeg[:place] + segment + jpeg[place:], "a")
            assert CANARY.encode() not in made and not is_new and made == cleaned_picture(jpeg, "a")[0]
    restart = b"\xff\xdd" + struct.pack(">H", len(CANARY) + 4) + b"\0\0" + CANARY.encode()
    try:
        made, _ = cleaned_picture(jpeg[:2] + restart + jpeg[2:], "a")
    except HubError:
        return
    assert CANARY.encode() not in texts_in(made)
