"""Several prompt runs and what they have in common: one prompt for several people, or again and again for one.

For several people, each winner is scored for everyone: does each of them get what they like, or all the same? For
independent runs, how alike the winners are says whether the search finds a person's taste or a seed's accident.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..files.writing import write_json
from ..refiners import prompt_key, prompt_parts
from ..scoring import PamelaScorer
from .comparison import write_comparison
from .pipeline_pamela import PamelaPromptOutput, PamelaPromptPipeline
from .rendering import Request

SEED_STEP = 1_000  # between runs: far more than one run has seeds


@dataclass
class PromptRuns:
    """Runs for P people, R each: `outputs[p][r]` in `folders[p][r]`; `summary` is what `runs.json` says of them."""

    outputs: list[list[PamelaPromptOutput]]
    folders: list[list[Path]]
    summary: dict[str, Any]


def optimize_prompt(
    pipe: PamelaPromptPipeline,
    prompt: str,
    users: Sequence[Any],
    output: str | os.PathLike,
    *,
    runs: int = 1,
    seed: int = 0,
    **options: Any,
) -> PromptRuns:
    """Optimizes a prompt for each of `users`, `runs` times each, into `output`.

    One run lies in `output` itself; several lie in folders below it, with a `report.html` and `runs.json` that compare
    them. Repeating the call resumes.

    Args:
        users: participants' names, heads, or `None` = everyone's taste. options: of the pipeline's call.
        seed: of the first run; run r has seed + 1000 r.

    Raises:
        ValueError: no, repeated or unknown users, runs below 1; whatever the pipeline raises.
    """
    if not isinstance(runs, int) or not isinstance(seed, int):
        raise ValueError(f"runs={runs!r}, seed={seed!r} must be integers.")
    if not users or runs < 1:
        raise ValueError(f"users={list(users)!r}, runs={runs}: at least one of each is needed.")
    names = [_name(user) for user in users]
    if len(set(names)) != len(names):
        raise ValueError(f"users={names} names a person twice; once is enough (runs= repeats the search).")
    scorer = pipe.scorer
    for user in users:  # all of them before the first is rendered for
        scorer.encode_people(1, user, options.get("demographics"))
    output = Path(output)
    several = len(users) > 1 or runs > 1
    if several and (output / "run.json").exists():
        raise ValueError(f"output={str(output)!r} holds a single run; choose another folder for several.")
    outputs, folders = [], []
    for p, user in enumerate(users):
        own = [_folder(output, p, names, r, runs) for r in range(runs)]
        folders.append(own)
        outputs.append([
            pipe(prompt, user, output=folder, generator=torch.Generator().manual_seed(seed + SEED_STEP * r), **options)
            for r, folder in enumerate(own)
        ])  # fmt: skip
    note = getattr(pipe.pipeline, "note", type(pipe.pipeline).__name__)
    summary: dict[str, Any] = {"prompt": prompt, "people": names, "runs": runs, "images_by": note}
    if several:
        if len(users) > 1:
            asked = {f.name: options[f.name] for f in fields(Request) if f.name in options}
            requests = [Request(prompt, user, **asked) for user in users]
            summary["scores"] = _cross_scores(pipe.scorer, requests, [of[0] for of in outputs])
        if runs > 1:
            summary["stability"] = dict(zip(names, stability(pipe, outputs)))
        write_json(output / "runs.json", summary)
        write_comparison(
            output / "report.html", summary, outputs, [[f.relative_to(output) for f in of] for of in folders]
        )
    return PromptRuns(outputs, folders, summary)


def _name(user: Any) -> str:
    return "everyone" if user is None else user if isinstance(user, str) else str(getattr(user, "name", "head"))


def _folder(output: Path, p: int, names: Sequence[str], r: int, runs: int) -> Path:
    if len(names) > 1:  # a name may be anything: only harmless characters of it go into a path
        output = output / f"{p:02d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', names[p])[:40]}"
    return output / f"run_{r}" if runs > 1 else output


def _cross_scores(
    scorer: PamelaScorer, requests: Sequence[Request], outputs: Sequence[PamelaPromptOutput]
) -> list[list[float]]:
    """`[person][whose winner]` mean predicted rating; the last column is the unoptimized prompt."""
    baseline = outputs[0].baseline_images
    sides = [*((out.images, out.prompts) for out in outputs), (baseline, [requests[0].prompt] * len(baseline))]
    return [
        [
            float(np.mean(request.score(scorer, images=images, prompts=request.texts(prompts)).scores))
            for images, prompts in sides
        ]
        for request in requests
    ]


def stability(pipe: PamelaPromptPipeline, outputs: Sequence[Sequence[PamelaPromptOutput]]) -> list[dict[str, Any]]:
    """How alike the winners of independent runs are, beside winners that have no reason to be alike.

    Args:
        outputs: `[person][run]`, all of one prompt, at least two runs each.

    Returns:
        For each person `winners`: mean cosine similarity of the encoder's image features between their runs' winners;
        `unoptimized`: of the unoptimized prompt at the same seeds; `others`: between their winners and those that other
        people's runs at other seeds found (`None` for one person). `shared`, `shared_others`: the same of the added
        phrases, as the share that two winners have in common (Jaccard index). `phrases`: added phrase → runs whose
        winner has it. `prompts`: the winners.
    """
    original = {prompt_key(part) for part in prompt_parts(outputs[0][0].history[0]["prompt"])}
    winners = [[_features(pipe, out.images) for out in of] for of in outputs]
    before = [[_features(pipe, out.baseline_images) for out in of] for of in outputs]
    added = [[{prompt_key(part) for part in prompt_parts(out.prompts[0])} - original for out in of] for of in outputs]

    def jaccard(a: set[str], b: set[str]) -> float:
        return len(a & b) / len(a | b) if a | b else 1.0

    def within(of: Sequence[Any], alike: Callable[[Any, Any], float]) -> float:
        return float(np.mean([alike(a, b) for a, b in combinations(of, 2)]))

    def between(of: Sequence[Sequence[Any]], p: int, alike: Callable[[Any, Any], float]) -> float | None:
        pairs = [(a, b) for r, a in enumerate(of[p]) for q in range(len(of)) for s, b in enumerate(of[q])
                 if q != p and s != r]  # fmt: skip
        return float(np.mean([alike(a, b) for a, b in pairs])) if pairs else None

    found = []
    for p, of in enumerate(outputs):
        counts = {phrase: sum(phrase in phrases for phrases in added[p]) for phrase in set().union(*added[p])}
        found.append(
            {
                "winners": within(winners[p], _cosine),
                "unoptimized": within(before[p], _cosine),
                "others": between(winners, p, _cosine),
                "shared": within(added[p], jaccard),
                "shared_others": between(added, p, jaccard),
                "phrases": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
                "prompts": [out.prompts[0] for out in of],
            }
        )
    return found


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a @ b.T).mean().item()


@torch.no_grad()
def _features(pipe: PamelaPromptPipeline, images: Sequence[Any]) -> torch.Tensor:
    return F.normalize(pipe.scorer.encoder.encode_images(images), dim=-1)
