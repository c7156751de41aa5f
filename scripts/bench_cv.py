"""Cross-validation inside train, over themes and people: `bench_cv.py --data DIR [--rivals low_rank] [key=value …]`.

val_* of OASIS has 105 images, too few to choose a recipe by; train has 567. In each of five folds the images of a fifth
of the prompts and the ratings of a fifth of the people are held out. Judged on the held-out images: people of the
training ("seen"), the same without their name ("no user"), and held-out people with 0, 10, 100 of their ratings of the
other images ("unseen", "k=10", "k=100"; of ours also those that `suggest` asks for, "asked 10"). SROCC of each person,
averaged over folds and draws, then over people; of rivals also ours minus theirs with its paired 95 % interval over
people and, since other images move it too, fold by fold. Rivals know images, prompts and metadata, as our model does.
--choices adds newcomers who choose between two images as their ratings have it (10, 50 or 200 random pairs, all pairs
of 30 images) and people who rate or choose at random, who should lose nothing against "unseen". key=value go to the
training, as in train.py. Neither val_* nor test_* is judged.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from bench_rivals import with_metadata
from sklearn.model_selection import GroupKFold

from pamela_hf.baselines import load_baseline
from pamela_hf.embeddings import load_embeddings
from pamela_hf.evaluation.evaluate import without_user
from pamela_hf.evaluation.few_shot import SELECT, FewShotFits
from pamela_hf.heads.answers import answers_of_table
from pamela_hf.heads.fitting import Answers, fit_row
from pamela_hf.heads.head import prior_of
from pamela_hf.metrics import paired_bootstrap, user_metrics
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.scoring import PamelaScorer
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.train import train

FOLDS = 5
COLUMNS = ("seen", "no user", "unseen", "k=10", "k=100")
ASKED = {"k=10": "asked 10", "k=100": "asked 100"}
CHOICES = ("10 choices", "50 choices", "200 choices", "all of 30", "100 ratings at random", "all of 30 at random")


def folds(table: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]]:
    """Ratings to fit; to judge, of seen and of unseen people; and the unseen people's of the fitted images."""
    prompts = table["prompt"].astype(object).fillna(table["image_id"].astype(object)).astype(str)
    people = np.random.default_rng(0).permutation(table["participant_id"].astype(str).unique())
    fold_of = table["participant_id"].astype(str).map({name: i % FOLDS for i, name in enumerate(people)})
    for fold, (_, out) in enumerate(GroupKFold(FOLDS, shuffle=True, random_state=0).split(table, groups=prompts)):
        image_out = np.isin(np.arange(len(table)), out)
        new = (fold_of == fold).to_numpy()
        parts = (~image_out & ~new, image_out & ~new, image_out & new, ~image_out & new)
        yield tuple(table[part].reset_index(drop=True) for part in parts)


def srocc(ratings: pd.DataFrame, scores: np.ndarray) -> pd.Series:
    """Of each participant."""
    found = user_metrics(scores, ratings["score"].to_numpy(), ratings["participant_id"].astype(str))
    return pd.Series(found.values["user_srocc"], found.participants, dtype=np.float64)


def chosen(kind: str, rated: Answers, rng: np.random.Generator) -> Answers:
    """One of [`CHOICES`], made from somebody's ratings."""
    n, at_random = len(rated.image), kind.endswith("random")
    if "ratings" in kind:
        kept = rng.permutation(n)[:100]
        part = rated.subset(np.isin(np.arange(n), kept))
        return dataclasses.replace(part, level=rng.integers(0, rated.cutpoints.shape[1] + 1, len(part.level)))
    if kind.startswith("all"):
        images = rng.permutation(n)[:30]
        pairs = images[np.column_stack(np.triu_indices(len(images), 1))]
    else:
        pairs = np.stack([rng.permutation(n)[:2] for _ in range(int(kind.split()[0]))])
    better = rated.level[pairs[:, 0]] - rated.level[pairs[:, 1]]
    better = rng.choice([-1, 1], len(pairs)) if at_random else better
    pairs = np.where(better[:, None] > 0, pairs, pairs[:, ::-1])[better != 0]  # people do not choose between equals
    return dataclasses.replace(rated.subset(np.zeros(n, bool)), pairs=pairs)


def by_person(parts: list[pd.Series]) -> pd.Series:
    return pd.concat(parts).groupby(level=0).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="ratings folder with embeddings")
    parser.add_argument("--config", default=str(Path(__file__).parent / "configs" / "oasis.yaml"))
    parser.add_argument("--rivals", default="", help="of the baselines that train here, beside ours")
    parser.add_argument("--ratings-per-user", type=int, metavar="N", help="fit on so many of each person at most")
    parser.add_argument("--choices", action="store_true", help="newcomers who choose, too, and who answer at random")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    data = load_ratings(args.data)
    embeddings = load_embeddings(data.embeddings)
    config = TrainingConfig.read(args.config, args.overrides)
    enriched = with_metadata(embeddings, data)
    names = ["pamela", *filter(None, args.rivals.split(","))]
    values: dict[str, dict[str, list[pd.Series]]] = {name: {column: [] for column in COLUMNS} for name in names}
    for fitted, seen, unseen, support in folds(data.splits["train"]):
        if args.ratings_per_user:
            drawn = fitted.sample(frac=1, random_state=0).groupby("participant_id", observed=True)
            fitted = drawn.head(args.ratings_per_user).sort_index().reset_index(drop=True)
        for name in names:
            features = embeddings if name == "pamela" else enriched
            if name == "pamela":
                with tempfile.TemporaryDirectory() as folder:
                    part = dataclasses.replace(data, splits={"train": fitted})
                    scorer = PamelaScorer(train(config, part, embeddings, Path(folder) / "model"))
            else:
                scorer = load_baseline(name).fit(fitted, features, level_values=data.level_values, seed=config.seed)
            found = values[name]
            nobody = without_user(seen)
            for column, asked, known in (("seen", seen, seen), ("no user", seen, nobody), ("unseen", unseen, unseen)):
                found[column].append(srocc(asked, scorer.predict(known, features).scores))
            knows_people = name != "pamela" or "user" not in config.without
            for select in SELECT if knows_people else ():  # of rivals nothing is asked
                few_shot = FewShotFits(support, features, [10, 100], select=select, progress=False)
                for column, draws in few_shot(scorer, "unseen", unseen).items():
                    column = column if select == "random" else ASKED[column]
                    found.setdefault(column, []).extend(srocc(unseen.iloc[rows], p.scores) for rows, p in draws)
            if args.choices and name == "pamela":
                covariance, rng = prior_of(scorer.model), np.random.default_rng(0)
                rows: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in CHOICES}
                for person, table in support.groupby(support["participant_id"].astype(str), observed=True):
                    rated = answers_of_table(scorer, table, embeddings, covariance)
                    for kind in CHOICES:
                        rows[kind][str(person)] = fit_row(chosen(kind, rated, rng), covariance).row
                for kind in CHOICES:
                    predicted = scorer.predict(unseen, embeddings, rows=rows[kind])
                    found.setdefault(kind, []).append(srocc(unseen, predicted.scores))
    people = {name: {c: by_person(v) for c, v in found.items() if v} for name, found in values.items()}
    result: dict[str, dict] = {name: {c: float(v.mean()) for c, v in row.items()} for name, row in people.items()}
    columns = [*COLUMNS, *ASKED.values(), *(CHOICES if args.choices else ())]
    print(f"\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, row in result.items():
        print(f"| {name} | {' | '.join(f'{row[c]:.4f}' if c in row else '–' for c in columns)} |")
    for name, row in list(people.items())[1:]:
        less = {c: paired_bootstrap(people["pamela"][c], v.reindex(people["pamela"][c].index)) for c, v in row.items()}
        cells = [f"{d['value']:+.4f} [{d['ci_low']:+.4f}, {d['ci_high']:+.4f}]" for d in less.values()]
        print(f"| pamela less {name} | {' | '.join(cells)} |")
        pairs = zip(values["pamela"]["seen"], values[name]["seen"])
        folds_apart = [float((ours - theirs).mean()) for ours, theirs in pairs]
        print(f"  seen, fold by fold: {', '.join(f'{d:+.4f}' for d in folds_apart)}")
        result[f"pamela less {name}"] = {**less, "seen by fold": folds_apart}
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
