"""What people answered, in one SQLite file: many writers, nothing acknowledged is lost, nothing is stored twice.

Every answer carries an id made by the client, so that a retry after a cut connection stores nothing new. All writes go
through one thread that commits whatever has gathered meanwhile in one transaction (group commit): a caller's future
resolves only once its answer is on the disk (`synchronous=FULL`), and 32 writers share the disk's few syncs a second.
Several processes may write into one file.

SQLite before 3.51.3 can corrupt a database when a write-ahead log is reset (https://sqlite.org/wal.html, "the WAL-reset
bug"); there the rollback journal is used.
"""

import contextlib
import os
import queue
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

WAL_IS_SAFE = (3, 51, 3)
APPLICATION_ID = 0x50414D45  # "PAME" in the file's header: whose database this is
MAX_NAME, MAX_ID = 120, 400  # characters
BUSY_SECONDS = 15.0  # how long another process may hold the file
_MAX_BATCH = 512
KINDS = ("rating", "choice", "like", "skip")

MIGRATIONS = (
    """
    CREATE TABLE people (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created REAL NOT NULL,
        repeats INTEGER NOT NULL DEFAULT 0   -- 1: may be shown a rated picture again, to see how steady ratings are
    ) STRICT;
    CREATE TABLE answers (
        number INTEGER PRIMARY KEY,
        person INTEGER NOT NULL REFERENCES people (number) ON DELETE CASCADE,
        id TEXT NOT NULL,                    -- made by the client
        kind TEXT NOT NULL,                  -- rating, choice, like, skip
        image_id TEXT NOT NULL,              -- of a choice: the preferred one
        other_id TEXT,                       -- of a choice
        score REAL,                          -- rating: on the model's scale; like: 1 or 0; choice: .5 = tie
        again INTEGER NOT NULL DEFAULT 0,    -- 1: a picture rated before, shown again to see how steady ratings are
        at REAL NOT NULL,                    -- Unix time
        withdrawn INTEGER NOT NULL DEFAULT 0,
        UNIQUE (person, id)
    ) STRICT;
    """,
    """
    CREATE TABLE study_answers (
        number INTEGER PRIMARY KEY,
        person INTEGER NOT NULL REFERENCES people (number) ON DELETE CASCADE,
        id TEXT NOT NULL,
        trial TEXT NOT NULL,                 -- JSON: what was shown on which side
        choice TEXT NOT NULL,                -- left, right, tie
        at REAL NOT NULL,
        UNIQUE (person, id)
    ) STRICT;
    """,
    """
    ALTER TABLE answers ADD COLUMN origin TEXT;   -- where it was brought in from; NULL: given in this app
    """,
    """
    CREATE TABLE pushed_heads (
        person INTEGER NOT NULL REFERENCES people (number) ON DELETE CASCADE,
        repo TEXT NOT NULL,                  -- owner/name on the Hub
        at REAL NOT NULL,
        UNIQUE (person, repo)
    ) STRICT;
    """,
)


class StoreError(OSError):
    """An answer that could not be stored; the message says why and what to do. Nothing of it was saved."""


class AnswerError(ValueError):
    """An answer or a name that cannot be stored as it is."""


@dataclass(frozen=True)
class Answer:
    """One thing that a person answered.

    Attributes:
        id: made by the client, 1 to 400 characters; the same id of the same person is the same answer.
        kind: rating, choice, like or skip.
        image_id: the picture; of a choice the preferred one.
        other_id: of a choice: the other picture.
        score: of a rating: on the model's scale; of a like: 1 or 0; of a choice: .5 for a tie, else `None`.
        again: a picture rated before, shown again to see how steady this person's ratings are.
        at: Unix time in seconds.
        origin: where it was brought in from, such as "stars" or a file's name; `None`: it was given in this app.
    """

    id: str
    kind: str
    image_id: str
    other_id: str | None = None
    score: float | None = None
    again: bool = False
    at: float = field(default_factory=time.time, compare=False)
    origin: str | None = None


@dataclass(frozen=True)
class BroughtIn:
    """What became of answers that were brought in.

    Attributes:
        new: how many are stored now that were not before.
        known: how many were stored already.
        own: how many ratings were left out, as this person has rated those pictures in the app itself.
    """

    new: int = 0
    known: int = 0
    own: int = 0


@dataclass(frozen=True)
class StudyAnswer:
    """One judgement of a blind comparison: `trial` is the JSON of what was shown, `choice` left, right or tie."""

    id: str
    trial: str
    choice: str
    at: float = field(default_factory=time.time, compare=False)


def check_person(name: Any) -> str:
    """A person's name as it is stored: NFC, without spaces around it.

    Raises:
        AnswerError: no text, empty, longer than 120 characters, or with control characters.
    """
    if not isinstance(name, str) or not (clean := unicodedata.normalize("NFC", name).strip()):
        raise AnswerError(f"person={name!r}: give a name, such as 'ann'.")
    if len(clean) > MAX_NAME or not _is_plain(clean):
        raise AnswerError(f"person={clean[:40]!r}…: at most {MAX_NAME} characters, no control characters.")
    return clean


def _is_plain(text: str) -> bool:
    """Neither control characters nor halves of surrogate pairs, which SQLite cannot store."""
    return text.isprintable() or not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text)


def _check(answer: Answer) -> None:
    if answer.kind not in KINDS:
        raise AnswerError(f"kind={answer.kind!r} does not exist; there are {', '.join(KINDS)}.")
    for name in ("id", "image_id", *(["other_id"] if answer.kind == "choice" else [])):
        value = getattr(answer, name)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or not _is_plain(value):
            raise AnswerError(f"{name}={str(value)[:80]!r} must be a text of 1 to {MAX_ID} plain characters.")
    if answer.kind == "choice" and answer.image_id == answer.other_id:
        raise AnswerError(f"preferred_id and other_id are both {answer.image_id!r}; choose between two pictures.")


class Store:
    """The file of answers.

    Args:
        path: an SQLite file of this app; made, with its folder, if it does not exist.

    Raises:
        StoreError: it cannot be opened or written, or is another program's or a newer version's.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._jobs: queue.SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], Future] | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._closed = False
        self._readers: list[sqlite3.Connection] = []
        with _explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connect()
            try:
                _migrate(connection, self.path)
            except BaseException:
                connection.close()
                raise
        self._writer = threading.Thread(target=self._write, args=(connection,), name="store", daemon=True)
        self._writer.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
        # TRUNCATE is DELETE without a sync of the folder at every commit
        journal = "WAL" if sqlite3.sqlite_version_info >= WAL_IS_SAFE else "TRUNCATE"
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def close(self) -> None:
        """Waits for what is being written, then closes the file."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._writer.join()
        for connection in self._readers:
            connection.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    # -- writing -------------------------------------------------------------------------------------------------
    def submit(self, person: str, answers: Sequence[Answer], *, replace: bool = False) -> "Future[int]":
        """Stores one person's answers, all or none; the future resolves to how many were new once they are on the disk.

        Args:
            replace: earlier ratings of the same pictures no longer count.

        Raises (the future):
            AnswerError: an answer that is none, or an id that this person has used for another answer.
            StoreError: the disk is full, read-only or damaged; nothing is stored.
        """
        person = check_person(person)
        for answer in answers:
            _check(answer)
        return self._submit(lambda connection: _insert(connection, person, answers, replace))

    def add(self, person: str, *answers: Answer, replace: bool = False) -> int:
        """[`submit`], waited for."""
        return self.submit(person, answers, replace=replace).result()

    def bring_in(self, person: str, answers: Sequence[Answer]) -> "Future[BroughtIn]":
        """Stores answers from elsewhere (each with its `origin`), all or none, once however often they are brought in.

        A picture that this person has rated in the app keeps that rating alone; one that was brought in before gets the
        newer rating in its place.

        Raises (the future):
            AnswerError: an answer that is none, or has no origin. StoreError: see [`submit`].
        """
        person = check_person(person)
        for answer in answers:
            _check(answer)
            if not answer.origin:
                raise AnswerError(f"id={answer.id!r} has no origin. Say where it was brought in from.")
        return self._submit(lambda connection: _bring_in(connection, person, answers))

    def undo(self, person: str, id: str) -> "Future[Answer | None]":
        """Takes one answer back; resolves to it, or to `None` if there is none by that id."""
        person = check_person(person)
        return self._submit(lambda connection: _withdraw(connection, person, id))

    def allow_repeats(self, person: str, allowed: bool) -> "Future[None]":
        """Whether this person agreed to be shown rated pictures again."""
        person = check_person(person)

        def change(connection: sqlite3.Connection) -> None:
            number = _person_number(connection, person)
            connection.execute("UPDATE people SET repeats = ? WHERE number = ?", (int(allowed), number))

        return self._submit(change)

    def add_study(self, person: str, answer: StudyAnswer) -> "Future[int]":
        """Stores one judgement of a study; resolves to 1, or 0 if it was stored before."""
        person = check_person(person)

        def insert(connection: sqlite3.Connection) -> int:
            number = _person_number(connection, person)
            row = (number, answer.id, answer.trial, answer.choice, answer.at)
            columns = "(person, id, trial, choice, at) VALUES (?, ?, ?, ?, ?)"
            sql = f"INSERT INTO study_answers {columns} ON CONFLICT DO NOTHING"
            return connection.execute(sql, row).rowcount

        return self._submit(insert)

    def note_pushed(self, person: str, repo: str, there: bool = True) -> "Future[None]":
        """Notes down that a person's head is in a repository on the Hub, or with `there=False` that it is not."""
        person = check_person(person)

        def change(connection: sqlite3.Connection) -> None:
            number = _person_number(connection, person)
            connection.execute("DELETE FROM pushed_heads WHERE person = ? AND repo = ?", (number, repo))
            if there:
                connection.execute("INSERT INTO pushed_heads VALUES (?, ?, ?)", (number, repo, time.time()))

        return self._submit(change)

    def erase(self, person: str) -> "Future[int]":
        """Erases a person with all answers, those taken back included; resolves to how many counted, once no byte of
        any of them is in the file."""
        person = check_person(person)

        def delete(connection: sqlite3.Connection) -> int:
            found = connection.execute("SELECT number FROM people WHERE name = ?", (person,)).fetchone()
            if found is None:
                return 0
            taken_back = "SELECT COUNT(*) FROM answers WHERE person = ? AND withdrawn"
            count = -connection.execute(taken_back, found).fetchone()[0]
            for table in ("answers", "study_answers"):
                count += connection.execute(f"DELETE FROM {table} WHERE person = ?", found).rowcount
            connection.execute("DELETE FROM people WHERE number = ?", found)
            return count

        delete.vacuum = True
        return self._submit(delete)

    def _submit(self, job: Callable[[sqlite3.Connection], Any]) -> Future:
        if self._closed:
            raise StoreError(f"{self.path} is closed; start the app again.")
        future: Future = Future()
        self._jobs.put((job, future))
        return future

    def _write(self, connection: sqlite3.Connection) -> None:
        """The one writing thread: whatever waits is one transaction."""
        ended = False
        while not ended:
            jobs = [self._jobs.get()]
            with contextlib.suppress(queue.Empty):
                while len(jobs) < _MAX_BATCH:
                    jobs.append(self._jobs.get_nowait())
            ended = None in jobs
            self._commit(connection, [job for job in jobs if job is not None])
        connection.close()

    def _commit(self, connection: sqlite3.Connection, jobs: list[tuple[Callable, Future]]) -> None:
        done: list[tuple[Future, Any]] = []
        try:
            with _explained(self.path):
                connection.execute("BEGIN IMMEDIATE")
                for job, future in jobs:
                    connection.execute("SAVEPOINT one")
                    try:
                        done.append((future, job(connection)))
                    except AnswerError as error:  # this answer's own fault: the others go on
                        connection.execute("ROLLBACK TO one")
                        future.set_exception(error)
                    connection.execute("RELEASE one")
                connection.execute("COMMIT")
                if any(getattr(job, "vacuum", False) for job, _ in jobs):
                    connection.execute("VACUUM")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            for _, future in jobs:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in done:
            future.set_result(result)

    # -- reading -------------------------------------------------------------------------------------------------
    def people(self) -> list[dict[str, Any]]:
        """Every person: `name`, `answers` (how many count), `repeats` (agreed to), `created` (Unix time)."""
        sql = """SELECT name, created, repeats,
                 (SELECT COUNT(*) FROM answers WHERE person = people.number AND NOT withdrawn AND kind != 'skip')
                 FROM people ORDER BY created, name"""
        return [
            {"name": name, "answers": count, "repeats": bool(repeats), "created": created}
            for name, created, repeats, count in self._read(sql)
        ]

    def pushed(self, person: str) -> list[str]:
        """Repositories on the Hub that a person's head was pushed to from here and not deleted from here."""
        sql = "SELECT repo FROM pushed_heads WHERE person = (SELECT number FROM people WHERE name = ?) ORDER BY at"
        return [repo for (repo,) in self._read(sql, (check_person(person),))]

    def repeats_allowed(self, person: str) -> bool:
        rows = self._read("SELECT repeats FROM people WHERE name = ?", (check_person(person),))
        return bool(rows and rows[0][0])

    def answers(self, person: str) -> list[Answer]:
        """A person's answers that count, in the order they were stored."""
        sql = f"""SELECT {_COLUMNS} FROM answers
                  WHERE person = (SELECT number FROM people WHERE name = ?) AND NOT withdrawn ORDER BY number"""
        return [_answer(row) for row in self._read(sql, (check_person(person),))]

    def history(self, person: str) -> list[tuple[Answer, bool]]:
        """All of a person's answers in the order they were stored, each with whether it was taken back."""
        sql = f"""SELECT {_COLUMNS}, withdrawn FROM answers
                  WHERE person = (SELECT number FROM people WHERE name = ?) ORDER BY number"""
        return [(_answer(row[:-1]), bool(row[-1])) for row in self._read(sql, (check_person(person),))]

    def marks(self) -> dict[str, tuple]:
        """Person → their row's number, then counts, one of which differs whenever anything of theirs has changed."""
        sql = """SELECT name, number, repeats,
                 (SELECT COUNT(*) FROM answers WHERE person = people.number),
                 (SELECT COUNT(*) FROM answers WHERE person = people.number AND withdrawn),
                 (SELECT COUNT(*) FROM study_answers WHERE person = people.number) FROM people"""
        return {name: tuple(mark) for name, *mark in self._read(sql)}

    def study_answers_of(self, person: str) -> list[StudyAnswer]:
        """A person's judgements, in the order they were stored."""
        sql = """SELECT id, trial, choice, at FROM study_answers
                 WHERE person = (SELECT number FROM people WHERE name = ?) ORDER BY number"""
        return [StudyAnswer(*row) for row in self._read(sql, (check_person(person),))]

    def study_answers(self) -> list[tuple[str, StudyAnswer]]:
        """Everybody's judgements with who gave them, in the order they were stored."""
        sql = """SELECT people.name, id, trial, choice, at FROM study_answers
                 JOIN people ON people.number = study_answers.person ORDER BY study_answers.number"""
        return [(name, StudyAnswer(*row)) for name, *row in self._read(sql)]

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple]:
        with _explained(self.path):
            if not hasattr(self._local, "connection"):  # one a thread
                self._local.connection = self._connect()
                self._readers.append(self._local.connection)
            return self._local.connection.execute(sql, values).fetchall()


def _person_number(connection: sqlite3.Connection, name: str) -> int:
    """The person's row, made if it is new. The transaction under way keeps others from making it, too."""
    found = connection.execute("SELECT number FROM people WHERE name = ?", (name,)).fetchone()
    if found is not None:
        return found[0]
    return connection.execute("INSERT INTO people (name, created) VALUES (?, ?)", (name, time.time())).lastrowid


_COLUMNS = "id, kind, image_id, other_id, score, again, at, origin"


def _answer(row: Sequence[Any]) -> Answer:
    """The answer in a row of `_COLUMNS`."""
    return Answer(*row[:5], again=bool(row[5]), at=row[6], origin=row[7])


def _insert_row(connection: sqlite3.Connection, number: int, answer: Answer) -> bool:
    """Stores one answer; False: there is one by its id."""
    row = (answer.id, answer.kind, answer.image_id, answer.other_id, answer.score, int(answer.again), answer.at)
    sql = f"INSERT INTO answers (person, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    return connection.execute(sql, (number, *row, answer.origin)).rowcount > 0


def _insert(connection: sqlite3.Connection, person: str, answers: Sequence[Answer], replaces: bool) -> int:
    number, new = _person_number(connection, person), 0
    for answer in answers:
        if _insert_row(connection, number, answer):
            new += 1
            if replaces:
                sql = """UPDATE answers SET withdrawn = 1
                         WHERE person = ? AND kind = 'rating' AND image_id = ? AND id != ?"""
                connection.execute(sql, (number, answer.image_id, answer.id))
            continue
        found = connection.execute(f"SELECT {_COLUMNS} FROM answers WHERE person = ? AND id = ?", (number, answer.id))
        if _answer(found.fetchone()) != replace(answer, score=_as_stored(answer.score)):
            raise AnswerError(f"id={answer.id!r} is another answer's of this person already. Give each its own id.")
    return new


def _bring_in(connection: sqlite3.Connection, person: str, answers: Sequence[Answer]) -> BroughtIn:
    number = _person_number(connection, person)
    sql = f"SELECT {_COLUMNS} FROM answers WHERE person = ? AND NOT withdrawn"
    before = [_answer(row) for row in connection.execute(sql, (number,))]
    own = {one.image_id for one in before if one.kind == "rating" and one.origin is None}
    rated = {one.image_id: one for one in before if one.kind == "rating"}
    others = {(one.kind, one.image_id, one.other_id, one.score) for one in before if one.kind != "rating"}
    new = known = left_out = 0
    for answer in answers:
        if answer.kind == "rating":
            earlier = rated.get(answer.image_id)
            if answer.image_id in own:
                left_out += 1
                continue
            if earlier is not None and earlier.score == _as_stored(answer.score):
                known += 1
                continue
            if earlier is not None:
                gone = "UPDATE answers SET withdrawn = 1 WHERE person = ? AND id = ?"
                connection.execute(gone, (number, earlier.id))
            rated[answer.image_id] = answer
        elif (fact := (answer.kind, answer.image_id, answer.other_id, _as_stored(answer.score))) in others:
            known += 1
            continue
        else:
            others.add(fact)
        if not _insert_row(connection, number, answer):
            raise AnswerError(f"id={answer.id!r} is another answer's of this person already. Give each its own id.")
        new += 1
    return BroughtIn(new, known, left_out)


def _as_stored(score: float | None) -> float | None:
    return None if score is None else float(score)


def _withdraw(connection: sqlite3.Connection, person: str, id: str) -> Answer | None:
    values = (person, id)
    where = "WHERE person = (SELECT number FROM people WHERE name = ?) AND id = ? AND NOT withdrawn"
    row = connection.execute(f"SELECT {_COLUMNS} FROM answers {where}", values).fetchone()
    if row is None:
        return None
    connection.execute(f"UPDATE answers SET withdrawn = 1 {where}", values)
    return _answer(row)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Brings the file to this version's schema, each step a transaction."""
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if tables and owner != APPLICATION_ID:
        raise StoreError(f"{path} is another program's database. Give a file of this app, or a new one.")
    while True:
        connection.execute("BEGIN IMMEDIATE")  # another process may be at it, too
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version < len(MIGRATIONS):
                for statement in _statements(MIGRATIONS[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        if version > len(MIGRATIONS):
            raise StoreError(f"{path} was made by a newer version (schema {version}). Update pamela_hf.")
        if version == len(MIGRATIONS):
            return


def _statements(script: str) -> Iterator[str]:
    """A script's statements; `executescript` would commit the transaction they belong to."""
    lines = (line.split("--")[0] for line in script.splitlines())
    return (statement for statement in "\n".join(lines).split(";") if statement.strip())


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors in words a person can act on."""
    try:
        yield
    except sqlite3.Error as error:
        words = str(error)
        for part, meaning in _MEANINGS.items():
            if part in words:
                raise StoreError(f"Not saved: {meaning} ({path}).") from error
        raise StoreError(f"Not saved: {words} ({path}).") from error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"Not saved: {error.strerror} ({path}). Choose another file with --store.") from error


_MEANINGS = {
    "disk is full": "the disk is full. Free some space and answer again",
    "readonly": "the file or its folder is read-only. Change that, or choose another file with --store",
    "unable to open": "the file cannot be opened. Check its folder, or choose another file with --store",
    "disk I/O error": "the disk reports an error. Check it, and answer again",
    "locked": "another program holds the file. Close it and answer again",
    "not a database": "the file is not a database. Choose another file with --store",
    "malformed": "the file is damaged. Restore a backup, or choose another file with --store",
}
