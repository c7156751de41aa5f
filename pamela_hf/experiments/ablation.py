"""Ablations and learning curves: a grid of trainings, each judged person by person, that can be stopped and resumed.

A variant is `full`, `no_PIECE` (without one of [`TrainingConfig.without`]'s pieces; `no_user+prompt`: without both),
`user_only` or `image_only` (beside the image the user alone, or nothing), or a point of a learning curve: `full`
trained on part of the people, of the images, or of each person's ratings. Parts are random and nested: with one seed,
what 20 people make up is in what 50 make up. Only the train split is ever cut; everybody in val and test is judged as
always, so who was left out of the training is unknown there.

Every cell (variant × seed) is trained, judged and written to `cells/HASH.json`, HASH being over all that defines it:
configuration, pieces, part, seed, splits, the content of ratings and features, this package's version. The same command
again trains only what is missing or damaged. In a checkout whose code you change, take a new folder: the version alone
doesn't tell. A second process on the same folder is refused.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformers.utils import logging

from ..embeddings import Embeddings
from ..evaluation.evaluate import rating_levels
from ..files.writing import claimed, write_json
from ..metrics import METRICS, judge
from ..ratings.table import RatingData
from ..reports.files import write_report
from ..scoring import PamelaScorer
from ..training.config import PIECES, TrainingConfig
from ..training.run import build_config
from ..training.train import load_sources, train
from ..version import __version__
from .ablation_page import ablation_report, render_ablation

ONLY = {
    "user_only": ("demographics", "metadata", "prompt"),
    "image_only": ("user", "demographics", "metadata", "prompt"),
}
VARIANTS = ("full", *(f"no_{piece}" for piece in PIECES), *ONLY)
PARTS = ("users", "images", "ratings_per_user")
BOOTSTRAP = 1000  # draws kept in a cell, for what isn't a mean over people


@dataclass(frozen=True)
class Variant:
    """A way to train: pieces left out, or (one of `PARTS`, how many) of the train split."""

    name: str
    without: tuple[str, ...] = ()
    part: tuple[str, int] | None = None


def run(
    data: str | os.PathLike,
    output: str | os.PathLike,
    *,
    config: TrainingConfig | None = None,
    variants: Iterable[str] = VARIANTS,
    seeds: Sequence[int] = (0, 1, 2),
    users: Sequence[int] = (),
    images: Sequence[int] = (),
    ratings_per_user: Sequence[int] = (),
    splits: Sequence[str] | None = None,
    keep_models: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """What `scripts/ablate.py` and `pamela ablate` do: train and judge what is missing of the grid, write the report.

    Args:
        data: ratings folder with features, as for training.
        output: folder for `ablation.json`, `ablation.html`, `cells/` and, with `keep_models`, `models/`.
        config: of all trainings; its seed is replaced by each of `seeds`.
        variants: names as above; `full` is always among them. By default, all.
        seeds: seeds of training and of the parts; default: 0, 1 and 2.
        users: points of the learning curve over the number of people; default: none.
        images: points of the learning curve over the number of images; default: none.
        ratings_per_user: points of the learning curve over the ratings of each person; default: none.
        splits: to judge on; default: the val splits there are. Choose on these only; test splits are for the final
            claim.
        keep_models: leave each cell's model in `models/VARIANT-seedN-HASH`.

    Returns:
        The report, see `pamela_hf.experiments.ablation_page`.

    Raises:
        ValueError: an unknown variant or split, no seed, a size below 1.
        InUseError: another process works on `output`.
    """
    config, output = config or TrainingConfig(), Path(output)
    ratings, embeddings = load_sources([data])
    curves = {"users": users, "images": images, "ratings_per_user": ratings_per_user}
    planned, skipped = plan(config, ratings, embeddings, variants, curves)
    chosen = [s for s in ratings.splits if s.startswith("val_")] if splits is None else list(splits)
    if not chosen or (unknown := [split for split in chosen if split not in ratings.splits]):
        raise ValueError(f"splits={chosen if not chosen else unknown}; the data has {sorted(ratings.splits)}.")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={list(seeds)}; give at least one, each once, such as 0,1,2.")
    with claimed(output):
        grid = _Grid(config, ratings, embeddings, output, chosen, keep_models)
        cells: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in planned}
        asked = [(variant, seed) for seed in seeds for variant in planned]
        with tqdm(total=len(asked), desc="ablations", unit="cell", disable=not progress) as bar:
            for variant, seed in asked:  # seed by seed: an unfinished grid already compares all variants
                bar.set_postfix_str(f"{variant.name} seed {seed}")
                cells[variant.name].append(grid.cell(variant, seed))
                bar.update()
        train_table = ratings.splits["train"]
        meta = {
            "version": __version__,
            "data": ratings.name,
            "simulated": ratings.name == "simulated",
            "seeds": list(seeds),
            "bootstrap": BOOTSTRAP,
            "skipped": skipped,
            "config": dataclasses.asdict(config),
            "sizes": {part: available(train_table, part) for part in PARTS},
            "trained": grid.trained,
            "counts": {s: _counts(ratings.splits[s]) for s in chosen},
        }
        parts = {variant.name: variant.part for variant in planned}
        report = ablation_report(cells, parts, meta)
        write_report(report, output, render_ablation, "ablation")
    return report


def plan(
    config: TrainingConfig,
    data: RatingData,
    embeddings: Embeddings,
    variants: Iterable[str] = VARIANTS,
    curves: Mapping[str, Sequence[int]] = {},
) -> tuple[list[Variant], dict[str, str]]:
    """The variants that can be trained on these ratings, `full` first, and of the others why not.

    Raises:
        ValueError: a variant that does not exist (with those that do), a size below 1.
    """
    missing = _missing_pieces(config, data, embeddings)
    found, skipped = [Variant("full")], {}
    for name in dict.fromkeys(variants):
        if name == "full":
            continue
        pieces = ONLY.get(name) or tuple(name.removeprefix("no_").split("+"))
        if name not in ONLY and (not name.startswith("no_") or set(pieces) - set(PIECES)):
            raise ValueError(
                f"variants has {name!r}; there are {', '.join(VARIANTS)}, and no_A+B for several pieces at once."
            )
        there = tuple(sorted(set(pieces) - set(missing)))
        if there:
            found.append(Variant(name, there))
        else:
            skipped[name] = "; ".join(missing[piece] for piece in pieces)
    for part, sizes in curves.items():
        most = available(data.splits["train"], part)
        for size in sorted(set(sizes)):
            if size < 1:
                raise ValueError(f"{part}={size}; a point of a learning curve is at least 1.")
            if size < most:
                found.append(Variant(f"{part}={size}", part=(part, size)))
            else:
                skipped[f"{part}={size}"] = f"train has {most}, which is `full`"
    return found, skipped


def _missing_pieces(config: TrainingConfig, data: RatingData, embeddings: Embeddings) -> dict[str, str]:
    """Piece → why leaving it out would change nothing here."""
    full = build_config(config, data, embeddings).to_dict()
    missing = {}
    for piece in PIECES:
        if piece in config.without:
            missing[piece] = f"the configuration is without {piece} already"
        elif piece == "pairwise":
            if config.pairwise_weight == 0:
                missing[piece] = "pairwise_weight is 0 in the configuration"
        elif piece == "prompt" and embeddings.text_embeds is not None and not embeddings.text_embeds.any():
            missing[piece] = "no image has a prompt"
        elif piece != "ordinal":
            without = replace(config, without=[*config.without, piece])
            if build_config(without, data, embeddings).to_dict() == full:
                missing[piece] = f"neither ratings nor configuration have any {piece}"
    return missing


def available(train_table: pd.DataFrame, part: str) -> int:
    """How many there are of one of `PARTS`: people, images, or ratings of who gave most."""
    if part == "ratings_per_user":
        return int(train_table["participant_id"].value_counts().max())
    return int(train_table[_ID[part]].nunique())


def nested_part(train_table: pd.DataFrame, part: str, size: int, seed: int) -> pd.DataFrame:
    """The rows of `size` random people or images, or at most `size` random ratings of each person, in their order.

    With one seed a smaller part lies in every larger one. Dealing goes by sorted ids, not by the order of the rows.
    """
    rng = np.random.default_rng([seed, PARTS.index(part)])
    if part == "ratings_per_user":
        ids = train_table[["participant_id", "image_id"]].astype(str).reset_index(drop=True)
        order = ids.sort_values(["participant_id", "image_id"]).index
        lot = pd.Series(rng.permutation(len(ids)), index=order)
        keep = lot.groupby(ids["participant_id"]).rank(method="first") <= size
        return train_table[keep.sort_index().to_numpy()].reset_index(drop=True)
    ids = train_table[_ID[part]].astype(str)
    kept = rng.permutation(np.array(sorted(ids.unique())))[:size]
    return train_table[ids.isin(kept).to_numpy()].reset_index(drop=True)


_ID = {"users": "participant_id", "images": "image_id"}


def data_identity(data: RatingData, embeddings: Embeddings) -> str:
    """sha256 over the content of every split, the rating scales and the features."""
    digest = hashlib.sha256(json.dumps([data.name, data.level_values, embeddings.content_hash()]).encode())
    for split, table in sorted(data.splits.items()):
        digest.update(f"{split}\0{list(table.columns)}\0".encode())
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


class _Grid:
    """Trains and judges cells, or reads those that are there."""

    def __init__(self, config, data, embeddings, output, splits, keep_models):
        self.config, self.data, self.embeddings, self.splits = config, data, embeddings, splits
        self.output, self.keep_models, self.trained = Path(output), keep_models, 0
        self.identity = data_identity(data, embeddings)
        self.work = self.output / ".training"
        (self.output / "cells").mkdir(exist_ok=True)

    def cell(self, variant: Variant, seed: int) -> dict[str, Any]:
        config = replace(self.config, seed=seed, without=sorted({*self.config.without, *variant.without}))
        definition = {
            "config": dataclasses.asdict(config),
            "part": variant.part,
            "splits": self.splits,
            "data": self.identity,
            "version": __version__,
        }
        key = _sha256(definition)[:20]
        path, model = self.output / "cells" / f"{key}.json", self.output / "models" / f"{variant.name}-seed{seed}-{key}"
        found = _read_cell(path, definition, self.splits)
        if found is not None and (not self.keep_models or (model / "config.json").is_file()):
            return found
        cell = {"definition": definition, "name": variant.name, **self._train_and_judge(variant, config)}
        if self.keep_models:
            shutil.rmtree(model, ignore_errors=True)
            model.parent.mkdir(exist_ok=True)
            shutil.rmtree(self.work / "checkpoints", ignore_errors=True)
            os.replace(self.work, model)
        shutil.rmtree(self.work, ignore_errors=True)
        write_json(path, {"sha256": _sha256(cell), "cell": cell})
        self.trained += 1
        return json.loads(json.dumps(cell))  # as it will be read

    def _train_and_judge(self, variant: Variant, config: TrainingConfig) -> dict[str, Any]:
        shutil.rmtree(self.work, ignore_errors=True)  # a cell that was cut off starts anew
        data, start = self.data, perf_counter()
        if variant.part is not None:
            table = nested_part(data.splits["train"], *variant.part, seed=config.seed)
            data = replace(data, splits={**data.splits, "train": table})
        with _no_bars_but_ours():
            scorer = PamelaScorer(train(config, data, self.embeddings, self.work, progress=False))
        judged = {split: self._judge(scorer, split) for split in self.splits}
        counts = _counts(data.splits["train"])
        return {"splits": judged, "train": counts, "seconds": round(perf_counter() - start, 1)}

    def _judge(self, scorer: PamelaScorer, split: str) -> dict[str, Any]:
        """Per-person values in the order of the sorted ids, and draws of what isn't a mean over people."""
        table = self.data.splits[split].reset_index(drop=True)
        predicted = scorer.predict(table, self.embeddings)
        estimates, users = judge(
            predicted.scores,
            table["score"].to_numpy(),
            table["participant_id"].astype(str).to_numpy(),
            table["image_id"].astype(str).to_numpy(),
            predicted.probs,
            predicted.level_values,
            levels=rating_levels(table, self.data.level_values),
            bootstrap=BOOTSTRAP,
        )
        return {
            "per_person": {metric: _plain(users.values[metric]) for metric in users.values},
            "together": {
                metric: {
                    "value": _plain([estimates[metric].value])[0],
                    "draws": _plain(estimates[metric].draws),
                    "n_users": estimates[metric].n_users,
                }
                for metric in METRICS
                if metric not in users.values
            },
        }


def _read_cell(path: Path, definition: Mapping[str, Any], splits: Sequence[str]) -> dict[str, Any] | None:
    """The cell in a file, or None if it does not exist, is damaged or another's."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        cell = stored["cell"]
        whole = stored["sha256"] == _sha256(cell) and _sha256(cell["definition"]) == _sha256(definition)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cell if whole and list(cell["splits"]) == list(splits) else None


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _plain(values: Iterable[float]) -> list[float | None]:
    return [round(float(value), 9) if np.isfinite(value) else None for value in values]


def _counts(table: pd.DataFrame) -> dict[str, int]:
    return {
        "ratings": len(table),
        "participants": int(table["participant_id"].nunique()),
        "images": int(table["image_id"].nunique()),
    }


@contextmanager
def _no_bars_but_ours() -> Iterator[None]:
    """transformers draws a bar for each model saved, across that of the grid."""
    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()
