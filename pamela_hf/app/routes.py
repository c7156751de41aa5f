"""The JSON endpoints: answers in, pictures and what was learned out. The pages use nothing else.

Contract 8 of the design: `/api/next`, `/api/ratings`, `/api/choices`, `/api/taste`, `/api/export`, `/api/head`,
`/api/person`. "saved" is said only once the answer is on the disk.
"""

import asyncio
import io
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ..files.images import ImageError
from ..heads.folder import FILES
from ..heads.head import UserHead
from .exchange import EXPORTS, read_ratings
from .learner import Learner, Person
from .pictures import SCREEN, THUMBNAIL, at_screen_size
from .prompting import RUN_ID, PromptRun, PromptRuns
from .ranking import Uploads, doubt, near_duplicates, ranking, score_grid
from .security import MAX_UPLOAD
from .store import Answer, AnswerError, Store, StudyAnswer, check_person
from .study import noise_image, power_note, study_csv, summary, trials
from .taste import SHOWN, Answers, contradictions, finite, held_out_predictions, self_agreement

REPEAT_EVERY, REPEAT_AFTER = 12, 8  # how often a rated picture comes again, and after how many others at least
WAIT_SECONDS = 5.0  # that a page waits for a fit under way
RANKED = 1500  # pictures of the folder that a ranking shows
MAX_NEXT = 60

Name = Annotated[str, Query(max_length=200)]
OtherName = Annotated[str | None, Query(max_length=200)]


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
    shown: list[str] = Field(max_length=25)
    liked: list[str] = Field(max_length=25)


class SkipBody(BaseModel):
    person: str
    id: str
    image_id: str


class UndoBody(BaseModel):
    person: str
    id: str


class SettingsBody(BaseModel):
    person: str
    repeats: bool


class PromptBody(BaseModel):
    """`person`: whose taste; `None`: everyone's."""

    person: str | None = None
    prompt: str = Field(max_length=2000)


class StudyBody(BaseModel):
    person: str
    id: str
    choice: str = Field(pattern="^(left|right|tie)$")


class PushBody(BaseModel):
    person: str
    repo: str = Field(max_length=200)


class Api:
    """The endpoints of one app.

    Args:
        store, learner, runs: answers, heads, prompt runs.
        local: the app listens on loopback alone: its visitors are at this machine.
        notice: what everybody should know, such as that the disk is not kept.
    """

    def __init__(self, store: Store, learner: Learner, runs: PromptRuns, local: bool = True, notice: str | None = None):
        self.store, self.learner, self.runs, self.local, self.notice = store, learner, runs, local, notice
        self.folder, self.uploads = learner.folder, Uploads()
        self._decoding = asyncio.Semaphore(2)
        self._encoding = asyncio.Semaphore(1)

    # -- what every endpoint needs -----------------------------------------------------------------------------------
    async def person(self, name: str) -> Person:
        try:
            name = check_person(name)
        except AnswerError as error:
            raise HTTPException(422, str(error)) from None
        return self.learner.known(name) or await asyncio.to_thread(self.learner.person, name)

    def base(self) -> Any:
        if self.learner.base is None:
            raise HTTPException(503, self.learner.problem or f"Not yet: {self.learner.status}")
        return self.learner.base

    async def learned(self, person: Person) -> None:
        """Waits a moment for the fit that takes in this person's last answers."""
        until = time.monotonic() + WAIT_SECONDS
        while self.learner.base is not None and person.count != person.learned.answers and time.monotonic() < until:
            if person.count < 2:
                return
            person.last = 0.0  # somebody waits: no pause is needed
            self.learner.wake()
            await asyncio.sleep(0.03)

    async def head(self, person: Person) -> UserHead:
        await self.learned(person)
        self.base()
        if person.learned.head is None:
            raise HTTPException(409, person.learned.problem or "Rate a few pictures: nothing is known of you yet.")
        return person.learned.head

    def known(self, *ids: str) -> None:
        for id in ids:
            if id not in self.folder.by_id:
                raise HTTPException(404, f"image_id={id[:120]!r} is no picture of this folder. Ask /api/next for some.")

    def item(self, id: str, **more: Any) -> dict[str, Any]:
        picture = self.folder.by_id[id]
        return {"id": id, "url": picture.url, "thumb": f"{picture.url}?small=1", **more}

    def run(self, id: str) -> PromptRun:
        if not RUN_ID.fullmatch(id) or id not in self.runs.runs:
            raise HTTPException(404, "There is no such run.")
        return self.runs.runs[id]

    # -- answers -------------------------------------------------------------------------------------------------
    async def save(self, name: str, answers: list[Answer], replace: bool = False) -> dict[str, Any]:
        person = await self.person(name)
        new = await asyncio.wrap_future(self.store.submit(person.name, answers, replace=replace))
        if new:
            for answer in answers:
                person.note(answer)
            self.learner.wake()
        return {"saved": True, "answers": person.count, "enough": person.learned.enough}

    async def rate(self, body: RatingBody) -> dict[str, Any]:
        self.known(body.image_id)
        levels = self.levels()
        if not levels[0] <= body.score <= levels[-1]:
            raise HTTPException(422, f"score={body.score:g} must lie in {levels[0]:g}..{levels[-1]:g}.")
        answer = Answer(body.id, "rating", body.image_id, score=body.score, again=body.again)
        return await self.save(body.person, [answer], body.replaces)

    async def choose(self, body: ChoiceBody) -> dict[str, Any]:
        self.known(body.preferred_id, body.other_id)
        tie = 0.5 if body.tie else None
        return await self.save(body.person, [Answer(body.id, "choice", body.preferred_id, body.other_id, tie)])

    async def pick(self, body: PicksBody) -> dict[str, Any]:
        self.known(*body.shown)
        liked = set(body.liked)
        answers = [Answer(f"{body.id}/{i}", "like", id, score=float(id in liked)) for i, id in enumerate(body.shown)]
        return await self.save(body.person, answers)

    async def skip(self, body: SkipBody) -> dict[str, Any]:
        self.known(body.image_id)
        return await self.save(body.person, [Answer(body.id, "skip", body.image_id)])

    async def undo(self, body: UndoBody) -> dict[str, Any]:
        """Takes back an answer, or all of a grid's."""
        person = await self.person(body.person)
        ids = [body.id, *(f"{body.id}/{i}" for i in range(25))]
        taken = await asyncio.gather(*(asyncio.wrap_future(self.store.undo(person.name, id)) for id in ids))
        for answer in filter(None, taken):
            person.forget(answer)
        self.learner.wake()
        return {"undone": sum(answer is not None for answer in taken), "answers": person.count}

    def levels(self) -> list[float]:
        return self.learner.base.levels if self.learner.base else [1.0, 2.0, 3.0, 4.0, 5.0]

    # -- pictures ------------------------------------------------------------------------------------------------
    async def next(self, person: Name, n: Annotated[int, Query(ge=1, le=MAX_NEXT)] = 10) -> dict[str, Any]:
        who = await self.person(person)
        images = [self.item(id) for id in self.learner.next_ids(who, n)]
        if images and who.repeats and who.shown and who.shown % REPEAT_EVERY == 0:
            old = [id for id, at in who.seen.items() if who.shown - at >= REPEAT_AFTER]
            if old:
                images.insert(0, self.item(old[who.shown % len(old)], again=True))
        learned = who.learned
        message = learned.message if images else f"You have answered all {len(self.folder):,} pictures."
        return finite({
            "images": images[:n], "enough": learned.enough or not images, "message": message, "answers": who.count,
            "known": self.how_well(who), "fitted": learned.answers, "problem": learned.problem or self.learner.problem,
        })  # fmt: skip

    def how_well(self, person: Person) -> dict[str, Any] | None:
        """Held-out figure of the last fit: `srocc`, `ci_low`, `ci_high`, `everyone`; `None`: too little is known."""
        head = person.learned.head
        figures = dict(head.about.get("held_out") or {}) if head else {}
        if self.learner.base is not None and self.learner.base.blank:
            figures.pop("everyone", None)  # a blank base has no opinion
        return figures or None

    async def image(self, token: str, small: bool = False) -> Response:
        async with self._decoding:
            try:
                data = await asyncio.to_thread(self.folder.screen_image, token, THUMBNAIL if small else SCREEN)
            except ImageError as error:
                raise HTTPException(410, str(error)) from None
        if data is None:
            raise HTTPException(404, "There is no such picture.")
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400, immutable"})

    # -- what was learned ----------------------------------------------------------------------------------------
    async def taste(self, person: Name) -> dict[str, Any]:
        who = await self.person(person)
        await self.learned(who)
        learned, answers = who.learned, await asyncio.to_thread(self.store.answers, who.name)
        kinds = [answer.kind for answer in answers]
        about = learned.head.describe() if learned.head else {}
        out: dict[str, Any] = {
            "person": who.name, "answers": who.count, "ratings": kinds.count("rating"),
            "choices": kinds.count("choice"), "likes": kinds.count("like"), "skips": kinds.count("skip"),
            "held_out": self.how_well(who),
            "likes_more": about.get("likes_more", {}), "unsure": about.get("unsure", {}),
            "notes": about.get("notes", []), "distance": about.get("distance"),
            "enough": learned.enough, "message": learned.message,
            "self_agreement": self_agreement(answers), "repeats": who.repeats, "scale": self.levels(),
            "most": [], "least": [], "more_than_others": [], "less_than_others": [], "unsure_about": [],
            "predicted": [], "contradictions": [], "problem": learned.problem or self.learner.problem,
        }  # fmt: skip
        if learned.head is not None:
            if "taste" not in who.cached:
                made = self.learner.submit(lambda: self._pictures(who, answers))
                who.cached["taste"] = await asyncio.wrap_future(made)
            out |= who.cached["taste"]
        return finite(out)

    def _pictures(self, who: Person, answers: list[Answer]) -> dict[str, Any]:
        """The page's rows of pictures, computed in the learner's thread."""
        base, learned = self.learner.base, who.learned
        ids = base.embeddings.image_ids
        unseen = np.array([i for i, row in enumerate(learned.rows) if ids[row] not in who.seen], int)
        difference = learned.scores - learned.everyone

        def row(order: np.ndarray, **more: Callable[[int], Any]) -> list[dict[str, Any]]:
            return [
                self.item(
                    ids[learned.rows[i]], score=round(float(learned.scores[i]), 2), std=round(float(learned.std[i]), 2),
                    everyone=round(float(learned.everyone[i]), 2), **{key: value(i) for key, value in more.items()},
                )
                for i in order[:SHOWN]
            ]  # fmt: skip

        best = unseen[np.argsort(-learned.scores[unseen])]
        sample = unseen[np.random.default_rng(0).permutation(len(unseen))[:600]]
        unsure = doubt(base, base.embeddings.image_embeds[learned.rows[sample]], learned.head)
        doubtful = dict(zip(sample.tolist(), unsure))
        usable = Answers.of(answers, base.positions)
        predicted = held_out_predictions(base, usable)
        disagreeing = contradictions(predicted, base.levels)
        pairs = {id: {"given": round(g, 2), "predicted": round(p, 2)} for id, (g, p) in predicted.items()}
        by_difference = np.argsort(-difference)
        return {
            "most": row(best), "least": row(best[::-1]),
            "more_than_others": [] if base.blank else row(by_difference[difference[by_difference] > 0]),
            "less_than_others": [] if base.blank else row(by_difference[::-1][difference[by_difference[::-1]] < 0]),
            "unsure_about": row(sample[np.argsort(-unsure)], doubt=lambda i: round(float(doubtful[i]), 2)),
            "predicted": [self.item(id, **pair) for id, pair in pairs.items()],
            "contradictions": [self.item(id, **pairs[id]) for id in disagreeing],
        }  # fmt: skip

    async def folder_ranking(self, person: Name, other: OtherName = None) -> Response:
        """The folder's pictures on the grid of strengths, and of mixes with another person."""
        base, head, second = await self._heads(person, other)
        rows = self._ranked_rows(await self.person(person))

        def compute() -> dict[str, Any]:
            features = base.embeddings.image_embeds[rows]
            grid = score_grid(base, features, head, second)
            return ranking(grid, features, near_duplicates(features))

        out = await asyncio.wrap_future(self.learner.submit(compute))
        out["items"] = [self.item(base.embeddings.image_ids[row]) for row in rows]
        out["known"] = head is not None
        return JSONResponse(finite(out))

    def _ranked_rows(self, person: Person) -> np.ndarray:
        learned = person.learned
        if learned.head is None:
            return np.arange(len(self.base().embeddings))[:RANKED]
        best = np.concatenate([np.argsort(-learned.scores)[:RANKED], np.argsort(-learned.everyone)[: RANKED // 5]])
        return learned.rows[np.unique(best)]

    async def _heads(self, person: str, other: str | None) -> tuple[Any, UserHead | None, UserHead | None]:
        base = self.base()
        who = await self.person(person)
        await self.learned(who)
        second = await self.head(await self.person(other)) if other else None
        return base, who.learned.head, second

    # -- dropped pictures ----------------------------------------------------------------------------------------
    async def upload(
        self, request: Request, batch: Annotated[str, Query(pattern="^[A-Za-z0-9-]{8,64}$")], name: Name = "picture"
    ) -> dict[str, Any]:
        """One picture's bytes as the body."""
        base, data = self.base(), await request.body()
        if len(data) > MAX_UPLOAD:
            raise HTTPException(413, f"{name}: at most {MAX_UPLOAD >> 20} MiB a picture.")
        async with self._encoding:
            try:
                return {"index": await asyncio.to_thread(self.uploads.add, base, batch, name, data)}
            except (ImageError, ValueError) as error:
                raise HTTPException(422, str(error)) from None

    async def upload_ranking(self, person: Name, batch: Name, other: OtherName = None) -> Response:
        found = self.uploads.get(batch)
        if found is None:
            raise HTTPException(404, "These pictures are not in memory any more; drop them again.")
        base, head, second = await self._heads(person, other)
        features = np.stack(found.features)

        def compute() -> dict[str, Any]:
            return ranking(score_grid(base, features, head, second), features, near_duplicates(features, found.hashes))

        out = await asyncio.wrap_future(self.learner.submit(compute))
        out["items"] = [{"id": name} for name in found.names]
        out["known"] = head is not None
        return JSONResponse(finite(out))

    # -- people --------------------------------------------------------------------------------------------------
    async def people(self) -> dict[str, Any]:
        """Everybody in the store. On a server for strangers nobody sees the others' names."""
        people = await asyncio.to_thread(self.store.people) if self.local else []
        return {"people": people}

    async def settings(self, body: SettingsBody) -> dict[str, Any]:
        person = await self.person(body.person)
        await asyncio.wrap_future(self.store.allow_repeats(person.name, body.repeats))
        person.repeats = body.repeats
        return {"saved": True}

    async def about(self) -> dict[str, Any]:
        base = self.learner.base
        return {
            "pictures": len(self.folder), "folder": self.folder.folder.name, "scale": self.levels(),
            "ready": base is not None, "status": self.learner.status, "problem": self.learner.problem,
            "blank": base.blank if base else None, "unreadable": len(base.unreadable) if base else 0,
            "simulated": self.runs.simulated, "local": self.local, "notice": self.notice,
        }  # fmt: skip

    async def export(self, person: Name, format: str = "csv") -> Response:
        if format not in EXPORTS:
            raise HTTPException(422, f"format={format[:40]!r} does not exist; there are {', '.join(EXPORTS)}.")
        who = await self.person(person)
        answers = await asyncio.to_thread(self.store.answers, who.name)
        name, kind, write = EXPORTS[format]
        disposition = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(write(answers, who.name), media_type=kind, headers=disposition)

    async def import_ratings(self, request: Request, person: Name) -> dict[str, Any]:
        """A CSV `image,score` as the body; sending it twice stores it once."""
        who = await self.person(person)
        data = await request.body()
        try:
            found, aside = await asyncio.to_thread(read_ratings, data, self.folder.by_id, self.levels())
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        rows = dict(found).items()
        answers = [Answer(f"import/{id}/{score:g}"[:400], "rating", id, score=score) for id, score in rows]
        await self.save(who.name, answers)
        return {"saved": True, "ratings": len(answers), "set_aside": aside[:50], "set_aside_count": len(aside)}

    async def download_head(self, person: Name) -> Response:
        """The head's folder as zip."""
        head = await self.head(await self.person(person))

        def pack() -> bytes:
            stream = io.BytesIO()
            with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                head.save(Path(place) / "head")
                for file in FILES:
                    if (Path(place) / "head" / file).is_file():
                        archive.write(Path(place) / "head" / file, file)
            return stream.getvalue()

        disposition = {"content-disposition": 'attachment; filename="head.zip"'}
        return Response(await asyncio.to_thread(pack), media_type="application/zip", headers=disposition)

    async def push_head(self, body: PushBody) -> dict[str, Any]:
        """Publishes the head privately, with the Hub login of this machine."""
        if not self.local:
            raise HTTPException(403, "This server would push with its owner's login. Download the head, and push that.")
        head = await self.head(await self.person(body.person))
        try:
            done = await asyncio.to_thread(head.push_to_hub, body.repo, private=True)
        except Exception as error:  # the Hub's, the network's and the scanner's errors are of many kinds
            raise HTTPException(502, f"Not pushed: {error}") from None
        return {"url": done.url, "private": done.private}

    async def erase(self, person: Name) -> dict[str, Any]:
        who = await self.person(person)
        erased = await asyncio.wrap_future(self.store.erase(who.name))
        self.learner.forget(who.name)
        runs = await asyncio.to_thread(self.runs.erase, who.name)
        return {
            "erased": erased, "prompt_runs": runs,
            "kept": "What was downloaded, copied or pushed from here cannot be erased from here.",
        }  # fmt: skip

    # -- prompts -------------------------------------------------------------------------------------------------
    async def prompt_list(self) -> dict[str, Any]:
        runs = [run.plain() for run in reversed(list(self.runs.runs.values()))]
        return finite({"runs": runs, "simulated": self.runs.simulated})

    async def prompt_start(self, body: PromptBody) -> dict[str, Any]:
        base = self.base()
        who = await self.person(body.person) if body.person is not None else None
        head = await self.head(who) if who else None
        try:
            run = await asyncio.to_thread(self.runs.start, base, who and who.name, body.prompt, head)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return finite(run.plain())

    async def prompt_state(self, id: str) -> dict[str, Any]:
        return finite(self.run(id).plain(full=True))

    async def prompt_stop(self, id: str) -> dict[str, Any]:
        self.runs.stop(self.run(id))
        return finite(self.run(id).plain())

    async def prompt_resume(self, id: str) -> dict[str, Any]:
        self.runs.resume(self.base(), self.run(id))
        return finite(self.run(id).plain())

    async def prompt_delete(self, id: str) -> dict[str, Any]:
        await asyncio.to_thread(self.runs.delete, self.run(id))
        return {"deleted": True}

    async def prompt_image(self, id: str, number: int) -> Response:
        path = self.runs.image(self.run(id), number)
        if path is None:
            raise HTTPException(404, "There is no such picture.")
        try:
            data = await asyncio.to_thread(self.folder.screen.get, path, f"{id} {number}", SCREEN)
        except ImageError:
            raise HTTPException(404, "There is no such picture.") from None
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})

    # -- study ---------------------------------------------------------------------------------------------------
    async def study_next(self, person: Name) -> dict[str, Any]:
        """The next comparison, without a word of what is on which side."""
        who = await self.person(person)
        all_trials = trials(who.name, list(self.runs.runs.values()))
        answered = await asyncio.to_thread(self.store.study_answers)
        done = {answer.id for name, answer in answered if name == who.name}
        left = [trial for trial in all_trials if trial.id not in done]
        trial = left[0] if left else None
        shown = trial and {
            "id": trial.id, "prompt": trial.prompt,
            "left": f"/api/study/images/{trial.id}/left", "right": f"/api/study/images/{trial.id}/right",
        }  # fmt: skip
        return {"trial": shown, "done": len(done), "total": len(all_trials)}

    async def study_image(self, id: str, side: str, person: Name) -> Response:
        trial = await self._trial(person, id)
        if trial is None or side not in ("left", "right"):
            raise HTTPException(404, "There is no such comparison.")
        image = getattr(trial, side).image
        if image == "noise":
            data = await asyncio.to_thread(lambda: at_screen_size(noise_image(), SCREEN))
            return Response(data, media_type="image/jpeg")
        run, _, number = image.partition("/")
        return await self.prompt_image(run, int(number))

    async def _trial(self, person: str, id: str) -> Any:
        who = await self.person(person)
        return next((t for t in trials(who.name, list(self.runs.runs.values())) if t.id == id), None)

    async def study_answer(self, body: StudyBody) -> dict[str, Any]:
        who, trial = await self.person(body.person), await self._trial(body.person, body.id)
        if trial is None:
            raise HTTPException(404, "There is no such comparison.")
        answer = StudyAnswer(body.id, trial.text(), body.choice)
        await asyncio.wrap_future(self.store.add_study(who.name, answer))
        return {"saved": True}

    async def study_plan(self, people: Annotated[int, Query(ge=1, le=500)] = 6) -> dict[str, Any]:
        """What is there to compare, what such a study could see, and who has answered."""
        runs = [run for run in self.runs.runs.values() if run.state == "done"]
        prompts = {run.prompt for run in runs}
        conditions = 1 + len({run.person is None for run in runs}) + (len({r.person for r in runs if r.person}) > 1)
        seeds = max((len({row["seed"] for row in run.rows}) for run in runs), default=1)
        note = await asyncio.to_thread(power_note, people, len(prompts), conditions, seeds) if runs else ""
        answers = await asyncio.to_thread(self.store.study_answers)
        return {"runs": len(runs), "prompts": len(prompts), "conditions": conditions, "note": note,
                "participants": summary(answers) if self.local else []}  # fmt: skip

    async def study_export(self) -> Response:
        if not self.local:
            raise HTTPException(403, "Only the owner of this server exports the study, at that machine.")
        text = study_csv(await asyncio.to_thread(self.store.study_answers))
        disposition = {"content-disposition": 'attachment; filename="study.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=disposition)

    # -- where everything is -------------------------------------------------------------------------------------
    def router(self) -> APIRouter:
        router = APIRouter()
        for method, path, function in (
            ("GET", "/api/about", self.about), ("GET", "/api/next", self.next), ("POST", "/api/ratings", self.rate),
            ("POST", "/api/choices", self.choose), ("POST", "/api/picks", self.pick), ("POST", "/api/skips", self.skip),
            ("POST", "/api/undo", self.undo), ("GET", "/api/taste", self.taste), ("GET", "/api/export", self.export),
            ("POST", "/api/import", self.import_ratings), ("GET", "/api/head", self.download_head),
            ("POST", "/api/head/push", self.push_head), ("DELETE", "/api/person", self.erase),
            ("POST", "/api/person", self.settings), ("GET", "/api/people", self.people),
            ("GET", "/api/ranking", self.folder_ranking), ("POST", "/api/uploads", self.upload),
            ("GET", "/api/uploads/ranking", self.upload_ranking), ("GET", "/images/{token}", self.image),
            ("GET", "/api/prompts", self.prompt_list), ("POST", "/api/prompts", self.prompt_start),
            ("GET", "/api/prompts/{id}", self.prompt_state), ("POST", "/api/prompts/{id}/stop", self.prompt_stop),
            ("POST", "/api/prompts/{id}/resume", self.prompt_resume),
            ("DELETE", "/api/prompts/{id}", self.prompt_delete),
            ("GET", "/api/prompts/{id}/images/{number}", self.prompt_image),
            ("GET", "/api/study/next", self.study_next), ("GET", "/api/study/images/{id}/{side}", self.study_image),
            ("POST", "/api/study/answers", self.study_answer), ("GET", "/api/study/plan", self.study_plan),
            ("GET", "/api/study/export", self.study_export),
        ):  # fmt: skip
            router.add_api_route(path, function, methods=[method], response_model=None)
        return router
