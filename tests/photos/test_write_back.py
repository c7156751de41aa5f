"""Predictions in sidecars: originals untouched, a person's stars untouched, other content untouched."""

import hashlib

import pytest
from photo_tools import add_stars, exiftool, exiv2, make_library, needs_exiftool, needs_exiv2, save_photo, tags

from pamela_hf.photos.library import read_library
from pamela_hf.photos.write_back import Prediction, write_sidecars
from pamela_hf.photos.xmp import read_packet

PREDICTION = Prediction(4.4, 0.7)


def write(folder, stars=True):
    library = read_library(folder, progress=False)
    return write_sidecars(library.photos, {photo.name: PREDICTION for photo in library.photos}, stars)


def contents(folder, pattern="*.jpg"):
    return {p: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in folder.rglob(pattern)}


def test_originals_and_a_persons_stars_stay(tmp_path):
    folder = make_library(tmp_path, photos=6, rated=3)
    before = contents(folder)
    rated = {p.name: p.stars.rating for p in read_library(folder, progress=False).photos}
    assert write(folder) == (6, [])
    assert contents(folder) == before
    assert {p.name: p.stars.rating for p in read_library(folder, progress=False).photos} == rated
    packets = [read_packet(p.read_bytes()) for p in sorted(folder.rglob("*.xmp"))]
    assert {p.score for p in packets} == {4.4} and sorted(p.stars or 0 for p in packets) == [0, 0, 0, 4, 4, 4]
    sidecars = contents(folder, "*.xmp")
    assert write(folder) == (6, []) and contents(folder, "*.xmp") == sidecars  # the same again writes nothing
    assert not list(folder.rglob("*.part"))


def test_stars_only_if_asked_for_and_new_opinions_win(tmp_path):
    photo = save_photo(tmp_path / "a.jpg")
    write(tmp_path, stars=False)
    assert read_packet((tmp_path / "a.jpg.xmp").read_bytes()).rating is None
    write(tmp_path)
    assert read_packet((tmp_path / "a.jpg.xmp").read_bytes()).rating == 4
    library = read_library(tmp_path, progress=False)
    assert library.photos[0].stars.rating is None  # ours is nobody's
    add_stars(photo, 1)  # the person rates between reading and writing
    write_sidecars(library.photos, {"a.jpg": PREDICTION}, True)
    assert read_packet((tmp_path / "a.jpg.xmp").read_bytes()).rating == 1


def test_new_sidecars_follow_the_folders_habit(tmp_path):
    for name in ("a", "b"):
        save_photo(tmp_path / "lightroom" / f"{name}.tif").rename(tmp_path / "lightroom" / f"{name}.NEF")
        save_photo(tmp_path / "darktable" / f"{name}.tif").rename(tmp_path / "darktable" / f"{name}.NEF")
    add_stars(tmp_path / "lightroom" / "a.NEF", 3).rename(tmp_path / "lightroom" / "a.xmp")
    add_stars(tmp_path / "darktable" / "a.NEF", 3)
    assert write(tmp_path) == (4, [])
    assert sorted(p.name for p in tmp_path.rglob("*.xmp")) == ["a.NEF.xmp", "a.xmp", "b.NEF.xmp", "b.xmp"]


def test_what_cannot_be_written_is_a_row(tmp_path):
    make_library(tmp_path, photos=4, rated=2)
    broken = next(tmp_path.rglob("*.xmp"))
    broken.write_text("<x")
    (tmp_path / "2002" / "IMG_002.jpg.xmp").mkdir()
    written, problems = write(tmp_path)
    assert written == 2 and {path.name for path, _ in problems} == {broken.name, "IMG_002.jpg.xmp"}
    assert broken.read_text() == "<x"


def test_a_read_only_library_is_rows_and_no_end(tmp_path):
    import os

    folder = make_library(tmp_path / "library", photos=3, rated=0)
    places = [folder, *(p for p in folder.rglob("*") if p.is_dir())]
    for place in places:
        place.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
        written, problems = write(folder)
        assert written == 0 and len(problems) == 3
    finally:
        for place in places:
            place.chmod(0o755)


@needs_exiftool
@needs_exiv2
def test_real_tools_read_it_and_their_content_stays(tmp_path):
    save_photo(tmp_path / "a.jpg")
    sidecar = tmp_path / "a.jpg.xmp"
    exiftool("-XMP-dc:Title=Évening", "-XMP-dc:Subject=sea", "-XMP-dc:Subject=sun", "-XMP-xmp:Label=Red", sidecar)
    other = {key: value for key, value in tags(sidecar).items() if key.startswith(("XMP-dc", "XMP-xmp:Label"))}
    assert write(tmp_path) == (1, [])
    found = tags(sidecar)
    assert other.items() <= found.items() and len(other) == 3
    assert (found["XMP-xmp:Rating"], found["XMP-pamela:Score"], found["XMP-pamela:Std"]) == (4, 4.4, 0.7)
    assert "Xmp.pamela.stars" in exiv2("-PX", sidecar)
