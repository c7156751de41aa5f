"""The offline demo's world: simulated people rate procedural images, written in the layout of the released
ratings.

NOTHING HERE IS MEASURED ON PEOPLE. Taste is a known function of the visible traits (`Traits`), so that a demo
and a test can ask whether a model recovers it; it says nothing about anyone's real taste, least of all that
of a nationality, an age or a gender, whose effects are arbitrary draws. Group, type and style means follow
the released ratings' aggregates, and the shares of consensus and noise are fixed by two figures (see
`CALIBRATION`).
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..files.writing import replacing_file, replacing_folder
from .images import render
from .raters import (
    CALIBRATION,
    SimulatedRater,
    population_liking,
    rate_matrix,
    simulated_newcomer,
    simulated_participants,
)
from .traits import (
    SCALARS,
    Traits,
    hash_uniform,
    prompt_from_traits,
    traits_from_prompt,
    traits_named_in,
    with_traits,
)
from .vocabulary import FAMILIES, GROUPS, SCALAR_TRAITS, STYLES, SUBJECTS, VOCABULARY

__all__ = [
    "CALIBRATION", "FAMILIES", "GROUPS", "SCALARS", "SCALAR_TRAITS", "STYLES", "SUBJECTS", "VOCABULARY",
    "SimulatedRater", "Traits", "WorldImage", "WorldPlan", "new_rater_csv", "plan_world", "population_liking",
    "prompt_from_traits", "rate_matrix", "render", "simulated_newcomer", "simulated_participants",
    "traits_from_prompt", "traits_named_in", "with_traits", "world_images", "world_prompt", "write_world",
]  # fmt: skip

# Share of images of each group, and of works of art among them: chosen so that 35 % of all ratings are of art
# (DOMAIN).
_GROUP_SHARE = {
    "abstract": (0.05, 1.0), "animal": (0.06, 0.45), "architecture": (0.05, 0.2), "automotive": (0.04, 0.0),
    "cinematic": (0.06, 0.0), "cityscape": (0.06, 0.45), "fashion": (0.06, 0.0), "flower painting": (0.05,
    1.0),
    "food": (0.05, 0.0), "landscape": (0.09, 0.62), "lifestyle": (0.05, 0.0), "portrait": (0.12, 0.62),
    "product": (0.05, 0.0), "scene": (0.05, 0.55), "special": (0.03, 0.0), "sports": (0.03, 0.0),
    "still life": (0.06, 0.65), "street": (0.05, 0.2), "travel": (0.05, 0.0),
}  # fmt: skip
_ABSTRACT_STYLES = (
    "Abstract_Expressionism", "Color_Field_Painting", "Minimalism", "Analytical_Cubism", "Synthetic_Cubism",
    "Cubism",
)  # fmt: skip
_FIGURATIVE_STYLES = tuple(s for s in STYLES if s not in _ABSTRACT_STYLES[:3])
_MENTION = 0.5  # the share of scalar traits that a prompt puts into words

# The released ratings' shape: ratings, and of these in (val_seen, val_unseen, test_seen, test_unseen);
# images, and of these for (val, test); people, and of these for (val_unseen, test_unseen). How the last two
# divide is not published.
_RATINGS, _SPLIT_RATINGS = 69_904, (6_551, 926, 9_735, 2_470)
_IMAGES, _SPLIT_IMAGES = 5_077, (579, 944)
_PEOPLE, _SPLIT_PEOPLE = 199, (12, 31)


@dataclass(frozen=True)
class WorldImage:
    """One image of a world: `render(prompt, seed)` paints it; `path` is relative to the world's folder."""

    image_id: int
    prompt: str
    seed: int
    part: str
    path: str

    @property
    def traits(self) -> Traits:
        """`traits_from_prompt(prompt, seed)`."""
        return traits_from_prompt(self.prompt, self.seed)


@dataclass(frozen=True)
class WorldPlan:
    """A world before it is painted: who rates which image in which split.

    `images[i].part` is train, val or test. `pairs[split]` is an int array (R, 2) of (index into `people`,
    index into `images`), sorted, without repetition. `ratings[split]` (R,) are the ratings, 1..5.
    """

    people: list[SimulatedRater]
    images: list[WorldImage]
    pairs: dict[str, np.ndarray]
    ratings: dict[str, np.ndarray]
    seed: int


@lru_cache(maxsize=2)
def _phrase_choices(kind: str) -> dict[str, list[str]]:
    """Phrases of each scalar that suit a photograph or a work of art and name neither subject nor style."""
    other = "Art" if kind == "Photorealism" else "Photorealism"
    banned = {phrase for phrase, value in VOCABULARY["type"].items() if value == other}
    banned |= set(VOCABULARY["style"]) | set(VOCABULARY["group"])
    brush = {p for p in VOCABULARY["roughness"] if "brush" in p or "palette" in p or "drawing" in p or p == "gouache"}
    banned |= brush if kind == "Photorealism" else {"film grain", "grainy", "3d render"}
    return {name: [p for p in VOCABULARY[name] if p not in banned] for name in SCALARS}


def world_prompt(rng: np.random.Generator) -> str:
    """A prompt as worlds have them: a subject, phrases for half of the scalar traits, a style for art."""
    share = np.array([_GROUP_SHARE[g][0] for g in GROUPS])
    group = GROUPS[int(np.searchsorted(np.cumsum(share / share.sum()), rng.random()))]
    kind = "Art" if rng.random() < _GROUP_SHARE[group][1] else "Photorealism"
    nouns = SUBJECTS[group]
    parts = [nouns[int(rng.integers(len(nouns)))]]
    for name in SCALARS:
        words = _phrase_choices(kind)[name]
        word = words[int(rng.integers(len(words)))]
        if rng.random() < _MENTION:
            parts.append(word)
    if kind == "Art":
        styles = _ABSTRACT_STYLES if group == "abstract" else _FIGURATIVE_STYLES
        parts.append(f"{styles[int(rng.integers(len(styles)))].replace('_', ' ')} painting")
    elif rng.random() < 0.5:
        parts.append("photo")
    return ", ".join(parts)


def _assign(
    rng: np.random.Generator, people: np.ndarray, images: np.ndarray, ratings: int, seen: np.ndarray
) -> np.ndarray:
    """`ratings` distinct (person, image) pairs, shared out evenly among the people; the images least rated so
    far (`seen`, updated) come first, so that none is left without a rating."""
    per_person = np.full(len(people), ratings // len(people))
    per_person[: ratings % len(people)] += 1
    pairs = []
    for person, count in zip(people, per_person.tolist()):
        chosen = np.sort(np.argsort(seen[images] + rng.random(len(images)), kind="stable")[:count])
        seen[images[chosen]] += 1
        pairs.append(np.stack([np.full(count, person), images[chosen]], axis=1))
    return np.concatenate(pairs)


def plan_world(
    people: int = 199,
    images: int = 5_077,
    ratings: int = 69_904,
    seed: int = 0,
    support_unseen: bool | None = None,
) -> WorldPlan:
    """Lays out a world in the released ratings' proportions; at the default size, in its very numbers.

    Unseen people are not in training, images of val and test are not in train. `support_unseen` adds a split
    of that name, on top of `ratings`: each unseen person on up to 100 training images, for few-shot fitting
    (default: on, but off at the default size, which the released ratings have without it).

    Raises:
        ValueError: too few people (8), images (40) or ratings for the splits, or more than there are pairs.
    """
    if people < 8 or images < 40:
        raise ValueError(f"people={people}, images={images}: a world needs at least 8 people and 40 images")
    if support_unseen is None:
        support_unseen = (people, images, ratings) != (_PEOPLE, _IMAGES, _RATINGS)
    rng = np.random.default_rng([int(seed) % 2**63, 5])
    val_images, test_images = (round(images * part / _IMAGES) for part in _SPLIT_IMAGES)
    val_people, test_people = (max(1, round(people * part / _PEOPLE)) for part in _SPLIT_PEOPLE)
    counts = [round(ratings * part / _RATINGS) for part in _SPLIT_RATINGS]
    everyone = rng.permutation(people)
    seen_people = np.sort(everyone[val_people + test_people :])
    unseen = {
        "val": np.sort(everyone[:val_people]),
        "test": np.sort(everyone[val_people : val_people + test_people]),
    }
    order = rng.permutation(images)
    of = {
        "val": np.sort(order[:val_images]),
        "test": np.sort(order[val_images : val_images + test_images]),
        "train": np.sort(order[val_images + test_images :]),
    }
    wanted = {
        "train": (seen_people, of["train"], ratings - sum(counts)),
        "val_seen": (seen_people, of["val"], counts[0]),
        "val_unseen": (unseen["val"], of["val"], counts[1]),
        "test_seen": (seen_people, of["test"], counts[2]),
        "test_unseen": (unseen["test"], of["test"], counts[3]),
    }
    if support_unseen:
        newcomers = np.sort(np.concatenate([unseen["val"], unseen["test"]]))
        wanted["support_unseen"] = (newcomers, of["train"], len(newcomers) * min(100, len(of["train"])))
    pairs, rated = {}, np.zeros(images, int)
    for split, (who, what, count) in wanted.items():
        if not len(who) <= count <= len(who) * len(what):
            raise ValueError(
                f"ratings={ratings} puts {count} into {split}: {len(who)} people, {len(what)} images; "
                f"between {len(who)} and {len(who) * len(what)} fit; change ratings, people or images"
            )
        pairs[split] = _assign(rng, who, what, count, rated if split != "support_unseen" else rated.copy())
    if rated.min() == 0:
        raise ValueError(f"ratings={ratings} leave {int((rated == 0).sum())} images without any: ask for more ratings")

    part_of = {int(i): part for part, members in of.items() for i in members}
    drawn = [
        WorldImage(
            image_id=i + 1,
            prompt=world_prompt(rng),
            seed=seed * 1_000_003 + i + 1,
            part=part_of[i],
            path=f"images/simulated_{i + 1:05d}.png",
        )
        for i in range(images)
    ]
    raters = simulated_participants(people, seed)
    matrix = rate_matrix(raters, [image.traits for image in drawn], [image.seed for image in drawn])
    scores = {split: matrix[rows[:, 0], rows[:, 1]] for split, rows in pairs.items()}
    return WorldPlan(raters, drawn, pairs, scores, seed)


def _rows(plan: WorldPlan, split: str) -> list[dict]:
    rows = []
    for (person, index), score in zip(plan.pairs[split].tolist(), plan.ratings[split].tolist()):
        rater, image = plan.people[person], plan.images[index]
        traits = image.traits
        rows.append(
            {
                "participant_id": rater.participant_id,
                "image_id": image.image_id,
                # The release writes some paths with a leading "./"; so does its likeness.
                "image_path": ("./" if image.image_id % 7 == 0 else "") + image.path,
                "original_score": score,
                "image_metadata": {
                    "prompt": image.prompt, "group": traits.group, "style": traits.style, "type": traits.type,
                },
                "user_demographics": dict(rater.demographics),
            }
        )  # fmt: skip
    return rows


_README = """# Simulated ratings (no real people, no real images)

Everything in this folder is **simulated** by `pamela_hf.simulation.world`, for an offline demo and for tests: the
images are procedural drawings, the raters are formulas, their demographics are invented, and the effect of an
age, a gender or a nationality on taste is an arbitrary draw. Nothing here may be quoted as a finding about
people or as a benchmark.

- seed {seed}; {people} simulated people; {images} images of {size} x {size} pixels; {total} ratings, 1..5
- `annotations/simulated_<split>.json`: rows in the layout of the PAMELA release: {splits}
- `images/*.png`: each says in its PNG text that it is simulated, with the prompt and the seed that paint it
  again

Group, type and style means follow aggregates of the released ratings; the shares of consensus and noise are
calibrated so that an image's true mean ranks a rater's ratings with SROCC about .64, and the same rater a
second time with about .875.
"""


def write_annotations(plan: WorldPlan, folder: str | os.PathLike[str]) -> None:
    """Writes `folder/annotations/simulated_<split>.json`, the ratings of a plan without its images."""
    annotations = Path(folder) / "annotations"
    annotations.mkdir(parents=True)
    for split in plan.pairs:
        text = json.dumps(_rows(plan, split), ensure_ascii=False)
        (annotations / f"simulated_{split}.json").write_text(text, encoding="utf-8")


def write_world(
    out: str | os.PathLike[str],
    people: int = 199,
    images: int = 5_077,
    ratings: int = 69_904,
    seed: int = 0,
    size: int = 64,
    progress: bool = True,
    support_unseen: bool | None = None,
) -> WorldPlan:
    """Plans a world (see `plan_world`), paints it and writes it to `out` as a ratings folder; returns the
    plan.

    Writes `annotations/simulated_<split>.json`, `images/simulated_<id>.png` and a README that says what this
    is. The same arguments write the same bytes. Everything goes to a temporary folder beside `out` first,
    which takes its name at the end: `out` is whole or absent.

    Raises:
        FileExistsError: `out` is a file or a folder that isn't empty.
        ValueError: as in `plan_world` and `render`.
    """
    from PIL.PngImagePlugin import PngInfo
    from tqdm import tqdm

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"out={str(out)!r} exists and is not an empty folder: name a new one, or remove it first")
    plan = plan_world(people, images, ratings, seed, support_unseen)
    with replacing_folder(out) as staged:
        (staged / "images").mkdir()
        for image in tqdm(plan.images, desc="simulated images", disable=not progress):
            note = PngInfo()
            note.add_text("Source", "simulated by pamela_hf.simulation.world: no real image, no real rating")
            note.add_text("prompt", image.prompt)
            note.add_text("seed", str(image.seed))
            render(image.prompt, image.seed, size).save(staged / image.path, pnginfo=note, compress_level=6)
        write_annotations(plan, staged)
        counts = {split: len(rows) for split, rows in plan.pairs.items()}
        splits = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        readme = _README.format(
            seed=seed, people=people, images=images, size=size, splits=splits, total=sum(counts.values())
        )
        (staged / "README.md").write_text(readme, encoding="utf-8")
    return plan


def world_images(world: str | os.PathLike[str]) -> list[WorldImage]:
    """The images of a world that `write_world` wrote, by image id, each with the prompt and the seed that
    paint it.

    Raises:
        FileNotFoundError: `world` holds no `annotations/simulated_*.json`, or one of the images is missing.
    """
    from PIL import Image

    world, found = Path(world), {}
    files = sorted((world / "annotations").glob("simulated_*.json"))
    if not files:
        raise FileNotFoundError(f"world={str(world)!r} has no annotations/simulated_*.json: make one with write_world")
    for file in files:
        split = file.stem.removeprefix("simulated_")
        part = "train" if split == "support_unseen" else split.split("_")[0]
        for row in json.loads(file.read_text(encoding="utf-8")):
            found.setdefault(int(row["image_id"]), (row, part))
    images = []
    for image_id, (row, part) in sorted(found.items()):
        path = row["image_path"].removeprefix("./")
        with Image.open(world / path) as picture:
            seed = int(picture.text["seed"])
        images.append(WorldImage(image_id, row["image_metadata"]["prompt"], seed, part, path))
    return images


def new_rater_csv(
    world: str | os.PathLike[str],
    out: str | os.PathLike[str],
    ratings: int = 60,
    seed: int = 0,
    part: str = "train",
) -> SimulatedRater:
    """A simulated newcomer rates `ratings` images of a world: writes the CSV `image,score,prompt` and
    returns the person.

    `image` is the path relative to `world` (`images/simulated_00001.png`), `score` 1..5, `prompt` what the image was
    painted from. `part` says which images are drawn from: train, val or test.

    Raises:
        ValueError: that part of the world has fewer images than `ratings`.
    """
    images = [image for image in world_images(world) if image.part == part]
    if not 1 <= ratings <= len(images):
        raise ValueError(f"ratings={ratings}: the {part} images of {str(world)!r} allow 1..{len(images)}")
    person = simulated_newcomer(seed)
    order = np.argsort(hash_uniform(seed, 21, np.arange(len(images))))[:ratings]
    rated = [images[i] for i in np.sort(order)]
    lines = [(image.path, person.rate(image.prompt, image.seed), image.prompt) for image in rated]
    with replacing_file(out) as staged, staged.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "score", "prompt"), *lines])
    return person
