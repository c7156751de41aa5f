"""Every benchmark in turn, one table at the end: `make bench`.

    python scripts/bench.py --data FOLDER --output runs/bench

FOLDER: the OASIS beauty ratings in the released layout with embeddings.safetensors (model_card/RESULTS.md says where
they come from); without it the accuracy benchmark is left out. Figures are of this machine and this run.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SPLITS = "val_seen,val_unseen,test_seen,test_unseen"
SHOWN = ("user_srocc", "user_plcc", "user_pairwise_0", "user_pairwise_1", "user_pairwise_2", "coverage_80")


def run(name: str, *arguments: str) -> None:
    print(f"\n== {name} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, HERE / f"bench_{name}.py", *arguments], check=True)


def accuracy_table(result: dict) -> list[str]:
    lines = [f"| split | scorer | {' | '.join(SHOWN)} |", f"|---|---|{'---|' * len(SHOWN)}"]
    for split in ("test_seen", "test_unseen"):
        for scorer, metrics in result["splits"][split].items():
            cells = [f"{metrics[m]['mean']:.3f}" if m in metrics else "–" for m in SHOWN]
            cells[0] += f" ± {metrics['user_srocc']['sd']:.3f}"
            lines.append(f"| {split} | {scorer} | {' | '.join(cells)} |")
    return lines


def speed_table(figures: dict[str, dict]) -> list[str]:
    """A row a figure, beside the limit or the rival that was measured in the same run."""
    rows = []
    if accuracy := figures.get("accuracy"):
        seconds = sum(accuracy["training_seconds"]) / len(accuracy["training_seconds"])
        rows.append(("training on OASIS (29,251 ratings), whole process", f"{seconds:.0f} s", ""))
        rows.append(("its peak memory", f"{accuracy['training_peak_mb']:.0f} MB", ""))
    training = figures["training"]
    ratings, took = training["pamela_size_ratings"], training["pamela_size_training_seconds"]
    rows.append((f"training at PAMELA's size ({ratings:,} simulated ratings)", f"{took:.0f} s", ""))
    rows += scoring_rows(figures["speed"])
    rows += embedding_rows(figures["embedding"])
    rows += hub_rows(figures["hub"])
    if retrieval := figures.get("retrieval"):
        rows += retrieval_rows(retrieval)
    return ["| what | figure | limit or rival |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def scoring_rows(speed: dict) -> list[tuple[str, str, str]]:
    share, product = speed["score_matrix_share_of_matmul"], f"matrix product: {speed['matmul_gflops']:.0f} GFLOP/s"
    times = speed["pairs_over_one_at_a_time"]
    return [
        ("`score_matrix`, 900 images × 210 people", f"{speed['score_matrix_seconds']:.2f} s", ""),
        ("its rate, of the matrix product's", f"{share:.0%}", product),
        (
            "a million pairs at that rate",
            f"{speed['million_pairs_seconds']:.1f} s",
            f"one at a time: {times:.0f} × as long",
        ),
        ("time ∝ pairs to the power of", f"{speed['score_matrix_slope']:.2f}", "1"),
        ("one image for 200 people / for one, base-sized encoder", f"{speed['200_people_over_one']:.3f}", "1"),
        ("`import pamela_hf` beyond transformers' Auto classes", f"{speed['import_extra_ms']:.0f} ms", ""),
    ]


def embedding_rows(embedding: dict) -> list[tuple[str, str, str]]:
    limit = f"encoder alone: {embedding['encoder_images_per_second']:.1f} images/s"
    rows = []
    for kind, what in (("fast", "12-megapixel JPEGs, `--fast-decoding`"), ("full", "the same at their full size")):
        rate, over = embedding[f"{kind}_images_per_second"], embedding[f"{kind}_over_encoder"]
        alone = f"decoding alone: {embedding[f'decoding_{kind}_images_per_second']:.1f}"
        rows.append((f"embedding {what}, base-sized encoder", f"{rate:.1f} images/s ({over:.2f})", f"{limit}; {alone}"))
    return rows


def hub_rows(hub: dict) -> list[tuple[str, str, str]]:
    size = f"{hub['images']:,} images, {hub['ratings']:,} ratings"
    ratios = [hub[f"{kind}_over_encoder"] for kind in ("from_pretrained", "load", "first_image_load")]
    what = "`from_pretrained`; with the encoder; and a first image: over the encoder alone, base-sized"
    return [
        (f"export of {size} (simulated)", f"{hub['export_seconds']:.0f} s", ""),
        ("its peak memory; the repository", f"{hub['export_peak_mb']:.0f} MB; {hub['repository_mb']:.0f} MB", ""),
        ("`images` + `ratings` over `images`", f"{hub['both_over_images']:.3f}", "1"),
        ("bytes that `ratings` alone touches", f"{hub['ratings_only_mb']:.1f} MB", ""),
        (what, "; ".join(f"{ratio:.2f}" for ratio in ratios), "1"),
    ]


def retrieval_rows(found: dict) -> list[tuple[str, str, str]]:
    brute = f"brute force: {found['brute_force_ms'] / 1e3:.1f} s"
    return [
        (f"search of {found['images']:,} images: recall@100", f"{found['recall_at_100']:.3f}", "brute force: 1"),
        ("a person's first search", f"{found['first_ms_median']:.0f} ms", brute),
        ("another search for the same person", f"{found['again_ms_median']:.0f} ms", brute),
        ("building the index", f"{found['build_seconds']:.0f} s", ""),
        ("its size, of the features' own", f"{found['index_over_features']:.2f}", "1"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/oasis_beauty"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench"))
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="what `make demo` wrote")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    files = {
        name: args.output / f"{name}.json"
        for name in ("accuracy", "training", "speed", "embedding", "hub", "retrieval")
    }
    for file in files.values():
        file.unlink(missing_ok=True)  # every figure of the table is of this run
    if args.data.is_dir():
        run("accuracy", "--data", str(args.data), "--splits", SPLITS, "--output", str(files["accuracy"]))
    else:
        print(f"--data {args.data} is not there: no accuracy benchmark.")
    run("training", "--output", str(files["training"]))
    run("speed", "--output", str(files["speed"]))
    run("embedding", "--output", str(files["embedding"]))
    run("metrics")
    run("hub", "--output", str(files["hub"]))
    if args.demo.is_dir() and importlib.util.find_spec("lance"):
        demo = ["--model", str(args.demo / "model"), "--features", str(args.demo / "ratings")]
        run("retrieval", *demo, "--judged", "10", "--output", str(files["retrieval"]))
    else:
        print(f"No retrieval benchmark: it needs {args.demo} (make demo) and pamela_hf[retrieval].")
    figures = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    (args.output / "bench.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    accuracy = accuracy_table(figures["accuracy"]) if "accuracy" in figures else []
    tables = [*accuracy, "", *speed_table(figures)]
    (args.output / "table.md").write_text("\n".join(tables) + "\n", encoding="utf-8")
    print("\n" + "\n".join(tables) + f"\n\nWritten to {args.output / 'table.md'}")


if __name__ == "__main__":
    main()
