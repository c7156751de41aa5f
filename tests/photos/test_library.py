"""A folder of photos: what counts as one, and whose stars count."""

import json
import os

import pytest
from photo_tools import add_stars, exiftool, needs_exiftool, save_photo

from pamela_hf.photos.library import read_library
from pamela_hf.photos.stars import Opinion, Stars, resolve
from pamela_hf.photos.xmp import MAX_BYTES, write_packet


def stars_of(folder, **options):
    return {p.name: p.stars.rating for p in read_library(folder, progress=False, **options).photos}


def test_both_sidecar_names_raw_with_jpeg_and_duplicates(tmp_path):
    for stem in ("a", "b", "c"):
        save_photo(tmp_path / f"{stem}.JPG")
        save_photo(tmp_path / f"{stem}.tif").rename(tmp_path / f"{stem}.CR2")
    (tmp_path / "a.CR2.xmp").write_bytes(write_packet(None, {}, rating=4))
    (tmp_path / "a.xmp").write_bytes(write_packet(None, {}, rating=2))
    (tmp_path / "b.XMP").write_bytes(write_packet(None, {}, rating=-1))
    (tmp_path / "c_01.CR2.xmp").write_bytes(write_packet(None, {}, rating=3))
    library = read_library(tmp_path, progress=False)
    assert {p.name: p.stars.rating for p in library.photos} == {"a.JPG": 4, "b.JPG": -1, "c.JPG": 3}
    assert [f.name for f in library.photos[0].files] == ["a.CR2", "a.JPG"]
    assert library.counts() == {
        "photos": 3, "rated": 3, "liked": 0, "unrated": 0, "conflicts": 1, "sidecar": 3,
    }  # fmt: skip


def test_the_stated_rule():
    sidecar, inside, exif = (Opinion(source, rating) for source, rating in (("sidecar", 3), ("XMP", 4), ("EXIF", 5)))
    assert resolve([sidecar, inside, exif]) == Stars(3, None, "sidecar", True)
    assert resolve([Opinion("sidecar", 0), inside]) == Stars(4, None, "XMP", False)
    assert resolve([Opinion("sidecar", 0)], favourite=True) == Stars(None, True, "favourite", False)
    assert resolve([inside], favourite=True).rating == 4
    ours = Opinion("sidecar", 4, ours=4)
    assert resolve([ours, inside]) == Stars()  # a copy of ours inside the file is not the person's either
    assert resolve([Opinion("sidecar", 2, ours=4)]).rating == 2
    flagged = [Opinion("sidecar", 0, pick=-1, label="Green")]
    assert resolve(flagged) == Stars()
    assert resolve(flagged, picks=True).liked is False
    assert resolve(flagged, picks=True, labels={"Green": 4}).rating == 4


@needs_exiftool
def test_embedded_ratings_count_and_zero_is_no_rating(tmp_path):
    for number, (xmp, exif, percent) in enumerate([(4, 1, 1), (0, 3, 1), (None, None, 75), (0, 0, 0), (-1, 0, 0)]):
        photo = save_photo(tmp_path / f"{number}.jpg", number)
        given = [("XMP-xmp:Rating", xmp), ("IFD0:Rating", exif), ("IFD0:RatingPercent", percent)]
        exiftool("-overwrite_original", *(f"-{tag}={value}" for tag, value in given if value is not None), photo)
    assert list(stars_of(tmp_path).values()) == [4, 3, 4, None, -1]


def test_odd_names_links_hidden_and_tool_folders(tmp_path):
    names = ["ü ñ 日本.jpg", 'it\'s "quoted".jpg', "line\nbreak.jpg", " spaces .jpg", "a,b;c.jpg", "#?%20.jpg"]
    for number, name in enumerate(names):
        add_stars(save_photo(tmp_path / "in" / name, number), 3)
    for place in ("@eaDir", ".thumbnails", "Library Previews.lrdata", "x.photoslibrary"):
        save_photo(tmp_path / "in" / place / "no.jpg")
    save_photo(tmp_path / "out" / "no.jpg")
    save_photo(tmp_path / "elsewhere" / "linked.jpg", 9)
    os.symlink(tmp_path / "elsewhere", tmp_path / "in" / "link")
    os.symlink(tmp_path / "in", tmp_path / "in" / "round")
    os.symlink(tmp_path / "in" / names[0], tmp_path / "in" / "z again.jpg")
    found = stars_of(tmp_path / "in", leave_out=tmp_path / "out")
    assert found == {**dict.fromkeys(names, 3), "link/linked.jpg": None}
    assert set(stars_of(tmp_path, leave_out=tmp_path / "out")) == {
        *(f"in/{name}" for name in names), "elsewhere/linked.jpg",
    }  # fmt: skip


def test_hostile_sidecars_are_rows_and_the_photo_stays(tmp_path):
    for name in ("big", "bomb", "odd", "fine"):
        save_photo(tmp_path / f"{name}.jpg")
    with open(tmp_path / "big.jpg.xmp", "wb") as file:
        file.truncate(100 << 20)
    (tmp_path / "bomb.xmp").write_text('<!DOCTYPE x [<!ENTITY a "b"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>')
    (tmp_path / "odd.jpg.xmp").write_bytes(write_packet(None, {}, rating=17))
    add_stars(tmp_path / "fine.jpg", 5)
    library = read_library(tmp_path, progress=False)
    assert [p.stars.rating for p in library.photos] == [None, None, 5, None]
    reasons = {path.name: why for path, why in library.problems}
    assert f"larger than {MAX_BYTES >> 20} MB" in reasons["big.jpg.xmp"]
    assert "DOCTYPE" in reasons["bomb.xmp"] and "'17'" in reasons["odd.jpg.xmp"] and len(reasons) == 3


def test_takeout_favourites(tmp_path):
    for name in ("a", "b", "c"):
        save_photo(tmp_path / f"{name}.jpg")
        values = {"photoTakenTime": {}, **({"favorited": True} if name == "a" else {})}
        (tmp_path / f"{name}.jpg.supplemental-me.json").write_text(json.dumps(values))
    (tmp_path / "c.jpg.supplemental-me.json").write_text("{")
    library = read_library(tmp_path, progress=False)
    assert [p.stars.liked for p in library.photos] == [True, None, None]
    assert [path.name for path, _ in library.problems] == ["c.jpg.supplemental-me.json"]


def test_apple_photos_names_the_extra(tmp_path):
    pytest.importorskip("PIL")
    try:
        import osxphotos  # noqa: F401
    except ImportError:
        (tmp_path / "Photos Library.photoslibrary").mkdir()
        with pytest.raises(ImportError, match=r"pamela_hf\[photos\]"):
            read_library(tmp_path / "Photos Library.photoslibrary", progress=False)
    else:
        pytest.skip("osxphotos is installed")


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a folder"):
        read_library(tmp_path / "none", progress=False)
