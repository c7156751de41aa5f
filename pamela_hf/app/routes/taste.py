"""What was learned of a person, in figures and pictures."""

import asyncio
from typing import Any

from fastapi import APIRouter

from ..taste import finite, how_well, picture_rows, self_agreement
from ..visitors import visitor
from .context import Context, Name


def add_routes(router: APIRouter, app: Context) -> None:
    @router.get("/api/taste")
    async def taste(person: Name) -> dict[str, Any]:
        who = await app.fitted(person)
        learned, answers = who.learned, await asyncio.to_thread(app.store.answers, who.name)
        kinds = [answer.kind for answer in answers]
        about = learned.head.describe() if learned.head else {}
        out: dict[str, Any] = {
            "person": visitor().label(who.name), "answers": who.count, "ratings": kinds.count("rating"),
            "choices": kinds.count("choice"), "likes": kinds.count("like"), "skips": kinds.count("skip"),
            "held_out": how_well(learned.head, app.learner.base), "likes_more": about.get("likes_more", {}),
            "unsure": about.get("unsure", {}), "notes": about.get("notes", []), "distance": about.get("distance"),
            "self_agreement": self_agreement(answers), "repeats": who.repeats, "scale": app.levels,
            "enough": learned.enough, "message": learned.message, "problem": learned.problem or app.learner.problem,
            "most": [], "least": [], "more_than_others": [], "less_than_others": [], "unsure_about": [],
            "predicted": [], "contradictions": [],
        }  # fmt: skip
        if learned.head is not None:
            if "rows" not in who.cached:  # of the present answers
                made = app.learner.submit(lambda: picture_rows(app.base, who, answers))
                who.cached["rows"] = await asyncio.wrap_future(made)
            rows = who.cached["rows"]
            out |= {name: [app.item(id, **figures) for id, figures in row] for name, row in rows.items()}
        return finite(out)
