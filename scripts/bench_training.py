"""How fast training is: at PAMELA's size, 50,222 simulated ratings of 3,554 images by 156 people, and how it grows.

    python scripts/bench_training.py

The ratings are the simulated world's; the features are random numbers of SigLIP2 so400m's width (1,152), since time
depends on their shape alone. Ratings a second (each epoch's count) stand beside what the matrix-product rate of this
machine would allow for the operations counted in a small training; the slope is that of log time over log ratings of
one epoch, 1,000 to 100,000.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_speed import matmul_rate, slope
from torch.utils.flop_counter import FlopCounterMode

from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import RatingData
from pamela_hf.simulation.world import plan_world, write_annotations
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.train import train

CONFIG = Path(__file__).parent / "configs" / "pamela.yaml"
WIDTH = 1152


def simulated(folder: Path, ratings: int | None) -> tuple[RatingData, Embeddings]:
    """A world whose train split has about so many ratings; default: as many as the released ratings."""
    plan = plan_world() if ratings is None else plan_world(**sizes(ratings))
    write_annotations(plan, folder)
    rng = np.random.default_rng(0)
    ids = [str(image.image_id) for image in plan.images]
    embeddings = Embeddings(ids, *(rng.normal(size=(len(ids), WIDTH)) for _ in range(2)))
    embeddings.save(folder / "embeddings.safetensors")
    return load_ratings(folder), embeddings


def sizes(ratings: int) -> dict[str, int]:
    """People, images and ratings of a world with so many training ratings, people and images in proportion."""
    people = max(20, round(199 * ratings / 50_222))
    return {"people": people, "images": max(400, round(5_077 * ratings / 50_222)), "ratings": round(ratings * 1.4)}


def timed(ratings: int | None, **changes: Any) -> tuple[int, int, float]:
    """Training ratings, epochs, and seconds of a whole training."""
    with tempfile.TemporaryDirectory() as place:
        data, embeddings = simulated(Path(place) / "world", ratings)
        config = replace(TrainingConfig.read(CONFIG), **changes)
        start = time.perf_counter()
        train(config, data, embeddings, Path(place) / "model", progress=False)
        return len(data.splits["train"]), config.epochs, time.perf_counter() - start


def flop_per_rating(ratings: int) -> float:
    """Floating-point operations of matrix products of one rating in one epoch, backward pass included."""
    with FlopCounterMode(display=False) as counter:
        trained, epochs, _ = timed(ratings, epochs=2)
    return counter.get_total_flops() / trained / epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few ratings, to see that everything runs")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    numbers = (500, 1_000) if args.quick else (1_000, 10_000, 100_000)
    steps = [timed(n, epochs=1) for n in numbers]
    trained, epochs, taken = timed(1_000 if args.quick else None)
    flop, rate = flop_per_rating(numbers[0]), matmul_rate()
    result = {
        "pamela_size_ratings": trained,
        "pamela_size_epochs": epochs,
        "pamela_size_training_seconds": taken,
        "ratings_per_second": trained * epochs / taken,
        "flop_per_rating": flop,
        "matmul_gflops": rate / 1e9,
        "share_of_matmul": flop * trained * epochs / taken / rate,
        "ratings_slope": slope([n for n, _, _ in steps], [seconds for _, _, seconds in steps]),
        "ratings_largest": steps[-1][0],
    }
    text = json.dumps({key: round(value, 4) for key, value in result.items()}, indent=1)
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
