"""Answers: stored once, said to be saved only when they are on the disk, taken back again.

Many people answer at once, and FastAPI's own way to an endpoint takes as long as all else about an answer: these
endpoints are Starlette's, with the body read by its model.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError

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


Body = TypeVar("Body", bound=BaseModel)


def add_post(
    router: APIRouter, path: str, model: type[Body], answer: Callable[[Body], Awaitable[dict[str, Any]]]
) -> None:
    """Adds an endpoint whose JSON body is one of `model`. HTTP 415 for a body of another kind, which a form of any
    website could send."""

    async def endpoint(request: Request) -> JSONResponse:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "Send JSON, as content-type: application/json.")
        try:
            body = model.model_validate_json(await request.body())
        except ValidationError as error:
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None
        return JSONResponse(await answer(body))

    router.add_route(path, endpoint, methods=["POST"])


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
    async def rate(body: RatingBody) -> dict[str, Any]:
        app.check_pictures(body.image_id)
        levels = app.levels
        if not levels[0] <= body.score <= levels[-1]:
            raise HTTPException(422, f"score={body.score:g} must lie in {levels[0]:g}..{levels[-1]:g}.")
        answer = Answer(body.id, "rating", body.image_id, score=body.score, again=body.again)
        return await save(app, body.person, [answer], body.replaces)

    async def choose(body: ChoiceBody) -> dict[str, Any]:
        app.check_pictures(body.preferred_id, body.other_id)
        tie = 0.5 if body.tie else None
        return await save(app, body.person, [Answer(body.id, "choice", body.preferred_id, body.other_id, tie)])

    async def pick(body: PicksBody) -> dict[str, Any]:
        app.check_pictures(*body.shown)
        liked = set(body.liked)
        answers = [Answer(f"{body.id}/{i}", "like", id, score=float(id in liked)) for i, id in enumerate(body.shown)]
        return await save(app, body.person, answers)

    async def skip(body: SkipBody) -> dict[str, Any]:
        app.check_pictures(body.image_id)
        return await save(app, body.person, [Answer(body.id, "skip", body.image_id)])

    async def undo(body: UndoBody) -> dict[str, Any]:
        """Takes back an answer, or all of a grid's."""
        person = await app.person(body.person)
        ids = [body.id, *(f"{body.id}/{i}" for i in range(GRID))]
        taken = await asyncio.gather(*(asyncio.wrap_future(app.store.undo(person.name, id)) for id in ids))
        for answer in filter(None, taken):
            person.forget(answer)
        app.learner.wake()
        return {"undone": sum(answer is not None for answer in taken), "answers": person.count}

    add_post(router, "/api/ratings", RatingBody, rate)
    add_post(router, "/api/choices", ChoiceBody, choose)
    add_post(router, "/api/picks", PicksBody, pick)
    add_post(router, "/api/skips", SkipBody, skip)
    add_post(router, "/api/undo", UndoBody, undo)
