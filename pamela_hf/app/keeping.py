"""Answers kept outside the store's disk, as a Space needs it: in a mounted folder, or in a private dataset on the Hub.

One file a person, a line an event; lines are only ever added, and a file goes only when its person is erased. A Storage
Bucket that is mounted as a folder takes such files, but no database: it has no locks, and no writes in the middle of a
file (https://github.com/huggingface/hf-mount, "Consistency model").
"""

import hashlib
import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files.writing import write_bytes
from ..hub.scan import mask_secrets
from ..hub.transfer import HubError, pull_folder, push_folder
from .store import Answer, AnswerError, Store, StudyAnswer

logger = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two looks at what is new
ANSWERS, MARK, CARD = "answers", "pamela_answers.json", "README.md"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repository(place: str) -> bool:
    """Whether a place is `owner/name` on the Hub rather than a folder."""
    return bool(_HUB_ID.fullmatch(place)) and not Path(place).exists()


class AnswerFiles:
    """The files of answers in a folder, one a person.

    Args:
        folder: made if it does not exist.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._written: dict[str, tuple] = {}  # person → the marks that its file was written at

    def restore(self, store: Store) -> list[str]:
        """Brings into the store what the files hold and it lacks; returns whose files there are.

        A line that is damaged is skipped, with a warning that names file and line.
        """
        people = []
        for file in sorted(self.folder.glob("*.jsonl")):
            events = list(_events(file))
            person = next((event["person"] for event in events if "person" in event), None)
            if not isinstance(person, str):
                logger.warning("%s names nobody and is left alone.", file.name)
                continue
            try:
                _replay(store, person, events)
            except (AnswerError, TypeError, KeyError) as error:
                logger.warning("%s is not restored: %s", file.name, error)
                continue
            people.append(person)
        return people

    def update(self, store: Store) -> bool:
        """Adds to the files what is new in the store and removes those of people who were erased; whether anything
        changed."""
        marks, changed = store.marks(), False
        self.folder.mkdir(parents=True, exist_ok=True)
        for person, mark in marks.items():
            before = self._written.get(person)
            if before is not None and before[0] != mark[0]:  # erased, and here again under that name
                (self.folder / _file_name(person)).unlink(missing_ok=True)
            if before != mark:
                changed |= self._add(store, person)
                self._written[person] = mark
        wanted = {_file_name(person) for person in marks}
        for file in self.folder.glob("*.jsonl"):
            if file.name not in wanted:
                file.unlink()
                changed = True
        self._written = {person: mark for person, mark in self._written.items() if person in marks}
        return changed

    def _add(self, store: Store, person: str) -> bool:
        file = self.folder / _file_name(person)
        before = file.read_bytes() if file.is_file() else b""
        there = set(before.splitlines())
        new = [line for line in _lines(store, person) if line not in there]
        if new:
            write_bytes(file, before + b"".join(line + b"\n" for line in new))
        return bool(new)


def _file_name(person: str) -> str:
    return f"{hashlib.sha256(person.encode()).hexdigest()[:24]}.jsonl"


def _lines(store: Store, person: str) -> Iterator[bytes]:
    """All that the store holds of a person, a line an event; the same event always gives the same bytes."""
    yield _line({"person": person})
    if store.repeats_allowed(person):
        yield _line({"repeats": True})
    for answer, withdrawn in store.history(person):
        yield _line({"answer": asdict(answer)})
        if withdrawn:
            yield _line({"undone": answer.id})
    for answer in store.study_answers_of(person):
        yield _line({"study": asdict(answer)})


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, sort_keys=True, ensure_ascii=True).encode()


def _events(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict):
            yield event
        else:
            logger.warning("%s, line %d is damaged and skipped.", file.name, number)


def _replay(store: Store, person: str, events: list[dict[str, Any]]) -> None:
    known = {answer.id: withdrawn for answer, withdrawn in store.history(person)}
    answers = [Answer(**event["answer"]) for event in events if "answer" in event]
    new = {answer.id: answer for answer in answers if answer.id not in known}
    if new:
        store.add(person, *new.values())
    for event in events:
        if "undone" in event and not known.get(event["undone"], False):
            store.undo(person, event["undone"]).result()
        elif "study" in event:
            store.add_study(person, StudyAnswer(**event["study"])).result()
        elif "repeats" in event:
            store.allow_repeats(person, True).result()


class Keeper:
    """Keeps a store's answers in another place, from a thread of its own.

    What was kept before is brought back first; until that has worked nothing is written, so that an answer is never
    lost to a Hub that was out of reach when the app started.

    Args:
        store: the answers.
        place: a folder, or `owner/name` of a dataset on the Hub, which is made private if it does not exist.
        token: access token for the Hub; default: the one that `huggingface_hub` finds.
        every: seconds between two looks, default 30.
    """

    def __init__(self, store: Store, place: str, token: str | None = None, every: float = EVERY):
        self.store, self.place, self.token, self.every = store, place, token, every
        self.remote = is_repository(place)
        self._work = store.path.with_suffix(".kept") if self.remote else Path(place)
        self.files = AnswerFiles(self._work / ANSWERS)
        self.problem: str | None = None
        self._restored = self._unsent = False
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, on_restored: Callable[[str], None]) -> None:
        """Restores, then keeps up; `on_restored` is called with each person whose answers came back."""
        self._on_restored = on_restored
        self.save()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Saves once more, and ends."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=60)
        self.save()

    def _run(self) -> None:
        while not self._ended.wait(self.every):
            self.save()

    def save(self) -> bool:
        """Brings the place up to date; whether that worked. What went wrong is in `problem`, and tried again later."""
        with self._lock:
            try:
                if not self._restored:
                    self._restore()
                if self.files.update(self.store) or self._unsent:
                    self._unsent = True
                    self._send()
                self._unsent, self.problem = False, None
            except (OSError, HubError, ValueError) as error:
                self.problem = mask_secrets(str(error))
                logger.warning("Answers are not kept in %s: %s", self.place, self.problem)
            return self.problem is None

    def _restore(self) -> None:
        if self.remote:
            self._pull()
        for person in self.files.restore(self.store):
            self._on_restored(person)
        self._restored = True

    def _pull(self) -> None:
        self._work.mkdir(parents=True, exist_ok=True)
        (self._work / MARK).write_text(json.dumps({"format": 1}) + "\n", encoding="utf-8")
        (self._work / CARD).write_text(_CARD, encoding="utf-8")
        self._push((CARD, MARK), "Answers of an app")  # makes the repository, and refuses a public one
        found = pull_folder(self.place, "dataset", allow=(MARK, f"{ANSWERS}/*.jsonl"), token=self.token)
        self.files.folder.mkdir(parents=True, exist_ok=True)
        for file in (found / ANSWERS).glob("*.jsonl"):
            shutil.copyfile(file, self.files.folder / file.name)

    def _send(self) -> None:
        if self.remote:
            self._push((CARD, MARK, f"{ANSWERS}/*.jsonl"), "New answers")

    def _push(self, allow: tuple[str, ...], message: str) -> None:
        push_folder(
            self._work, self.place, "dataset", allow=allow, private=True, message=message, token=self.token, scan=False
        )


_CARD = """\
---
license: other
tags: [pamela]
---
Answers that people gave in an app of pamela_hf: one file a person, a line an event. Personal data: keep this repository
private. Whom the app erases is taken out of the newest commit; earlier commits keep their lines until the history is
squashed (`huggingface_hub.HfApi().super_squash_history`).
"""
