"""Which photos of a library to star next: those that, with the starred ones, stand for all."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..files.escaping import csv_cell
from ..files.writing import write_text
from .taste import (
    BASE,
    SKIPPED,
    STARS,
    Choices,
    answers_of,
    group_photos,
    load_base,
    open_library,
    problems_of,
    score_photos,
)  # fmt: skip

if TYPE_CHECKING:
    from ..heads.head import UserHead
    from ..scoring import PamelaScorer

PAGE, LIST = "suggestions.html", "suggestions.csv"
CANDIDATES = 2_000  # photos that are asked about and stood for; of more, a part drawn by their names


@dataclass
class Suggestions:
    """What to star next.

    Attributes:
        photos: files, the next one first.
        message: whether going on is worth it, in words.
        enough: more stars are expected to add hardly anything.
    """

    photos: list[Path]
    message: str
    enough: bool


def suggest_photos(
    folder: str | os.PathLike,
    name: str,
    output: str | os.PathLike,
    n: int = 24,
    *,
    model: str | os.PathLike | None = None,
    encoder: str | None = None,
    choices: Choices | None = None,
    embeddings: str | os.PathLike | None = None,
    device: str | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> Suggestions:
    """Finds the photos without stars that, with the starred ones, stand for all, and writes `suggestions.html` and
    `.csv`, and `skipped.csv` if a file could not be read.

    Of near-duplicates one is asked about. A library without any stars is where to begin.

    Args:
        folder: as in [`pamela_hf.photos.taste.learn_taste`].
        name: as in `learn_taste`.
        output: as in `learn_taste`.
        n: how many photos, at least 1; default: 24.
        model: as in `learn_taste`.
        encoder: as in `learn_taste`.
        choices: as in `learn_taste`.
        embeddings: as in `learn_taste`, whose cache is used.
        device: as in `learn_taste`.
        batch_size: as in `learn_taste`; default: 32.
        progress: as in `learn_taste`; default: True.

    Raises:
        ValueError: no photos, and as `learn_taste`.
    """
    from ..scoring import write_skipped

    output = Path(output)
    if n < 1:
        raise ValueError(f"n={n!r} must be 1 or more.")
    opened = open_library(
        folder, name, output, model=model, encoder=encoder, choices=choices or Choices(), embeddings=embeddings,
        device=device, batch_size=batch_size, progress=progress,
    )  # fmt: skip
    library, features, source = opened.library, opened.features, opened.source
    problems = problems_of(opened)
    write_skipped(output / SKIPPED, problems)
    files = {photo.name: photo.path for photo in library.photos}
    known = features.embeddings
    scorer = load_base(model, known, source, output / BASE)
    answers = answers_of(library.photos, known, "ignore")
    if len(answers):
        from ..heads.head import UserHead

        head = UserHead.fit(
            scorer, answers.ratings, name=name, likes=answers.likes, rating_range=STARS, embeddings=known
        )
    else:
        head = _of_nobody(scorer, name)
    answered = {one for one, _ in (*answers.ratings, *answers.likes)}
    candidates = _one_a_group(known.image_ids, answered, group_photos(features))
    if not candidates:
        return Suggestions([], "Every photo has stars, or one that shows nearly the same has.", True)
    candidates += sorted(answered)  # they are not asked about, but stand for others
    found = head.suggest(scorer, candidates, n, embeddings=known)
    picked = [candidates[i] for i in found.images]
    scores, std = score_photos(scorer, head, known.subset(picked))
    table = pd.DataFrame({"image": picked, "score": np.round(scores, 4), "std": np.round(std, 4)})
    write_text(output / LIST, table.assign(image=table["image"].map(csv_cell)).to_csv(index=False))
    told = bool(len(answers)) or model is not None  # a blank base expects the same of every photo
    write_text(output / PAGE, _page(output, name, table, files, found.message, len(problems), told))
    return Suggestions([files[one] for one in picked], found.message, found.enough)


def _one_a_group(names: list[str], answered: set[str], groups: dict[str, int]) -> list[str]:
    """One photo of each group of near-duplicates of which none has an answer; at most [`CANDIDATES`] of them."""
    seen = {groups[one] for one in answered}
    out = []
    for one in sorted(names, key=lambda one: hashlib.sha256(one.encode()).digest()):
        if groups[one] not in seen and len(out) < CANDIDATES:
            seen.add(groups[one])
            out.append(one)
    return out


def _of_nobody(scorer: "PamelaScorer", name: str) -> "UserHead":
    """A head before any answer: the prior."""
    from ..heads.folder import check_name
    from ..heads.head import UserHead, prior_of

    covariance = prior_of(scorer.model)
    return UserHead(
        check_name(name), np.zeros(len(covariance), np.float32), scorer.config.hidden_size, scorer.identity,
        row_std=np.sqrt(np.diag(covariance)).astype(np.float32), covariance=covariance,
    )  # fmt: skip


def _page(
    output: Path, name: str, table: pd.DataFrame, files: dict[str, Path], message: str, skipped: int, told: bool
) -> str:
    """The contact sheet; `told`: whether anything is known that tells the photos apart."""
    from .page import Sheet, render

    captions = [f"{row.score:.1f} ± {row.std:.1f}" if told else "" for row in table.itertuples()]
    photos = [(files[image], caption) for image, caption in zip(table["image"], captions)]
    text = "With those that have stars, these stand for the whole library."
    text += " The figure is what is expected so far." if told else ""
    return render(
        output, name=name, title=f"What {name} could star next", counts=f"{len(photos)} photos.", leads=[message],
        notes=[], figures={}, sheets=[Sheet("Star these next", text, photos)], skipped=skipped,
    )  # fmt: skip
