"""Time the report, its metrics and their intervals, and compare these with the plain loops they replace.

    python scripts/bench_metrics.py                 # 70,000 ratings, 200 people, 5,077 images (PAMELA's size)
    python scripts/bench_metrics.py --images 600    # the same ratings on few images: dense

The whole report is that of one scorer as right, no and wrong user, so everything is judged three times; its own
predictions cost nothing here. The plain loops cannot do 1,000 draws in reasonable time: they do --loop-draws and are
extrapolated.
"""

import argparse
import json
import resource
import time
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from pamela_hf.metrics import judge


def simulated_ratings(n_ratings: int, n_users: int, n_images: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(n_users), n_ratings // n_users)
    images = np.concatenate([rng.permutation(n_images)[: n_ratings // n_users] for _ in range(n_users)])
    liking = rng.normal(size=n_images)[images] + 0.7 * rng.normal(size=len(users))
    ratings = np.clip(np.round(3 + liking), 1, 5)
    predictions = 3 + liking + rng.normal(size=len(users))
    probs = np.exp(-0.5 * (np.arange(1, 6) - predictions[:, None]) ** 2)
    return predictions, ratings, users, images, probs / probs.sum(1, keepdims=True)


class Recorded:
    """A personal scorer that says what was simulated, whoever is asked."""

    name, personal, higher_is_better, score_range = "pamela", True, True, (1.0, 5.0)

    def __init__(self, predictions, probs):
        from pamela_hf.scoring import Predictions

        levels = np.tile(np.arange(1.0, 6), (len(probs), 1))
        self.predictions = Predictions(predictions, None, probs, levels)

    def predict(self, ratings, embeddings):
        return self.predictions


def report_seconds(p, r, users, images, probs, draws):
    """Of a split with 15 groups of people and 47 of images. Imported here: torch would count as the metrics' memory."""
    from pamela_hf.evaluation.evaluate import evaluate
    from pamela_hf.ratings.table import RATING_COLUMNS, RatingData

    columns = {
        "participant_id": users, "image_id": images, "rating_scale": "five", "age_binned": users % 5,
        "gender": users % 3, "nationality": users % 7, "group": images % 19, "style": images % 26, "type": images % 2,
    }  # fmt: skip
    table = pd.DataFrame({name: pd.Series(np.resize(column, len(r))).astype(str) for name, column in columns.items()})
    table = table.astype("category").assign(score=np.float32(r), prompt=None, age=None)
    data = RatingData("simulated", {"test_seen": table[list(RATING_COLUMNS)]}, {"five": (1.0, 2.0, 3.0, 4.0, 5.0)})
    start = time.perf_counter()
    evaluate([Recorded(p, probs)], data, None, bootstrap=draws, simulated=True)
    return time.perf_counter() - start


def plain_user_loop(p, r, users):
    for user in np.unique(users):
        a, b = p[users == user], r[users == user]
        stats.spearmanr(a, b), stats.pearsonr(a, b), stats.kendalltau(a, b)
        for margin in range(4):
            pairs = [(i, j) for i, j in combinations(range(len(b)), 2) if abs(b[i] - b[j]) > margin]
            np.mean([(a[i] > a[j]) == (b[i] > b[j]) for i, j in pairs])


def plain_average_loop(p, r, users, images, draws, rng):
    for _ in range(draws):
        weights = np.bincount(rng.choice(users.max() + 1, users.max() + 1), minlength=users.max() + 1)[users]
        total = np.bincount(images, weights)
        means = [np.bincount(images, weights * v)[total > 0] / total[total > 0] for v in (p, r)]
        stats.spearmanr(*means), stats.pearsonr(*means)


def growth(largest: int) -> dict[str, float]:
    """Slope of log time over log ratings, from a thousand on by factors of ten, without draws; 350 a person."""
    numbers, times = [10**power for power in range(3, 10) if 10**power <= largest], []
    for n in numbers:
        p, r, users, images, probs = simulated_ratings(n, max(3, n // 350), max(400, n // 14))
        start = time.perf_counter()
        judge(p, r, users, images, probs, np.arange(1, 6), bootstrap=0)
        times.append(time.perf_counter() - start)
    slope = np.polyfit(np.log(numbers), np.log(times), 1)[0]
    return {"ratings_slope": float(slope), "slope_largest": numbers[-1], "slope_largest_seconds": times[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=70_000)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--images", type=int, default=5_077, help="at least ratings / users")
    parser.add_argument("--bootstrap", type=int, default=1_000)
    parser.add_argument("--loop-draws", type=int, default=10, help="0 leaves the plain loops out")
    parser.add_argument("--slope", type=int, metavar="N", help="also how time grows, from 1,000 to N ratings")
    parser.add_argument("--output", help="JSON file to write as well")
    args = parser.parse_args()
    if args.images * args.users < args.ratings:
        parser.error(f"--images {args.images} is fewer than the {args.ratings // args.users} each person rates")

    p, r, users, images, probs = simulated_ratings(args.ratings, args.users, args.images)
    start = time.perf_counter()
    judge(p, r, users, images, probs, np.arange(1, 6), bootstrap=args.bootstrap)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{args.ratings:,} ratings, {args.users} people, {args.images:,} images, {args.bootstrap:,} draws:")
    print(f"  all metrics with intervals        {seconds:8.2f} s   peak {memory:,.0f} MB (whole process)")
    result = {"ratings": args.ratings, "draws": args.bootstrap, "metrics_seconds": seconds, "metrics_peak_mb": memory}
    busy = time.process_time()
    seconds = report_seconds(p, r, users, images, probs, args.bootstrap)
    busy = time.process_time() - busy
    print(f"  whole report, judged three times  {seconds:8.2f} s   {busy:.2f} s of it computing")
    result |= {"report_seconds": seconds, "report_cpu_seconds": busy}
    if args.loop_draws:
        start = time.perf_counter()
        plain_user_loop(p, r, users)
        user_loop = time.perf_counter() - start
        print(f"  plain loop, per-user metrics once {user_loop:8.2f} s")
        start = time.perf_counter()
        plain_average_loop(p, r, users, images, args.loop_draws, np.random.default_rng(0))
        per_draw = (time.perf_counter() - start) / args.loop_draws
        print(f"  plain loop, avg_* draws           {per_draw * args.bootstrap:8.2f} s   (extrapolated)")
        result |= {"plain_user_loop_seconds": user_loop, "plain_draws_seconds": per_draw * args.bootstrap}
    if args.slope:
        result |= growth(args.slope)
        print(f"  log time over log ratings         {result['ratings_slope']:8.2f}     (1 = in proportion)")
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
