"""How long training takes at PAMELA's size: 50,222 simulated ratings of 3,554 images by 156 people.

    python scripts/bench_training.py

The ratings are the simulated world's; the features are random numbers of SigLIP2 so400m's width (1,152), since time
depends on their shape alone.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.simulation.world import plan_world, write_annotations
from pamela_hf.training.config import TrainingConfig
from pamela_hf.training.train import train

CONFIG = Path(__file__).parent / "configs" / "pamela.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "world"
        plan = plan_world()
        write_annotations(plan, folder)
        rng = np.random.default_rng(0)
        ids = [str(image.image_id) for image in plan.images]
        image, text = (rng.normal(size=(len(ids), 1152)) for _ in range(2))
        embeddings = Embeddings(ids, image, text)
        embeddings.save(folder / "embeddings.safetensors")
        data = load_ratings(folder)
        start = time.perf_counter()
        train(TrainingConfig.read(CONFIG), data, embeddings, Path(temporary) / "model")
        seconds = time.perf_counter() - start
    result = {"pamela_size_ratings": len(data.splits["train"]), "pamela_size_training_seconds": round(seconds, 1)}
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
