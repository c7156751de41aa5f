"""The released layout: what is read, from a folder and a zip, and how each fault is named."""

import io
import json
import pickle
import stat
import struct
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from releases import rating, small_splits, write_release

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.sources import open_source, source_names
from pamela_hf.ratings.sources._files import Files, inner_path
from pamela_hf.ratings.sources.pamela import read_json_list
from pamela_hf.ratings.table import RatingError


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "PAMELA", small_splits())


def zipped(folder, path, prefix="PAMELA/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def test_folder_and_zip_give_the_same_rows_and_images(release, tmp_path):
    folder, archive = load_ratings(release), load_ratings(zipped(release, tmp_path / "PAMELA.zip"))
    assert list(folder.splits) == ["train", "val_seen", "test_seen", "test_unseen"]
    for split, table in folder.splits.items():
        assert table.equals(archive.splits[split])
    assert folder.level_values == {"pamela": (1.0, 2.0, 3.0, 4.0, 5.0)} == archive.level_values
    assert folder.splits["train"].image_id.iloc[0] == "1"
    for data in (folder, archive):
        with data.open_image("7") as stream:
            assert stream.read() == (release / "images" / "7.png").read_bytes()
        with pytest.raises(KeyError):
            data.open_image("no such image")


def test_one_level_above_the_release_is_read_too(release):
    assert load_ratings(release.parent, source="pamela").splits["train"].shape[0] == 10


def test_paths_with_dot_slash_and_string_ids(tmp_path):
    rows = [rating("p1", "cat_1", s, image_path="./images/cat_1.png") for s in (1,)]
    rows += [rating("p2", "cat_1", 2), rating("p3", 4, 3)]
    data = load_ratings(write_release(tmp_path / "r", {"train": rows}))
    assert sorted(data.splits["train"].image_id.unique()) == ["4", "cat_1"]


def test_embeddings_stand_in_for_images(tmp_path):
    folder = write_release(tmp_path / "r", small_splits(), images=False, embeddings=True)
    data = load_ratings(folder)
    assert data.embeddings == folder / "embeddings.safetensors" and data.open_image is None
    rows = [*json.loads((folder / "annotations/pamela_val_seen.json").read_text()), rating("p2", 99, 2)]
    (folder / "annotations/pamela_val_seen.json").write_text(json.dumps(rows))
    with pytest.raises(RatingError, match=r"pamela_val_seen\.json, row 2: image '99' is not among the image_ids"):
        load_ratings(folder)


def test_neither_images_nor_embeddings(tmp_path):
    with pytest.raises(RatingError, match="neither images/ nor embeddings"):
        load_ratings(write_release(tmp_path / "r", small_splits(), images=False))


def test_unknown_keys_are_named_once_and_left_out(tmp_path, caplog):
    splits = small_splits()
    for rows in splits.values():
        for row in rows:
            row["user_demographics"]["education"] = "secret-education"
            row["score"] = 9
    data = load_ratings(write_release(tmp_path / "r", splits))
    lines = [record.getMessage() for record in caplog.records if "unknown keys" in record.getMessage()]
    assert len(lines) == 1
    assert "user_demographics.education" in lines[0] and "score (top level)" in lines[0]
    assert data.splits["train"].score.max() == 5
    assert not data.splits["train"].astype(str).isin(["secret-education"]).any().any()


def test_scale_comes_from_train_and_binds_the_other_splits(release):
    (release / "annotations/pamela_test_seen.json").write_text(json.dumps([rating("p1", 7, 6)]))
    with pytest.raises(
        RatingError, match=r"pamela_test_seen\.json, row 1: original_score is 6; allowed .*1, 2, 3, 4, 5"
    ):
        load_ratings(release)
    with pytest.raises(RatingError, match="original_score is 6"):
        load_ratings(release, splits=["test_seen"])  # train is read for its scale though it is not asked for
    assert load_ratings(release, rating_min=0, rating_max=6).level_values["pamela"] == tuple(map(float, range(7)))


def test_missing_train_takes_the_scale_of_what_is_there(tmp_path, caplog):
    data = load_ratings(write_release(tmp_path / "r", {"test_seen": [rating("a", 1, 2), rating("a", 2, 4)]}))
    assert data.level_values == {"pamela": (2.0, 3.0, 4.0)}
    assert "no train split" in caplog.text


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("foo_bar.json", "[]", r"foo_bar\.json: names no known split.*train, val_seen.*Rename"),
        ("other_train.json", "[]", r"split train is also in"),
        ("pamela_val_unseen.json", "[]", r"pamela_val_unseen\.json: .*holds no rows"),
        ("pamela_val_unseen.json", "", r"empty file"),
        ("pamela_val_unseen.json", "{}", r"found '\{' instead of '\['"),
        ("pamela_val_unseen.json", "[{}", r"pamela_val_unseen\.json, row 1: participant_id is missing"),
        ("pamela_val_unseen.json", "[1 2]", r"row 1: the row is 1, a int"),
        ("pamela_val_unseen.json", "[[" * 100_000, r"broken|cut off"),
        ("pamela_val_unseen.json", "[" + "9" * 6000 + "]", r"broken JSON"),
        ("pamela_val_unseen.json", b"[\xff\xfe]", r"not UTF-8"),
    ],
)
def test_broken_files_are_named(release, name, content, message):
    path = release / "annotations" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RatingError, match=message):
        load_ratings(release)


def test_a_truncated_file_never_passes(release):
    path = release / "annotations/pamela_val_seen.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RatingError, match=r"pamela_val_seen\.json"):
            load_ratings(release, splits=["val_seen"], rating_min=1, rating_max=5)


@pytest.mark.parametrize(
    "image_path, message",
    [
        ("../../etc/passwd", "leads out"),
        ("/etc/passwd", "leads out"),
        ("images\\1.png", "not a usable file name"),
        ("C:/1.png", "leads out"),
        ("images/link.png", "there is no file"),
        ("images/none.png", "there is no file"),
        ("images", "there is no file"),
        ("", "not a usable"),
        (5, "a string is needed"),
        (None, "image_path is missing"),
    ],
)
def test_image_paths_stay_inside(release, tmp_path, image_path, message):
    outside = tmp_path / "outside.png"
    outside.write_bytes((release / "images/1.png").read_bytes())
    (release / "images/link.png").symlink_to(outside)
    (release / "annotations/pamela_val_seen.json").write_text(json.dumps([rating("p1", 6, 2, image_path=image_path)]))
    with pytest.raises(RatingError, match=message):
        load_ratings(release)


def hostile_zip(path, folder, kind):
    """A release zip with one bad member."""
    zipped(folder, path)
    if kind in ("truncated", "not a zip", "wrong name", "bit flip"):
        data = bytearray(path.read_bytes())
        if kind == "truncated":
            data = data[: len(data) - 30]
        elif kind == "not a zip":
            data = b"GIF89a" + bytes(100)
        elif kind == "wrong name":
            place = data.find(b"PAMELA/images/7.png")
            data[place : place + 6] = b"pamela"
        else:
            place = data.find(b"PK\x03\x04", 100)
            data[place] ^= 1
        path.write_bytes(data)
        return path
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        if kind == "symlink" or kind == "device":
            info = zipfile.ZipInfo("PAMELA/images/link.png")
            info.external_attr = ((stat.S_IFLNK if kind == "symlink" else stat.S_IFCHR) | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        elif kind == "ratio bomb":
            archive.writestr("PAMELA/images/bomb.png", bytes(4 << 20))
        elif kind == "duplicate":
            with pytest.warns(UserWarning):
                archive.writestr("PAMELA/images/7.png", b"other")
        elif kind == "bzip2":
            archive.writestr("PAMELA/images/b.png", b"x" * 100, zipfile.ZIP_BZIP2)
        elif kind == "nul":
            archive.writestr("PAMELA/images/n_png", b"x")
        elif kind in ("size bomb", "encrypted", "overlap"):
            archive.writestr("PAMELA/images/z.png", b"xyz")
        else:
            archive.writestr(kind, b"x")
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    if kind == "nul":
        data = data.replace(b"PAMELA/images/n_png", b"PAMELA/images/n\0png")
    elif kind == "size bomb":
        struct.pack_into("<I", data, entry + 24, 0xF0000000)
    elif kind == "encrypted":
        struct.pack_into("<H", data, entry + 8, 1)
    elif kind == "overlap":
        struct.pack_into("<I", data, entry + 42, 0)
    path.write_bytes(data)
    return path


HOSTILE = [
    "../evil.png", "/abs.png", "PAMELA/../../x.png", "..", "C:/x.png", "c:x.png", "a\\b.png", "..\\x.png",
    "PAMELA/images/\n.png", "//server/x", "x" * 1100, "PAMELA/images/..", "./../x", "\x7f/../x",
    "PAMELA/./images/7.png", "./PAMELA/images/7.png", "PAMELA//annotations/pamela_train.json",
    "symlink", "device", "ratio bomb", "duplicate", "bzip2", "nul", "size bomb", "encrypted", "overlap",
    "truncated", "not a zip", "wrong name", "bit flip",
]  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_whole(release, tmp_path, kind):
    path = hostile_zip(tmp_path / "evil.zip", release, kind)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(RatingError, match=r"evil\.zip"):
        load_ratings(path)
    assert set(tmp_path.rglob("*")) == before


def test_annotations_that_are_links_out_of_the_folder_are_not_read(release):
    place = release / "annotations/pamela_train.json"
    place.rename(release.parent / "elsewhere.json")
    place.symlink_to(release.parent / "elsewhere.json")
    with pytest.raises(RatingError, match=r"pamela_train\.json is a link out of its folder"):
        load_ratings(release)


def test_an_image_damaged_inside_a_zip_is_no_silent_success(release, tmp_path):
    path = zipped(release, tmp_path / "r.zip")
    data = bytearray(path.read_bytes())
    place = data.find(b"PAMELA/images/7.png") + 60
    data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises((zipfile.BadZipFile, zlib.error)):
        load_ratings(path).open_image("7").read()


def test_sources_travel_to_other_processes(release, tmp_path):
    files = open_source(zipped(release, tmp_path / "r.zip")).open_image.__self__
    again = pickle.loads(pickle.dumps(files))
    assert again.open("PAMELA/images/7.png").read() == (release / "images/7.png").read_bytes()


def test_unknown_source_names_what_exists(release):
    with pytest.raises(RatingError, match=r"source 'lapis2' does not exist; there are .*csv, .*pamela, .*prepared"):
        open_source(release, "lapis2")
    assert {"csv", "pamela", "prepared"} <= set(source_names())
    with pytest.raises(RatingError, match="no option colour; it has"):
        open_source(release, colour=1)
    with pytest.raises(RatingError, match="both ends"):
        open_source(release, rating_min=1)
    with pytest.raises(RatingError, match="no such file"):
        open_source(release / "nothing")
    (release.parent / "notes.txt").write_text("x")
    with pytest.raises(RatingError, match=r"no source reads it.*Known layouts"):
        open_source(release.parent / "notes.txt")


PARTS = [
    "..",
    ".",
    "",
    "images",
    "1.png",
    "~",
    "%2e%2e",
    "..\\",
    "/",
    "etc",
    "passwd",
    "link",
    "PAMELA",
    "C:",
    "\0",
    "x" * 300,
]


def names_stay_inside(release, examples):
    (release / "images/link").symlink_to("/etc")
    (release.parent / "1.png").write_bytes(b"outside")
    files = Files(release)

    tried = []

    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.lists(st.sampled_from(PARTS), max_size=6).map("/".join) | st.text(max_size=30))
    def check(name):
        tried.append(name)
        try:
            inside = inner_path(name)
        except ValueError:
            return
        if files.has(inside):
            assert (release / inside).resolve().is_relative_to(release.resolve())

    check()
    print(f"{len(tried)} generated names, {len(set(tried))} different ones: none leads outside")
    assert len(tried) >= examples


def test_no_name_leads_outside(release):
    names_stay_inside(release, 300)


@pytest.mark.faults
def test_no_name_leads_outside_10000(release):
    names_stay_inside(release, 10_000)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(VALUES, max_size=20), st.integers(1, 40), st.sampled_from([None, 0, 2]))
def test_incremental_reading_equals_json(monkeypatch, values, chunk, indent):
    monkeypatch.setattr("pamela_hf.ratings.sources.pamela.CHUNK", chunk)
    text = json.dumps(values, indent=indent)
    read = [value for _, value in read_json_list(io.BytesIO(text.encode()), "f")]
    assert repr(read) == repr(json.loads(text))
