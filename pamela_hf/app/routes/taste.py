"""What was learned of a person, in figures and pictures."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from ..figures import finite, how_well
from ..kinds import Liking, by_field, likes_more
from ..learner import Person
from ..store import Answer
from ..taste import picture_rows, self_agreement
from ..visitors import visitor
from .context import Context, Name


def of_person(app: Context, who: Person, answers: Sequence[Answer]) -> tuple[dict[str, Any], list[Liking]]:
    """What takes the model, computed in the learner's thread: rows of pictures, and kinds."""
    base, head = app.base, who.learned.head
    return picture_rows(base, who, answers), likes_more(base, head, app.learner.kinds())


def kind_item(app: Context, liking: Liking) -> dict[str, Any]:
    """A kind as the page knows it, with example pictures."""
    ids = app.base.embeddings.image_ids
    return {
        "field": liking.kind.field, "name": liking.kind.name, "pictures": len(liking.kind.rows),
        "more": round(liking.more, 3), "doubt": round(liking.doubt, 3),
        "examples": [app.item(ids[row]) for row in liking.examples],
    }  # fmt: skip


def add_routes(router: APIRouter, app: Context) -> None:
    @router.get("/api/taste")
    async def taste(person: Name) -> dict[str, Any]:
        who = await app.fitted(person)
        learned, answers = who.learned, await asyncio.to_thread(app.store.answers, who.name)
        kinds = [answer.kind for answer in answers]
        origins = Counter(answer.origin for answer in answers if answer.origin is not None)
        about = learned.head.describe() if learned.head else {}
        out: dict[str, Any] = {
            "person": visitor().label(who.name), "answers": who.count, "ratings": kinds.count("rating"),
            "choices": kinds.count("choice"), "likes": kinds.count("like"), "skips": kinds.count("skip"),
            "origins": [{"origin": origin, "answers": count} for origin, count in origins.most_common()],
            "held_out": how_well(learned.head, app.learner.base), "likes_more": about.get("likes_more", {}),
            "unsure": about.get("unsure", {}), "notes": about.get("notes", []), "distance": about.get("distance"),
            "self_agreement": self_agreement(answers), "repeats": who.repeats, "scale": app.levels,
            "enough": learned.enough, "message": learned.message, "problem": learned.problem or app.learner.problem,
            "blank": bool(app.learner.base and app.learner.base.blank), "kinds": [], "learning": who.is_behind,
            "most": [], "least": [], "more_than_others": [], "less_than_others": [], "unsure_about": [],
            "predicted": [], "contradictions": [],
        }  # fmt: skip
        if learned.head is not None:
            if "rows" not in who.cached:  # of the present answers
                made = app.learner.submit(lambda: of_person(app, who, answers))
                who.cached["rows"], who.cached["kinds"] = await asyncio.wrap_future(made)
            rows, likings = who.cached["rows"], who.cached["kinds"]
            out |= {name: [app.item(id, **figures) for id, figures in row] for name, row in rows.items()}
            out |= {"likes_more": by_field(likings), "kinds": [kind_item(app, one) for one in likings]}
        return finite(out)
