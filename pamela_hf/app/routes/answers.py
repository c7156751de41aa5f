"""Answers: stored once, said to be saved only when they are on the disk, taken back again."""

import asyncio
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from ..store import Answer
from .context import Context

GRID = 25  # pictures that are picked from at a time, at most


class RatingBody(BaseModel):
    """`again`: a rated picture, shown again with consent. `replaces`: earlier ratings of it don't count."""

    person: str
    id: str
    image_id: str
    score: float
    again: bool = False
    replaces: bool = False


class ChoiceBody(BaseModel):
    person: str
    id: str
    preferred_id: str
    other_id: str
    tie: bool = False


class PicksBody(BaseModel):
    """A grid of pictures: those in `liked` were picked, the others of `shown` were not."""

    person: str
    id: str
    shown: list[str] = Field(max_length=GRID)
    liked: list[str] = Field(max_length=GRID)


class SkipBody(BaseModel):
    person: str
    id: str
    image_id: str


class UndoBody(BaseModel):
    person: str
    id: str


async def save(app: Context, name: str, answers: list[Answer], replace: bool = False) -> dict[str, Any]:
    """Stores a person's answers and tells the learner."""
    person = await app.person(name)
    new = await asyncio.wrap_future(app.store.submit(person.name, answers, replace=replace))
    if new and replace:
        person.read(await asyncio.to_thread(app.store.answers, person.name))
    elif new:
        for answer in answers:
            person.note(answer)
    if new:
        app.learner.wake()
    return {"saved": True, "answers": person.count, "enough": person.learned.enough}


def add_routes(router: APIRouter, app: Context) -> None:
    @router.post("/api/ratings")
    async def rate(body: RatingBody) -> dict[str, Any]:
        app.check_pictures(body.image_id)
        levels = app.levels
        if not levels[0] <= body.score <= levels[-1]:
            raise HTTPException(422, f"score={body.score:g} must lie in {levels[0]:g}..{levels[-1]:g}.")
        answer = Answer(body.id, "rating", body.image_id, score=body.score, again=body.again)
        return await save(app, body.person, [answer], body.replaces)

    @router.post("/api/choices")
    async def choose(body: ChoiceBody) -> dict[str, Any]:
        app.check_pictures(body.preferred_id, body.other_id)
        tie = 0.5 if body.tie else None
        return await save(app, body.person, [Answer(body.id, "choice", body.preferred_id, body.other_id, tie)])

    @router.post("/api/picks")
    async def pick(body: PicksBody) -> dict[str, Any]:
        app.check_pictures(*body.shown)
        liked = set(body.liked)
        answers = [Answer(f"{body.id}/{i}", "like", id, score=float(id in liked)) for i, id in enumerate(body.shown)]
        return await save(app, body.person, answers)

    @router.post("/api/skips")
    async def skip(body: SkipBody) -> dict[str, Any]:
        app.check_pictures(body.image_id)
        return await save(app, body.person, [Answer(body.id, "skip", body.image_id)])

    @router.post("/api/undo")
    async def undo(body: UndoBody) -> dict[str, Any]:
        """Takes back an answer, or all of a grid's."""
        person = await app.person(body.person)
        ids = [body.id, *(f"{body.id}/{i}" for i in range(GRID))]
        taken = await asyncio.gather(*(asyncio.wrap_future(app.store.undo(person.name, id)) for id in ids))
        for answer in filter(None, taken):
            person.forget(answer)
        app.learner.wake()
        return {"undone": sum(answer is not None for answer in taken), "answers": person.count}
