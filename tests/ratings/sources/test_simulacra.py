"""Simulacra Aesthetic Captions, in a database with the release's tables."""

import sqlite3

import pytest
from releases import write_image

from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingError

TABLES = """
CREATE TABLE survey (id INTEGER, qid INTEGER, rating INTEGER);
CREATE TABLE generations (id INTEGER PRIMARY KEY, sid INTEGER, method INTEGER, prompt TEXT, verified INTEGER);
CREATE TABLE images (id INTEGER PRIMARY KEY, gid INTEGER, idx INTEGER);
CREATE TABLE paths (iid INTEGER, path TEXT);
CREATE TABLE ratings (sid INTEGER, iid INTEGER, rating INTEGER, verified INTEGER);
CREATE TABLE upscales (iid INTEGER, method INTEGER);
"""


def write(path, surveys, ratings):
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
        connection.executemany("INSERT INTO generations VALUES (?, 1, 2, ?, 0)", [(1, "a fox"), (2, "the sea")])
        connection.executemany("INSERT INTO images VALUES (?, ?, 0)", [(10, 1), (11, 1), (12, 2)])
        paths = [(10, "a/fox_0.png"), (11, "a/fox_1.png"), (12, "b/sea_0.png")]
        connection.executemany("INSERT INTO paths VALUES (?, ?)", paths)
        for number, answers in surveys.items():
            connection.executemany("INSERT INTO survey VALUES (?, ?, ?)", [(number, *one) for one in answers])
        connection.executemany("INSERT INTO ratings VALUES (?, ?, ?, 0)", ratings)
    connection.close()
    return path


def survey(first, questions=20):
    return [(question, (first + question) % 10 + 1) for question in range(questions)]


@pytest.fixture
def database(tmp_path):
    surveys = {1: survey(1), 2: survey(2), 3: survey(1), 4: survey(3, 23), 5: survey(4, 7)}
    ratings = [(1, 10, 7), (2, 10, 1), (3, 11, 10), (4, 10, 5), (5, 12, 5), (None, 12, 9), (2, 12, 4)]
    return write(tmp_path / "sac_public_2022_06_29.sqlite", surveys, ratings)


def test_people_are_known_by_whole_surveys(database, tmp_path, caplog):
    data = load_ratings(database)
    table = data.splits["train"]
    assert table.participant_id.tolist() == ["1", "2", "1", "2"]  # survey 3 has the answers of survey 1
    assert table.image_id.tolist() == ["10", "10", "11", "12"] and table.score.tolist() == [7, 1, 10, 4]
    assert table.prompt.tolist() == ["a fox", "a fox", "a fox", "the sea"]
    assert data.level_values == {"simulacra": tuple(range(1, 11))}
    assert "3 ratings of people without a whole survey" in caplog.text
    assert load_ratings(tmp_path).splits["train"].equals(table)
    for name in ("a/fox_0.png", "a/fox_1.png", "b/sea_0.png"):
        write_image(tmp_path / "images" / name)
    data = load_ratings(tmp_path, images=tmp_path / "images")
    assert data.open_image("12").read() == (tmp_path / "images/b/sea_0.png").read_bytes()


def test_bad_ratings_are_set_aside_and_other_files_refused(tmp_path):
    ratings = [(1, 10, 7), (1, 11, 0), (1, 12, None), (1, 10, 3)]
    path = write(tmp_path / "sac_public_2022_06_29.sqlite", {1: survey(1)}, ratings)
    with pytest.raises(RatingError, match=r"table ratings, row 2: rating is 0; allowed on scale 'simulacra': 1, 2"):
        load_ratings(path)
    assert load_ratings(path, quarantine=tmp_path / "bad.jsonl").splits["train"].score.tolist() == [7]
    problems = (tmp_path / "bad.jsonl").read_text()
    assert "rating is missing" in problems and "again" in problems and problems.count("\n") == 3
    (tmp_path / "other.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(RatingError, match="no readable SQLite database"):
        load_ratings(tmp_path / "other.sqlite")
    with sqlite3.connect(tmp_path / "empty.sqlite") as connection:
        connection.execute("CREATE TABLE survey (id INTEGER)")
    connection.close()
    with pytest.raises(RatingError, match="table survey lacks qid, rating"):
        load_ratings(tmp_path / "empty.sqlite")
