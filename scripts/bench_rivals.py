"""Our model against each personal rival, on the same people: `python scripts/bench_rivals.py --data ANY`.

--data is anything that `pamela train` takes, with features: a folder in the released or prepared layout, or a CSV with
embeddings.safetensors beside it; ratings that come without splits are divided first, by people and images.

--models holds seed0, seed1, … trained already (`bench_accuracy.py --models DIR` leaves them so); what is missing is
trained first. Values and bootstrap draws are averaged over the models' seeds, differences are paired over people.
Rivals are fitted once, on train, and know images, prompts and metadata, as our model does. By default only val_* is
judged; --splits test_seen,test_unseen reads the test splits, which is done once for each claim.

--images N asks what holds where images are few: trained on N of train's images, judged on all its others, as val_seen;
--ratings-per-user N, where each person has rated few.
"""

import argparse
import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from bench_accuracy import train
from sklearn.decomposition import PCA

from pamela_hf.baselines import load_baseline
from pamela_hf.embeddings import Embeddings, load_embeddings
from pamela_hf.evaluation.evaluate import with_wrong_user, without_user
from pamela_hf.evaluation.few_shot import FewShotFits
from pamela_hf.metrics import Estimate, judge
from pamela_hf.model.features_pamela import METADATA_AXES
from pamela_hf.ratings.builder import find_source, load_ratings
from pamela_hf.ratings.preparation import prepare, write_answers
from pamela_hf.ratings.table import METADATA_FIELDS, RatingData
from pamela_hf.scoring import PamelaScorer

RIVALS = "user_ridge,matrix_factorization,personal_ordinal,low_rank,residual,ridge"
SHOWN = ("user_srocc", "user_plcc", "user_pairwise_0", "user_pairwise_2", "diverging", "rmse", "coverage_80")
METADATA_LENGTH = 1.26  # of what metadata says, beside the prompt's
Estimates = dict[str, Estimate]


def divided(data: str, folder: Path, seed: int) -> str:
    """Where ratings with splits are: `data` itself, or a prepared copy in `folder` where it has none."""
    if not find_source(data, None).unsplit:
        return data
    prepare(data, folder, seed=seed)
    return os.fspath(folder)


def cut(data: str, folder: Path, images: int | None, each: int | None, seed: int) -> str:
    """A prepared copy in `folder` whose `train` has so many of its images, `val_seen` its others for the same people,
    and so many ratings of each person."""
    ratings = prepare(data, folder)
    table, rng = ratings.splits["train"], np.random.default_rng(seed)
    if images:
        ids = rng.permutation(sorted(table.image_id.astype(str).unique()))
        kept = table.image_id.astype(str).isin(set(ids[:images]))
        known = table.participant_id.isin(table.participant_id[kept].unique())
        ratings.splits = {"train": table[kept], "val_seen": table[~kept & known]}
    if each:
        table = ratings.splits["train"]
        drawn = table.iloc[rng.permutation(len(table))].groupby("participant_id", observed=True).head(each)
        ratings.splits = {**ratings.splits, "train": drawn.sort_index()}
    ratings.choices = {}
    for kind in ("ratings", "choices"):
        shutil.rmtree(folder / kind, ignore_errors=True)
    write_answers(ratings, folder)
    return os.fspath(folder)


def mean(estimates: Sequence[Estimates]) -> Estimates:
    """The average over seeds or draws of ratings, value by value and bootstrap draw by bootstrap draw."""
    return {
        metric: Estimate(
            float(np.mean([one[metric].value for one in estimates])),
            np.mean([one[metric].draws for one in estimates], axis=0),
            estimates[0][metric].n_users,
        )
        for metric in estimates[0]
    }


def with_metadata(embeddings: Embeddings, data: RatingData) -> Embeddings:
    """Features whose prompt side tells metadata, too, as ours has it: each value times the first principal axes."""
    table = pd.concat(data.splits.values()).astype({"image_id": str}).drop_duplicates("image_id").set_index("image_id")
    varied = [field for field in METADATA_FIELDS if table[field].nunique() > 1]
    if not varied:
        return embeddings
    facts = pd.get_dummies(table[varied].reindex(embeddings.image_ids)).to_numpy(np.float64)
    kinds = [part for part in (embeddings.image_embeds, embeddings.text_embeds) if part is not None]
    both = np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True).clip(1e-12) for part in kinds])
    # axes of all images, not of train's alone: every rival did .002 to .004 better so in cross-validation
    axes = PCA(min(METADATA_AXES, *both.shape), random_state=0).fit_transform(both)
    within = (facts[:, :, None] * axes[:, None]).reshape(len(facts), -1)
    parts = [part / max(np.sqrt((part.astype(np.float64) ** 2).sum(1).mean()), 1e-12) for part in (*kinds[1:], within)]
    parts[-1] *= METADATA_LENGTH
    return dataclasses.replace(embeddings, text_embeds=np.hstack(parts).astype(np.float32))


def judged(scorer, split: str, data, embeddings, few_shot: FewShotFits) -> dict[str, Estimates]:
    """Suffix ("" for the scorer as it is, "@k=10", …) → its estimates."""
    ratings = data.splits[split].reset_index(drop=True)
    people = sorted(ratings.participant_id.astype(str).unique())

    def estimates(rows, predicted) -> Estimates:
        table = ratings.iloc[rows]
        groups = table.participant_id.astype(str), table.image_id.astype(str)
        return judge(
            predicted.scores, table.score, *groups, predicted.probs, predicted.level_values, participants=people
        )[0]

    everyone = np.arange(len(ratings))
    found = {"": estimates(everyone, scorer.predict(ratings, embeddings))}
    if scorer.personal and split.endswith("_seen"):
        for suffix, edit in (("@no_user", without_user), ("@wrong_user", with_wrong_user)):
            found[suffix] = estimates(everyone, scorer.predict(edit(ratings), embeddings))
    if scorer.personal and split.endswith("_unseen"):
        for suffix, draws in few_shot(scorer, split, ratings).items():
            found[f"@{suffix}"] = mean([estimates(*draw) for draw in draws])
    return found


def compared(args: argparse.Namespace, folder: str, models: Path) -> dict[str, dict[str, dict[str, Estimates]]]:
    """Split → scorer → suffix → estimates, of our model (the mean over its seeds) and each rival."""
    data = load_ratings(folder)
    if data.embeddings is None:
        raise SystemExit(f"{args.data} has no embeddings.safetensors. Make it once: pamela embed --data {args.data}")
    embeddings = load_embeddings(data.embeddings)
    ks = [int(k) for k in args.few_shot.split(",") if k]
    enriched = with_metadata(embeddings, data)
    tables = (embeddings, enriched)
    few_shot, few_shot_enriched = (FewShotFits(data.splits.get("support_unseen"), one, ks) for one in tables)
    splits = args.splits.split(",") if args.splits else [s for s in ("val_seen", "val_unseen") if s in data.splits]
    if missing := [split for split in splits if split not in data.splits]:
        raise SystemExit(f"--splits names {missing[0]}; {args.data} has {', '.join(data.splits)}.")
    ours: dict[str, list[dict[str, Estimates]]] = {split: [] for split in splits}
    for seed in map(int, args.seeds.split(",")):
        model = models / f"seed{seed}"
        if not (model / "model.safetensors").is_file():
            train(args.config, folder, model, seed)
        for split in splits:
            ours[split].append(judged(PamelaScorer.from_pretrained(model), split, data, embeddings, few_shot))
    found = {split: {"pamela": {s: mean([one[s] for one in seeds]) for s in seeds[0]}} for split, seeds in ours.items()}
    for name in filter(None, args.rivals.split(",")):
        start = time.perf_counter()
        scorer = load_baseline(name).fit(data.splits["train"], enriched, level_values=data.level_values, data=data)
        print(f"{name}: fitted in {time.perf_counter() - start:.0f} s", flush=True)
        for split in splits:
            found[split][name] = judged(scorer, split, data, enriched, few_shot_enriched)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="ratings with embeddings, in any form")
    parser.add_argument("--split-seed", type=int, default=0, help="of ratings without splits, and of the cuts below")
    parser.add_argument("--images", type=int, metavar="N", help="train on N of train's images, judge on its others")
    parser.add_argument("--ratings-per-user", type=int, metavar="N", help="train on N ratings of each person")
    parser.add_argument("--models", type=Path, help="folder with seed0, seed1, …; trained there where missing")
    parser.add_argument("--config", help="YAML of our model's training; default: no settings of its own")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rivals", default=RIVALS)
    parser.add_argument("--splits", help="default: val_seen and val_unseen, whichever there are")
    parser.add_argument("--few-shot", default="10,100")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = divided(args.data, Path(temporary) / "data", args.split_seed)
        if args.images or args.ratings_per_user:
            folder = cut(folder, Path(temporary) / "cut", args.images, args.ratings_per_user, args.split_seed)
        found = compared(args, folder, args.models or Path(temporary) / "models")
    result: dict[str, dict[str, dict]] = {}
    for split, scorers in found.items():
        shown = result[split] = {}
        print(f"\n| {split} | {' | '.join(SHOWN)} | pamela minus it, user_srocc |\n|---|{'---|' * (len(SHOWN) + 1)}")
        for name, kinds in scorers.items():
            for suffix, estimates in kinds.items():
                cells = [f"{estimates[metric].value:.3f}" for metric in SHOWN]
                shown[name + suffix] = {metric: estimates[metric].as_dict() for metric in SHOWN}
                against = scorers["pamela"].get(suffix if "@k=" in suffix else "")
                if name + suffix != "pamela" and against is not estimates:
                    difference = {metric: (against[metric] - estimates[metric]).as_dict() for metric in SHOWN}
                    shown[name + suffix]["pamela minus it"] = difference
                    cell = difference["user_srocc"]
                    cells.append(f"{cell['value']:+.3f} [{cell['ci_low']:+.3f}, {cell['ci_high']:+.3f}]")
                print(f"| {name}{suffix} | {' | '.join(cells)} |", flush=True)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
