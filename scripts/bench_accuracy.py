"""Train with several seeds, judge each, report means: `python scripts/bench_accuracy.py --data FOLDER`.

Every training runs in a process of its own, whose time and peak memory are measured. By default only val_* is judged;
--splits val_seen,val_unseen,test_seen,test_unseen reads the test splits, which is done once for each claim.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pamela_hf.evaluation.evaluate import run

HERE = Path(__file__).parent
SHOWN = ("user_srocc", "user_plcc", "user_pairwise_0", "user_pairwise_1", "user_pairwise_2", "coverage_80")


def train(config: str | None, data: str, output: Path, seed: int) -> tuple[float, float]:
    """Seconds and peak MB (of the largest child so far) of one training; without `config`, with the defaults."""
    command = [sys.executable, HERE / "train.py", "--data", data, "--output", output]
    command += ["--config", config] if config is not None else []
    start = time.perf_counter()
    subprocess.run([*command, f"seed={seed}"], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="ratings folder with embeddings")
    parser.add_argument("--config", default=str(HERE / "configs" / "oasis.yaml"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--splits", default="val_seen,val_unseen")
    parser.add_argument("--baselines", default="consensus,ridge")
    parser.add_argument("--models", type=Path, help="keep the trained models in this folder")
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    splits, baselines = args.splits.split(","), [b for b in args.baselines.split(",") if b]
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    seconds, memory = [], []
    with tempfile.TemporaryDirectory() as temporary:
        models = args.models or Path(temporary)
        for seed in seeds:
            output = models / f"seed{seed}"
            taken, peak = train(args.config, args.data, output, seed)
            seconds.append(taken)
            memory.append(peak)
            report = run(output, args.data, output / "eval", baselines=baselines, splits=splits, seed=seed)
            for split, scorers in report["splits"].items():
                for scorer, metrics in scorers.items():
                    for metric, estimate in metrics.items():
                        found = values.setdefault(split, {}).setdefault(scorer, {}).setdefault(metric, [])
                        found.append(estimate["value"])
    summary = {
        split: {
            scorer: {
                metric: {"mean": statistics.mean(v), "sd": statistics.stdev(v) if len(v) > 1 else None}
                for metric, v in metrics.items()
                if None not in v
            }
            for scorer, metrics in scorers.items()
        }
        for split, scorers in values.items()
    }
    print(f"\n{len(seeds)} seeds; training {statistics.mean(seconds):.0f} s, peak {max(memory):.0f} MB\n")
    print(f"| split | scorer | {' | '.join(SHOWN)} | sd of user_srocc |\n|---|---|{'---|' * (len(SHOWN) + 1)}")
    for split, scorers in summary.items():
        for scorer, metrics in scorers.items():
            cells = [f"{metrics[m]['mean']:.3f}" if m in metrics else "–" for m in SHOWN]
            spread = metrics["user_srocc"]["sd"]
            print(f"| {split} | {scorer} | {' | '.join(cells)} | {'–' if spread is None else f'{spread:.3f}'} |")
    if args.output:
        result = {"training_seconds": seconds, "training_peak_mb": max(memory), "splits": summary}
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
