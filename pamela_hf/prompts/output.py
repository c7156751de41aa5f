"""What a prompt run gives back, and what of it lies in its folder: result.json and report.html."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusers.utils import BaseOutput
from PIL import Image

from ..files.writing import write_json
from ..scoring import PamelaScorer
from .page import write_report
from .rendering import CandidateImages, one_each
from .run_folder import RunFolder
from .search import Candidate, SearchResult


@dataclass
class PamelaPromptOutput(BaseOutput):
    """What a prompt became for one person; the n images of the winning prompt, one for each seed, and the rest.

    Attributes:
        images: n PIL images of the winning prompt.
        prompts: n times the winning prompt.
        scores: n predicted ratings of `images`.
        baseline_images: n PIL images of the unoptimized prompt at the same seeds.
        baseline_scores: n predicted ratings of `baseline_images`.
        history: every rendered image in order: `iteration parent prompt seed score std adherence image` (and
            `checksum`, with an output folder).
        adherence: mean adherence of the winner's images to the unoptimized prompt's text.
        baseline_adherence: mean adherence of the unoptimized prompt's images to its text.
        floor: the adherence that was asked of the winner.
        stopped: why the search ended.
        judge: n scores of the held-out judge for `images`, or `None`.
        baseline_judge: n scores of the held-out judge for `baseline_images`, or `None`.
    """

    images: list[Image.Image]
    prompts: list[str]
    scores: list[float]
    baseline_images: list[Image.Image]
    baseline_scores: list[float]
    history: list[dict[str, Any]] = field(repr=False)
    adherence: float
    baseline_adherence: float
    floor: float
    stopped: str
    judge: list[float] | None = None
    baseline_judge: list[float] | None = None


def make_output(
    result: SearchResult, run: CandidateImages, judge: Callable | None, baseline_judge: list[float] | None
) -> PamelaPromptOutput:
    best, baseline = result.best, result.baseline
    images, before = run.images_of(best.prompt), run.images_of(baseline.prompt)
    return PamelaPromptOutput(
        images=images,
        prompts=[best.prompt] * len(images),
        scores=best.scores,
        baseline_images=before,
        baseline_scores=baseline.scores,
        history=result.rows,
        adherence=best.adherence,
        baseline_adherence=baseline.adherence,
        floor=result.floor,
        stopped=result.stopped,
        judge=judge(images, [best.prompt] * len(images)) if judge is not None else None,
        baseline_judge=baseline_judge,
    )


def as_judge(judge: Any, scorer: PamelaScorer) -> Callable[[list[Image.Image], list[str]], list[float]] | None:
    """A function that gives each image a number. Raises ValueError for anything else, or where it gives something else.
    A head judges with `scorer`."""
    if judge is None:
        return None
    if hasattr(judge, "row"):
        scorer.encode_people(1, judge)  # a head of another base is refused now

        def ask(images: list[Image.Image], prompts: list[str]) -> Any:
            return scorer.score(images, prompts, user=judge)
    elif hasattr(judge, "score") or callable(judge):
        ask = getattr(judge, "score", judge)
    else:
        raise ValueError(f"judge={judge!r} must be (images, prompts) → scores, a scorer or a head.")

    def judged(images: list[Image.Image], prompts: list[str]) -> list[float]:
        answer = ask(images, prompts)
        return one_each("judge", getattr(answer, "scores", answer), len(images))

    return judged


def write_result(
    folder: RunFolder,
    arguments: Mapping[str, Any],
    user: Any,
    result: SearchResult,
    out: PamelaPromptOutput,
    note: str,
    score_range: tuple[float, float],
) -> None:
    def described(candidate: Candidate, judged: list[float] | None) -> dict[str, Any]:
        images = [folder.image_name(candidate.prompt, arguments["seed"] + k) for k in range(arguments["num_seeds"])]
        figures = {"score": candidate.score, "std": candidate.std, "adherence": candidate.adherence}
        return {
            "prompt": candidate.prompt,
            **{k: _plain(v) for k, v in figures.items()},
            "iteration": candidate.iteration,
            "judge": [_plain(v) for v in judged] if judged is not None else None,
            "images": images,
        }

    summary = {
        "user": user if user is None or isinstance(user, str) else getattr(user, "name", "head"),
        "best": described(result.best, out.judge),
        "unoptimized": described(result.baseline, out.baseline_judge),
        "adherence_floor": _plain(result.floor),
        "stopped": result.stopped,
        "rendered": len(result.rows),
        "written_by_vocabulary": result.filled,
        "images_by": note,
        "score_range": list(score_range),
        "best_by_iteration": [[c.prompt, _plain(c.score), _plain(c.std)] for c in result.best_by_iteration],
    }
    write_json(folder.path / "result.json", summary)
    write_report(folder.path / "report.html", arguments, result, summary)


def _plain(value: float) -> float | None:
    """What JSON can hold: it knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None
