"""What one GPU makes of the package, in a few minutes: `python scripts/bench_gpu.py --output gpu.json`.

- embedding: `compute_embeddings` on JPEGs, an encoder of SigLIP2's size (random weights) in float32 and bfloat16,
  against the bare forward of transformers' model in that precision on pixels that are there already;
- score_matrix: pairs and FLOP a second, as executed and as the networks are written, against a matrix product's;
- heads: `UserHead.fit` by 100 ratings each of made-up people; features are read on the GPU, and the fit is the CPU's.

On another device (`--device cpu`) it says the same of that; give it few images and people there.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_embedding import SIZES, photographs, sized_encoder
from bench_speed import grid_inputs, reward, seconds, written_flop
from torch.utils.flop_counter import FlopCounterMode

from pamela_hf.encoder import compute_embeddings
from pamela_hf.heads.head import UserHead
from pamela_hf.scoring import PamelaScorer

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RATED = 100


def least(function: Callable[[], object], device: torch.device) -> float:
    """The least seconds of some runs, each until the device is done."""

    def done() -> None:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return seconds(done, of=min)


@torch.no_grad()
def bench_embedding(args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = photographs(folder, args.images, (args.side, args.side))
        for precision, dtype in PRECISIONS.items():
            encoder, bare = sized_encoder(args.size, str(device))
            encoder.model, bare = encoder.model.to(dtype), bare.to(dtype)
            side = encoder.image_side()
            pixels = torch.randn(args.batch_size, 3, side, side, device=device, dtype=dtype)

            def forward(bare: torch.nn.Module = bare, pixels: torch.Tensor = pixels) -> None:
                bare.get_image_features(pixel_values=pixels).pooler_output.cpu()

            limit = args.batch_size / least(forward, device)
            start = time.perf_counter()
            compute_embeddings(
                encoder, ids, folder.joinpath, [None] * len(ids), folder / f"{precision}.safetensors", args.batch_size,
                progress=False,
            )  # fmt: skip
            rate = len(ids) / (time.perf_counter() - start)
            found |= {f"{precision}_encoder_images_per_second": limit, f"{precision}_images_per_second": rate}
            found[f"{precision}_over_encoder"] = rate / limit
    return found


def bench_matrix(args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    found, images, people = {}, args.matrix_images, args.people
    inputs = grid_inputs(images, people)
    for precision, dtype in PRECISIONS.items():
        model = reward(people, 1280, 384).to(device, dtype)
        given = {name: v.to(device, dtype if v.is_floating_point() else v.dtype) for name, v in inputs.items()}
        with FlopCounterMode(display=False) as counter:
            model.score_matrix(**given)
        taken = least(lambda model=model, given=given: model.score_matrix(**given), device)
        a = torch.randn(args.product, args.product, device=device, dtype=dtype)
        rate = 2 * args.product**3 / least(lambda a=a: a @ a, device)
        written = written_flop(model.config) * images * people
        found |= {
            f"{precision}_pairs_per_second": images * people / taken,
            f"{precision}_written_tflops": written / taken / 1e12,
            f"{precision}_executed_tflops": counter.get_total_flops() / taken / 1e12,
            f"{precision}_product_tflops": rate / 1e12,
            f"{precision}_share_of_product": written / taken / rate,
        }
    return found


def bench_heads(args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Of people who rate by what they see along one direction each, on a reward whose people differ at random."""
    model, rng = reward(args.people, 1280, 384).to(device), np.random.default_rng(0)
    torch.nn.init.normal_(model.user_embedding.weight[1:], std=0.3)
    scorer = PamelaScorer(model)

    def fit() -> None:
        seen = rng.normal(size=(RATED, 1280)).astype(np.float32)
        scores = 4 + np.clip(np.round(1.5 * seen[:, 0]), -3, 3)
        UserHead.fit(scorer, list(zip(seen, scores.tolist())), name="ann")

    fit()  # to warm up
    start = time.perf_counter()
    for _ in range(args.heads):
        fit()
    return {"heads_per_second": args.heads / (time.perf_counter() - start), "ratings_each": RATED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="embedding,matrix,heads", help="of embedding, matrix, heads (all)")
    parser.add_argument("--size", choices=SIZES, default="base384", help="of the encoder (base384)")
    parser.add_argument("--images", type=int, default=4000, help="to embed (4000)")
    parser.add_argument("--side", type=int, default=512, help="of the JPEGs, in pixels (512)")
    parser.add_argument("--batch-size", type=int, default=128, help="images a pass (128)")
    parser.add_argument("--matrix-images", type=int, default=20_000, help="of score_matrix (20000)")
    parser.add_argument("--people", type=int, default=1_000, help="of score_matrix and of the heads' base (1000)")
    parser.add_argument("--product", type=int, default=8192, help="side of the matrices of the product (8192)")
    parser.add_argument("--heads", type=int, default=50, help="to fit (50)")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("this PyTorch sees no CUDA GPU. Install one built for it, or give --device cpu with few images.")
    benches = {"embedding": bench_embedding, "matrix": bench_matrix, "heads": bench_heads}
    if unknown := set(args.only.split(",")) - set(benches):
        parser.error(f"--only {sorted(unknown)[0]!r}; there are {', '.join(benches)}.")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    result: dict[str, object] = {"device": name, "torch": torch.__version__}
    for bench in args.only.split(","):
        found = {key: round(float(value), 4) for key, value in benches[bench](args, device).items()}
        print(bench, json.dumps(found), flush=True)
        result[bench] = found
        if args.output:  # after each, so that a run which is cut off leaves what it found
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
