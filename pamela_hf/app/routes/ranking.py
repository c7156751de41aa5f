"""Rankings of the folder, and of pictures dropped on the page."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from ...files.images import ImageError
from ...heads.head import UserHead
from ..figures import finite
from ..learner import Person
from ..ranking import Uploads, near_duplicates, ranking, score_grid
from ..security import MAX_UPLOAD
from ..visitors import visitor
from .context import Context, Name, OtherName

RANKED = 1500  # pictures of the folder that a ranking shows


def add_routes(router: APIRouter, app: Context) -> None:
    encoding, uploads = asyncio.Semaphore(1), Uploads()

    async def heads(person: str, other: str | None) -> tuple[Person, UserHead | None, UserHead | None]:
        _ = app.base  # 503 until it is there
        who = await app.fitted(person)
        return who, who.learned.head, await app.head(other) if other else None

    async def ranked(
        compute: Callable[[], dict[str, Any]], items: list[dict[str, Any]], who: Person, known: bool
    ) -> Response:
        learning = who.is_behind or (not known and who.learned.head is not None)
        out = await asyncio.wrap_future(app.learner.submit(compute))
        return JSONResponse(finite({**out, "items": items, "known": known, "learning": learning}))

    @router.get("/api/ranking", response_model=None)
    async def folder_ranking(person: Name, other: OtherName = None) -> Response:
        """The folder's pictures on the grid of strengths, and of mixes with another person."""
        who, head, second = await heads(person, other)
        rows = best_rows(who, len(app.base.embeddings))
        features = app.base.embeddings.image_embeds[rows]

        def compute() -> dict[str, Any]:
            hashes = [app.base.hashes[app.base.embeddings.image_ids[row]] for row in rows]
            groups = near_duplicates(features, hashes)
            return ranking(score_grid(app.base, features, head, second), features, groups)

        return await ranked(
            compute, [app.item(app.base.embeddings.image_ids[row]) for row in rows], who, head is not None
        )

    @router.post("/api/uploads")
    async def upload(
        request: Request, batch: Annotated[str, Query(pattern="^[A-Za-z0-9-]{8,64}$")], name: Name = "picture"
    ) -> dict[str, Any]:
        """One picture's bytes as the body."""
        base, data = app.base, await request.body()
        if len(data) > MAX_UPLOAD:
            raise HTTPException(413, f"{name}: at most {MAX_UPLOAD >> 20} MiB a picture.")
        async with encoding:
            try:
                return {"index": await asyncio.to_thread(uploads.add, base, own_batch(batch), name, data)}
            except (ImageError, ValueError) as error:
                raise HTTPException(422, str(error)) from None

    @router.get("/api/uploads/ranking", response_model=None)
    async def upload_ranking(person: Name, batch: Name, other: OtherName = None) -> Response:
        found = uploads.get(own_batch(batch))
        if found is None:
            raise HTTPException(404, "These pictures are not in memory any more; drop them again.")
        who, head, second = await heads(person, other)
        features = np.stack(found.features)

        def compute() -> dict[str, Any]:
            groups = near_duplicates(features, found.hashes)
            return ranking(score_grid(app.base, features, head, second), features, groups)

        return await ranked(compute, [{"id": name} for name in found.names], who, head is not None)


def own_batch(batch: str) -> str:
    """A batch's id, of this request's visitor."""
    return f"{visitor().id}/{batch}"


def best_rows(person: Person, count: int) -> np.ndarray:
    """Rows of the features to rank: of a large folder this person's favourites and everyone's."""
    learned = person.learned
    if learned.head is None:
        return np.arange(count)[:RANKED]
    best = np.concatenate([np.argsort(-learned.scores)[:RANKED], np.argsort(-learned.everyone)[: RANKED // 5]])
    return learned.rows[np.unique(best)]
