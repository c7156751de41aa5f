"""Ratings brought in and taken along: every shape that is written is read back, here and at the other doors."""

import csv
import io
import json
import os
import zipfile

import pytest
from app_client import paint_pictures
from photo_tools import add_stars

from pamela_hf.app.exports import SHAPES, Exported
from pamela_hf.app.imports import Found, Reading, read_answers, read_stars
from pamela_hf.app.pictures import PictureFolder
from pamela_hf.app.stars import as_stars, write_stars
from pamela_hf.app.store import Answer, AnswerError, BroughtIn, Store
from pamela_hf.heads.csv import read_choices_csv, read_ratings_csv
from pamela_hf.photos.library import read_library
from pamela_hf.ratings.sources import open_source

LEVELS = [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> PictureFolder:
    place = paint_pictures(tmp_path_factory.mktemp("pictures") / "images", 12)
    (place / "100%25 sure? a:b#1.png").write_bytes((place / "001.png").read_bytes())
    return PictureFolder(place)


@pytest.fixture(scope="module")
def answers(folder) -> list[Answer]:
    given = [Answer(f"r{i}", "rating", id, score=1 + i % 5) for i, id in enumerate(folder.ids)]
    given += [Answer("c", "choice", folder.ids[0], folder.ids[1]), Answer("t", "choice", *folder.ids[2:4], score=0.5)]
    return [*given, Answer("l", "like", folder.ids[4], score=1), Answer("d", "like", folder.ids[5], score=0)]


def ratings(found: Found) -> dict[str, float]:
    return {answer.image_id: answer.score for answer in found.answers if answer.kind == "rating"}


def written(shape: str, answers: list[Answer], person: str = "Änne 🦊") -> bytes:
    text = SHAPES[shape].write(Exported(answers, person, LEVELS))
    return text if isinstance(text, bytes) else text.encode()


@pytest.mark.parametrize("shape", ["csv", "rows", "argilla", "label-studio"])
def test_ratings_come_back_from_every_shape(folder, answers, shape):
    found = read_answers(written(shape, answers), SHAPES[shape].name, folder, LEVELS)
    assert ratings(found) == {a.image_id: a.score for a in answers if a.kind == "rating"}
    assert found.aside == [] and {answer.origin for answer in found.answers} == {SHAPES[shape].name}


def test_choices_and_likes_come_back(folder, answers):
    (choice,) = read_answers(written("choices", answers), "choices.csv", folder, LEVELS).answers
    assert (choice.image_id, choice.other_id, choice.score) == (*folder.ids[:2], None), "a tie is no choice"
    likes = read_answers(written("likes", answers), "likes.csv", folder, LEVELS).answers
    assert [(a.kind, a.image_id, a.score) for a in likes] == [("like", folder.ids[4], 1), ("like", folder.ids[5], 0)]


def test_the_other_doors_read_what_is_written(folder, answers, tmp_path):
    """`pamela prepare-ratings` and `pamela fit-user`, with the same meaning."""
    given = {a.image_id: a.score for a in answers if a.kind == "rating"}
    for shape in ("csv", "choices", "likes", "label-studio"):
        (tmp_path / SHAPES[shape].name).write_bytes(written(shape, answers))
    for name in ("ratings.csv", "label_studio.json"):
        source = open_source(tmp_path / name, images=folder.folder)
        rows = [row for _, _, row in source.rows["all"]()]
        assert {source.locate(row["image_id"], None): row["score"] for row in rows} == given
    pairs, _, _ = read_ratings_csv(tmp_path / "ratings.csv", folder.folder)
    assert {os.path.relpath(image, folder.folder): score for image, score in pairs} == given
    assert [score for _, score in read_ratings_csv(tmp_path / "likes.csv", folder.folder)[0]] == [True, False]
    assert len(read_choices_csv(tmp_path / "choices.csv", folder.folder)) == 1

    with zipfile.ZipFile(io.BytesIO(written("argilla", answers))) as archive:
        archive.extractall(tmp_path / "argilla")
    source = open_source(tmp_path / "argilla", images=folder.folder)
    rows = [row for _, _, row in source.rows["all"]()]
    assert {source.locate(row["image_id"], row["image_path"]): row["score"] for row in rows} == given
    assert source.level_values == tuple(LEVELS)

    release = tmp_path / "release"
    (release / "annotations").mkdir(parents=True)
    (release / "annotations" / "mine_train.json").write_bytes(written("rows", answers))
    (release / "images").mkdir()
    for file in folder.by_id.values():
        (release / "images" / file.id).parent.mkdir(exist_ok=True)
        os.link(file.path, release / "images" / file.id)
    source = open_source(release)
    rows = [row for _, _, row in source.rows["train"]()]
    assert {source.locate(row["image_id"], row["image_path"]): row["score"] for row in rows} == {
        f"images/{id}": score for id, score in given.items()
    }


def test_a_table_as_people_have_it(folder):
    text = "Photo;Stars\n001.png;4\n./002.png;3,4\nsub folder/été & <b>größe 🌞.png;1\nno.png;2\n003.png;9\n4.png;\n"
    found = read_answers(text.encode("utf-16"), "mine.csv", folder, LEVELS)
    assert ratings(found) == {"001.png": 4, "002.png": 3, "sub folder/été & <b>größe 🌞.png": 1}
    assert len(found.aside) == 3 and "row 5" in found.aside[0] and "1 to 5" in found.aside[1]


def test_a_file_on_another_scale_is_laid_on_this_one(folder):
    text = b"image,score\n001.png,0\n002.png,50\n003.png,100\n004.png,120\n"
    found = read_answers(text, "a.csv", folder, LEVELS, Reading(range=(0, 100)))
    assert ratings(found) == {"001.png": 1, "002.png": 3, "003.png": 5} and len(found.aside) == 1
    with pytest.raises(ValueError, match="must be higher"):
        Reading(range=(5, 1))


def test_of_several_people_one_is_chosen(folder):
    text = b"image,score,participant\n001.png,5,ann\n001.png,1,bob\n002.png,2,bob\n"
    found = read_answers(text, "a.csv", folder, LEVELS)
    assert found.participants == {"bob": 2, "ann": 1} and not found.answers
    assert ratings(read_answers(text, "a.csv", folder, LEVELS, Reading("bob"))) == {"001.png": 1, "002.png": 2}
    with pytest.raises(ValueError, match="nothing of 'eve'; it has ann, bob"):
        read_answers(text, "a.csv", folder, LEVELS, Reading("eve"))


def test_label_studio_by_minimal_rows_and_with_uploads_prefixes(folder):
    tasks = [{"id": 1, "image": "/data/upload/1/8e6a2a7c-001.png", "score": [{"rating": 4}], "annotator": 1,
              "annotation_id": 3}]  # fmt: skip
    assert ratings(read_answers(json.dumps(tasks).encode(), "min.json", folder, LEVELS)) == {"001.png": 4}


def packed(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # without the time of day: tests are named after it
    return stream.getvalue()


def test_a_release_as_zip(folder, answers):
    choices = [{"participant_id": "a", "preferred_id": "001.png", "other_id": "002.png", "tie": False}]
    rows = [{"participant_id": "a", "image_id": "7", "image_path": "images/003.png", "original_score": 2}]
    data = packed(**{
        "mine/annotations/x_train.json": json.dumps(rows).encode(),
        "mine/annotations/x_choices_train.json": json.dumps(choices).encode(),
    })  # fmt: skip
    found = read_answers(data, "release.zip", folder, LEVELS)
    assert ratings(found) == {"003.png": 2} and [a.kind for a in found.answers] == ["rating", "choice"]


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"a;b\n1;3\n", "x.csv", "image"), (b"", "x.csv", "x.csv"), (b"[{}]", "x.json", "control"),
        (b"[1, 2", "x.json", "end of the file"), (b'[{"fields": {}, "responses": {}}]', "x.json", "settings"),
        (b"PK\x03\x04 no zip", "x.zip", "zip"), (packed(**{"readme.txt": b"x"}), "x.zip", "neither"),
        (packed(**{"records.json": b"[]", ".argilla/settings.json": b"{}"}), "x.zip", "settings"),
        (b"\xff\x00\x81" * 99, "x.xlsx", "x.xlsx"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_ratings_is_refused_in_words(folder, data, name, words):
    with pytest.raises(ValueError) as refused:
        read_answers(data, name, folder, LEVELS)
    assert words in str(refused.value) and "/tmp" not in str(refused.value), refused.value


# -- stars -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def starred(tmp_path) -> PictureFolder:
    place = paint_pictures(tmp_path / "photos", 8)
    for number, stars in ((1, 5), (2, 1), (3, -1), (4, 0)):
        add_stars(place / f"{number:03d}.png", stars)
    return PictureFolder(place)


def test_stars_become_ratings_with_their_origin(starred):
    found = read_stars(starred, LEVELS)
    assert ratings(found) == {"001.png": 5, "002.png": 1, "003.png": 1}
    assert {answer.origin for answer in found.answers} == {"stars"}
    half = read_stars(starred, [0, 0.5, 1])
    assert ratings(half) == {"001.png": 1, "002.png": 0, "003.png": 0}, "laid on the model's scale"


def test_stars_are_written_but_never_over_a_persons(starred):
    before = {path.name: path.read_bytes() for path in starred.folder.glob("*.png")}
    predictions = {id: as_stars(8.0, 1.0, (0, 10)) for id in starred.ids}
    assert (predictions["001.png"].score, predictions["001.png"].std, predictions["001.png"].stars) == (4.2, 0.4, 4)
    done = write_stars(starred, predictions)
    assert (done.written, done.kept, done.problems) == (5, 3, [])
    again = {photo.name: photo.stars.rating for photo in read_library(starred.folder, progress=False).photos}
    assert {name: stars for name, stars in again.items() if stars} == {"001.png": 5, "002.png": 1, "003.png": -1}
    assert "Rating" in (starred.folder / "005.png.xmp").read_text() and ratings(read_stars(starred, LEVELS)) == {
        "001.png": 5, "002.png": 1, "003.png": 1
    }, "what was written is nobody's opinion"  # fmt: skip
    assert {path.name: path.read_bytes() for path in starred.folder.glob("*.png")} == before
    assert write_stars(starred, predictions).written == 5, "once more changes nothing"


# -- into the store ----------------------------------------------------------------------------------------------------
def brought(number: int, score: float, origin: str | None = "a.csv") -> Answer:
    return Answer(os.urandom(8).hex(), "rating", f"{number}.png", score=score, origin=origin)


def test_bringing_in_is_done_once_and_keeps_what_was_rated_here(tmp_path):
    with Store(tmp_path / "taste.db") as store:
        store.add("ann", Answer("own", "rating", "1.png", score=2))
        first = [brought(1, 5), brought(2, 4), brought(3, 3), Answer("c", "choice", "1.png", "2.png", origin="a.csv")]
        assert store.bring_in("ann", first).result() == BroughtIn(new=3, known=0, own=1)
        again = [brought(2, 4), brought(3, 1), Answer("c2", "choice", "1.png", "2.png", origin="b.csv")]
        assert store.bring_in("ann", again).result() == BroughtIn(new=1, known=2, own=0), "what changed is new"
        kept = {a.image_id: (a.score, a.origin) for a in store.answers("ann") if a.kind == "rating"}
        assert kept == {"1.png": (2, None), "2.png": (4, "a.csv"), "3.png": (1, "a.csv")}
        assert store.bring_in("ann", [brought(3, 3)]).result().new == 1, "back to what it was"
        with pytest.raises(AnswerError, match="no origin"):
            store.bring_in("ann", [brought(4, 3, None)])
        assert store.erase("ann").result() == 4


def test_origins_are_kept_in_the_file(tmp_path):
    with Store(tmp_path / "taste.db") as store:
        store.bring_in("ann", [brought(1, 5, "stars")]).result()
    with Store(tmp_path / "taste.db") as store:
        assert [a.origin for a in store.answers("ann")] == ["stars"]


def test_no_spreadsheet_takes_a_name_for_a_formula(folder):
    text = written("csv", [Answer("a", "rating", "=1+1.png", score=3)]).decode()
    assert list(csv.reader(io.StringIO(text)))[1] == ["'=1+1.png", "3"]
