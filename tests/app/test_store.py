"""The store: what is acknowledged is on the disk, once; what is erased is gone; faults of the disk are said."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import store_writer

from pamela_hf.app import store as store_module
from pamela_hf.app.store import MIGRATIONS, Answer, AnswerError, Store, StoreError, StudyAnswer

NAMES = ["ann", "آنا محمد", "🦊", "O'Brien; DROP TABLE people;--", "Zoë"]


def rating(number: int, score: float = 3, **more) -> Answer:
    return Answer(f"id {number}", "rating", f"{number}.png", score=score, **more)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "taste.db") as opened:
        yield opened


@pytest.mark.parametrize("name", NAMES)
def test_answers_come_back_as_they_were_given(tmp_path, name):
    given = [
        rating(1, 4.5), Answer("c", "choice", "a.png", "b.png"), Answer("t", "choice", "a.png", "b.png", 0.5),
        Answer("l", "like", "été 🌞.png", score=1), Answer("s", "skip", "x.png"), rating(2, 2, again=True),
    ]  # fmt: skip
    with Store(tmp_path / "taste.db") as store:
        assert store.add(name, *given) == len(given)
    with Store(tmp_path / "taste.db") as store:  # opened anew
        assert store.answers(name) == given
        assert [(p["name"], p["answers"]) for p in store.people()] == [(name, 5)]  # a skip is no answer


def test_sending_an_answer_again_stores_it_once(store):
    assert store.add("ann", rating(1, 4)) == 1
    assert store.add("ann", rating(1, 4)) == 0 and store.answers("ann") == [rating(1, 4)]
    assert store.add("bob", rating(1, 2)) == 1, "ids are each person's own"
    with pytest.raises(AnswerError, match=r"id 1.*own id"):
        store.add("ann", rating(1, 5))
    assert store.answers("ann") == [rating(1, 4)]


def test_undo_and_changing_an_answer(store):
    store.add("ann", rating(1, 4), rating(2, 2))
    assert store.undo("ann", "id 2").result() == rating(2, 2)
    assert store.undo("ann", "id 2").result() is None and store.undo("bob", "id 1").result() is None
    store.add("ann", rating(2, 2))  # a late retry does not bring it back
    assert store.answers("ann") == [rating(1, 4)]
    store.add("ann", Answer("new", "rating", "1.png", score=1), replace=True)
    assert [a.score for a in store.answers("ann")] == [1]


@pytest.mark.parametrize(
    ("person", "answer", "words"),
    [
        ("", rating(1), "person"), ("x" * 121, rating(1), "120"), ("a\nb", rating(1), "control"),
        (None, rating(1), "person"), ("\ud800", rating(1), "control"),
        ("ann", Answer("", "rating", "a", score=1), "id="), ("ann", Answer("i" * 401, "rating", "a", score=1), "id="),
        ("ann", Answer("i", "rating", "\ud800", score=1), "image_id"), ("ann", Answer("i", "vote", "a"), "kind"),
        ("ann", Answer("i", "choice", "a", "a"), "between two"), ("ann", Answer("i", "choice", "a"), "other_id"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(store, person, answer, words):
    with pytest.raises(AnswerError, match=words):
        store.add(person, answer)
    assert store.people() == []


def test_an_erased_person_is_in_no_byte_of_the_file(tmp_path):
    canary = "CANARY0451"
    with Store(tmp_path / "taste.db") as store:
        for number in range(300):
            store.add(canary, Answer(f"{canary}{number}", "rating", f"{canary}.png", score=3))
        store.add("bob", rating(1))
        store.add_study(canary, StudyAnswer("s", f'{{"left": "{canary}"}}', "left")).result()
        before = (tmp_path / "taste.db").stat().st_size
        assert store.erase(canary).result() == 301
        for file in tmp_path.iterdir():  # the journal, too
            assert canary.encode() not in file.read_bytes(), file
        assert (tmp_path / "taste.db").stat().st_size < before
        assert store.answers(canary) == [] and store.answers("bob") == [rating(1)]
        assert store.erase("nobody").result() == 0


def test_an_old_file_is_migrated_and_a_newer_or_foreign_one_refused(tmp_path):
    file = tmp_path / "taste.db"
    old = sqlite3.connect(file)
    old.executescript(MIGRATIONS[0])
    old.executescript(f"PRAGMA user_version = 1; PRAGMA application_id = {store_module.APPLICATION_ID};")
    old.execute("INSERT INTO people (name, created) VALUES ('ann', 0)")
    old.execute("INSERT INTO answers (person, id, kind, image_id, score, at) VALUES (1, 'i', 'rating', 'a.png', 5, 0)")
    old.commit()
    old.close()
    with Store(file) as store:
        assert store.answers("ann") == [Answer("i", "rating", "a.png", score=5)] and store.study_answers() == []
    newer = sqlite3.connect(file)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    with pytest.raises(StoreError, match="newer version"):
        Store(file)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE notes (text)")
    other.close()
    with pytest.raises(StoreError, match="another program"):
        Store(tmp_path / "other.db")
    (tmp_path / "text.db").write_text("no database at all, but long enough to have a header" * 20)
    with pytest.raises(StoreError, match="not a database"):
        Store(tmp_path / "text.db")


def test_a_migration_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    Store(tmp_path / "taste.db").close()
    monkeypatch.setattr(store_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (a); CREATE TABLE more (a)"))
    with pytest.raises(StoreError):
        Store(tmp_path / "taste.db")
    monkeypatch.undo()
    with Store(tmp_path / "taste.db") as store:
        assert store.add("ann", rating(1)) == 1


def test_a_full_disk_is_said_and_nothing_is_stored(tmp_path):
    file = tmp_path / "taste.db"
    with Store(file) as store:
        store.add("ann", rating(0))
        # the file may not grow any more: SQLite answers as on a full disk
        store._submit(lambda c: None).result()
        limit = store._submit(lambda c: c.execute("PRAGMA max_page_count = 1").fetchone()).result()[0]
        stored = 1
        with pytest.raises(StoreError, match="disk is full"):
            for number in range(1, 5000):
                store.add("ann", rating(number))
                stored += 1
        assert len(store.answers("ann")) == stored and limit
        assert store.answers("ann") == [rating(number) for number in range(stored)]


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--store"):
        Store(tmp_path / "file" / "taste.db")
    if os.geteuid() != 0:
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        with pytest.raises(StoreError, match="--store"):
            Store(locked / "taste.db")


def test_the_journal_suits_the_sqlite_there_is(store):
    mode = store._read("PRAGMA journal_mode")[0][0]
    assert mode == ("wal" if sqlite3.sqlite_version_info >= store_module.WAL_IS_SAFE else "truncate")
    assert store._read("PRAGMA synchronous")[0][0] == 2


def test_many_writers_at_once_lose_and_double_nothing(store):
    def write(writer: int) -> None:
        for number in range(50):
            store.add(f"person {writer % 4}", Answer(f"{writer}-{number}", "rating", "a.png", score=1))
            store.add(f"person {writer % 4}", Answer(f"{writer}-{number}", "rating", "a.png", score=1))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [answer.id for person in range(4) for answer in store.answers(f"person {person}")]
    assert len(ids) == 16 * 50 == len(set(ids))


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=pytest.mark.faults)])
def test_two_writers_killed_lose_no_acknowledged_answer_and_double_none(tmp_path, kills):
    file, rng = tmp_path / "taste.db", random.Random(0)
    Store(file).close()
    acknowledged: dict[str, int] = {"a": 0, "b": 0}  # the next number of each writer
    for _ in range(kills):
        processes = {
            name: subprocess.Popen(
                [sys.executable, store_writer.__file__, store_module.__file__, str(file), name, str(first)],
                stdout=subprocess.PIPE, text=True,
            )
            for name, first in acknowledged.items()
        }  # fmt: skip
        # not killed before they write: a busy machine takes its time to start a process
        first = {name: process.stdout.readline() for name, process in processes.items()}
        time.sleep(rng.random() * 0.1)  # some twenty answers of each
        for process in processes.values():
            process.kill()
        for name, process in processes.items():
            lines = (first[name] + process.stdout.read()).split("\n")[:-1]  # a line without an end is not whole
            process.wait()
            if lines:
                acknowledged[name] = int(lines[-1]) + 1
    assert min(acknowledged.values()) > kills, "hardly anything was written before the kills"
    print(f"{kills} kills of two writers each: {sum(acknowledged.values()):,} acknowledged answers, none is missing")
    with Store(file) as store:
        assert store._read("PRAGMA integrity_check")[0][0] == "ok"
        for name, count in acknowledged.items():
            numbers = [int(answer.id.split("-")[1]) for answer in store.answers(name)]
            assert len(numbers) == len(set(numbers))
            assert set(range(count)) <= set(numbers) and len(numbers) <= count + 1  # one may lack its acknowledgement


def test_the_store_module_stands_alone():
    """It is loaded by its path above, and by whoever wants to read a file of answers without torch."""
    code = f"import store_writer, sys; store_writer.load_store({str(Path(store_module.__file__))!r})"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(store_writer.__file__).parent)


def test_others_can_read_the_file(store):
    """Another program, with nothing but SQLite, while the app has the file open."""
    store.add("ann", rating(1, 4))
    sql = "SELECT name, image_id, score FROM people JOIN answers ON person = people.number"
    code = f"import sqlite3; print(sqlite3.connect({str(store.path)!r}).execute({sql!r}).fetchall())"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[('ann', '1.png', 4.0)]\n"
