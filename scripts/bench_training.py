"""How fast training is: at PAMELA's size, 50,222 simulated ratings of 3,554 images by 156 people, and how it grows.

    python scripts/bench_training.py
    python scripts/bench_training.py --choices 600000 --people 4000
    python scripts/bench_training.py --data FOLDER

The ratings are the simulated world's; the features are random numbers of SigLIP2 so400m's width (1,152), since time
depends on their shape alone. Ratings a second (each epoch's count) stand beside what the matrix-product rate of this
machine would allow for the operations counted in a small training; the slope is that of log time over log ratings of
one epoch, 1,000 to 100,000.

--choices trains on so many choices of --people alone, each between two of --images, instead: seconds of choosing the
settings, of what is fitted in closed form and of the epochs, beside the CPU's, and the most memory the process took.
People differ along a few directions of the features, which lie near a low-dimensional space, as an encoder's do.
--data does the same with ratings that are there.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from bench_speed import matmul_rate, slope
from torch.utils.flop_counter import FlopCounterMode

from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.table import CHOICE_COLUMNS, RatingData
from pamela_hf.simulation.world import plan_world, write_annotations
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.run import start
from pamela_hf.training.settings import settle
from pamela_hf.training.train import load_sources, train

CONFIG = Path(__file__).parent / "configs" / "pamela.yaml"
WIDTH = 1152
DEPTH = 64  # of the space that the images of --choices lie near
DIRECTIONS = 8  # in which people of --choices differ


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
        model = train(config, data, embeddings, Path(place) / "model", progress=False)
        seconds, chosen = time.perf_counter() - start, model.config.chosen or {}
        epochs = round(chosen["epochs"]["value"]) if "epochs" in chosen else config.epochs
        return len(data.splits["train"]), epochs, seconds


def flop_per_rating(ratings: int) -> float:
    """Floating-point operations of matrix products of one rating in one epoch, backward pass included: what a second
    epoch adds to the training and to its pilot; closed forms' and other settings' do not grow with the epochs."""
    counted = []
    for epochs in (1, 2):
        with FlopCounterMode(display=False) as counter:
            trained, _, _ = timed(ratings, epochs=epochs)
        counted.append(counter.get_total_flops())
    return (counted[1] - counted[0]) / trained


def choices_world(choices: int, people: int, images: int) -> tuple[RatingData, Embeddings]:
    """A train split of choices alone: each person's are about random pairs of images."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(images, DEPTH)).astype(np.float32) / np.sqrt(1 + np.arange(DEPTH, dtype=np.float32))
    features = []
    for _ in range(2):  # images, prompts
        mixing = rng.normal(size=(DEPTH, WIDTH)).astype(np.float32)
        features.append(latent @ mixing + 0.3 * rng.standard_normal((images, WIDTH), np.float32))
    ids = [f"i{i}" for i in range(images)]
    everyone, directions = rng.normal(size=DEPTH), rng.normal(size=(DIRECTIONS, DEPTH))
    tastes = rng.normal(size=(people, DIRECTIONS)) / np.sqrt(DIRECTIONS)
    who = np.arange(choices) % people
    first = rng.integers(0, images, choices)
    second = (first + rng.integers(1, images, choices)) % images
    difference = latent[first] - latent[second]
    margin = difference @ everyone + ((difference @ directions.T) * tastes[who]).sum(1) + rng.logistic(size=choices)
    sides = np.where(margin[:, None] > 0, np.column_stack([first, second]), np.column_stack([second, first]))
    table = pd.DataFrame({name: pd.Categorical([None] * choices) for name in CHOICE_COLUMNS})
    table["participant_id"] = pd.Categorical.from_codes(who, [f"p{i}" for i in range(people)])
    table["preferred_id"], table["other_id"] = (pd.Categorical.from_codes(side, ids) for side in sides.T)
    table["tie"], table["age"] = np.abs(margin) < 0.3, pd.array([pd.NA] * choices, "Int64")
    data = RatingData("simulated", {}, {"rating": [1.0, 2.0, 3.0, 4.0, 5.0]}, choices={"train": table})
    return data, Embeddings(ids, *features)


def timed_parts(config: TrainingConfig, data: RatingData, embeddings: Embeddings) -> dict[str, float]:
    """Seconds and CPU seconds of each part of a training, and the most memory that the process has taken, in GB."""
    result: dict[str, float] = {"GB before": peak_memory()}
    wall, cpu = time.perf_counter(), time.process_time()

    def add(name: str) -> None:
        nonlocal wall, cpu
        result[f"{name} seconds"], result[f"{name} CPU seconds"] = time.perf_counter() - wall, time.process_time() - cpu
        result[f"{name} GB"] = peak_memory()
        print(json.dumps({key: round(value, 2) for key, value in result.items() if key.startswith(name)}), flush=True)
        wall, cpu = time.perf_counter(), time.process_time()

    with tempfile.TemporaryDirectory() as place:
        accelerator, output = Accelerator(), Path(place)
        config, _ = settle(config, data, embeddings, accelerator, output, resume=False)
        add("settings")
        result["epochs"] = config.epochs
        run = start(config, data, embeddings, accelerator, output, keep_backbone=False)
        add("closed form")
        run.epochs(data, embeddings, progress=False)
        add("epochs")
    result["all seconds"] = sum(result[f"{name} seconds"] for name in ("settings", "closed form", "epochs"))
    return result


def peak_memory() -> float:
    """GB that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few ratings, to see that everything runs")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    parser.add_argument("--choices", type=int, metavar="N", help="train on so many choices instead")
    parser.add_argument("--people", type=int, default=4_000, help="who choose (4000)")
    parser.add_argument("--images", type=int, default=50_000, help="to choose between (50000)")
    parser.add_argument("--epochs", type=int, help="of the training on choices; default: the configuration's")
    parser.add_argument("--data", nargs="+", metavar="DIR", help="train on these ratings, with the defaults, instead")
    args = parser.parse_args()
    if args.data:
        write(timed_parts(TrainingConfig(), *load_sources(args.data)), args.output)
        return
    if args.choices:
        config = TrainingConfig.read(CONFIG)
        config = replace(config, encoder=None, early_stopping=None, epochs=args.epochs or config.epochs)
        told = {"choices": args.choices, "people": args.people, "images": args.images}
        write(told | timed_parts(config, *choices_world(*told.values())), args.output)
        return
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
    write(result, args.output)


def write(result: dict[str, float], output: Path | None) -> None:
    text = json.dumps({key: round(value, 4) for key, value in result.items()}, indent=1)
    print(text)
    if output:
        output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
