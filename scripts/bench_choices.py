"""What choices say in place of ratings: `python scripts/bench_choices.py --data runs/demo/ratings`.

The model is trained twice on each seed, with its defaults: on the people's training ratings, and on choices alone that
say the same: each rated image against --others more of the same person's, the one rated higher preferred, a tie where
both got the same rating. Both are judged on the ratings of val_*, beside the same model without the person and with
another person's row; differences are paired over people, values and bootstrap draws averaged over seeds.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from bench_rivals import Estimates, judged, mean

from pamela_hf.embeddings import load_embeddings
from pamela_hf.evaluation.few_shot import FewShotFits
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import CHOICE_COLUMNS, IMAGE_COLUMNS, SIDES
from pamela_hf.scoring import PamelaScorer
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.train import train

METRICS = ("user_srocc", "user_pairwise_0")


def as_choices(ratings: pd.DataFrame, others: int, seed: int) -> pd.DataFrame:
    """Choices between each person's rated images: every one against up to so many others, no pair twice."""
    rng, pairs = np.random.default_rng(seed), []
    for rows in ratings.groupby("participant_id", observed=True).indices.values():
        order, n = rng.permutation(rows), len(rows)
        for step in range(1, min(others, (n - 1) // 2) + 1):  # on a circle: each meets its next ones
            pairs.append(np.column_stack([order, np.roll(order, step)]))
    first, second = np.concatenate(pairs).T
    scores = ratings.score.to_numpy()
    swap = scores[second] > scores[first]
    preferred, other = np.where(swap, second, first), np.where(swap, first, second)
    table = ratings.iloc[preferred].reset_index(drop=True)
    for side, rows in zip(SIDES, (preferred, other)):
        for column in IMAGE_COLUMNS:
            name = f"{side}_id" if column == "image_id" else f"{side}_{column}"
            table[name] = ratings[column].iloc[rows].reset_index(drop=True)
    table["tie"] = scores[preferred] == scores[other]
    table["prompt"] = pd.Categorical([None] * len(table))  # each side has its own
    return table[list(CHOICE_COLUMNS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="ratings with splits and embeddings.safetensors")
    parser.add_argument("--others", type=int, default=8, metavar="N", help="images that each is compared with (8)")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    data = load_ratings(args.data)
    embeddings = load_embeddings(data.embeddings)
    splits = [split for split in ("val_seen", "val_unseen") if split in data.splits]
    few_shot = FewShotFits(data.splits.get("support_unseen"), embeddings, [])
    found: dict[tuple[str, str], list[dict[str, Estimates]]] = {}
    for seed in map(int, args.seeds.split(",")):
        chosen = as_choices(data.splits["train"], args.others, seed)
        kinds = {
            "ratings": replace(data, choices={}),
            "choices": replace(data, splits={s: data.splits[s] for s in splits}, choices={"train": chosen}),
        }
        print(f"seed {seed}: {len(data.splits['train']):,} ratings, {len(chosen):,} choices", flush=True)
        for kind, answers in kinds.items():
            with tempfile.TemporaryDirectory() as place:
                train(TrainingConfig(seed=seed), answers, embeddings, Path(place) / "model", progress=False)
                scorer = PamelaScorer.from_pretrained(Path(place) / "model")
                for split in splits:
                    found.setdefault((split, kind), []).append(judged(scorer, split, data, embeddings, few_shot))
    result: dict[str, dict[str, dict]] = {}
    for split in splits:
        by_kind = {kind: {s: mean([one[s] for one in found[split, kind]]) for s in found[split, kind][0]}
                   for kind in ("ratings", "choices")}  # fmt: skip
        rows = {f"{kind}{suffix}": found for kind, one in by_kind.items() for suffix, found in one.items()}
        rows["choices minus ratings"] = {m: by_kind["choices"][""][m] - by_kind["ratings"][""][m] for m in METRICS}
        result[split] = {name: {metric: row[metric].as_dict() for metric in METRICS} for name, row in rows.items()}
        print(f"\n| {split} | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
        for name, row in result[split].items():
            cells = (f"{v['value']:.3f} [{v['ci_low']:.3f}, {v['ci_high']:.3f}]" for v in row.values())
            print(f"| {name} | {' | '.join(cells)} |")
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
