"""Scores of all images of a folder, written whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ..encoder import FrozenEncoder
from ..files.csv import open_table
from ..files.escaping import csv_cell, writable_name
from ..files.folders import NameFinder, walk
from ..files.images import IMAGE_SUFFIXES, ImageError, open_image
from ..files.writing import replacing_file, write_text
from ..folder_cache import embed_folder
from ..model.configuration_pamela import PamelaConfig
from .mode import scoring_mode
from .scorer import Head, PamelaScorer

FEATURES_AT_A_TIME = 512  # images scored from features that are there already


def score_folder(
    scorer: PamelaScorer,
    images: str | os.PathLike,
    output: str | os.PathLike | None = None,
    *,
    prompts: str | Path | pd.DataFrame | None = None,
    user: str | Head | None = None,
    scale: str | None = None,
    embeddings: str | os.PathLike | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Scores every image of a folder for one person.

    What can be checked is checked before the first score. An image that cannot be read never ends the run: it is left
    out, with its reason. One picture is decoded at a time, whatever their number and sizes.

    Args:
        scorer: the model.
        images: a folder, walked as [`pamela_hf.files.folders.walk`] does, or one file.
        output: a `.csv` or `.parquet` file to write as well, whole or not at all; beside it `….skipped.csv` with the
            columns `image,reason` where images were left out. In a CSV, names that a spreadsheet would take for
            formulas have an apostrophe in front ([`pamela_hf.files.escaping.csv_cell`]).
        prompts: one text for all images, or the `Path` of a table (or a DataFrame) with columns `image` and any of
            `prompt` and the model's metadata fields.
        user: a trained participant or a head; `None` = everyone's taste.
        scale: rating scale of the scores; default: the model's.
        embeddings: a file that keeps the folder's features from run to run ([`pamela_hf.folder_cache`]): images that
            it knows are not encoded again. Default: nothing is kept. The scores are the same.
        batch_size: images the encoder takes at a time.
        progress: show a progress bar.

    Returns:
        Table with columns `image` (path below the folder; bytes that are not UTF-8 written as `\\xff`), `score`, `std`,
        best first. Its `attrs["skipped"]` lists (image, reason) of those left out.

    Raises:
        FileNotFoundError: `images` does not exist. ValueError: no images there, or none that can be read; a table
            without these columns; an unknown user or scale; an output of another format. EmbeddingError: `embeddings`
            is damaged or was made by another encoder.
    """
    folder = Path(images)
    output = None if output is None else Path(output)
    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise ValueError(f"output {output} must end in .csv or .parquet.")
    scorer.encode_people(1, user)
    scorer.processor.scale_id(scale)
    facts = None if prompts is None or isinstance(prompts, str) else image_facts(prompts, folder, scorer.config)
    total = _count_images(folder, facts, prompts)
    with staged_scores(output) as part:
        names: list[str] = []
        scores: list[np.ndarray] = []
        skipped: list[tuple[str, str]] = []
        bar = tqdm(total=total, desc="scoring images", disable=not progress)
        if embeddings is None:
            batches = _encoded_batches(scorer, folder, batch_size, skipped, bar)
        else:
            batches = _cached_batches(scorer, folder, embeddings, batch_size, skipped, bar)
        for of_batch, what in batches:
            of = [facts.get(name, {}) if facts is not None else {"prompt": prompts} for name in of_batch]
            names += of_batch
            scores.append(score_batch(scorer, of, user, scale, **what))
        bar.close()
        if not names:
            raise ValueError(f"{folder}: none of {total} images can be read: {skipped[0][0]}: {skipped[0][1]}")
        score, std = np.concatenate(scores, 1)
        table = best_first(pd.DataFrame({"image": names, "score": score, "std": std}))
        if part is not None:
            write_scores(table, skipped, output, part)
    table.attrs["skipped"] = skipped
    return table


def score_batch(
    scorer: PamelaScorer,
    facts: Sequence[Mapping[str, str | None]],
    user: str | Head | None = None,
    scale: str | None = None,
    **what: Any,
) -> np.ndarray:
    """Scores n images for one person: what every run over many images does with each of its batches.

    Args:
        scorer: the model.
        facts: n of what is known of an image: `prompt`, and values of the model's metadata fields; others are unknown.
        user: a trained participant or a head; `None` = everyone's taste.
        scale: rating scale of the scores; default: the model's.
        what: `images` (opened) or `image_embeds`, as [`PamelaScorer.score`] takes them.

    Returns:
        `(2, n)`: scores, and their standard deviations in rating units.
    """
    result = scorer.score(
        prompts=[fact.get("prompt") for fact in facts],
        user=user,
        metadata=[{k: v for k, v in fact.items() if k != "prompt"} for fact in facts],
        scale=scale,
        batch_size=len(facts),
        **what,
    )
    return np.stack([result.scores, result.std])


def best_first(table: pd.DataFrame) -> pd.DataFrame:
    """A table of scores in the order that it is written in; of equal scores, in the order that it has."""
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def skipped_path(output: str | os.PathLike) -> Path:
    """Where the images are listed that could not be read: `scores.csv` → `scores.skipped.csv`."""
    return Path(output).with_suffix(".skipped.csv")


def image_facts(table: Any, folder: Path, config: PamelaConfig) -> dict[str, dict[str, str]]:
    """Image's name in a walk of `folder` → what a table (see [`score_folder`]) tells of it: `prompt` and metadata."""
    known = ("prompt", *config.metadata)
    opened = open_table(table, [("image", fact) for fact in known], known)
    finder = NameFinder(folder.parent if folder.is_file() else folder)
    facts = {}
    for number, row in opened.rows():
        if None in row:
            raise ValueError(f"{opened.where(number)}: {row[None]} Put cells that hold a separator in quotes.")
        if not row["image"]:
            raise ValueError(f"{opened.where(number)}: image is empty. Name one, or remove the row.")
        try:
            name = writable_name(finder.find(str(row["image"])))
        except ValueError as error:
            raise ValueError(f"{opened.where(number)}: image {error}. Correct the row.") from None
        facts[name] = {fact: str(row[fact]) for fact in known if row.get(fact)}
    return facts


def _count_images(folder: Path, facts: Mapping[str, Any] | None, table: Any) -> int:
    total, missing = 0, set(facts or ())
    for found in walk(folder):
        total += 1
        missing.discard(found.name)
    if not total:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES)[:6])}, …).")
    if missing:
        raise ValueError(f"{table} names {min(missing)!r}, which is not an image of {folder}.")
    return total


def _encoded_batches(
    scorer: PamelaScorer, folder: Path, batch_size: int, skipped: list[tuple[str, str]], bar: tqdm
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Names and features of a walk's images, a batch at a time, the features as [`PamelaScorer.score`] takes them;
    images that cannot be read go to `skipped` with their reasons."""
    encoder, readable = scorer.encoder, _prepared_images(scorer.encoder, folder, skipped, bar)
    while batch := list(islice(readable, batch_size)):
        with scoring_mode(scorer.model):
            features = encoder.encode_prepared([prepared for _, prepared in batch])
        yield [name for name, _ in batch], {"image_embeds": features}


def _prepared_images(
    encoder: FrozenEncoder, folder: Path, skipped: list[tuple[str, str]], bar: tqdm
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Name of each readable image of a walk, and what the encoder takes of it."""
    for found in walk(folder):
        bar.update()
        try:
            if found.problem is not None:
                raise ImageError(f"{found.name}: {found.problem}.")
            yield found.name, encoder.prepare_image(np.asarray(open_image(found.path, found.name)), found.name)
        except ImageError as error:
            skipped.append((found.name, str(error).removeprefix(f"{found.name}: ")))


def _cached_batches(
    scorer: PamelaScorer,
    folder: Path,
    embeddings: str | os.PathLike,
    batch_size: int,
    skipped: list[tuple[str, str]],
    bar: tqdm,
) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """As [`_encoded_batches`], with features that a file keeps."""
    found = embed_folder(folder, embeddings, _OwnEncoder(scorer), batch_size=batch_size, progress=not bar.disable)
    skipped += found.skipped.items()
    bar.update(len(found.skipped))
    features = torch.from_numpy(found.embeddings.image_embeds)
    for start in range(0, len(features), FEATURES_AT_A_TIME):
        names = found.embeddings.image_ids[start : start + FEATURES_AT_A_TIME]
        yield names, {"image_embeds": features[start : start + FEATURES_AT_A_TIME]}
        bar.update(len(names))


class _OwnEncoder:
    """A scorer's own encoder, as [`pamela_hf.folder_cache.Source`]."""

    def __init__(self, scorer: PamelaScorer):
        self._scorer = scorer
        config = scorer.config
        self.made_by = {
            "backbone": config.backbone, "revision": config.backbone_revision, "preprocessing": config.preprocessing,
        }  # fmt: skip
        self.stamp = json.dumps([*self.made_by.values(), str(scorer.model.dtype)])

    @property
    def encoder(self) -> FrozenEncoder:
        return self._scorer.encoder


@contextmanager
def staged_scores(output: Path | None) -> Iterator[Path | None]:
    """Where to write what `output` becomes when all went well; a place that cannot be written to is known at once."""
    if output is None:
        yield None
        return
    if output.is_dir():
        raise ValueError(f"output {output} is a folder. Name a .csv or .parquet file.")
    with replacing_file(output) as part:
        yield part


def write_skipped(path: str | os.PathLike, skipped: Iterable[tuple[str, str]]) -> None:
    """Lists images that were left out in a CSV with columns `image,reason`; of none, removes that of an earlier run.

    Args:
        path: the CSV file, such as [`skipped_path`] names it.
        skipped: image and reason.
    """
    rows = [(csv_cell(writable_name(image)), csv_cell(writable_name(reason))) for image, reason in skipped]
    if rows:
        write_text(path, pd.DataFrame(rows, columns=["image", "reason"]).to_csv(index=False))
    else:
        Path(path).unlink(missing_ok=True)


def write_scores(table: pd.DataFrame, skipped: list[tuple[str, str]], output: Path, part: Path) -> None:
    """Writes scores to `part`, staged for `output`, and beside that the list of images that were left out."""
    write_skipped(skipped_path(output), skipped)
    if output.suffix == ".parquet":
        table.to_parquet(part)
    else:
        table.assign(image=[csv_cell(name) for name in table["image"]]).to_csv(part, index=False)
