"""What a prompt run gives back, and what of it lies in its folder: result.json and report.html."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diffusers.utils import BaseOutput
from PIL import Image

from .prompt_images import CandidateImages
from .prompt_report import write_report
from .prompt_search import Candidate, SearchResult
from .prompt_trace import RunFolder, write_whole


@dataclass
class PamelaPromptOutput(BaseOutput):
    """What a prompt became for one person; the n images of the winning prompt, one for each seed, and the rest.

    Attributes:
        images: n PIL images of the winning prompt. prompts: n times that prompt. scores: their predicted ratings.
        baseline_images, baseline_scores: the unoptimized prompt at the same seeds.
        history: every rendered image in order: `iteration parent prompt seed score std adherence image` (and
            `checksum`, with an output folder).
        adherence, baseline_adherence, floor: mean adherence of winner and unoptimized prompt to the latter's text, and
            what was asked of the winner.
        judge, baseline_judge: n scores each of the held-out judge, or `None`.
        stopped: why the search ended.
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


def make_output(result: SearchResult, run: CandidateImages, judge: Callable | None) -> PamelaPromptOutput:
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
        baseline_judge=judge(before, [baseline.prompt] * len(before)) if judge is not None else None,
    )


def as_judge(judge: Any) -> Callable[[list[Image.Image], list[str]], list[float]] | None:
    if judge is None:
        return None
    if hasattr(judge, "score"):
        return lambda images, prompts: np.asarray(judge.score(images, prompts).scores, float).tolist()
    return lambda images, prompts: [float(value) for value in judge(images, prompts)]


def write_result(
    folder: RunFolder,
    arguments: Mapping[str, Any],
    user: Any,
    result: SearchResult,
    out: PamelaPromptOutput,
    note: str,
    score_range: tuple[float, float],
) -> None:
    def told(candidate: Candidate, judged: list[float] | None) -> dict[str, Any]:
        images = [folder.image_name(candidate.prompt, arguments["seed"] + k) for k in range(arguments["num_seeds"])]
        figures = {"score": candidate.score, "std": candidate.std, "adherence": candidate.adherence}
        figures = {k: v if math.isfinite(v) else None for k, v in figures.items()}
        return {
            "prompt": candidate.prompt,
            **figures,
            "iteration": candidate.iteration,
            "judge": judged,
            "images": images,
        }

    summary = {
        "user": user if user is None or isinstance(user, str) else getattr(user, "name", "head"),
        "best": told(result.best, out.judge),
        "unoptimized": told(result.baseline, out.baseline_judge),
        "adherence_floor": result.floor if math.isfinite(result.floor) else None,
        "stopped": result.stopped,
        "rendered": len(result.rows),
        "images_by": note,
        "score_range": list(score_range),
        "best_by_iteration": [[c.prompt, c.score, c.std] for c in result.best_by_iteration],
    }
    write_whole(folder.path / "result.json", json.dumps(summary, ensure_ascii=False, indent=1))
    write_report(folder.path / "report.html", arguments, result, summary)
