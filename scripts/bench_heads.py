"""What heads cost, and what they are worth beside other ways to the same ratings.

    python scripts/bench_heads.py --model MODEL --data FOLDER [--peft] [--only fit,grid,load]

- fit: a head from 100 ratings, from embeddings, beside scikit-learn's ridge and an ordinal model of the same person
  from the same 100: seconds and SROCC on the person's `val_unseen` ratings (k of `support_unseen`);
- grid: 1,000 heads × the source's images against as many rows of trained participants, in turns;
- load: 1,000 heads from their folders, one head's bytes, and what memory they add;
- --peft: the row alone against the row with LoRA, IA3, VeRA, BitFit or tuned norms of the fusion, all trained on the
  same k ratings by the same loss with the real peft; the row alone is `UserHead.fit`'s.

FOLDER: ratings in the released layout with embeddings.safetensors and the splits `support_unseen` and `val_unseen`.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pamela_hf import PamelaScorer
from pamela_hf.embeddings import Embeddings
from pamela_hf.heads.answers import answers_of_table
from pamela_hf.heads.fitting import fit_row
from pamela_hf.heads.head import UserHead, prior_of
from pamela_hf.metrics import correlation
from pamela_hf.scoring import encode_ratings
from pamela_hf.training.train import load_sources

HEADS = 1000
RATES = (2e-3,)  # of adapters; with 15 steps of AdamW, ten ratings are fitted visibly closer
SUPPORT, JUDGED = "support_unseen", "val_unseen"


@dataclass
class Newcomer:
    """One person's ratings to learn from and ratings to be judged on."""

    support: pd.DataFrame
    judged: pd.DataFrame

    def first(self, k: int, seed: int = 0) -> pd.DataFrame:
        order = np.random.default_rng([seed, len(self.support)]).permutation(len(self.support))
        return self.support.iloc[order[:k]].reset_index(drop=True)


def newcomers(splits: dict[str, pd.DataFrame]) -> Iterator[Newcomer]:
    support, judged = (dict(list(splits[s].groupby(splits[s].participant_id.astype(str)))) for s in (SUPPORT, JUDGED))
    for person in sorted(judged):
        rated = judged[person].reset_index(drop=True)
        if len(rated) >= 6 and rated.score.nunique() > 1:
            yield Newcomer(support[person].reset_index(drop=True), rated)


def features_of(table: pd.DataFrame, features: Embeddings) -> np.ndarray:
    rows = features.rows(table.image_id.astype(str).tolist())
    parts = [features.image_embeds[rows], features.text_embeds[rows]]
    return np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True).clip(1e-9) for part in parts], 1)


def ridge(seen: np.ndarray, scores: np.ndarray, asked: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(np.logspace(-2, 4, 13)).fit(seen, scores).predict(asked)


def ordinal(seen: np.ndarray, scores: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """A cumulative-logit model of 20 principal components, its penalty by five-fold cross-validation."""
    from scipy.optimize import minimize

    mean = seen.mean(0)
    axes = np.linalg.svd(seen - mean, full_matrices=False)[2][:20]
    scale = ((seen - mean) @ axes.T).std(0) + 1e-9
    x, new = (seen - mean) @ axes.T / scale, (asked - mean) @ axes.T / scale
    levels, y = np.unique(scores, return_inverse=True)

    def fitted(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
        def loss(p: np.ndarray) -> float:
            cuts = np.concatenate([[-np.inf], p[20] + np.concatenate([[0], np.cumsum(np.exp(p[21:]))]), [np.inf]])
            below = 1 / (1 + np.exp(-(cuts[None] - (x @ p[:20])[:, None])))
            at = np.arange(len(y))
            return -np.log(below[at, y + 1] - below[at, y] + 1e-12).sum() + penalty * (p[:20] @ p[:20])

        start = np.concatenate([np.zeros(20), [-1.0], np.zeros(len(levels) - 2)])
        return minimize(loss, start, method="L-BFGS-B", options={"maxiter": 60}).x[:20]

    folds = np.arange(len(y)) % 5
    errors = []
    for penalty in (penalties := (1.0, 10.0, 100.0)):
        held = np.concatenate([x[folds == f] @ fitted(x[folds != f], y[folds != f], penalty) for f in range(5)])
        errors.append(-correlation(held, np.concatenate([scores[folds == f] for f in range(5)])))
    return new @ fitted(x, y, penalties[int(np.argmin(errors))])


def ranks(values: np.ndarray) -> np.ndarray:
    return pd.Series(np.round(values, 6)).rank().to_numpy()


def srocc(predicted: np.ndarray, table: pd.DataFrame) -> float:
    return float(correlation(ranks(predicted), ranks(table.score.to_numpy(float))))


def bench_fit(scorer: PamelaScorer, people: list[Newcomer], features: Embeddings) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, list[float]]] = {}

    def note(name: str, seconds: float, figure: float) -> None:
        known = found.setdefault(name, {"seconds": [], "srocc": []})
        known["seconds"].append(seconds)
        known["srocc"].append(figure)

    for person in people:
        rated, judged = person.first(100), person.judged
        pairs = list(zip(rated.image_id.astype(str), rated.score.astype(float)))
        start = time.perf_counter()
        head = UserHead.fit(scorer, pairs, name="bench", embeddings=features)
        took = time.perf_counter() - start
        for name, row in (("everyone's taste", None), ("head", head.row)):
            rows = None if row is None else dict.fromkeys(judged.participant_id.astype(str), row)
            plain = judged.assign(**dict.fromkeys(scorer.config.demographics))
            scores = scorer.predict(plain, features, rows=rows).scores
            note(name, took if row is not None else 0.0, srocc(scores, judged))
        seen, asked = features_of(rated, features), features_of(judged, features)
        for name, rival in (("ridge", ridge), ("ordinal model", ordinal)):
            start = time.perf_counter()
            predicted = rival(seen, rated.score.to_numpy(float), asked)
            note(name, time.perf_counter() - start, srocc(predicted, judged))
    return {
        name: {
            "seconds_median": round(statistics.median(v["seconds"]), 3),
            "seconds_max": round(max(v["seconds"]), 3),
            "srocc": round(float(np.mean(v["srocc"])), 4),
        }
        for name, v in found.items()
    }


def bench_grid(scorer: PamelaScorer, heads: list[UserHead], features: Embeddings) -> dict[str, float]:
    """Seconds of a grid of heads and of as many trained participants, the two measured in turns."""
    images = {"image_embeds": torch.from_numpy(features.image_embeds)}
    if scorer.config.text_embed_dim:
        images["text_embeds"] = torch.from_numpy(features.text_embeds)
    known = [scorer.config.users[i % len(scorer.config.users)] for i in range(len(heads))]
    times: dict[str, list[float]] = {"heads": [], "participants": []}
    for turn in range(4):
        for name, people in (("heads", heads), ("participants", known)):
            start = time.perf_counter()
            scorer.model.score_matrix(**images, **scorer.encode_people(len(people), people))
            if turn:  # the first warms up
                times[name].append(time.perf_counter() - start)
    seconds = {name: round(min(values), 2) for name, values in times.items()}
    return {**seconds, "ratio": round(seconds["heads"] / seconds["participants"], 3)}


def bench_load(scorer: PamelaScorer, head: UserHead) -> tuple[dict[str, float], list[UserHead]]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        for i in range(HEADS):
            row = head.row + rng.normal(0, 0.01, head.row.shape).astype(np.float32)
            replace(head, name=f"person {i}", row=row, covariance=None).save(Path(place) / str(i))
        size = max(sum(file.stat().st_size for file in (Path(place) / str(i)).iterdir()) for i in range(0, HEADS, 100))
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        heads = [UserHead.load(Path(place) / str(i), scorer) for i in range(HEADS)]
        took = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": round(took, 2), "memory_mb": round(grown, 1), "head_kb": round(size / 1024, 1)}, heads


# -- row against adapters ------------------------------------------------------------------------------------------
def adapters() -> dict[str, Callable[[], object]]:
    from peft import IA3Config, LoraConfig, VeraConfig

    def lora(rank: int) -> Callable[[], object]:
        return lambda: LoraConfig(r=rank, lora_alpha=rank, target_modules=r"members\.\d+\.blocks\.\d+\.[qv]_proj")

    return {
        "LoRA r=1 (q, v)": lora(1),
        "LoRA r=2 (q, v)": lora(2),
        "IA3 (k, v, fc2)": lambda: IA3Config(
            target_modules=r"members\.\d+\.blocks\.\d+\.(k_proj|v_proj|fc2)",
            feedforward_modules=r"members\.\d+\.blocks\.\d+\.fc2",
        ),
        "VeRA r=8 (q, v)": lambda: VeraConfig(r=8, target_modules=r"members\.\d+\.blocks\.\d+\.[qv]_proj"),
        "LayerNorm tuning": lambda: r"\.norm\d?\.(weight|bias)$",
        "BitFit": lambda: r"members\.\d+\..*\.bias$",
    }


def with_adapter(scorer: PamelaScorer, make: Callable[[], object], rated: pd.DataFrame, features: Embeddings,
                 row: np.ndarray, judged: pd.DataFrame, steps: int, rate: float) -> tuple[np.ndarray, int]:  # fmt: skip
    """Utilities of `judged` by a copy of the base with an adapter trained on `rated` from the fitted row on."""
    import copy
    import re

    from peft import get_peft_model

    torch.manual_seed(0)
    base = copy.deepcopy(scorer.model).requires_grad_(False)
    config = make()
    if isinstance(config, str):
        model = base
        for name, parameter in base.named_parameters():
            parameter.requires_grad_(bool(re.search(config, name)))
    else:
        model = get_peft_model(base, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)

    def inputs(table: pd.DataFrame) -> dict[str, torch.Tensor]:
        arrays = encode_ratings(table, scorer.config, features)
        return {
            "image_embeds": torch.from_numpy(features.image_embeds[arrays.image_rows]),
            "text_embeds": torch.from_numpy(features.text_embeds[arrays.image_rows]),
            "demographic_ids": torch.from_numpy(arrays.demographic_ids),
            "metadata_ids": torch.from_numpy(arrays.metadata_ids),
            "scale_ids": torch.from_numpy(arrays.scale_ids),
            "user_embeds": torch.from_numpy(row.astype(np.float32))[None],
        }

    given, labels = inputs(rated), torch.from_numpy(encode_ratings(rated, scorer.config, features).labels)
    model.eval()
    for _ in range(steps):
        out = model(**given, labels=labels, group_ids=torch.zeros_like(labels), pairwise_weight=0.2)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    with torch.no_grad():
        return model(**inputs(judged)).utility.numpy(), sum(parameter.numel() for parameter in trained)


def bench_peft(scorer: PamelaScorer, people: list[Newcomer], features: Embeddings, ks: tuple[int, ...] = (10, 50, 100),
               steps: int = 15) -> dict[str, dict[str, float]]:  # fmt: skip
    covariance, found = prior_of(scorer.model), {}
    for k in ks:
        rows = []
        for person in people:
            rated = person.first(k)
            answers = answers_of_table(scorer, rated, features, covariance)
            rows.append((rated, fit_row(answers, covariance).row))
        alone = []
        for person, (_, row) in zip(people, rows):
            who = str(person.judged.participant_id.iloc[0])
            alone.append(srocc(scorer.predict(person.judged, features, rows={who: row}).scores, person.judged))
        found.setdefault("row alone", {})[f"k={k}"] = round(float(np.mean(alone)), 4)
        for name, make in adapters().items():
            for rate in RATES:
                figures, numbers = [], 0
                for person, (rated, row) in zip(people, rows):
                    utility, numbers = with_adapter(scorer, make, rated, features, row, person.judged, steps, rate)
                    figures.append(srocc(utility, person.judged))
                entry = found.setdefault(f"row + {name}, lr {rate:g}", {"numbers": numbers})
                difference = np.array(figures) - np.array(alone)
                entry[f"k={k}"] = round(float(np.mean(figures)), 4)
                entry[f"k={k}, less row alone"] = round(float(difference.mean()), 4)
                entry[f"k={k}, standard error"] = round(float(difference.std() / len(difference) ** 0.5), 4)
                print(k, name, rate, entry, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a trained base; its ratings' participants stay unknown to it")
    parser.add_argument("--data", required=True)
    parser.add_argument("--only", default="fit,load,grid", help="of fit, load, grid")
    parser.add_argument("--peft", action="store_true", help="compare the row with PEFT methods instead")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    scorer = PamelaScorer.from_pretrained(args.model, device="cpu")
    data, features = load_sources([args.data])
    people = list(newcomers(data.splits))
    result: dict[str, object] = {"people": len(people), "threads": torch.get_num_threads()}
    if args.peft:
        result["peft"] = bench_peft(scorer, people, features)
    else:
        asked = set(args.only.split(","))
        if "fit" in asked:
            result["fit"] = bench_fit(scorer, people, features)
        if asked & {"load", "grid"}:
            rated = people[0].first(100)
            pairs = list(zip(rated.image_id.astype(str), rated.score.astype(float)))
            head = UserHead.fit(scorer, pairs, name="bench", embeddings=features)
            result["load"], heads = bench_load(scorer, head)
            if "grid" in asked:
                result["grid"] = bench_grid(scorer, heads, features)
    text = json.dumps(result, indent=1)
    print(text)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
