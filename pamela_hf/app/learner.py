"""Heads fitted beside the requests: one thread that always takes the person who has waited longest.

A request reads what was learned last and never waits for a fit. A person is fitted again after every few answers, or
once they pause; what arrives during a fit counts for the next one.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..heads.folder import HeadError, check_name
from ..heads.head import UserHead
from ..scoring import PamelaScorer
from .answers import Answers
from .base import Base, BaseSource
from .order import DIVERSE_FIRST, diverse_order, suggested_order
from .pictures import PictureFolder
from .store import Answer, Store

logger = logging.getLogger(__name__)

EVERY = 4  # new answers that a fit waits for …
PAUSE = 0.6  # … or seconds without one
FEWEST = 2  # answers before the first fit
SCORED = 5000  # pictures of a large folder that are scored for everybody; the others when a page asks


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
    """

    answers: int = 0
    head: UserHead | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    std: np.ndarray = field(default_factory=lambda: np.zeros(0))
    everyone: np.ndarray = field(default_factory=lambda: np.zeros(0))
    order: tuple[str, ...] = ()
    enough: bool = False
    message: str = "Rate a few pictures: nothing is known of you yet."
    problem: str | None = None


class Person:
    """One person's session: which pictures they answered, and what was learned of them."""

    def __init__(self, name: str, answers: Sequence[Answer], repeats: bool):
        self.name, self.repeats = name, repeats
        self.learned = Learned()
        self.cached: dict[str, Any] = {}  # what pages asked for, of the present answers
        self.seen: dict[str, int] = {}  # picture → at which answer it was last seen
        self.count = self.shown = 0
        self.last = 0.0
        for answer in answers:
            self.note(answer)
        self.last = 0.0  # fit at once

    def note(self, answer: Answer) -> None:
        """Takes an answer into account that is in the store."""
        self.shown += 1
        for image_id in filter(None, (answer.image_id, answer.other_id)):
            self.seen[image_id] = self.shown
        if answer.kind != "skip":
            self.count += 1
        self.last = time.monotonic()

    def forget(self, answer: Answer) -> None:
        """Takes an answer back; a picture rated more than once stays seen."""
        if not answer.again:
            for image_id in filter(None, (answer.image_id, answer.other_id)):
                self.seen.pop(image_id, None)
        self.count -= answer.kind != "skip"
        self.last = time.monotonic()

    @property
    def is_behind(self) -> bool:
        """Whether answers have come that the head was not fitted on."""
        return self.count >= FEWEST and self.count != self.learned.answers

    @property
    def is_due(self) -> bool:
        new = abs(self.count - self.learned.answers)
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
        # until there are features, the order of chance
        self.first = [folder.ids[i] for i in np.random.default_rng(0).permutation(len(folder))[: DIVERSE_FIRST * 30]]
        self._people: dict[str, Person] = {}
        self._lock = threading.Lock()
        self._wake = threading.Condition()
        self._tasks: list[tuple[Callable[[], Any], Future]] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify()
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

    # -- the thread ----------------------------------------------------------------------------------------------
    def _run(self) -> None:
        torch.set_num_threads(1)  # beside a server on few cores, more threads wait for each other
        try:
            base = self.source.load(self.folder, self._say)
            self.first = [base.embeddings.image_ids[i] for i in diverse_order(base.embeddings.image_embeds)]
            self._scored = np.sort(np.random.default_rng(0).permutation(len(base.embeddings))[:SCORED])
            self.base, self.status = base, "Ready."
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
            if self.base is not None:
                self._fit_one(self.base)

    def _say(self, status: str) -> None:
        self.status = status

    def _fit_one(self, base: Base) -> None:
        with self._lock:
            due = [person for person in self._people.values() if person.is_due]
        if not due:
            return
        person = min(due, key=lambda one: (one.learned.head is not None, one.last))
        count = person.count
        try:
            person.learned = self._learn(base, person, count)
        except Exception as error:  # one person's trouble is not the others'
            logger.warning("No head for %r: %s", person.name, error)
            person.learned = Learned(count, problem=str(error), message=str(error))
        person.cached = {}

    def _learn(self, base: Base, person: Person, count: int) -> Learned:
        ids = base.embeddings.image_ids
        answers = Answers.of(self.store.answers(person.name), base.positions)
        if not len(answers):
            return Learned(count)
        head = answers.fit(base, head_name(person.name, base.scorer))
        scores, std = base.scores(base.embeddings.image_embeds[self._scored], [head, None])
        fresh = [row for row in self._scored if ids[row] not in person.seen]
        order, enough, message = [], not fresh, "You have answered every picture there is."
        if fresh and count >= DIVERSE_FIRST:
            everywhere = np.full(len(ids), -np.inf)
            everywhere[self._scored] = scores[:, 0]
            order, enough, message = suggested_order(base, head, fresh, everywhere, seed=count)
        elif fresh:
            left = DIVERSE_FIRST - count
            message = f"{left} more picture{'s' * (left > 1)} that differ; then the ones that teach most."
        return Learned(count, head, self._scored, scores[:, 0], std[:, 0], scores[:, 1], tuple(order), enough, message)


def head_name(person: str, scorer: PamelaScorer) -> str:
    """A name for a person's head: their own where a head may bear it."""
    try:
        name = check_name(person.rpartition("/")[2])  # of a visitor's person what they call it
    except HeadError:  # such as an emoji
        return "me"
    return f"{name[:60]}-app" if name in scorer.config.users else name
