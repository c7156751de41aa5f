"""People: who was here, what they take along, what they bring, and how they leave."""

import asyncio
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, Field

from ...heads.folder import FILES
from ...heads.head import UserHead
from ...hub.scan import mask_secrets
from ..exports import SHAPES, Exported
from .context import Context, Name, download


class SettingsBody(BaseModel):
    person: str
    repeats: bool


class PushBody(BaseModel):
    person: str
    repo: str = Field(max_length=200)


def zipped(head: UserHead) -> bytes:
    """A head's folder as a zip file."""
    stream = io.BytesIO()
    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        folder = Path(place) / "head"
        head.save(folder)
        for file in FILES:
            if (folder / file).is_file():
                archive.write(folder / file, file)
    return stream.getvalue()


def add_routes(router: APIRouter, app: Context) -> None:
    @router.get("/api/people")
    async def people() -> dict[str, Any]:
        """Everybody in the store. On a server for strangers nobody sees the others' names."""
        return {"people": await asyncio.to_thread(app.store.people) if app.local else []}

    @router.post("/api/person")
    async def settings(body: SettingsBody) -> dict[str, Any]:
        person = await app.person(body.person)
        await asyncio.wrap_future(app.store.allow_repeats(person.name, body.repeats))
        person.repeats = body.repeats
        return {"saved": True}

    @router.get("/api/export", response_model=None)
    async def export(person: Name, format: str = "csv") -> Response:
        if format not in SHAPES:
            raise HTTPException(422, f"format={format[:40]!r} does not exist; there are {', '.join(SHAPES)}.")
        who, shape = await app.person(person), SHAPES[format]
        answers = await asyncio.to_thread(app.store.answers, who.name)
        return download(shape.write(Exported(answers, who.name, app.levels)), shape.name, shape.kind)

    @router.get("/api/head", response_model=None)
    async def head_folder(person: Name) -> Response:
        """The head's folder as zip."""
        head = await app.head(person)
        return download(await asyncio.to_thread(zipped, head), "head.zip", "application/zip")

    @router.post("/api/head/push")
    async def push_head(body: PushBody) -> dict[str, Any]:
        """Publishes the head privately, with the Hub login of this machine."""
        if not app.local:
            raise HTTPException(403, "This server would push with its owner's login. Download the head, and push that.")
        head = await app.head(body.person)
        try:
            done = await asyncio.to_thread(head.push_to_hub, body.repo, private=True)
        except Exception as error:  # the Hub's, the network's and the scanner's errors are of many kinds
            raise HTTPException(502, f"Not pushed: {mask_secrets(str(error))}") from None
        return {"url": done.url, "private": done.private}

    @router.delete("/api/person")
    async def erase(person: Name) -> dict[str, Any]:
        who = await app.person(person)
        erased = await asyncio.wrap_future(app.store.erase(who.name))
        app.learner.forget(who.name)
        runs = await asyncio.to_thread(app.runs.erase, who.name)
        kept = "What was downloaded, copied or pushed from here cannot be erased from here."
        return {"erased": erased, "prompt_runs": runs, "kept": kept}
