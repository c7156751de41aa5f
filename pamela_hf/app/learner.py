"""Heads fitted beside the requests: one thread that always takes the person who has waited longest.

A request reads what was learned last and never waits for a fit. A person is fitted again after every few answers, or
once they pause; what arrives during a fit counts for the next one. The thread has the same priority as those that
answer requests: all share the interpreter's lock, and on a busy machine one of less priority would hold it for long.
Instead it rests after each fit for as long as that took, unless a page waits for the next one: while many people rate,
half of the time is the requests' alone.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files.config import read_json
from ..files.writing import write_json
from .base import Base, BaseSource
from .pictures import PictureFolder
from .stars import as_stars
from .store import Answer, Store

if TYPE_CHECKING:  # PyTorch comes with them; the learner's thread imports it while pages and pictures are served
    from ..heads.head import UserHead
    from ..photos.write_back import Prediction
    from .kinds import Kind
    from .lessons import Lessons

logger = logging.getLogger(__name__)

EVERY = 4  # new answers that a fit waits for …
PAUSE = 0.6  # … or seconds without one
FEWEST = 2  # answers before the first fit
FIRST_SHOWN = 300  # pictures, by chance, for a start before there are features


@dataclass(frozen=True)
class Learned:
    """What was learned of a person from `answers` of their answers.

    Attributes:
        answers: how many answers it was learned from, 0 by default.
        head: the person's fitted head; `None` before the first fit.
        rows: `(n,)` rows of the features that were scored, all of a small folder; empty by default.
        scores: `(n,)` predicted ratings; empty by default.
        std: `(n,)` standard deviation of the predicted ratings; empty by default.
        everyone: `(n,)` predicted ratings by everyone's taste; empty by default.
        order: ids of the pictures to show next; empty by default.
        enough: whether more answers would add little; False by default.
        message: whether more answers would add little, in words; by default, that nothing is known yet.
        problem: why nothing could be learned; `None` if there was no problem.
        changes: the person's [`Person.changes`] that it takes in, 0 by default.
    """

    answers: int = 0
    head: "UserHead | None" = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    std: np.ndarray = field(default_factory=lambda: np.zeros(0))
    everyone: np.ndarray = field(default_factory=lambda: np.zeros(0))
    order: tuple[str, ...] = ()
    enough: bool = False
    message: str = "Rate a few pictures: nothing is known of you yet."
    problem: str | None = None
    changes: int = 0


class Person:
    """One person's session: which pictures they answered, and what was learned of them.

    Args:
        name: as in the store.
        answers: what the store has of them.
        repeats: whether they agreed to be shown rated pictures again.

    Attributes:
        learned: what was learned last.
        cached: what pages asked for, of the present answers.
        seen: picture → at which answer it was last seen.
        count: how many answers count.
        shown: how many pictures were answered or skipped.
        changes: how often answers came, went or changed.
        last: when they did last, by the monotonic clock.
    """

    def __init__(self, name: str, answers: Sequence[Answer], repeats: bool):
        self.name, self.repeats = name, repeats
        self.learned = Learned()
        self.cached: dict[str, Any] = {}
        self.changes, self.last = 0, 0.0
        self.read(answers)

    def read(self, answers: Sequence[Answer]) -> None:
        """Takes over what the store has, after more than one answer changed."""
        self.seen: dict[str, int] = {}
        self.count = self.shown = 0
        for answer in answers:
            self.note(answer)
        self.changes += 1
        self.last = 0.0  # fit at once

    def note(self, answer: Answer) -> None:
        """Takes an answer into account that is in the store."""
        self.shown += 1
        for image_id in filter(None, (answer.image_id, answer.other_id)):
            self.seen[image_id] = self.shown
        if answer.kind != "skip":
            self.count += 1
        self.changes += 1
        self.last = time.monotonic()

    def forget(self, answer: Answer) -> None:
        """Takes an answer back; a picture rated more than once stays seen."""
        if not answer.again:
            for image_id in filter(None, (answer.image_id, answer.other_id)):
                self.seen.pop(image_id, None)
        self.count -= answer.kind != "skip"
        self.changes += 1
        self.last = time.monotonic()

    @property
    def is_behind(self) -> bool:
        """Whether answers have come that the head was not fitted on."""
        return self.count >= FEWEST and self.changes != self.learned.changes

    @property
    def is_waited_for(self) -> bool:
        """Whether a page waits for the fit of the last answers, or all of them are new."""
        return self.last == 0.0

    @property
    def is_due(self) -> bool:
        new = self.changes - self.learned.changes
        return self.count >= FEWEST and new > 0 and (new >= EVERY or time.monotonic() - self.last >= PAUSE)


class Learner:
    """Loads the base, then fits heads, in one thread of its own.

    Args:
        folder: the pictures.
        source: where the base comes from.
        store: the answers.
    """

    def __init__(self, folder: PictureFolder, source: BaseSource, store: Store):
        self.folder, self.source, self.store = folder, source, store
        self.base: Base | None = None
        self.status, self.problem = "Starting.", None
        self._kinds: list[Kind] | None = None
        self._lessons: Lessons | None = None
        self.first = self._earlier_first()
        self._people: dict[str, Person] = {}
        self._lock = threading.Lock()
        self._wake = threading.Condition()
        self._tasks: list[tuple[Callable[[], Any], Future]] = []
        self._ended = False
        self._rests_until = 0.0
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)

    def start(self) -> None:
        with self._wake:
            if not self._ended:
                self._thread.start()

    def close(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    # -- what requests ask ---------------------------------------------------------------------------------------
    def known(self, name: str) -> Person | None:
        """The session of a person, if it was asked for before."""
        return self._people.get(name)

    def person(self, name: str) -> Person:
        """The session of a person, read from the store when it is first asked for."""
        with self._lock:
            if name not in self._people:
                self._people[name] = Person(name, self.store.answers(name), self.store.repeats_allowed(name))
                self.wake()
            return self._people[name]

    def forget(self, name: str) -> None:
        """Drops a session, with all that was learned."""
        with self._lock:
            self._people.pop(name, None)

    def wake(self) -> None:
        with self._wake:
            self._wake.notify()

    def submit(self, task: Callable[[], Any]) -> Future:
        """Runs `task` in the learner's thread, before further fits: what needs the model takes turns there."""
        future: Future = Future()
        with self._wake:
            self._tasks.append((task, future))
            self._wake.notify()
        return future

    def next_ids(self, person: Person, n: int) -> list[str]:
        """Up to n ids that this person has not answered, the next one first."""
        found: dict[str, None] = {}
        unreadable = self.base.unreadable if self.base else {}
        for source in (person.learned.order, self.first, self.folder.ids):
            for id in source:
                if len(found) == n:
                    return list(found)
                if id not in person.seen and id not in unreadable:
                    found.setdefault(id)
        return list(found)

    def scores(self, person: Person, rows: np.ndarray, users: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Scores and std `(n, U)` of rows of the features, computed in the calling thread."""
        if self.base is None:
            raise LookupError(self.problem or self.status)
        return self.base.scores(self.base.embeddings.image_embeds[rows], users)

    def kinds(self) -> "list[Kind]":
        """The kinds of the folder's pictures, found when they are first asked for; to be called in the thread."""
        from .kinds import kinds_of

        if self._kinds is None:
            self._kinds = kinds_of(self.folder.folder, self.base)
        return self._kinds

    def stars(self, head: "UserHead", answers: Sequence[Answer]) -> "dict[str, Prediction]":
        """id → stars of every picture with features: the rating a person gave here, of others the predicted one."""
        base = self.base
        ends = base.levels[0], base.levels[-1]
        scores, std = base.scores(base.embeddings.image_embeds, [head])
        found = {
            id: as_stars(float(score), float(doubt), ends)
            for id, score, doubt in zip(base.embeddings.image_ids, scores[:, 0], std[:, 0])
        }
        given = {one.image_id: one.score for one in answers if one.kind == "rating" and one.image_id in found}
        return found | {id: as_stars(score, 0.0, ends) for id, score in given.items()}

    # -- the thread ----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            from .lessons import Lessons, one_thread

            one_thread()
            base = self.source.load(self.folder, self._say)
            self.base, self.status = base, "Ready."
            self._lessons = Lessons(base)
            self.first = self._lessons.first()
            with suppress(OSError):  # it is a cache
                write_json(self._first_file, self.first)
        except Exception as error:
            logger.warning("The app rates, but learns nothing: %s", error)
            self.problem = str(error)
        while True:
            with self._wake:
                if not self._tasks and not self._ended:
                    self._wake.wait(timeout=0.2)
                if self._ended:
                    return
                tasks, self._tasks = self._tasks, []
            for task, future in tasks:
                try:
                    future.set_result(task())
                except Exception as error:
                    future.set_exception(error)
            if self._lessons is not None:
                self._fit_one(self._lessons)

    @property
    def _first_file(self) -> Path:
        return self.source.cache.with_suffix(".first.json")

    def _earlier_first(self) -> list[str]:
        """What to show before there are features: the order of an earlier start, else that of chance."""
        with suppress(OSError, ValueError):
            earlier = read_json(self._first_file.read_bytes(), max_bytes=1 << 20, max_depth=1)
            listed = earlier if isinstance(earlier, list) else []
            if known := [id for id in listed if isinstance(id, str) and id in self.folder.by_id]:
                return known
        rows = np.random.default_rng(0).permutation(len(self.folder))[:FIRST_SHOWN]
        return [self.folder.ids[row] for row in rows]

    def _say(self, status: str) -> None:
        self.status = status

    def _fit_one(self, lessons: "Lessons") -> None:
        start = time.monotonic()
        with self._lock:
            due = [person for person in self._people.values() if person.is_due]
        if start < self._rests_until:
            due = [person for person in due if person.is_waited_for]
        if not due:
            return
        person = min(due, key=lambda one: (one.learned.head is not None, one.last))
        count, changes = person.count, person.changes
        try:
            learned = lessons.learn(person, self.store.answers(person.name), count)
        except Exception as error:  # one person's trouble is not the others'
            logger.warning("No head for %r: %s", person.name, error)
            learned = Learned(count, problem=str(error), message=str(error))
        person.learned = replace(learned, changes=changes)
        person.cached = {}
        self._rests_until = 2 * time.monotonic() - start
