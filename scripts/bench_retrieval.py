"""How well and how fast an index of a million images is searched: `python scripts/bench_retrieval.py --model DIR`.

Images are simulated: features of the demo's own images (`runs/demo/ratings`), drawn with replacement and blurred by
half of their covariance, as a kernel density estimate. People are simulated: drawn from the normal distribution of the
model's own participants' rows. Brute force scores every image for every person with the whole model; recall@100 is the
share of its first hundred that the search finds. Written are means and percentiles over people.

- first: a person's first search, which fits the person's vector;
- again: another search for the same person.

--probed 0.125,0.06,0.03 also says what looking into so large a part of the clusters gives and costs.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pamela_hf import PamelaScorer
from pamela_hf.embeddings import Embeddings, load_embeddings
from pamela_hf.retrieval import ImageIndex, PersonalSearch, index

BLUR = 0.5


class Person:
    """A simulated person: a row of the base."""

    def __init__(self, name: str, row: np.ndarray, base_identity: str):
        self.name, self.row, self.base_identity = name, row, base_identity


def simulated_images(known: Embeddings, n: int, rng: np.random.Generator) -> Embeddings:
    """n images without prompts, from the distribution of the features of a few, as a kernel density estimate."""
    features = known.image_embeds
    mean, covariance = features.mean(0), np.cov(features.T)
    root = np.linalg.cholesky(covariance + 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
    out = np.empty((n, features.shape[1]), np.float32)
    for start in range(0, n, 65_536):
        part = out[start : start + 65_536]
        drawn = features[rng.integers(0, len(features), len(part))] - mean
        noise = rng.standard_normal(part.shape, np.float32) @ root.T.astype(np.float32)
        part[:] = mean + (drawn + BLUR * noise) / (1 + BLUR**2) ** 0.5
    encoder = {name: getattr(known, name) for name in ("backbone", "revision", "preprocessing")}
    return Embeddings([f"{i:07d}" for i in range(n)], out, **encoder)


def simulated_people(scorer: PamelaScorer, n: int, rng: np.random.Generator) -> list[Person]:
    rows = scorer.model.user_embedding.weight[1:].detach().float().numpy()
    values, axes = np.linalg.eigh(np.cov(rows.T))
    drawn = rows.mean(0) + (rng.standard_normal((n, len(values))) * values.clip(0) ** 0.5) @ axes.T
    return [Person(f"simulated {i}", row.astype(np.float32), scorer.identity) for i, row in enumerate(drawn)]


def brute_force(scorer: PamelaScorer, images: Embeddings, people: list[Person], k: int) -> tuple[list[set[str]], float]:
    """Each person's k best by the whole model, and how long scoring everything took, in seconds."""
    rows = torch.from_numpy(np.stack([person.row for person in people]))
    scores = np.empty((len(images), len(people)), np.float32)
    start = time.perf_counter()
    for low in range(0, len(images), 50_000):
        part = slice(low, low + 50_000)
        out = scorer.model.score_matrix(torch.from_numpy(images.image_embeds[part]), user_embeds=rows)
        scores[part] = out.scores.numpy()
    taken = time.perf_counter() - start
    best = [np.argpartition(-column, k)[:k] for column in scores.T]
    return [{images.image_ids[row] for row in rows} for rows in best], taken


def timed(function, *args, **kwargs) -> tuple[float, float, object]:
    """Milliseconds that a call took, those that it kept CPUs busy (all threads together), and what it returned."""
    start, busy = time.perf_counter(), time.process_time()
    result = function(*args, **kwargs)
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - busy), result


def probed(
    path: Path, scorer: PamelaScorer, people: list[Person], best: list[set[str]], parts: list[float]
) -> dict[str, dict[str, float]]:
    """Recall and cost of later searches when such parts of the clusters are looked into, the index's own set aside."""
    found, own = {}, index.PROBED
    for part in parts:
        index.PROBED = part
        search = PersonalSearch(ImageIndex(path), scorer)
        for person in people:  # their vectors depend on the first candidates, too
            search.best(person, len(best[0]))
        taken = [timed(search.best, person, len(best[0])) for person in people]
        recalls = [len(set(table["image"]) & truth) / len(truth) for (_, _, table), truth in zip(taken, best)]
        found[f"{part:g}"] = {
            "recall_at_100": float(np.mean(recalls)),
            "recall_at_100_worst": min(recalls),
            "again_ms_median": float(np.median([wall for wall, _, _ in taken])),
            "again_cpu_ms_median": float(np.median([busy for _, busy, _ in taken])),
        }
        print(part, found[f"{part:g}"], flush=True)
    index.PROBED = own
    return found


def summary(name: str, values: list[float]) -> dict[str, float]:
    return {f"{name}_median": float(np.median(values)), f"{name}_p90": float(np.quantile(values, 0.9))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/demo/model"))
    parser.add_argument("--features", type=Path, default=Path("runs/demo/ratings"))
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--judged", type=int, help="people who are also judged by brute force (default: all)")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    parser.add_argument("--probed", default="", help="parts of the clusters to look into as well, such as 0.06,0.03")
    args = parser.parse_args()
    rng, k = np.random.default_rng(0), 100
    scorer = PamelaScorer.from_pretrained(args.model, device="cpu")
    images = simulated_images(load_embeddings(args.features), args.images, rng)
    people = simulated_people(scorer, args.people, rng)
    with tempfile.TemporaryDirectory() as folder:
        build, build_cpu, made = timed(ImageIndex.create, Path(folder) / "index", images)
        size = sum(file.stat().st_size for file in made.path.rglob("*") if file.is_file())
        load, _, search = timed(lambda: PersonalSearch(ImageIndex(made.path), scorer))
        search.best(None, k)  # the first search of a process opens the index's files
        print(
            f"built in {build / 1e3:.0f} s, {size / images.image_embeds.nbytes:.2f} of the features' size", flush=True
        )
        first, again, found = [], [], []
        for person in people:
            first.append(timed(search.best, person, k)[:2])
        for person in people:
            *taken, table = timed(search.best, person, k)
            again.append(taken)
            found.append(set(table["image"]))
        print(f"searched: again {np.median([wall for wall, _ in again]):.0f} ms; now brute force", flush=True)
        judged = people[: args.judged]
        best, brute = brute_force(scorer, images, judged, k)
        parts = [float(part) for part in args.probed.split(",") if part]
        swept = probed(made.path, scorer, judged, best, parts) if parts else {}
    (first, first_cpu), (again, again_cpu) = np.transpose(first), np.transpose(again)
    recall = [len(one & two) / k for one, two in zip(best, found)]
    result = {
        "images": args.images,
        "people": len(people),
        "judged": len(judged),
        "threads": torch.get_num_threads(),
        "recall_at_100": float(np.mean(recall)),
        "recall_at_100_worst": min(recall),
        **summary("first_ms", first),
        **summary("again_ms", again),
        "first_cpu_ms_median": float(np.median(first_cpu)),
        "again_cpu_ms_median": float(np.median(again_cpu)),
        "brute_force_ms": 1e3 * brute / len(judged),
        "build_seconds": build / 1e3,
        "build_cpu_seconds": build_cpu / 1e3,
        "load_ms": load,
        "index_over_features": size / images.image_embeds.nbytes,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    result = {key: round(value, 4) for key, value in result.items()}
    text = json.dumps({**result, "probed": swept} if swept else result, indent=1)
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
