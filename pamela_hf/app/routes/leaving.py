"""What people take along, their head above all, and how they leave."""

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
from ..visitors import visitor
from .context import Context, Name, download


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
    add_head_routes(router, app)

    @router.get("/api/export", response_model=None)
    async def export(person: Name, format: str = "csv") -> Response:
        if format not in SHAPES:
            raise HTTPException(422, f"format={format[:40]!r} does not exist; there are {', '.join(SHAPES)}.")
        who, shape = await app.person(person), SHAPES[format]
        answers = await asyncio.to_thread(app.store.answers, who.name)
        return download(shape.write(Exported(answers, visitor().label(who.name), app.levels)), shape.name, shape.kind)

    @router.delete("/api/person")
    async def erase(person: Name, pushed: bool = False) -> dict[str, Any]:
        """Erases a person. `pushed`: their heads on the Hub, too; a repository that cannot be deleted is named."""
        who = await app.person(person)
        repos = await asyncio.to_thread(app.store.pushed, who.name)
        left, deleted = repos, []
        if pushed and repos:
            check_hub_login(app)
            problems = {repo: await deleted_from_hub(app, who.name, repo) for repo in repos}
            left = [repo for repo in repos if problems[repo] is not None]
            deleted = [repo for repo in repos if problems[repo] is None]
        erased = await asyncio.wrap_future(app.store.erase(who.name))
        app.learner.forget(who.name)
        runs = await asyncio.to_thread(app.runs.erase, who.name)
        kept = await asyncio.to_thread(what_is_kept, app, left)
        return {"erased": erased, "prompt_runs": runs, "deleted_heads": deleted, "kept_heads": left, "kept": kept}


def add_head_routes(router: APIRouter, app: Context) -> None:
    @router.get("/api/head", response_model=None)
    async def head_folder(person: Name) -> Response:
        """The head's folder as zip."""
        head = await app.head(person)
        return download(await asyncio.to_thread(zipped, head), "head.zip", "application/zip")

    @router.post("/api/head/push")
    async def push_head(body: PushBody) -> dict[str, Any]:
        """Publishes the head privately, with the Hub login of this machine."""
        check_hub_login(app)
        who, head = await app.person(body.person), await app.head(body.person)
        try:
            done = await asyncio.to_thread(head.push_to_hub, body.repo, private=True)
        except Exception as error:  # the Hub's, the network's and the scanner's errors are of many kinds
            raise HTTPException(502, f"Not pushed: {mask_secrets(str(error))}") from None
        await asyncio.wrap_future(app.store.note_pushed(who.name, body.repo))
        return {"url": done.url, "private": done.private}

    @router.get("/api/head/push")
    async def pushed_heads(person: Name) -> dict[str, Any]:
        """Where this person's head lies on the Hub."""
        who = await app.person(person)
        return {"repos": await asyncio.to_thread(app.store.pushed, who.name)}

    @router.delete("/api/head/push")
    async def delete_pushed(person: Name, repo: Name) -> dict[str, Any]:
        """Deletes a head that was pushed from here, with its repository and all its history."""
        check_hub_login(app)
        who = await app.person(person)
        if repo not in await asyncio.to_thread(app.store.pushed, who.name):
            raise HTTPException(404, f"This person's head was not pushed to {repo[:120]!r} from here.")
        if (problem := await deleted_from_hub(app, who.name, repo)) is not None:
            raise HTTPException(502, f"Not deleted: {problem}")
        return {"deleted": repo}


def check_hub_login(app: Context) -> None:
    """HTTP 403 where the login of this machine is not the visitor's."""
    if not app.local:
        raise HTTPException(403, "This server would use its owner's Hub login. Download the head, and push that.")


async def deleted_from_hub(app: Context, person: str, repo: str) -> str | None:
    """Deletes a pushed head; returns why that was not possible, or `None`."""
    try:
        await asyncio.to_thread(UserHead.delete_from_hub, repo)
    except Exception as error:  # the Hub's and the network's errors are of many kinds
        return mask_secrets(str(error))
    await asyncio.wrap_future(app.store.note_pushed(person, repo, there=False))
    return None


def what_is_kept(app: Context, heads: list[str]) -> str:
    """What erasing did not reach, in words."""
    said = ["What was downloaded or copied from here cannot be erased from here."]
    if heads:
        said.append(f"On the Hub there still is the head in {', '.join(heads)}: delete it on its page there.")
    if app.keeper is not None:
        place = app.keeper.place
        if not app.keeper.save():
            said.append(f"The copy in {place} could not be changed yet; this is tried again until it works.")
        elif app.keeper.remote:
            said.append(f"Earlier commits of {place} hold the answers until its owner squashes its history.")
    return " ".join(said)
