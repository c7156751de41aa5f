"""Time and size what goes to and comes from the Hub, against a local server (tests/hub_server.py).

    python scripts/bench_hub.py --output runs/bench/hub.json [--images 500]      # fewer images: a quick look

Simulated PAMELA: 5,077 PNGs of noise (110 KB each), 69,904 ratings by 199 people in the release's five splits. Prepared
from the release's layout, pushed, and read back by a process that loads the ratings alone. Then a reward model of
default size and its encoder, both cached and named by commit (so that no request is made: the first one of a process
costs some 80 ms, whatever it asks for), each time in a fresh process: how much longer than the encoder alone does it
take to load both (wall time, "cpu"), to load them and score a first image, and to load them once more in the same
process ("again")? --encoder so400m takes 15 GB of disk and 12 GB of memory; base is the default.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
SPLITS = {"train": 50_222, "val_seen": 6_551, "val_unseen": 926, "test_seen": 9_735, "test_unseen": 2_470}
GOALS = {
    "export_seconds": 120, "export_peak_mb": 600, "push_peak_mb": 600, "both_over_images": 1.05,
    "ratings_only_mb": 5, "from_pretrained_over_encoder": 1.2, "load_over_encoder": 1.2,
    "first_image_load_over_encoder": 1.2,
}  # fmt: skip
LOAD_RATINGS = "import sys, datasets; print(sum(map(len, datasets.load_dataset(sys.argv[1], 'ratings').values())))"
TIME_LOADING = """
import json, sys, time
import torch, transformers, pamela_hf
from transformers import AutoModel
torch.set_num_threads(1)
which, encoder, revision, reward, commit = sys.argv[1:]
def encoder_alone():
    return AutoModel.from_pretrained(encoder, revision=revision)
def reward_alone():
    return AutoModel.from_pretrained(reward, revision=commit)
def both():
    model = reward_alone()
    model.load_backbone()
    return model
load = globals()[which]
started, cpu = time.perf_counter(), time.process_time()
model = load()
times = {"": time.perf_counter() - started, "cpu_": time.process_time() - cpu}
if load is not reward_alone:  # weights are mapped, not read: the first image reads them
    size = (model if load is encoder_alone else model.backbone).config.vision_config.image_size
    pixels = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        model.get_image_features(pixel_values=pixels) if load is encoder_alone else model(pixel_values=pixels)
    times["first_image_"] = time.perf_counter() - started
again = []
for _ in range(5):
    del model
    started = time.perf_counter()
    model = load()
    again.append(time.perf_counter() - started)
print(json.dumps(times | {"again_": sorted(again)[2]}))
"""
STEP = """
import json, resource, sys, time
started = time.perf_counter()
from pamela_hf.cli import main
main(json.loads(sys.argv[1]))
print(json.dumps([time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def write_release(folder: Path, n_images: int, scale: float) -> None:
    """The release's layout with simulated content."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for i in range(n_images):
        pixels = rng.integers(0, 256, (192, 192, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png", compress_level=0)
    people = {"seen": [f"s{i:03d}" for i in range(156)], "unseen": [f"u{i:03d}" for i in range(43)]}
    parts = dict(
        zip(("train", "val", "test"), np.split(rng.permutation(n_images), [n_images * 7 // 10, n_images * 8 // 10]))
    )
    for split, count in SPLITS.items():
        who, images = people["unseen" if split.endswith("unseen") else "seen"], parts[split.split("_")[0]]
        if split == "val_unseen":
            who = who[:12]
        elif split == "test_unseen":
            who = who[12:]
        pairs = rng.permutation(len(who) * len(images))[: int(count * scale)]
        rows = []
        for pair in pairs:
            image, person = int(images[pair % len(images)]), who[pair // len(images)]
            meta = {"prompt": f"a simulated picture number {image}, in the style of noise", "group": "scene"}
            demographics = {"age": 20 + pair // len(images) % 40, "age_binned": "20-29", "gender": "female"}
            rows.append({
                "participant_id": person, "image_id": image, "image_path": f"./images/{image}.png",
                "original_score": int(rng.integers(1, 6)), "image_metadata": {**meta, "style": None, "type": "Art"},
                "user_demographics": {**demographics, "age": int(demographics["age"]), "nationality": "Belgian"},
            })  # fmt: skip
        (folder / "annotations" / f"pamela_{split}.json").write_text(json.dumps(rows))


def process(code: str, *arguments: str, server, home: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | server.environment(home)
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stdout.strip().splitlines()[-1]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def bench_ratings(place: Path, server, n_images: int) -> dict[str, float]:
    write_release(place / "PAMELA", n_images, n_images / 5_077)
    prepared = place / "prepared"
    arguments = ["prepare-ratings", str(place / "PAMELA"), str(prepared), "--quiet"]
    export, export_peak = json.loads(process(STEP, json.dumps(arguments), server=server, home=place / "home"))
    arguments = ["push", "ratings", str(prepared), "me/ratings"]
    push, push_peak = json.loads(process(STEP, json.dumps(arguments), server=server, home=place / "home"))
    before = len(server.requests)
    rows = process(LOAD_RATINGS, "me/ratings", server=server, home=place / "reader")
    touched = sum(request.sent for request in server.requests[before:])
    images = size(prepared / "images")
    return {
        "images": n_images, "ratings": int(rows), "export_seconds": export, "export_peak_mb": export_peak,
        "push_seconds": push, "push_peak_mb": push_peak, "repository_mb": size(prepared) / 1e6,
        "both_over_images": size(prepared) / images, "ratings_only_mb": touched / 1e6,
    }  # fmt: skip


ENCODERS = {
    "base": ({"vocab_size": 64_000, "projection_size": 768}, {"image_size": 224}),
    "so400m": (
        {"vocab_size": 256_000, "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
         "num_attention_heads": 16, "projection_size": 1152},
        {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
         "image_size": 224, "patch_size": 14},
    ),
}  # fmt: skip


def bench_loading(place: Path, server, size: str) -> dict[str, float]:
    from transformers import AutoModel, SiglipConfig, SiglipModel

    from pamela_hf import PamelaConfig, PamelaProcessor, PamelaRewardModel
    from pamela_hf.publishing.repositories import push_model  # noqa: F401  (imported here so that its cost is in no figure)

    text, vision = ENCODERS[size]
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(place / "encoder")
    revision = server.add(place / "encoder", "me/encoder")
    config = AutoModel.from_pretrained(place / "encoder").config.to_dict()
    width = text.get("hidden_size", 768)
    users = [f"s{i:03d}" for i in range(156)]
    model = PamelaRewardModel(
        PamelaConfig(
            backbone="me/encoder",
            backbone_revision=revision,
            backbone_config=config,
            image_embed_dim=width,
            text_embed_dim=width,
            users=users,
            releases={"": {"license": "cc-by-4.0", "url": "x", "citation": "x"}},
        )
    )
    model.save_pretrained(place / "model")
    PamelaProcessor(model.config).save_pretrained(place / "model")
    home = place / "home"
    process(STEP, json.dumps(["push", "model", str(place / "model"), "me/reward"]), server=server, home=home)
    commit = server.repos["model", "me/reward"].head.sha
    seen: dict[str, list[float]] = {}
    for _ in range(4):  # the first run fills the cache
        for which in ("encoder_alone", "reward_alone", "both"):
            arguments = [which, "me/encoder", revision, "me/reward", commit]
            printed = process(TIME_LOADING, *arguments, server=server, home=home)
            for kind, value in json.loads(printed).items():
                seen.setdefault(f"{which}_{kind}seconds", []).append(value)
    seconds = {name: sorted(values[1:])[1] for name, values in seen.items()}
    return {
        "encoder_parameters": sum(p.numel() for p in AutoModel.from_pretrained(place / "encoder").parameters()),
        **seconds,
        "from_pretrained_over_encoder": seconds["reward_alone_seconds"] / seconds["encoder_alone_seconds"],
        **{
            f"{kind}load_over_encoder": seconds[f"both_{kind}seconds"] / seconds[f"encoder_alone_{kind}seconds"]
            for kind in ("", "cpu_", "again_", "first_image_")
        },
    }


def main() -> None:
    from hub_server import HubServer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_077)
    parser.add_argument("--encoder", choices=list(ENCODERS), default="base")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    args = parser.parse_args()
    server, started = HubServer(), time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as place:
            result = bench_ratings(Path(place), server, args.images) | bench_loading(Path(place), server, args.encoder)
    finally:
        server.close()
    for name, value in result.items():
        goal = f"  (goal: ≤ {GOALS[name]:g})" if name in GOALS else ""
        print(f"{name:34} {value:>14,.3f}{goal}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"whole benchmark: {time.perf_counter() - started:.0f} s, largest process {peak:.0f} MB")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
