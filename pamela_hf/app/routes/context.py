"""What every endpoint needs: who asks, what is known of them, and errors that say what to do."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import HTTPException, Query, Response

from ...heads.head import UserHead
from ..base import Base
from ..learner import Learner, Person
from ..prompting import RUN_ID, PromptRun, PromptRuns
from ..ranking import Uploads
from ..store import AnswerError, Store, check_person

WAIT_SECONDS = 5.0  # that a page waits for a fit under way

Name = Annotated[str, Query(max_length=200)]
OtherName = Annotated[str | None, Query(max_length=200)]


class Context:
    """One app, as its endpoints see it.

    Args:
        store: the answers.
        learner: the heads.
        runs: the prompt runs.
        local: the app listens on loopback alone: its visitors are at this machine. Default: True.
        notice: what everybody should know, such as that the disk is not kept; default: nothing.
    """

    def __init__(self, store: Store, learner: Learner, runs: PromptRuns, local: bool = True, notice: str | None = None):
        self.store, self.learner, self.runs, self.local, self.notice = store, learner, runs, local, notice
        self.folder, self.uploads = learner.folder, Uploads()

    @property
    def base(self) -> Base:
        """The base, once it is loaded; until then the page is told what goes on."""
        if self.learner.base is None:
            raise HTTPException(503, self.learner.problem or f"Not yet: {self.learner.status}")
        return self.learner.base

    @property
    def levels(self) -> list[float]:
        """The model's scale; before it is loaded, that of a blank base."""
        return self.learner.base.levels if self.learner.base else [1.0, 2.0, 3.0, 4.0, 5.0]

    async def person(self, name: str) -> Person:
        try:
            name = check_person(name)
        except AnswerError as error:
            raise HTTPException(422, str(error)) from None
        return self.learner.known(name) or await asyncio.to_thread(self.learner.person, name)

    async def fitted(self, name: str) -> Person:
        """A person, after a moment's wait for the fit that takes in their last answers."""
        person = await self.person(name)
        until = time.monotonic() + WAIT_SECONDS
        while self.learner.base is not None and person.is_behind and time.monotonic() < until:
            person.last = 0.0  # somebody waits: no pause is needed
            self.learner.wake()
            await asyncio.sleep(0.03)
        return person

    async def head(self, name: str) -> UserHead:
        """A person's head. HTTP 409: too little is known of them."""
        person = await self.fitted(name)
        _ = self.base
        if person.learned.head is None:
            problem = person.learned.problem or "Rate a few pictures: nothing is known of you yet."
            raise HTTPException(409, problem)
        return person.learned.head

    def check_pictures(self, *ids: str) -> None:
        """HTTP 404 for an id that is no picture of the folder."""
        for id in ids:
            if id not in self.folder.by_id:
                raise HTTPException(404, f"image_id={id[:120]!r} is no picture of this folder. Ask /api/next for some.")

    def item(self, id: str, **more: Any) -> dict[str, Any]:
        """A picture as the pages know it, with `more` about it."""
        picture = self.folder.by_id[id]
        return {"id": id, "url": picture.url, "thumb": f"{picture.url}?small=1", **more}

    def run(self, id: str) -> PromptRun:
        """A prompt run. HTTP 404: there is none by that id."""
        if not RUN_ID.fullmatch(id) or id not in self.runs.runs:
            raise HTTPException(404, "There is no such run.")
        return self.runs.runs[id]


def download(content: str | bytes, name: str, kind: str) -> Response:
    """A file to save."""
    return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
