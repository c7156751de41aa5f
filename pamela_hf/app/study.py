"""A blind comparison of images from prompt runs: who chooses which, without knowing how they were made.

Conditions are a person's own optimized prompt (self), another's (other), everyone's (consensus), and the prompt as it
was (none). Sides and order are random, stored with the answer, and the same for a person who comes back. Some pairs
come a second time with their sides changed, and some are attention checks, where one side is grey noise.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from ..files.escaping import csv_cell
from ..study.page import ASSUMED_SD, planned_power
from .prompting import PromptRun
from .store import StudyAnswer

CHECK = "check"  # the condition of grey noise
REPEATED, CHECKED = 0.15, 0.08  # share of further trials
COLUMNS = ("participant", "left", "right", "choice", "prompt", "left_image", "right_image", "pair")


@dataclass(frozen=True)
class Shown:
    """One side: its `condition`, and the image as `run/row`, or "noise"."""

    condition: str
    image: str


@dataclass(frozen=True)
class Trial:
    """Two images of one prompt, side by side. `id` is the same whenever this person gets this trial; trials of one
    `pair` show the same two images."""

    id: str
    prompt: str
    pair: str
    left: Shown
    right: Shown

    def text(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)


def trials(person: str, runs: Sequence[PromptRun]) -> list[Trial]:
    """This person's trials in order: every pair of conditions of every prompt and seed, with repeats and checks."""
    rng = np.random.default_rng(list(person.encode()))
    plain = [
        (prompt, f"{prompt_number}-{seed}-{a}-{b}", Shown(a, images[a]), Shown(b, images[b]))
        for prompt_number, (prompt, seed, images) in enumerate(_images(person, runs))
        for a, b in combinations(sorted(images), 2)
    ]
    made = [_trial(f"{pair}-first", prompt, pair, sides, rng) for prompt, pair, *sides in plain]
    rng.shuffle(made)
    again = [made[i] for i in rng.permutation(len(made))[: int(np.ceil(REPEATED * len(made)))]]
    checks = [made[i] for i in rng.permutation(len(made))[: int(np.ceil(CHECKED * len(made)))]]
    for number, trial in enumerate(checks):
        sides = (trial.left, Shown(CHECK, "noise"))
        check = _trial(f"{CHECK}-{number}", trial.prompt, f"{CHECK}-{number}", sides, rng)
        made.insert(int(rng.integers(len(made) // 4, len(made) + 1)), check)
    repeats = [Trial(f"{t.pair}-again", t.prompt, t.pair, t.right, t.left) for t in again]
    return [*made, *repeats]


def _trial(id: str, prompt: str, pair: str, sides: Sequence[Shown], rng: np.random.Generator) -> Trial:
    left, right = sides if rng.random() < 0.5 else reversed(sides)
    return Trial(id, prompt, pair, left, right)


def _images(person: str, runs: Sequence[PromptRun]) -> list[tuple[str, int, dict[str, str]]]:
    """(prompt, seed, condition → image) of prompts with at least two conditions; of several runs the latest counts."""
    of_prompt: dict[str, dict[str, PromptRun]] = defaultdict(dict)
    for run in runs:
        if run.state == "done" and run.result:
            condition = "consensus" if run.person is None else "self" if run.person == person else "other"
            of_prompt[run.prompt][condition] = run
    found = []
    for prompt, by_condition in sorted(of_prompt.items()):
        some = next(iter(by_condition.values()))
        for seed in sorted({row["seed"] for row in some.rows}):
            images = {}
            for condition, run in by_condition.items():
                images[condition] = _row_of(run, run.result["best"]["prompt"], seed)
            images["none"] = _row_of(some, some.result["unoptimized"]["prompt"], seed)
            images = {condition: image for condition, image in images.items() if image}
            # a run that found nothing better shows the same picture twice, which is not a comparison
            distinct = {image: condition for condition, image in images.items()}
            images = {condition: image for image, condition in distinct.items()}
            if len(images) > 1:
                found.append((prompt, seed, images))
    return found


def _row_of(run: PromptRun, prompt: str, seed: int) -> str | None:
    rows = [i for i, row in enumerate(run.rows) if row["prompt"] == prompt and row["seed"] == seed and row["image"]]
    return f"{run.id}/{rows[0]}" if rows else None


def summary(answers: Sequence[tuple[str, StudyAnswer]]) -> list[dict[str, Any]]:
    """A row a participant: `person`, `comparisons`, `checks` and `passed` of them, `repeats` and `same` of them."""
    rows: dict[str, dict[str, Any]] = {}
    first: dict[tuple[str, str], str] = {}
    for person, answer in answers:
        trial = json.loads(answer.trial)
        row = rows.setdefault(
            person, {"person": person, "comparisons": 0, "checks": 0, "passed": 0, "repeats": 0, "same": 0}
        )
        chosen = trial[answer.choice]["condition"] if answer.choice != "tie" else "tie"
        if CHECK in (trial["left"]["condition"], trial["right"]["condition"]):
            row["checks"] += 1
            row["passed"] += chosen not in (CHECK, "tie")
            continue
        row["comparisons"] += 1
        before = first.setdefault((person, trial["pair"]), chosen)
        if trial["id"].endswith("-again"):
            row["repeats"] += 1
            row["same"] += before == chosen
    return list(rows.values())


def study_csv(answers: Sequence[tuple[str, StudyAnswer]], failed: float = 0.5) -> str:
    """What `pamela study` reads: a row a comparison, attention checks left out, and with them whoever failed more than
    the share `failed` of theirs."""
    out = {row["person"] for row in summary(answers) if row["checks"] and 1 - row["passed"] / row["checks"] > failed}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for person, answer in answers:
        trial = json.loads(answer.trial)
        left, right = trial["left"], trial["right"]
        if person in out or CHECK in (left["condition"], right["condition"]):
            continue
        pair = f"{trial['pair']} of {'|'.join(sorted((left['image'], right['image'])))}"
        sides = (left["condition"], right["condition"], answer.choice)
        writer.writerow([csv_cell(person), *sides, csv_cell(trial["prompt"]), left["image"], right["image"], pair])
    return stream.getvalue()


def power_note(people: int, prompts: int, conditions: int, seeds: int) -> str:
    """What such a study could see, in a sentence; the spread of people and images is assumed."""
    if people < 2 or prompts < 1 or conditions < 2:
        return "Two people and two conditions are the least that a study can be planned for."
    plan = planned_power(conditions, people, prompts, max(seeds, 1), tie_share=0.1, studies=200, **ASSUMED_SD)
    return f"{plan['sentence']}. How much people and images differ is assumed, as pamela study does."


def noise_image(side: int = 512) -> Image.Image:
    """Grey noise, which nobody who looks prefers to a picture."""
    noise = np.random.default_rng(0).integers(90, 166, (side // 8, side // 8), np.uint8)
    return Image.fromarray(noise).convert("RGB").resize((side, side))
