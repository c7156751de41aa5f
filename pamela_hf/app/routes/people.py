"""People: who was here, and what each of them agreed to."""

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from ..visitors import visitor
from .context import Context


class SettingsBody(BaseModel):
    person: str
    repeats: bool


def add_routes(router: APIRouter, app: Context) -> None:
    @router.get("/api/people")
    async def people() -> dict[str, Any]:
        """Whom this visitor may be. On a server for strangers nobody sees the others' names."""
        who = visitor()
        found = await asyncio.to_thread(app.store.people) if app.local or who.id else []
        return {"people": [{**one, "name": who.label(one["name"])} for one in found if who.owns(one["name"])]}

    @router.post("/api/person")
    async def settings(body: SettingsBody) -> dict[str, Any]:
        person = await app.person(body.person)
        await asyncio.wrap_future(app.store.allow_repeats(person.name, body.repeats))
        person.repeats = body.repeats
        return {"saved": True}
