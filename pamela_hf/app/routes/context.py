"""What every endpoint needs: who asks, what is known of them, and errors that say what to do."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import HTTPException, Query, Response

from ..base import BLANK_LEVELS, Base
from ..learner import Learner, Person
from ..prompting import RUN_ID, PromptRun, PromptRuns
from ..security import is_loopback
from ..store import AnswerError, Store, check_person
from ..visitors import visitor

if TYPE_CHECKING:  # PyTorch comes with heads
    from ...heads.head import UserHead
    from ..keeping import Keeper
    from ..server import AppSettings

WAIT_SECONDS = 5.0  # that a page waits for a fit under way

Name = Annotated[str, Query(max_length=200)]
OtherName = Annotated[str | None, Query(max_length=200)]


class Context:
    """One app, as its endpoints see it.

    Args:
        store: the answers.
        learner: the heads.
        runs: the prompt runs.
        settings: what the app was started with.
        keeper: what keeps answers elsewhere, too; `None` if nothing does.

    Attributes:
        local: the app listens on loopback alone and is no Space: its visitors are at this machine.
    """

    def __init__(
        self, store: Store, learner: Learner, runs: PromptRuns, settings: "AppSettings", keeper: "Keeper | None" = None
    ):
        self.store, self.learner, self.runs, self.settings, self.keeper = store, learner, runs, settings, keeper
        self.local = settings.space is None and is_loopback(settings.host)
        self.folder = learner.folder

    def kept(self) -> str:
        """Where answers are, in words for whoever gives them."""
        if self.keeper is not None:
            what = f"the private dataset {self.keeper.place}" if self.keeper.remote else "its storage"
            return f"Answers reach {what} within {self.keeper.every:g} seconds; until then they are on this server."
        if self.settings.space is not None:
            return "Answers are kept on this Space’s disk." if self.settings.space.keeps else ""  # the notice says it
        return "Everything stays on this machine." if self.local else "Everything stays on the app’s machine."

    def notice(self) -> str | None:
        """What everybody should know now, such as that the disk is not kept; `None` if nothing."""
        space = self.settings.space
        said = [space.notice() if space else None]
        if self.keeper is not None and self.keeper.problem:
            said.append(f"Answers are on this server's disk alone for now: {self.keeper.problem}")
        return " ".join(filter(None, said)) or None

    @property
    def base(self) -> Base:
        """The base, once it is loaded; until then the page says what goes on."""
        if self.learner.base is None:
            raise HTTPException(503, self.learner.problem or f"Not yet: {self.learner.status}")
        return self.learner.base

    @property
    def levels(self) -> list[float]:
        """The model's scale. HTTP 503: it is known once the model is loaded."""
        if self.learner.base is not None:
            return self.learner.base.levels
        known = self.learner.source.levels
        if known is None and self.learner.problem is not None:  # rating works all the same
            known = list(BLANK_LEVELS)
        if known is None:
            raise HTTPException(503, f"Not yet: {self.learner.status}")
        return known

    async def person(self, name: str) -> Person:
        """The session of a person whom this request's visitor may see. HTTP 404: another visitor's."""
        name = visitor().person(name)
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

    async def head(self, name: str) -> "UserHead":
        """A person's head. HTTP 409: too little is known of them; 503: it is being fitted."""
        person = await self.fitted(name)
        _ = self.base
        if person.learned.head is None:
            if person.is_behind:
                raise HTTPException(503, "Not yet: your answers are being learned from. Ask again in a moment.")
            problem = person.learned.problem or "Rate a few pictures: nothing is known of you yet."
            raise HTTPException(409, problem)
        return person.learned.head

    def check_pictures(self, *ids: str) -> None:
        """HTTP 404 for an id that is not a picture of the folder."""
        for id in ids:
            if id not in self.folder.by_id:
                why = f"image_id={id[:120]!r} is not a picture of this folder. Ask /api/next for some."
                raise HTTPException(404, why)

    def item(self, id: str, **more: Any) -> dict[str, Any]:
        """A picture as the pages know it, with `more` about it."""
        picture = self.folder.by_id[id]
        return {"id": id, "url": picture.url, "thumb": f"{picture.url}?small=1", **more}

    def visible_runs(self) -> list[PromptRun]:
        """The prompt runs that this request's visitor started, or on a server without sign-in all."""
        return [run for run in list(self.runs.runs.values()) if run.owner == visitor().id]

    def run(self, id: str) -> PromptRun:
        """A prompt run. HTTP 404: there is none by that id, or it is another visitor's."""
        found = self.runs.runs.get(id) if RUN_ID.fullmatch(id) else None
        if found is None or found.owner != visitor().id:
            raise HTTPException(404, "There is no such run.")
        return found


def download(content: str | bytes, name: str, kind: str) -> Response:
    """A file to save."""
    return Response(content, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
