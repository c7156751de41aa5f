"""The blind study: two pictures, which one is preferred? No answer of the server tells the sides apart."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, Field

from ..pictures import SCREEN, at_screen_size
from ..store import StudyAnswer
from ..study import Trial, noise_image, power_note, study_csv, summary, trials
from .context import Context, Name, download
from .prompts import run_image


class StudyBody(BaseModel):
    person: str
    id: str
    choice: str = Field(pattern="^(left|right|tie)$")


def add_routes(router: APIRouter, app: Context) -> None:
    async def trials_of(person: str) -> list[Trial]:
        who = await app.person(person)
        return trials(who.name, app.visible_runs())

    async def trial_of(person: str, id: str) -> Trial:
        found = next((trial for trial in await trials_of(person) if trial.id == id), None)
        if found is None:
            raise HTTPException(404, "There is no such comparison.")
        return found

    @router.get("/api/study/next")
    async def next_trial(person: Name) -> dict[str, Any]:
        """The next comparison, without a word of what is on which side."""
        who, of_person = await app.person(person), await trials_of(person)
        answered = await asyncio.to_thread(app.store.study_answers)
        done = {answer.id for name, answer in answered if name == who.name}
        trial = next((trial for trial in of_person if trial.id not in done), None)
        shown = trial and {
            "id": trial.id, "prompt": trial.prompt,
            "left": f"/api/study/images/{trial.id}/left", "right": f"/api/study/images/{trial.id}/right",
        }  # fmt: skip
        return {"trial": shown, "done": len(done), "total": len(of_person)}

    @router.get("/api/study/images/{id}/{side}", response_model=None)
    async def image(id: str, side: str, person: Name) -> Response:
        if side not in ("left", "right"):
            raise HTTPException(404, "There is no such side.")
        shown = getattr(await trial_of(person, id), side).image
        if shown == "noise":
            data = await asyncio.to_thread(lambda: at_screen_size(noise_image(), SCREEN))
            return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})
        run, _, number = shown.partition("/")
        return await run_image(app, app.run(run), int(number))

    @router.post("/api/study/answers")
    async def answer(body: StudyBody) -> dict[str, Any]:
        who, trial = await app.person(body.person), await trial_of(body.person, body.id)
        given = StudyAnswer(body.id, trial.text(), body.choice)
        await asyncio.wrap_future(app.store.add_study(who.name, given))
        return {"saved": True}

    @router.get("/api/study/plan")
    async def plan(people: Annotated[int, Query(ge=1, le=500)] = 6) -> dict[str, Any]:
        """What is there to compare, what such a study could see, and who has answered."""
        runs = [run for run in app.visible_runs() if run.state == "done"]
        prompts = {run.prompt for run in runs}
        conditions = 1 + len({run.person is None for run in runs}) + (len({r.person for r in runs if r.person}) > 1)
        seeds = max((len({row["seed"] for row in run.rows}) for run in runs), default=1)
        note = await asyncio.to_thread(power_note, people, len(prompts), conditions, seeds) if runs else ""
        answers = await asyncio.to_thread(app.store.study_answers)
        participants = summary(answers) if app.local else []
        return {"prompts": len(prompts), "conditions": conditions, "note": note, "participants": participants}

    @router.get("/api/study/export", response_model=None)
    async def export() -> Response:
        if not app.local:
            raise HTTPException(403, "Only the owner of this server exports the study, at that machine.")
        text = study_csv(await asyncio.to_thread(app.store.study_answers))
        return download(text, "study.csv", "text/csv; charset=utf-8")
