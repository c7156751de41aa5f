"""Ratings brought in from files and from the pictures themselves, and stars written beside the pictures."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel

from ..imports import Found, Reading, read_answers, read_stars
from ..learner import Person
from ..stars import write_stars
from .context import Context, Name, OtherName

ASIDE = 50  # rows that an answer names
OWNER_ONLY = "Only the owner of this server may do that, at that machine: the files are theirs."


class StarsBody(BaseModel):
    """`person`: whose stars they become, or whose taste they are written for."""

    person: str


def add_routes(router: APIRouter, app: Context) -> None:
    reading = asyncio.Semaphore(1)

    async def keep(who: Person, found: Found) -> dict[str, Any]:
        done = await asyncio.wrap_future(app.store.bring_in(who.name, found.answers))
        if done.new:
            who.read(await asyncio.to_thread(app.store.answers, who.name))
            app.learner.wake()
        counts = {"new": done.new, "known": done.known, "own": done.own, "answers": who.count}
        return {"saved": True, **found.counts(), **counts, **set_aside(found.aside)}

    @router.post("/api/import")
    async def bring_in(
        request: Request,
        person: Name,
        name: Name = "table",
        participant: OtherName = None,
        low: Annotated[float | None, Query(allow_inf_nan=False)] = None,
        high: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    ) -> dict[str, Any]:
        """A file's answers, the file as the body; sending it twice stores it once. Of several people's answers nothing
        is stored until `participant` says whose they are."""
        who, data = await app.person(person), await request.body()
        try:
            how = Reading(participant, None if low is None or high is None else (low, high))
            async with reading:
                found = await asyncio.to_thread(read_answers, data, name, app.folder, app.levels, how)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        if found.participants:
            return {"saved": False, "participants": found.participants}
        return await keep(who, found)

    @router.post("/api/stars/read")
    async def bring_in_stars(body: StarsBody) -> dict[str, Any]:
        """The stars in the folder's pictures and sidecars become this person's ratings, once."""
        owner_only(app)
        who = await app.person(body.person)
        async with reading:
            found = await asyncio.to_thread(read_stars, app.folder, app.levels)
        return await keep(who, found)

    @router.post("/api/stars/write")
    async def write(body: StarsBody) -> dict[str, Any]:
        """Writes this person's stars into sidecars beside the folder's pictures, never over a rating a person gave."""
        owner_only(app)
        who, head = await app.person(body.person), await app.head(body.person)
        answers = await asyncio.to_thread(app.store.answers, who.name)
        async with reading:
            predictions = await asyncio.wrap_future(app.learner.submit(lambda: app.learner.stars(head, answers)))
            done = await asyncio.to_thread(write_stars, app.folder, predictions)
        return {"saved": True, "written": done.written, "kept": done.kept, **set_aside(done.problems)}


def set_aside(problems: Sequence[str]) -> dict[str, Any]:
    """`set_aside`, the first of them, and `set_aside_count`."""
    return {"set_aside": list(problems[:ASIDE]), "set_aside_count": len(problems)}


def owner_only(app: Context) -> None:
    if not app.local:
        raise HTTPException(403, OWNER_ONLY)
