"""One walk over folders of pictures, and one way to find what a cell names."""

import os
import unicodedata

import pytest
from pictures import encoded, picture

from pamela_hf.files.escaping import csv_cell, from_csv_cell, printable
from pamela_hf.files.folders import NameFinder, name_key, walk

PNG = encoded(picture())


def put(folder, *names, data=PNG):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def names(folder, **options):
    return [found.name for found in walk(folder, **options)]


def test_what_is_walked_sorted_and_what_is_left_alone(tmp_path):
    put(tmp_path, "b.JPG", "a.png", "deep/er/c.heic", "album.png/d.tiff", "e.jfif", "f.CR2", "IMG_1", "z/a.avif")
    put(tmp_path, "._a.png", ".hidden.png", ".thumbnails/x.png", "@eaDir/a.png", "#recycle/a.png", "Thumbs.db",
        "Catalog Previews.lrdata/a.png", "__MACOSX/a.png", "notes.txt", "$RECYCLE.BIN/a.png", "a.png.xmp")  # fmt: skip
    put(tmp_path, "README", data=b"text")
    expected = ["IMG_1", "a.png", "album.png/d.tiff", "b.JPG", "deep/er/c.heic", "e.jfif", "f.CR2", "z/a.avif"]
    assert names(tmp_path) == expected
    assert names(tmp_path / "a.png") == ["a.png"]
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        list(walk(tmp_path / "nowhere"))


def test_links_of_the_owner_are_followed_once_and_loops_end(tmp_path):
    folder = tmp_path / "photos"
    put(
        tmp_path,
        "photos/a.png",
        "photos/deep/b.png",
        "nested/c.png",
        "nested/more/d.png",
        "photos/.cache/e.png",
        "f.png",
    )
    (folder / "loop").symlink_to(folder)
    (folder / "more").symlink_to("../nested")
    (folder / "again").symlink_to(tmp_path / "nested")  # sorted before more: the first name counts
    (folder / "deep" / "up").symlink_to("..")
    (folder / "a copy.png").symlink_to("a.png")
    (folder / "f.png").symlink_to("../f.png")
    (folder / "g.png").symlink_to("../f.png")
    (folder / "shown").symlink_to(".cache")
    os.link(folder / "a.png", folder / "hard.png")
    expected = ["a.png", "again/c.png", "again/more/d.png", "deep/b.png", "f.png", "shown/e.png"]
    assert names(folder) == expected
    assert names(folder, follow_links=False) == ["a.png", "deep/b.png"]


def test_what_cannot_be_read_is_found_with_its_reason(tmp_path):
    put(tmp_path, "a.png")
    (tmp_path / "gone.jpg").symlink_to("nothing.jpg")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    found = {one.name: one.problem for one in walk(tmp_path)}
    assert found == {
        "a.png": None,
        "gone.jpg": "a link to a file that does not exist",
        "itself.jpg": "a link that leads to itself",
        "pipe.png": "not a regular file",
    }


def test_names_that_are_not_utf8_are_written_escaped(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as stream:
        stream.write(PNG)
    (found,) = walk(tmp_path)
    assert found.name == "caf\\xe9.png" and found.name.encode() and found.path.read_bytes() == PNG


def test_one_file_by_every_way_to_write_its_name(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é/Ö 1.png") for form in ("NFC", "NFD"))
    put(tmp_path, decomposed, "deep/a.png")
    finder = NameFinder(tmp_path)
    for written in ("deep/a.png", "./deep/a.png", "deep//a.png", "deep\\a.png", ".\\deep\\a.png",
                    f"{tmp_path}/deep/a.png", "deep/../deep/a.png", (tmp_path / "deep/a.png").as_uri()):  # fmt: skip
        assert finder.find(written) == "deep/a.png", written
    for written in (composed, decomposed, composed.replace("/", "\\"), f"{tmp_path}/{composed}"):
        assert finder.find(written) == decomposed
        assert name_key(written.replace(f"{tmp_path}/", "")) == composed
    assert finder.find("none.png") == "none.png"  # whoever asks says what is wrong with it
    put(tmp_path, composed)
    assert finder.find(composed) == composed


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "not a file's name"), ("a\0b", "not a file's name"), ("../a.png", "leads out"),
        ("/etc/passwd", "leads out"),
        ("a/../../a.png", "leads out"), ("..\\a.png", "leads out"), ("C:\\photos\\a.png", "another computer"),
        ("file:///etc/passwd", "leads out"), (".", "leads out"),
    ],
)  # fmt: skip
def test_no_name_leads_out(tmp_path, written, message):
    with pytest.raises(ValueError, match=message):
        NameFinder(tmp_path).find(written)


def test_text_for_spreadsheets_comes_back_exactly_and_terminals_obey_none():
    for text in (
        "=cmd|'/c calc'!A1",
        "+1",
        "-photo.jpg",
        "@a",
        "\tx",
        "'=x",
        "''-x",
        "＝1",
        "'plain",
        "plain",
        "",
        "a=1",
        "'",
    ):
        cell = csv_cell(text)
        assert from_csv_cell(cell) == text and not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))
    assert csv_cell("'plain") == "'plain" and csv_cell("a=1") == "a=1"
    assert (
        printable("a\x1b[2Jb\u202ec\udcff é\n") == "a\\x1b[2Jb\\u202ec\\xff é\n" and len(printable("x" * 9999)) == 2000
    )
