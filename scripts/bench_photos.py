"""Benchmarks of a photo library as a taste: `python scripts/bench_photos.py {library,oasis} …`.

library: makes a library of JPEG files of 12 megapixels, each a file of its own, with stars in XMP inside for three in
ten and sidecars for one in thirty, and prints the seconds to walk it and read its stars, and what that adds to the peak
of memory. With --encoder also: for --encoded photographs with a camera's noise, the rate of encoding them by the folder
cache, in turns with the bare rate of the encoder on pictures that are prepared already; what it takes to read all
photos of the library for it (random features stand in for its own); and a first and a second `pamela taste` with these
features, each a process of its own. --encoder names a folder; where there is none, an encoder of the size of
SigLIP2 base at 224 pixels, or of so400m at 384 (--encoder-size), with random weights is made there.
fit: seconds to fit a head, its held-out figure included, from 3,000 stars on a blank base.
Of all of these wall and CPU seconds, the latter of all threads together.
oasis: takes each person of test_unseen as the owner of a library of the 900 photographs of OASIS: a blank base made of
their features alone, k of the person's support ratings as stars, judged on their test ratings, beside scikit-learn's
cross-validated ridge and an ordinal regression on the same features, the person's mean, and with --model a base trained
on other people; intervals are paired over people. It reads test_*: once for a claim.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

PHOTO_SIZE = (4000, 3000)
PICTURES = 40  # different ones in a library
RIDGE_ALPHAS = np.logspace(-1, 7, 17)  # for 1,280 features of variance 1
ORDINAL_ALPHAS = (0.03, 0.1, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
OWN = "blank base"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    library = commands.add_parser("library")
    library.add_argument("--photos", type=int, default=10_000)
    library.add_argument("--folder", type=Path, help="made there, if it does not exist, and kept (default: temporary)")
    library.add_argument("--encoder", type=Path, help="made there, if it does not exist; then features are made, too")
    library.add_argument("--encoder-size", choices=("base", "so400m"), default="base", help="(base)")
    library.add_argument("--encoded", type=int, default=64, help="photographs to compare rates on (64)")
    fit = commands.add_parser("fit")
    fit.add_argument("--stars", type=int, default=3_000)
    oasis = commands.add_parser("oasis")
    oasis.add_argument("--data", required=True, help="OASIS ratings with embeddings.safetensors")
    oasis.add_argument("--model", help="a model trained on other people, to set beside the blank base")
    oasis.add_argument("--ks", default="20,50,100", help="how many stars (20,50,100)")
    args = parser.parse_args()
    {"library": bench_library, "fit": bench_fit, "oasis": bench_oasis}[args.command](args)


# -- library -------------------------------------------------------------------------------------------------------
def bench_library(args: argparse.Namespace) -> None:
    from pamela_hf.photos.library import read_library

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "library"
        if not folder.exists():
            make_library(folder, args.photos)
            print("made; run again with the same --folder to measure memory without the making", flush=True)
        before = peak_mb()
        with timed() as took:
            library = read_library(folder, progress=False)
        print(json.dumps({**library.counts(), **took, "more_memory_mb": peak_mb() - before}), flush=True)
        if args.encoder:
            if not args.encoder.exists():
                make_encoder(args.encoder, args.encoder_size)
            bench_encoding(args.encoder, Path(temporary), args.encoded)
            bench_runs(library, Path(temporary) / "taste", args.encoder)


@contextmanager
def timed(processes: bool = False):
    """Yields a dict that afterwards has the wall and CPU seconds of what was done in between; with `processes` the CPU
    seconds of the processes that were started and have ended."""
    whose = resource.RUSAGE_CHILDREN if processes else resource.RUSAGE_SELF
    took: dict[str, float] = {}
    before, started = resource.getrusage(whose), time.perf_counter()
    yield took
    after = resource.getrusage(whose)
    took["seconds"] = round(time.perf_counter() - started, 2)
    took["cpu_seconds"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)


def bench_encoding(encoder: Path, temporary: Path, count: int) -> None:
    from bench_embedding import photographs

    from pamela_hf.folder_cache import EncoderSource, embed_files

    photos = temporary / "photographs"
    photos.mkdir()
    names = photographs(photos, count)
    source = EncoderSource(str(encoder), device="cpu")
    side = source.encoder.image_side()
    prepared = [source.encoder.prepare_images([Image.new("RGB", (side, side))])] * 16
    spent: dict[str, list[float]] = {"bare": [], "bare_cpu": [], "cached": [], "cached_cpu": []}

    def bare() -> None:
        with timed() as took:
            source.encoder.encode_prepared(prepared)
        spent["bare"].append(took["seconds"] / len(prepared))
        spent["bare_cpu"].append(took["cpu_seconds"] / len(prepared))

    source.encoder.encode_prepared(prepared)
    for part in np.array_split(names, max(1, count // 32)):
        bare()
        with timed() as took:
            embed_files(
                {str(name): photos / name for name in part}, temporary / "photographs.safetensors", source,
                batch_size=len(prepared), progress=False,
            )  # fmt: skip
        spent["cached"].append(took["seconds"] / len(part))
        spent["cached_cpu"].append(took["cpu_seconds"] / len(part))
        bare()
    mean = {what: float(np.mean(values)) for what, values in spent.items()}
    print(json.dumps({
        "encoded": count, "threads": torch_threads(), "bare_images_per_second": round(1 / mean["bare"], 2),
        "images_per_second": round(1 / mean["cached"], 2), "over_bare": round(mean["bare"] / mean["cached"], 3),
        "bare_cpu_ms": round(1e3 * mean["bare_cpu"]), "cpu_ms": round(1e3 * mean["cached_cpu"]),
        "over_bare_in_cpu": round(mean["bare_cpu"] / mean["cached_cpu"], 3), "peak_mb": peak_mb(),
    }), flush=True)  # fmt: skip


def torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def bench_runs(library, output: Path, encoder: Path) -> None:
    import torch

    from pamela_hf.embeddings import EMBEDDINGS_NAME
    from pamela_hf.folder_cache import EncoderSource, embed_files

    source = EncoderSource(str(encoder), device="cpu")
    width = source.encoder.embed_images([Image.new("RGB", (64, 64))]).shape[1]
    source.encoder.encode_prepared = lambda prepared: torch.randn(len(prepared), width)
    files = {photo.name: photo.path for photo in library.photos}
    with timed() as took:
        embed_files(files, output / EMBEDDINGS_NAME, source, folder=library.folder, progress=False)
    print(json.dumps({"read for the encoder": len(files), **took, "peak_mb": peak_mb()}), flush=True)
    command = [sys.executable, "-m", "pamela_hf.cli", "taste", str(library.folder), "--name", "bench"]
    for run in ("first run", "second run"):
        with timed(processes=True) as took:
            options = ["--output", str(output), "--encoder", str(encoder), "--quiet"]
            subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        print(json.dumps({f"pamela taste, {run}, features there": len(files), **took}), flush=True)


def make_encoder(folder: Path, size: str) -> None:
    from bench_embedding import sized_encoder
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    made, _ = sized_encoder(size, "cpu")
    made.model.save_pretrained(folder)
    made.image_processor.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1}, unk_token="<unk>"))  # there are no prompts here
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)


def bench_fit(args: argparse.Namespace) -> None:
    from pamela_hf.embeddings import Embeddings
    from pamela_hf.heads.head import UserHead
    from pamela_hf.scoring import PamelaScorer

    rng = np.random.default_rng(0)
    width, count = 1152, args.stars + 500
    values = rng.normal(size=(count, width)) * np.arange(1, width + 1) ** -0.6
    features = Embeddings([str(i) for i in range(count)], values.astype(np.float32))
    liking = values @ rng.normal(size=width)
    stars = np.digitize(liking / liking.std() + rng.normal(size=count), [-1.5, -0.5, 0.5, 1.5]) + 1
    with timed() as took:
        scorer = PamelaScorer.blank(features)
    print(json.dumps({"blank base": count, **took}))
    ratings = list(zip(features.image_ids, stars))[: args.stars]
    with timed() as took:
        head = UserHead.fit(scorer, ratings, name="bench", embeddings=features)
    print(json.dumps({"stars": args.stars, **took, "held_out": head.about["held_out"]}))


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def make_library(folder: Path, count: int) -> None:
    from pamela_hf.photos.xmp import write_packet

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    templates = []
    for _ in range(min(count, PICTURES)):
        stream = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8))
        coarse.resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        templates.append(stream.getvalue())
    for number in range(count):
        place = folder / f"{2000 + number % 20}"
        place.mkdir(exist_ok=True)
        plain = templates[number % len(templates)]
        # a number of its own, so that no two files have the same content
        rating = number % 6 if number % 10 < 3 else 0
        body = b"http://ns.adobe.com/xap/1.0/\0" + write_packet(None, {"std": f"{number}"}, rating)
        name = place / f"IMG_{number:05d}.jpg"
        name.write_bytes(plain[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:])
        if number % 30 == 0:
            name.with_name(name.name + ".xmp").write_bytes(write_packet(None, {}, rating=1 + number % 5))


# -- OASIS -----------------------------------------------------------------------------------------------------------
def bench_oasis(args: argparse.Namespace) -> None:
    from pamela_hf.embeddings import load_embeddings
    from pamela_hf.model.modeling_pamela import PamelaRewardModel
    from pamela_hf.ratings.builder import load_ratings
    from pamela_hf.scoring import PamelaScorer

    data = load_ratings(args.data)
    features = without_prompts(load_embeddings(data.embeddings))
    levels = sorted({int(score) for table in data.splits.values() for score in table["score"].unique()})
    bases = {OWN: PamelaScorer(PamelaRewardModel.blank(features, levels))}
    if args.model:
        bases["trained base"] = PamelaScorer.from_pretrained(args.model, device="cpu")
    support, test = (data.splits[split].groupby("participant_id") for split in ("support_unseen", "test_unseen"))
    people = sorted(set(support.groups) & set(test.groups))
    asked = [rows_and_scores(features, test.get_group(person)) for person in people]
    for k in map(int, args.ks.split(",")):
        rated = [support.get_group(person) for person in people]
        known = [rows_and_scores(features, one.sample(min(k, len(one)), random_state=0)) for one in rated]
        predicted, seconds = {}, {}
        for name, scorer in bases.items():
            started = time.perf_counter()
            predicted[name] = by_head(scorer, features, known)
            seconds[name] = (time.perf_counter() - started) / len(people)
        predicted |= by_ridge(features.image_embeds, known)
        predicted["ordinal regression"] = by_ordinal(features.image_embeds, known, levels)
        predicted["own mean"] = np.zeros_like(predicted[OWN])  # the same for every photo: it ranks nothing
        report(k, predicted, asked, seconds)


def without_prompts(features):
    """The images alone: photos have no prompts."""
    from pamela_hf.embeddings import Embeddings

    return Embeddings(
        features.image_ids, features.image_embeds, None, features.image_ids, features.backbone, features.revision,
        features.preprocessing,
    )  # fmt: skip


def rows_and_scores(features, table) -> tuple[np.ndarray, np.ndarray]:
    return features.rows(table["image_id"].astype(str)), table["score"].to_numpy(float)


def by_head(scorer, features, known) -> np.ndarray:
    """`(people, images)` scores of a head each."""
    import torch

    from pamela_hf.heads.head import UserHead

    out = []
    images = torch.from_numpy(features.image_embeds)
    for number, (rows, scores) in enumerate(known):
        ratings = [(features.image_ids[row], score) for row, score in zip(rows, scores)]
        head = UserHead.fit(scorer, ratings, name=f"person {number}", embeddings=features)
        out.append(scorer.score(image_embeds=images, user=head, batch_size=1024).scores)
    return np.stack(out)


def by_ridge(features: np.ndarray, known) -> dict[str, np.ndarray]:
    """A ridge each, its strength by leave-one-out (scikit-learn's RidgeCV), with the features of all photos brought to
    mean 0 and variance 1: over all features together, and each by itself."""
    from sklearn.linear_model import RidgeCV

    centred = (features - features.mean(0)).astype(np.float64)
    scaled = {"ridge, one scale": centred / centred.std(), "ridge, per feature": centred / centred.std(0)}
    out = {}
    for name, x in scaled.items():
        models = [RidgeCV(RIDGE_ALPHAS).fit(x[rows], scores) for rows, scores in known]
        least, most = (sum(model.alpha_ == end for model in models) for end in RIDGE_ALPHAS[[0, -1]])
        print(f"  {name}: {least} and {most} of {len(models)} strengths at the lower and upper end of the grid")
        out[name] = np.stack([model.predict(x) for model in models])
    return out


def by_ordinal(features: np.ndarray, known, levels) -> np.ndarray:
    """An ordinal regression each, its penalty chosen by cross-validation of all people's given ratings; features as in
    `pamela_hf.baselines`: of unit length, centred, with mean square length 1."""
    from pamela_hf.baselines.personal_ordinal import common_thresholds, fit_heads

    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    x = (x - x.mean(0)).astype(np.float64)
    x /= np.sqrt((x**2).sum(1).mean())
    rated, level = np.zeros((2, len(known), len(x)), np.int64)
    for person, (rows, scores) in enumerate(known):
        rated[person, rows] = 1
        level[person, rows] = np.abs(scores[:, None] - levels).argmin(1)
    rated, scale = rated.astype(bool), np.zeros_like(level)
    common = common_thresholds(level, scale, rated, [len(levels)])
    fold = np.random.default_rng(0).integers(0, 5, rated.shape)
    reached = []
    for alpha in ORDINAL_ALPHAS:
        held_out = np.zeros(rated.shape)
        for one in range(5):
            weights, _ = fit_heads(x, level, scale, rated & (fold != one), common, alpha)
            here = rated & (fold == one)
            held_out[here] = (weights @ x.T)[here]
        reached.append(np.mean([srocc(held_out[p, r], s) for p, (r, s) in enumerate(known)]))
    alpha = ORDINAL_ALPHAS[int(np.argmax(reached))]
    print(f"  ordinal regression: penalty {alpha:g} of {ORDINAL_ALPHAS[0]:g} … {ORDINAL_ALPHAS[-1]:g}")
    weights, _ = fit_heads(x, level, scale, rated, common, alpha)
    return weights @ x.T


def srocc(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    value = spearmanr(a, b).statistic
    return float(value) if np.isfinite(value) else 0.0


def report(k: int, predicted: dict[str, np.ndarray], asked, seconds: dict[str, float]) -> None:
    each = {
        name: np.array([srocc(values[p, rows], scores) for p, (rows, scores) in enumerate(asked)])
        for name, values in predicted.items()
    }
    draws = np.random.default_rng(0).integers(0, len(asked), (2000, len(asked)))
    own = each[OWN]
    took = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    print(f"k={k}: {len(asked)} people; a head: {took}\n")
    print(f"| k = {k} | user SROCC | blank base minus it |\n|---|---|---|")
    for name, values in each.items():
        low, high = np.quantile((own - values)[draws].mean(1), [0.025, 0.975])
        difference = "" if name == OWN else f"{(own - values).mean():+.3f} [{low:+.3f}, {high:+.3f}]"
        print(f"| {name} | {values.mean():.3f} | {difference} |")
    print(flush=True)


if __name__ == "__main__":
    main()
