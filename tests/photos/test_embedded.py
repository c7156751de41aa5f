"""Ratings inside pictures, as exiftool and exiv2 write them."""

import pytest
from photo_tools import exiftool, exiv2, needs_exiftool, needs_exiv2, save_photo

from pamela_hf.photos.embedded import Embedded, EmbeddedError, read_embedded
from pamela_hf.photos.xmp import read_packet

SUFFIXES = ["jpg", "tif", "png", "webp", "heic", "avif"]


@pytest.fixture
def photo(tmp_path, request):
    if request.param in ("heic", "avif"):
        pytest.importorskip("pillow_heif").register_heif_opener()
    return save_photo(tmp_path / f"a b'c.{request.param}")


@needs_exiftool
@pytest.mark.parametrize("photo", SUFFIXES, indirect=True)
def test_ratings_of_exiftool_are_found(photo):
    assert read_embedded(photo) == Embedded()
    exiftool("-overwrite_original", "-XMP-xmp:Rating=4", "-IFD0:Rating=3", "-IFD0:RatingPercent=50", photo)
    found = read_embedded(photo)
    assert (read_packet(found.xmp).rating, found.rating, found.percent) == (4, 3, 50)


@needs_exiv2
@pytest.mark.parametrize("photo", ["jpg", "tif", "png", "webp"], indirect=True)
def test_ratings_of_exiv2_are_found(photo):
    exiv2("-Mset Xmp.xmp.Rating 2", "-Mset Exif.Image.Rating Short 5", photo)
    found = read_embedded(photo)
    # exiv2 0.27 puts EXIF of a PNG into a text chunk of ImageMagick's, not into eXIf; the XMP says the same
    assert (read_packet(found.xmp).rating, found.rating) == (2, None if photo.suffix == ".png" else 5)


@needs_exiftool
def test_raw_files_that_are_tiff_in_disguise(tmp_path):
    photo = save_photo(tmp_path / "a.tif")
    exiftool("-overwrite_original", "-XMP-xmp:Rating=4", photo)
    raw = photo.rename(tmp_path / "a.dng")
    assert read_packet(read_embedded(raw).xmp).rating == 4


@needs_exiftool
@pytest.mark.parametrize("photo", SUFFIXES, indirect=True)
def test_a_damaged_file_is_one_error_never_a_crash(photo):
    exiftool("-overwrite_original", "-XMP-xmp:Rating=4", "-IFD0:Rating=3", photo)
    whole = photo.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        photo.write_bytes(whole[:length])
        try:
            read_embedded(photo)
        except EmbeddedError as error:
            assert "damaged" in str(error) or "beyond" in str(error)
    for place in range(0, min(len(whole), 600)):
        photo.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        try:
            read_embedded(photo)
        except EmbeddedError:
            pass


def test_other_files_say_nothing(tmp_path):
    for content in (b"", b"GIF89a", b"hello world, this is text", b"\0" * 100):
        path = tmp_path / "x.jpg"
        path.write_bytes(content)
        assert read_embedded(path) == Embedded()
