"""Prompt runs: started, watched, stopped, resumed, deleted."""

import asyncio
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, Field

from ...files.images import ImageError
from ..figures import finite
from ..pictures import SCREEN
from ..prompting import PromptRun
from ..visitors import visitor
from .context import Context


class PromptBody(BaseModel):
    """`person`: whose taste; `None`: everyone's."""

    person: str | None = None
    prompt: str = Field(max_length=2000)


def plain(run: PromptRun, full: bool = False) -> dict[str, Any]:
    """A run as its visitor's page knows it."""
    return {**run.plain(full), "person": run.person and visitor().label(run.person)}


async def run_image(app: Context, run: PromptRun, number: int) -> Response:
    """The picture of a row of a run's trace, as JPEG."""
    path = app.runs.image(run, number)
    try:
        data = path and await asyncio.to_thread(app.folder.screen.get, path, f"{run.id} {number}", SCREEN)
    except ImageError:
        data = None
    if data is None:
        raise HTTPException(404, "There is no such picture.")
    return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})


def add_routes(router: APIRouter, app: Context) -> None:
    @router.get("/api/prompts")
    async def runs() -> dict[str, Any]:
        found = [plain(run) for run in reversed(app.visible_runs())]
        return finite({"runs": found, "simulated": app.runs.simulated})

    @router.post("/api/prompts")
    async def start(body: PromptBody) -> dict[str, Any]:
        base = app.base
        who = await app.person(body.person) if body.person is not None else None
        head = await app.head(who.name) if who else None
        try:
            args = (base, who and who.name, body.prompt, head, visitor().id)
            run = await asyncio.to_thread(app.runs.start, *args)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return finite(plain(run))

    @router.get("/api/prompts/{id}")
    async def state(id: str) -> dict[str, Any]:
        return finite(plain(app.run(id), full=True))

    @router.post("/api/prompts/{id}/stop")
    async def stop(id: str) -> dict[str, Any]:
        app.runs.stop(app.run(id))
        return finite(plain(app.run(id)))

    @router.post("/api/prompts/{id}/resume")
    async def resume(id: str) -> dict[str, Any]:
        app.runs.resume(app.base, app.run(id))
        return finite(plain(app.run(id)))

    @router.delete("/api/prompts/{id}")
    async def delete(id: str) -> dict[str, Any]:
        await asyncio.to_thread(app.runs.delete, app.run(id))
        return {"deleted": True}

    @router.get("/api/prompts/{id}/images/{number}", response_model=None)
    async def image(id: str, number: int) -> Response:
        return await run_image(app, app.run(id), number)
