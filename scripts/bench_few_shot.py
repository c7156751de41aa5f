"""What a newcomer's k ratings are worth, drawn at random or asked for: `bench_few_shot.py --data DIR --models DIR`.

--models holds seed0, seed1, … trained already (`bench_accuracy.py --models DIR` leaves them so). Values and bootstrap
draws are averaged over seeds and draws of ratings; differences to k = 0, and of asking to drawing, are paired over
people. By default only val_unseen is judged; --split test_unseen is read once for each claim.

--made-up asks what more could be hoped for: in place of the people, others rate the same images whom the model draws
from its own belief of what people are like, their rows' variance times so much. Nothing foretells those better than
the model does, so what k of their ratings are worth, where a hundred are worth what they are of real people, is what k
of real people's could be worth.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from bench_rivals import judged, mean

from pamela_hf.embeddings import Embeddings, load_embeddings
from pamela_hf.evaluation.few_shot import SELECT, FewShotFits
from pamela_hf.heads.head import prior_of
from pamela_hf.metrics import Estimate
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingData
from pamela_hf.scoring import PamelaScorer

METRIC = "user_srocc"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="ratings folder with embeddings")
    parser.add_argument("--models", type=Path, required=True, help="folder with seed0, seed1, …")
    parser.add_argument("--split", default="val_unseen")
    parser.add_argument("--few-shot", default="5,10,20,50,100", metavar="K,K")
    parser.add_argument("--draws", type=int, default=3, help="how often each k ratings are drawn anew (3)")
    parser.add_argument("--made-up", type=float, metavar="VARIANCE", help="people of the model's own, see above")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    data = load_ratings(args.data)
    embeddings = load_embeddings(data.embeddings)
    ks = [int(k) for k in args.few_shot.split(",")]
    scorers = [PamelaScorer.from_pretrained(model) for model in sorted(args.models.glob("seed*"))]
    if not scorers:
        parser.error(f"--models {args.models} holds no seed0, seed1, …; bench_accuracy.py --models trains them there.")
    data.splits = {name: data.splits[name] for name in (args.split, "support_unseen") if name in data.splits}
    answered = [made_up(scorer, data, embeddings, args.made_up) if args.made_up else data for scorer in scorers]
    found = {}
    for select in SELECT:
        seeds = []
        for scorer, ratings in zip(scorers, answered):
            fits = FewShotFits(ratings.splits.get("support_unseen"), embeddings, ks, args.draws, select)
            seeds.append(judged(scorer, args.split, ratings, embeddings, fits))
        found[select] = {suffix: mean([one[suffix] for one in seeds]) for suffix in seeds[0]}
    result = {
        "split": args.split,
        "models": len(scorers),
        "draws": args.draws,
        "made up": args.made_up,
        "k=0": found["random"][""][METRIC].as_dict(),
    }
    print(f"\n{args.split}, k = 0: {result['k=0']['value']:.3f}\n")
    print("| k | random | minus k = 0 | asked minus k = 0 | asked minus random |")
    print("|---|---|---|---|---|")
    for k in ks:
        drawn, asked = (found[select][f"@k={k}"][METRIC] for select in SELECT)
        nothing = found["random"][""][METRIC]
        cells = {"random": drawn, "minus k=0": drawn - nothing, "asked minus k=0": asked - nothing}
        cells["asked minus random"] = asked - drawn
        result[f"k={k}"] = {name: estimate.as_dict() for name, estimate in cells.items()}
        print(f"| {k} | {drawn.value:.3f} | {' | '.join(map(shown, list(cells.values())[1:]))} |", flush=True)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


def made_up(scorer: PamelaScorer, data: RatingData, embeddings: Embeddings, variance: float) -> RatingData:
    """The same ratings as people would give them whose rows have `variance` times that of the model's prior."""
    rng, covariance = np.random.default_rng(0), prior_of(scorer.model) * variance
    names = sorted(set().union(*(table["participant_id"].astype(str) for table in data.splits.values())))
    rows = dict(zip(names, rng.multivariate_normal(np.zeros(len(covariance)), covariance, len(names))))
    splits = {}
    for name, table in data.splits.items():
        predicted = scorer.predict(table.reset_index(drop=True), embeddings, rows=rows)
        level = (predicted.probs.cumsum(1)[:, :-1] < rng.random((len(table), 1))).sum(1)
        splits[name] = table.assign(score=predicted.level_values[np.arange(len(table)), level])
    return dataclasses.replace(data, splits=splits)


def shown(difference: Estimate) -> str:
    cell = difference.as_dict()
    return f"{cell['value']:+.3f} [{cell['ci_low']:+.3f}, {cell['ci_high']:+.3f}]"


if __name__ == "__main__":
    main()
