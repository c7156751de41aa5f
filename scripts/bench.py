"""Every benchmark in turn, one table at the end: `make bench`.

    python scripts/bench.py --data FOLDER --output runs/bench

FOLDER: the OASIS beauty ratings in the released layout with embeddings.safetensors (model_card/RESULTS.md says where
they come from); without it the accuracy benchmark is left out. Figures are of this machine and this run.
"""

import argparse
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


def speed_table(speed: dict, training: dict, hub: dict, accuracy: dict | None) -> list[str]:
    rows = []
    if accuracy is not None:
        seconds = sum(accuracy["training_seconds"]) / len(accuracy["training_seconds"])
        rows.append(("training on OASIS (29,251 ratings), whole process", f"{seconds:.0f} s"))
        rows.append(("its peak memory", f"{accuracy['training_peak_mb']:.0f} MB"))
    ratings, took = training["pamela_size_ratings"], training["pamela_size_training_seconds"]
    rows.append((f"training at PAMELA's size ({ratings:,} simulated ratings)", f"{took:.0f} s"))
    grid, share = speed["score_matrix_seconds"], speed["score_matrix_share_of_matmul"]
    rows.append(("`score_matrix`, 900 images × 210 people", f"{grid:.2f} s"))
    rows.append(("its rate, of this machine's matrix product", f"{share:.0%} of {speed['matmul_gflops']:.0f} GFLOP/s"))
    rows.append(("one image for 200 people / for one, base-sized encoder", f"{speed['200_people_over_one']:.3f}"))
    rows.append(("`import pamela_hf` beyond transformers' Auto classes", f"{speed['import_extra_ms']:.0f} ms"))
    size = f"{hub['images']:,} images, {hub['ratings']:,} ratings"
    rows.append((f"export of {size} (simulated)", f"{hub['export_seconds']:.0f} s"))
    rows.append(("its peak memory; the repository", f"{hub['export_peak_mb']:.0f} MB; {hub['repository_mb']:.0f} MB"))
    rows.append(("`images` + `ratings` over `images`", f"{hub['both_over_images']:.3f}"))
    rows.append(("bytes that `ratings` alone touches", f"{hub['ratings_only_mb']:.1f} MB"))
    ratios = [hub[f"{kind}_over_encoder"] for kind in ("from_pretrained", "load", "first_image_load")]
    what = "`from_pretrained`; with the encoder; and a first image: over the encoder alone, base-sized"
    rows.append((what, "; ".join(f"{ratio:.2f}" for ratio in ratios)))
    return ["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/oasis_beauty"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    files = {name: args.output / f"{name}.json" for name in ("accuracy", "training", "speed", "hub")}
    accuracy = None
    if args.data.is_dir():
        run("accuracy", "--data", str(args.data), "--splits", SPLITS, "--output", str(files["accuracy"]))
        accuracy = json.loads(files["accuracy"].read_text())
    else:
        print(f"--data {args.data} is not there: no accuracy benchmark.")
    run("training", "--output", str(files["training"]))
    run("speed", "--output", str(files["speed"]))
    run("metrics")
    run("hub", "--output", str(files["hub"]))
    speed, training, hub = (json.loads(files[name].read_text()) for name in ("speed", "training", "hub"))
    tables = [*(accuracy_table(accuracy) if accuracy else []), "", *speed_table(speed, training, hub, accuracy)]
    (args.output / "table.md").write_text("\n".join(tables) + "\n", encoding="utf-8")
    print("\n" + "\n".join(tables) + f"\n\nWritten to {args.output / 'table.md'}")


if __name__ == "__main__":
    main()
