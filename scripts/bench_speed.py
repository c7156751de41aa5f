"""How fast the reward scores, against what this machine can do: `python scripts/bench_speed.py`.

- score_matrix: 900 images × 210 people, floating-point operations a second as a share of a plain matrix product's rate,
  both measured in this run; against one pair at a time; and how its time grows with the pairs, and with the images of
  one person (slopes of log time over log number, 1 = in proportion). Operations are counted twice: `written` are those
  of the three products that each member has for a pair (attention's projection, the feed-forward layer's two), all
  that depends on one of the two alone left out; `executed` are those that PyTorch counts in its products while it
  runs. They are fewer, as two of the three products are done to an image's and a person's ends;
- one image for 1,000 people against one image for one person, from pixels, with a SigLIP2-base-sized encoder (random
  weights: only its size matters here);
- what importing the package adds to importing transformers' Auto classes.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import SiglipConfig, SiglipModel

from pamela_hf import PamelaConfig, PamelaRewardModel


def seconds(function: Callable[[], object], repeats: int = 5, of: Callable = statistics.median) -> float:
    """Median (or another figure) of `repeats` runs after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return of(times)


def matmul_rate(size: int = 1536) -> float:
    """FLOP/s of a square float32 matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / seconds(lambda: a @ b, 7, min)


def reward(users: int, width: int, text_width: int, encoder: SiglipConfig | None = None) -> PamelaRewardModel:
    config = PamelaConfig(
        image_embed_dim=width,
        text_embed_dim=text_width,
        users=[f"p{i}" for i in range(users)],
        demographics={"age_binned": [f"{10 * i}-{10 * i + 9}" for i in range(1, 7)], "gender": ["female", "male"]},
        metadata={"group": ["animal", "object", "person", "scene"]},
        rating_scales={"rating": list(range(1, 8))},
    )
    return PamelaRewardModel(config).eval()


def grid_inputs(images: int, people: int) -> dict[str, torch.Tensor]:
    """What `score_matrix` of `reward(people, 1280, 384)` takes."""
    return {
        "image_embeds": torch.randn(images, 1280),
        "text_embeds": torch.randn(images, 384),
        "user_ids": torch.arange(1, people + 1),
        "demographic_ids": torch.randint(0, 3, (people, 2)),
        "metadata_ids": torch.randint(0, 5, (images, 1)),
    }


def written_flop(config: PamelaConfig) -> int:
    """FLOP of a pair's matrix products as the networks are written."""
    products = config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    return 2 * config.num_fusion_members * products


def bench_matrix(images: int = 900, people: int = 210) -> dict[str, float]:
    model, inputs = reward(people, 1280, 384), grid_inputs(images, people)
    with FlopCounterMode(display=False) as counter:
        model.score_matrix(**inputs)
    # in turns, the best of each: what the machine can do when nobody else uses it, both at about the same time
    taken, rate = float("inf"), 0.0
    for _ in range(5):
        taken = min(taken, seconds(lambda: model.score_matrix(**inputs), 1, min))
        rate = max(rate, matmul_rate())
    pair = {name: value[:1] for name, value in inputs.items()}
    one = seconds(lambda: model.score_matrix(**pair), 20)
    executed, pairs = counter.get_total_flops(), images * people
    written = written_flop(model.config) * pairs
    return {
        "score_matrix_images": images,
        "score_matrix_people": people,
        "score_matrix_seconds": taken,
        "score_matrix_pairs_per_second": pairs / taken,
        "score_matrix_flop_per_pair": executed / pairs,
        "score_matrix_written_flop_per_pair": written / pairs,
        "million_pairs_seconds": taken / pairs * 1e6,
        "pairs_over_one_at_a_time": one / (taken / pairs),
        "score_matrix_gflops": written / taken / 1e9,
        "matmul_gflops": rate / 1e9,
        "score_matrix_share_of_matmul": written / taken / rate,
        "score_matrix_executed_share": executed / taken / rate,
    }


def slope(numbers: Sequence[int], times: Sequence[float]) -> float:
    """Of a line through log time over log number, by least squares; 1 = in proportion."""
    x, y = [math.log(n) for n in numbers], [math.log(t) for t in times]
    return statistics.linear_regression(x, y).slope


def growth(largest: int) -> dict[str, float]:
    """How the time of score_matrix grows with pairs (a hundred people) and with images (one person), by factors of ten
    from a thousand on."""
    model, found = reward(100, 256, 0), {}
    numbers = [10**power for power in range(3, 10) if 10**power <= largest]
    features = torch.randn(largest, 256)
    for name, people in (("pairs", 100), ("images", 1)):
        ids, times = torch.arange(1, people + 1), []
        for n in numbers:
            images = features[: n // people]
            score = partial(model.score_matrix, images, user_ids=ids)
            times.append(seconds(score, 1 if n >= 10**6 else 3, min))
        found[f"{name}_slope"] = slope(numbers, times)
        found[f"{name}_largest"] = numbers[-1]
        found[f"{name}_largest_seconds"] = times[-1]
    return found


def bench_people() -> dict[str, float]:
    size = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    vision = {**size, "image_size": 224, "patch_size": 16}
    encoder = SiglipModel(SiglipConfig(vision_config=vision, text_config={**size, "num_hidden_layers": 1}))
    model = reward(1000, 768, 768)
    model.set_backbone(encoder)
    pixels = torch.randn(1, 3, 224, 224)
    times: dict[int, list[float]] = {1: [], 1000: []}
    for _ in range(12):  # in turns, so that both see the same machine
        for people, found in times.items():
            ids = torch.arange(1, people + 1)
            start = time.perf_counter()
            model.score_matrix(pixel_values=pixels, user_ids=ids)
            found.append(time.perf_counter() - start)
    one, many = (statistics.median(times[n][2:]) for n in (1, 1000))
    return {"one_person_ms": 1e3 * one, "1000_people_ms": 1e3 * many, "1000_people_over_one": many / one}


def bench_import() -> dict[str, float]:
    code = (
        "from transformers import AutoModel, AutoProcessor, PreTrainedModel\n"
        "import time; start = time.perf_counter(); import pamela_hf; print(time.perf_counter() - start)"
    )
    runs = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(5)]
    return {"import_extra_ms": 1e3 * statistics.median(runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--output", help="JSON file to write as well")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    matrix = bench_matrix(30, 20) if args.quick else bench_matrix()
    largest = 10_000 if args.quick else 1_000_000
    result = {"threads": torch.get_num_threads(), **matrix, **growth(largest), **bench_people(), **bench_import()}
    text = json.dumps({k: round(v, 4) for k, v in result.items()}, indent=1)
    print(text)
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
