"""What the adapters and the server cost beside the scorer: `python scripts/bench_rewards.py`.

- each adapter against `score()` on the same batch of pictures, by CPU time, which other programs disturb less than the
  clock: the median over repetitions of both in turn;
- the gradient of the rewards by the pixels against the rewards alone, as well;
- scores by the tensors' differentiable preprocessing against those by PIL's, on 200 smooth pictures of five sizes: the
  largest difference, beside the scores' own range, in rating units;
- `pamela serve`, a process of its own, under 32 clients at a time: its images a second as a share of the scorer's own
  on the same encoded files in batches of 32; its 99th percentile at half that load against one forward of one image;
  the scorer's own figures are taken before and after, and their mean counts; and the server's memory before and after
  many requests (`--soak 100000`: half an hour or more; 2,000 show a leak of a kilobyte a request).

The encoder is a SigLIP of random weights: only its size matters. Everything runs on this machine, clients included.
Each figure stands beside its limit; the whole takes two minutes on two cores of which nobody else asks anything.
"""

import argparse
import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pamela_hf import PamelaConfig, PamelaProcessor, PamelaRewardModel
from pamela_hf.rewards import load_reward
from pamela_hf.scoring import PamelaScorer

LIMITS = {
    "CPU, callable / score(PIL)": (max, 1.02),
    "CPU, flow_grpo, uint8 / score(uint8)": (max, 1.02),
    "CPU, flow_grpo, float / score(float)": (max, 1.02),
    "CPU, gradient / forward": (max, 3.0),
    "tensors against PIL, largest difference": (max, 0.01),
    "server / scorer": (min, 0.9),
    "p99 / forward": (max, 3.0),
    "memory after / before": (max, 1.05),
}
"""Of a figure: what it may be at most (max) or must be at least (min)."""


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Median of `repeats` runs after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def scorer_with(layers: int, width: int) -> PamelaScorer:
    """A reward with a SigLIP of random weights, images of 224 pixels."""
    side = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    encoder = SiglipModel(
        SiglipConfig(
            text_config={**side, "vocab_size": 100, "projection_size": width, "num_attention_heads": 4},
            vision_config={**side, "num_attention_heads": 4, "image_size": 224, "patch_size": 16},
        )
    )
    config = PamelaConfig(
        image_embed_dim=width, text_embed_dim=width, users=[f"p{i}" for i in range(100)], backbone="./encoder",
        backbone_config=encoder.config.to_dict(), rating_scales={"rating": [1, 2, 3, 4, 5]},
    )  # fmt: skip
    model = PamelaRewardModel(config).eval()
    model.set_backbone(encoder)
    letters = {"<pad>": 0, **{chr(i): i for i in range(33, 100)}}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(letters, [])), pad_token="<pad>", model_max_length=64
    )
    pictures = SiglipImageProcessorPil(size={"height": 224, "width": 224})
    return PamelaScorer(model, PamelaProcessor(config, pictures, tokenizer))


def in_turn(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each function over `repeats` rounds, one round before them to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def bench_adapters(scorer: PamelaScorer, images: list[Image.Image], repeats: int) -> dict[str, float]:
    """CPU seconds of adapters as a share of `score()`'s on the same batch; of a gradient as a share of a forward."""
    pixels = np.stack([np.asarray(image) for image in images])
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    people = [{"user": f"p{i}"} for i in range(len(images))]
    names, prompts = [row["user"] for row in people], [""] * len(images)
    call = load_reward("callable", model=scorer)
    flow_grpo = load_reward("flow_grpo", model=scorer)("cpu")
    functions = {
        "score(PIL)": lambda: scorer.score(images, user=names),
        "callable": lambda: call(images, None, people),
        "score(uint8)": lambda: scorer.score(pixels, user=names),
        "flow_grpo, uint8": lambda: flow_grpo(pixels, prompts, people),
        "score(float)": lambda: scorer.score(floats, user=names),
        "flow_grpo, float": lambda: flow_grpo(floats, prompts, people),
    }
    took = in_turn(functions, repeats)
    differentiable = load_reward("imscore", model=scorer)
    few = floats[:8]

    def gradient() -> None:
        x = few.clone().requires_grad_()
        torch.autograd.grad(differentiable.score(x).sum(), x)

    def forward() -> None:
        with torch.no_grad():
            differentiable.score(few)

    took |= in_turn({"forward": forward, "gradient": gradient}, repeats)
    pairs = [("callable", "score(PIL)"), ("flow_grpo, uint8", "score(uint8)"), ("flow_grpo, float", "score(float)"),
             ("gradient", "forward")]  # fmt: skip
    return {f"CPU, {one} / {other}": took[one] / took[other] for one, other in pairs}


def smooth_pictures(n: int, rng: np.random.Generator) -> list[Image.Image]:
    """n pictures of a few sizes: blurred noise with a little fine grain, as photographs have."""
    found = []
    for i in range(n):
        size = ((224, 224), (320, 240), (240, 320), (512, 384), (640, 640))[i % 5]
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        grain = rng.normal(0, 4, (size[1], size[0], 3))
        found.append(Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)))
    return found


def bench_tensors(scorer: PamelaScorer, n: int, rng: np.random.Generator) -> dict[str, float]:
    """How far the scores of `n` pictures are from each other by both ways to preprocess them."""
    pictures = smooth_pictures(n, rng)
    by_pil = np.asarray(scorer.score(pictures, user="p1").scores).ravel()
    differentiable = load_reward("imscore", model=scorer, user="p1")
    by_tensor = np.empty(n)
    for size in {picture.size for picture in pictures}:
        at = [i for i, picture in enumerate(pictures) if picture.size == size]
        for low in range(0, len(at), 20):
            some = at[low : low + 20]
            pixels = torch.from_numpy(np.stack([np.asarray(pictures[i]) for i in some]))
            with torch.no_grad():
                by_tensor[some] = differentiable.score(pixels.permute(0, 3, 1, 2).float() / 255).numpy()
    return {
        "tensors against PIL, largest difference": float(np.abs(by_pil - by_tensor).max()),
        "range of these scores": float(np.ptp(by_pil)),
    }


def resident(pid: int) -> float:
    """Memory of a process, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def own_figures(scorer: PamelaScorer, files: list[bytes]) -> tuple[float, float]:
    """The scorer's images a second in one batch, and seconds of one image alone."""
    rate = len(files) / seconds(lambda: scorer.score(files, user="p1"))
    return rate, seconds(lambda: scorer.score(files[:1], user="p1"))


@contextmanager
def server_of(scorer: PamelaScorer) -> Iterator[tuple[int, str]]:
    """`pamela serve` for the scorer, started as users start it: its process id and address."""
    with tempfile.TemporaryDirectory() as folder:
        scorer.model.backbone.save_pretrained(Path(folder, "encoder"))
        scorer.processor.save_pretrained(folder)
        scorer.model.save_pretrained(folder)
        command = [sys.executable, "-m", "pamela_hf.cli", "serve", "--model", folder, "--port", "0", "--device", "cpu"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                yield server.pid, server.stdout.readline().split()[1]
            finally:
                server.terminate()


def bench_server(scorer: PamelaScorer, images: list[Image.Image], requests: int, soak: int) -> dict[str, float]:
    files = []
    for image in images:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    before_it = own_figures(scorer, files)
    bodies = [
        json.dumps({"images": [base64.b64encode(file).decode()], "users": [f"p{i % 100}"]}).encode()
        for i, file in enumerate(files)
    ]
    headers = {"Content-Type": "application/json"}
    mine = threading.local()  # each client's connection; http.client, since this machine's processors are the server's
    with server_of(scorer) as (pid, address):

        def ask(i: int) -> float:
            if not hasattr(mine, "connection"):
                mine.connection = HTTPConnection(address.removeprefix("http://"), timeout=120)
            start = time.perf_counter()
            mine.connection.request("POST", "/v1/score", bodies[i % len(bodies)], headers)
            with mine.connection.getresponse() as answer:
                text = answer.read()
            assert answer.status == 200, text
            return time.perf_counter() - start

        with ThreadPoolExecutor(32) as clients:
            list(clients.map(ask, range(64)))
            start = time.perf_counter()
            list(clients.map(ask, range(requests)))
            rate = requests / (time.perf_counter() - start)
            due = time.perf_counter()
            waiting = []
            for i in range(requests):
                due += 2 / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                waiting.append(clients.submit(ask, i))
            latencies = [one.result() for one in waiting]
            list(clients.map(ask, range(soak // 2)))  # until every batch size has been
            before = resident(pid)
            list(clients.map(ask, range(soak)))
            after = resident(pid)
    own, forward = (statistics.mean(pair) for pair in zip(before_it, own_figures(scorer, files)))
    return {
        "scorer, images/s": own,
        "server at 32 clients, images/s": rate,
        "server / scorer": rate / own,
        "one forward, ms": 1000 * forward,
        "p99 at half load, ms": 1000 * float(np.quantile(latencies, 0.99)),
        "p99 / forward": float(np.quantile(latencies, 0.99)) / forward,
        "memory after / before": after / before,
        f"memory before {soak} requests, MiB": before,
        "memory after, MiB": after,
    }


def verdict(name: str, value: float) -> str:
    """A figure's limit and whether it is kept; nothing where it has none."""
    if name not in LIMITS:
        return ""
    most_or_least, limit = LIMITS[name]
    kept = most_or_least(value, limit) == limit
    return f"{'at most' if most_or_least is max else 'at least'} {limit:g}: {'kept' if kept else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=6, help="of the encoder (6)")
    parser.add_argument("--width", type=int, default=384, help="of the encoder (384)")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of the adapters (15)")
    parser.add_argument("--pictures", type=int, default=200, help="preprocessed both ways (200)")
    parser.add_argument("--requests", type=int, default=600, help="measured at each load (600)")
    parser.add_argument("--soak", type=int, default=1000, help="requests between the two memory figures (1000)")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (256, 256, 3), np.uint8)) for _ in range(32)]
    scorer = scorer_with(args.layers, args.width)
    figures = bench_adapters(scorer, images, args.repeats)
    figures |= bench_tensors(scorer, args.pictures, rng)
    figures |= bench_server(scorer, images, args.requests, args.soak)
    for name, value in figures.items():
        print(f"{name:40} {value:10.4f}  {verdict(name, value)}")
    if args.output:
        args.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
