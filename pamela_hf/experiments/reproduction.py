"""From the released ratings to the paper's tables, step by step, each skipped when its output is whole.

Download, prepare, embed, train, evaluate, ablate, compare. What is the paper's stands beside ours only where the
ratings are the paper's own (`pamela_hf.evaluation.paper.is_papers_release`); simulated ratings are labelled so.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from huggingface_hub import HfApi, hf_hub_download

from ..embeddings import EMBEDDINGS_NAME, EmbeddingError
from ..embeddings import load_embeddings as read_embeddings
from ..encoder import DEFAULT_ENCODER, FrozenEncoder, compute_embeddings
from ..evaluation.evaluate import run as evaluate
from ..evaluation.paper import ABLATION
from ..evaluation.table import metric_table
from ..files.writing import claimed, write_json, write_text
from ..ratings.builder import HUB_ID, load_ratings
from ..ratings.preparation import prepare
from ..training.config import TrainingConfig
from ..training.train import load_sources, train
from ..version import __version__
from .ablation import VARIANTS
from .ablation import run as ablate
from .ablation_page import ablation_table

RELEASE = "bethgelab/PAMELA"
# the model's pieces, and of the three that the paper's ablation is about each alone
PAPER_VARIANTS = (*VARIANTS, "no_demographics+metadata", "no_user+metadata", "no_user+demographics")


def fetch(source: str, revision: str | None = None) -> str:
    """A file, folder or prepared Hub dataset that `load_ratings` reads; a Hub dataset that is one zip is downloaded.

    Raises:
        ValueError: the Hub dataset holds several zips. OSError: it cannot be reached or does not exist.
    """
    if Path(source).exists() or not HUB_ID.fullmatch(source):
        return source
    names = HfApi().list_repo_files(source, repo_type="dataset", revision=revision)
    zips = [name for name in names if name.endswith(".zip")]
    if len(zips) > 1:
        raise ValueError(f"{source} holds {', '.join(zips)}. Download the one you mean and give its path.")
    return hf_hub_download(source, zips[0], repo_type="dataset", revision=revision) if zips else source


def reproduce(
    source: str,
    output: str | os.PathLike,
    config: TrainingConfig,
    *,
    revision: str | None = None,
    baselines: Sequence[str] = (),
    few_shot: Sequence[int] = (10, 20, 50),
    variants: Sequence[str] = PAPER_VARIANTS,
    seeds: Sequence[int] = (0, 1, 2),
    batch_size: int = 32,
) -> str:
    """Runs what is missing in `output` and returns (and writes to `comparison.md`) all figures.

    Args:
        source: Hub id, zip or folder of the ratings.
        output: gets `ratings/`, `model/`, `eval/`, `ablation/`.
        config: of the training; its encoder makes the features (default `DEFAULT_ENCODER`).
        revision: revision of the Hub dataset.
        baselines: as in evaluation; default: none.
        few_shot: as in evaluation; default: 10, 20 and 50.
        variants: variants of the ablation, judged on all val and test splits; default: [`PAPER_VARIANTS`].
        seeds: seeds of the ablation; default: 0, 1 and 2.
        batch_size: images in one forward pass of the encoder; default: 32.

    Raises:
        ValueError: `output` holds a run of other ratings or another configuration.
        FileExistsError: `output` holds something else. InUseError: another process works there.
    """
    out, start = Path(output), perf_counter()
    ratings, model = out / "ratings", out / "model"

    def step(title: str) -> None:
        print(f"[{perf_counter() - start:5.0f} s] {title}", flush=True)

    what = {"source": source, "revision": revision, "version": __version__, **dataclasses.asdict(config)}
    with claimed(out, what, kind="reproduction"):
        if not (ratings / "README.md").is_file():  # written whole or not at all
            step(f"Reading {source}")
            prepare(fetch(source, revision), ratings, progress=True)
        if not _all_embedded(ratings):
            name = config.encoder or DEFAULT_ENCODER
            step(f"Embedding with {name}")
            _embed(ratings, name, batch_size)
        if not (model / "config.json").is_file():  # a model's last file
            step("Training")
            train(config, *load_sources([ratings]), model, resume=(model / "training_config.yaml").is_file())
        report = _whole_report(out / "eval" / "report.json", model, [*baselines], [*few_shot])
        if report is None:
            step("Evaluating, person by person")
            evaluate(model, ratings, out / "eval", baselines=baselines, few_shot=few_shot)
            report = json.loads((out / "eval" / "report.json").read_text(encoding="utf-8"))
            step_note = {"model": _identity(model), "baselines": [*baselines], "few_shot": [*few_shot]}
            write_json(out / "eval" / "made_from.json", {**step_note, "version": __version__})
        step(f"Ablations: {len(variants)} variants, seeds {', '.join(map(str, seeds))} (finished cells are kept)")
        splits = list(report["splits"])
        grid = ablate(ratings, out / "ablation", config=config, variants=variants, seeds=seeds, splits=splits)
        text = comparison(report, grid)
        write_text(out / "comparison.md", text + "\n")
        step(f"Done: {out / 'comparison.md'}, {out / 'eval' / 'report.html'}, {out / 'ablation' / 'ablation.html'}")
    return text


def _all_embedded(ratings: Path) -> bool:
    if not (ratings / EMBEDDINGS_NAME).is_file():
        return False
    try:
        read_embeddings(ratings).rows(load_ratings(ratings).images()["image_id"].astype(str))
    except EmbeddingError:  # damaged, or images are missing
        return False
    return True


def _embed(ratings: Path, encoder: str, batch_size: int) -> None:
    data = load_ratings(ratings)
    images = data.images()
    prompts = [prompt if isinstance(prompt, str) else None for prompt in images["prompt"]]
    ids = images["image_id"].astype(str).tolist()
    compute_embeddings(FrozenEncoder(encoder), ids, data.open_image, prompts, ratings / EMBEDDINGS_NAME, batch_size)


def _identity(model: Path) -> str:
    return json.loads((model / "config.json").read_text(encoding="utf-8"))["base_identity"]


def _whole_report(path: Path, model: Path, baselines: list[str], few_shot: list[int]) -> dict[str, Any] | None:
    """The report, if it is of this very model and holds what is asked for."""
    try:
        made_from = json.loads(path.with_name("made_from.json").read_text(encoding="utf-8"))
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    asked = {"model": _identity(model), "baselines": baselines, "few_shot": few_shot, "version": __version__}
    return report if made_from == asked else None


def comparison(report: Mapping[str, Any], grid: Mapping[str, Any]) -> str:
    """The paper's tables with our figures, and the paper's beside them where the ratings are the paper's."""
    paper, simulated = report["paper"], report["meta"]["simulated"]
    same, ours = paper["same_ratings"], "simulated" if simulated else "ours"
    lines = ["# Our figures in the form of the paper's tables", ""]
    if simulated:
        lines += ["SIMULATED people and images: no figure here says anything about real taste.", ""]
    if not same:
        lines += ["These are not the paper's ratings, so its figures are not shown beside.", ""]
    heads = [f"{name} ({who})" for name in ("SROCC", "PLCC", "pairs") for who in ([ours, "paper"] if same else [ours])]
    lines += ["## Table 2: people never met (test_unseen)", "", f"| method | {' | '.join(heads)} |"]
    lines.append("|---" * (len(heads) + 1) + "|")
    for row in paper["held_out"]:
        cells = []
        for metric in paper["columns"]:
            cells.append(_cell(row["ours"] and row["ours"][metric], 4))
            if same:
                cells.append(f"{row['paper'][metric]:.4f}" if row["paper"] else "–")
        name = row["scorer"] or row["method"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "## Diverging pairs, and the gap", "", f"| | {ours} |{' paper |' if same else ''}"]
    lines.append("|---" * (3 if same else 2) + "|")
    for row in paper["claims"]:
        lines.append(f"| {row['claim']} | {_cell(row['ours'], 3)} |" + (f" {row['paper']:.2f} |" if same else ""))
    lines += ["", f"## Ablation ({ours})", "", ablation_table(grid)]
    if same:
        lines += ["", f"The paper: {ABLATION}"]
    return "\n".join([*lines, "", f"## Everything ({ours})", "", "```", metric_table(report).strip("\n"), "```"])


def _cell(cell: Mapping[str, Any] | None, digits: int) -> str:
    if cell is None or cell["value"] is None:
        return "–"
    span = "" if cell["ci_low"] is None else f" [{cell['ci_low']:.{digits}f}, {cell['ci_high']:.{digits}f}]"
    return f"{cell['value']:.{digits}f}{span}"
