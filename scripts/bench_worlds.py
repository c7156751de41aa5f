"""Our model and its rivals on people and pictures that are made up: `python scripts/bench_worlds.py`.

What stands behind these ratings is known and of other kinds than in `make demo`: people who differ along a few
directions of the features that they share, or by whom they are drawn to; few images or few people; two levels or seven.
Each world is trained on some of its images with the defaults and judged on 200 others, for the same people.
"""

import argparse
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bench_rivals import compared

from pamela_hf.embeddings import Embeddings
from pamela_hf.ratings.preparation import prepare, write_answers

UNSEEN = 200
JUDGED = 40  # of these, by each person
DEPTH, WIDTH = 40, 256  # of what people see in an image, and of its features
KINDS = 4


@dataclass
class World:
    """`directions` that `people` differ along; each rates `each` of `images` on `levels`; with `faces`, people also
    differ by which kind of image they are drawn to, and metadata says the kind."""

    directions: int
    images: int
    people: int = 300
    each: int = 32
    levels: int = 5
    faces: bool = False


WORLDS = {
    "2 directions, 40 images": World(2, 40),
    "2 directions, 100 images": World(2, 100),
    "4 directions, 60 images": World(4, 60),
    "12 directions, 100 images": World(12, 100),
    "4 directions, 60 people, two levels": World(4, 100, people=60, each=48, levels=2),
    "faces, 60 images": World(4, 60, people=800, each=60, levels=7, faces=True),
    "faces, 80 images": World(4, 80, people=800, each=80, levels=7, faces=True),
}


def written(world: World, folder: Path, seed: int) -> str:
    """A prepared folder of this world, with splits `train` and `val_seen`."""
    rng = np.random.default_rng([seed, world.directions, world.images, world.people])
    count, spread = world.images + UNSEEN, np.sqrt(1 + 0.3 * np.arange(DEPTH))
    latent, kinds = rng.normal(size=(count, DEPTH)) / spread, rng.integers(0, KINDS, count)
    if world.faces:
        latent = latent + 0.8 * rng.normal(size=(KINDS, DEPTH))[kinds] / spread
    features = latent @ rng.normal(size=(DEPTH, WIDTH)) / DEPTH**0.5 + 0.1 * rng.normal(size=(count, WIDTH))
    everyone, drawn = latent @ rng.normal(size=DEPTH), 0.0
    if world.faces:
        everyone = everyone / everyone.std() + 0.7 * np.tanh(2 * latent[:, 0] * latent[:, 1])
        everyone = everyone + 0.8 * rng.normal(size=KINDS)[kinds]
        drawn = 0.8 * rng.normal(size=(world.people, KINDS))[:, kinds]
    own = rng.normal(size=(world.people, world.directions)) @ rng.normal(size=(world.directions, DEPTH)) @ latent.T
    liking = everyone / everyone.std() + own / own.std() + drawn
    rows = []
    for person, likes in enumerate(liking):
        felt = likes + 0.5 * likes.std() * rng.normal(size=count)
        scores = 1 + np.searchsorted(np.quantile(felt, np.linspace(0, 1, world.levels + 1)[1:-1]), felt)
        seen = rng.permutation(world.images)[: world.each]
        asked = world.images + rng.permutation(UNSEEN)[:JUDGED]
        rows += [(f"p{person}", f"i{image:04d}", scores[image], f"kind {kinds[image]}") for image in (*seen, *asked)]
    table = pd.DataFrame(rows, columns=["participant_id", "image_id", "score", "style"])
    folder.mkdir(parents=True)
    table.drop(columns=[] if world.faces else ["style"]).to_csv(folder / "ratings.csv", index=False)
    ids = [f"i{image:04d}" for image in range(count)]
    Embeddings(ids, features.astype(np.float32), None).save(folder / "embeddings.safetensors")
    out = folder / "prepared"
    ratings = prepare(folder / "ratings.csv", out)
    answers = pd.concat(ratings.splits.values(), ignore_index=True)
    known = answers.image_id.astype(str).isin(ids[: world.images])
    ratings.splits = {
        "train": answers[known].reset_index(drop=True),
        "val_seen": answers[~known].reset_index(drop=True),
    }
    shutil.rmtree(out / "ratings")
    write_answers(ratings, out)
    return str(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", default=",".join(map(str, range(len(WORLDS)))), help="numbers, as listed; all")
    parser.add_argument("--seed", type=int, default=0, help="of the worlds")
    parser.add_argument("--seeds", default="0", help="of our model's training")
    parser.add_argument("--rivals", default="low_rank,residual,user_ridge")
    args = parser.parse_args()
    args.config, args.splits, args.few_shot = None, "val_seen", ""
    names = ["pamela", "pamela@no_user", *args.rivals.split(",")]
    lines = [
        f"| made-up world | {' | '.join(names)} | pamela minus the best rival |",
        f"|---|{'---|' * (len(names) + 1)}",
    ]
    for name in [list(WORLDS)[int(number)] for number in args.worlds.split(",")]:
        with tempfile.TemporaryDirectory() as place:
            args.data = written(WORLDS[name], Path(place) / "world", args.seed)
            found = compared(args, args.data, Path(place) / "models")["val_seen"]
        found = {**found, "pamela@no_user": {"": found["pamela"]["@no_user"]}}
        value = {scorer: found[scorer][""]["user_srocc"] for scorer in names}
        best = max(args.rivals.split(","), key=lambda rival: value[rival].value)
        ahead = (value["pamela"] - value[best]).as_dict()
        cells = [f"{value[scorer].value:.3f}" for scorer in names]
        interval = f"{ahead['value']:+.3f} [{ahead['ci_low']:+.3f}, {ahead['ci_high']:+.3f}]"
        lines.append(f"| {name} | {' | '.join(cells)} | {interval} ({best}) |")
        print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
