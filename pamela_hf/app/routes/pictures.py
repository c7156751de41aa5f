"""Which pictures come next, and their bytes at screen size."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import FileResponse

from ...files.images import ImageError
from ..figures import finite, how_well
from ..learner import Person
from ..pictures import SCREEN, THUMBNAIL
from ..visitors import LOGIN, visitor
from .context import Context, Name

REPEAT_EVERY, REPEAT_AFTER = 12, 8  # how often a rated picture comes again, and after how many others at least
MAX_NEXT = 60


def repeated(person: Person) -> str | None:
    """A rated picture to show again now, if this person agreed to that."""
    if not person.repeats or not person.shown or person.shown % REPEAT_EVERY:
        return None
    old = [id for id, at in person.seen.items() if person.shown - at >= REPEAT_AFTER]
    return old[person.shown % len(old)] if old else None


def add_routes(router: APIRouter, app: Context) -> None:
    decoding = asyncio.Semaphore(2)

    @router.get("/api/about")
    async def about() -> dict[str, Any]:
        """What the app is, and who is looking. The only endpoint that is open before somebody signs in."""
        base, who, space = app.learner.base, visitor(), app.settings.space
        return {
            "title": app.settings.title, "sign_in": LOGIN if space and space.sign_in else None,
            "visitor": {"id": who.id, "name": who.name} if who.name else None, "kept": app.kept(),
            "pictures": len(app.folder), "folder": app.folder.folder.name, "scale": app.levels,
            "ready": base is not None, "status": app.learner.status, "problem": app.learner.problem,
            "blank": base.blank if base else None, "unreadable": len(base.unreadable) if base else 0,
            "simulated": app.runs.simulated, "local": app.local, "notice": app.notice(),
        }  # fmt: skip

    @router.get("/api/next")
    async def next_pictures(person: Name, n: Annotated[int, Query(ge=1, le=MAX_NEXT)] = 10) -> dict[str, Any]:
        who = await app.person(person)
        images = [app.item(id) for id in app.learner.next_ids(who, n)]
        if images and (old := repeated(who)) is not None:
            images.insert(0, app.item(old, again=True))
        learned = who.learned
        message = learned.message if images else f"You have answered all {len(app.folder):,} pictures."
        return finite({
            "images": images[:n], "enough": learned.enough or not images, "message": message, "answers": who.count,
            "known": how_well(learned.head, app.learner.base), "problem": learned.problem or app.learner.problem,
        })  # fmt: skip

    @router.get("/images/{token}", response_model=None)
    async def image(token: str, small: bool = False, original: bool = False) -> Response:
        """A picture at screen size; at this machine alone also the file itself, to be copied."""
        if original:
            if not app.local:
                raise HTTPException(403, "Only the owner of this server copies the files, at that machine.")
            if (picture := app.folder.by_token.get(token)) is None or not picture.path.is_file():
                raise HTTPException(404, "There is no such picture.")
            return FileResponse(picture.path, media_type="application/octet-stream", filename=picture.path.name)
        side = THUMBNAIL if small else SCREEN
        data = app.folder.kept_image(token, side)
        if data is None:
            async with decoding:
                try:
                    data = await asyncio.to_thread(app.folder.screen_image, token, side)
                except ImageError as error:
                    raise HTTPException(410, str(error)) from None
        if data is None:
            raise HTTPException(404, "There is no such picture.")
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400, immutable"})
