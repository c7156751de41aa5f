"""Every benchmark in turn, each in a process of its own, and one table: `make bench`.

    python scripts/bench.py --output runs/bench [--results model_card/RESULTS.md]
    python scripts/bench.py --output /tmp/bench --quick        # tiny sizes, to see that everything runs

Each row stands beside its limit or its rival from the same run. Writes OUTPUT/bench.json, OUTPUT/table.md and, with
--results, the table between that file's marks. The heads, the prompt loop and retrieval take what `make demo` wrote
(--demo). A benchmark that fails is a row of the table, and the command then ends with 1.

--with retrieval: an index of a million images (15 minutes); accuracy: OASIS, three seeds (5 minutes; --data FOLDER, the
ratings in the released layout with embeddings.safetensors, see model_card/RESULTS.md).
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pamela_hf.files.writing import write_json, write_text

HERE = Path(__file__).parent
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
SPLITS = "val_seen,val_unseen,test_seen,test_unseen"
Row = tuple[str, str, str]
"""What, the figure, and its limit or rival."""


@dataclass
class Bench:
    """One benchmark.

    Attributes:
        name: of its script, `bench_NAME.py`.
        rows: makes rows of the table out of its figures.
        arguments: of the script.
        quick: what is added to them for a quick look.
        needs: a package without which it is left out.
    """

    name: str
    rows: Callable[[dict[str, Any]], list[Row]]
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    needs: str | None = None


def run(bench: Bench, output: Path, quick: bool) -> dict[str, Any]:
    """A benchmark's figures, with what its process took as `took`: seconds, CPU seconds and peak MB of its largest
    process; or `failed`, with the end of what it printed."""
    file, log = output / f"{bench.name}.json", output / f"{bench.name}.log"
    file.unlink(missing_ok=True)  # every figure of the table is of this run
    arguments = [*bench.arguments, *(bench.quick if quick else ())]
    print(f"== {bench.name} {' '.join(arguments)}", flush=True)
    command = [sys.executable, str(HERE / f"bench_{bench.name}.py"), *arguments, "--output", str(file)]
    start = time.perf_counter()
    with open(log, "w", encoding="utf-8") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }
    print(f"   {took['seconds']:.0f} s, {took['cpu_seconds']:.0f} s of CPU, {took['peak_mb']:.0f} MB", flush=True)
    if process.returncode or not file.exists():
        print(f"   failed with {process.returncode}, see {log}", flush=True)
        return {"took": took, "failed": log.read_text(encoding="utf-8", errors="replace")[-2000:]}
    return {**json.loads(file.read_text(encoding="utf-8")), "took": took}


def speed_rows(speed: dict[str, Any]) -> list[Row]:
    share, product = speed["score_matrix_share_of_matmul"], f"matrix product: {speed['matmul_gflops']:.0f} GFLOP/s"
    size = f"{speed['score_matrix_images']} images × {speed['score_matrix_people']} people"
    rate, times = speed["score_matrix_pairs_per_second"], speed["pairs_over_one_at_a_time"]
    return [
        ("`import pamela_hf` beyond transformers' Auto classes", f"{speed['import_extra_ms']:.0f} ms", ""),
        (f"`score_matrix`, {size}", f"{rate:,.0f} pairs/s", f"one pair at a time: {rate / times:,.0f} pairs/s"),
        (f"its arithmetic as the networks are written ({speed['score_matrix_executed_share']:.0%} executed)",
         f"{speed['score_matrix_gflops']:.0f} GFLOP/s ({share:.0%})", f"{product}; limit 50%"),
        ("a million pairs at that rate", f"{speed['million_pairs_seconds']:.1f} s", "limit: 4 s"),
        *growth_row("`score_matrix`", "pairs", speed),
        *growth_row("`score_matrix` for one person", "images", speed),
        ("one image for 1,000 people / for one, base-sized encoder",
         f"{speed['1000_people_over_one']:.3f}", "limit: 1.1"),
    ]  # fmt: skip


def growth_row(what: str, kind: str, figures: dict[str, Any]) -> list[Row]:
    largest = figures[f"{kind}_largest"]
    return [(f"{what}: time ∝ {kind} to the power of (1,000 to {largest:,})", f"{figures[f'{kind}_slope']:.2f}", "1")]


def embedding_rows(embedding: dict[str, Any]) -> list[Row]:
    alone, small = embedding["encoder_images_per_second"], embedding["encoder_small_passes_images_per_second"]
    limit = f"encoder alone: {alone:.1f} images/s, in passes of {embedding['small_pass']} {small:.1f}"
    rows = []
    for kind, what in (("fast", "12-megapixel JPEGs, `--fast-decoding`"), ("full", "the same at their full size")):
        rate, over = embedding[f"{kind}_images_per_second"], embedding[f"{kind}_over_encoder"]
        limits = f"{limit}; decoding alone: {embedding[f'decoding_{kind}_images_per_second']:.1f}"
        rows.append((f"embedding {what}, base-sized encoder", f"{rate:.1f} images/s ({over:.2f})", limits))
    return rows


def training_rows(training: dict[str, Any]) -> list[Row]:
    ratings, epochs = training["pamela_size_ratings"], training["pamela_size_epochs"]
    rate, share = training["ratings_per_second"], training["share_of_matmul"]
    return [
        (f"training, {ratings:,} simulated ratings, {epochs} epochs",
         f"{training['pamela_size_training_seconds']:.0f} s, {rate:,.0f} ratings/s ({share:.0%})",
         f"matrix product: {training['matmul_gflops']:.0f} GFLOP/s"),
        *growth_row("one epoch", "ratings", training),
    ]  # fmt: skip


def heads_rows(heads: dict[str, Any]) -> list[Row]:
    fit, ridge = heads["fit"]["head"], heads["fit"]["ridge"]
    load = heads["load"]
    return [
        ("a head from 100 ratings (demo's world)", f"{fit['seconds_median']:.2f} s, SROCC {fit['srocc']:.3f}",
         f"ridge: {ridge['seconds_median']:.2f} s, SROCC {ridge['srocc']:.3f}"),
        ("loading 1,000 heads; one's size", f"{load['seconds']:.1f} s; {load['head_kb']:.0f} KB", ""),
    ]  # fmt: skip


def metrics_rows(metrics: dict[str, Any]) -> list[Row]:
    plain = metrics["plain_user_loop_seconds"] + metrics["plain_draws_seconds"]
    size = f"{metrics['ratings']:,} ratings, {metrics['draws']:,} draws"
    largest = metrics["slope_largest"]
    slope = f"{metrics['ratings_slope']:.2f}"
    return [
        (f"evaluation: all metrics of {size}", f"{metrics['metrics_seconds']:.1f} s", f"plain loops: {plain:.0f} s"),
        ("the whole report, judged three times", f"{metrics['report_seconds']:.1f} s", ""),
        (f"metrics without draws: time ∝ ratings to the power of (1,000 to {largest:,})", slope, "1"),
    ]


def hub_rows(hub: dict[str, Any]) -> list[Row]:
    size = f"{hub['images']:,} images, {hub['ratings']:,} ratings"
    ratios = [hub[f"{kind}_over_encoder"] for kind in ("from_pretrained", "load", "first_image_load")]
    what = "`from_pretrained`; with the encoder; and a first image: over the encoder alone, base-sized"
    return [
        (f"export of {size} (simulated)", f"{hub['export_seconds']:.0f} s, {hub['export_peak_mb']:.0f} MB", ""),
        ("`images` + `ratings` over `images`", f"{hub['both_over_images']:.3f}", "1"),
        ("bytes that `ratings` alone touches", f"{hub['ratings_only_mb']:.1f} MB", f"all: {hub['repository_mb']:.0f}"),
        (what, "; ".join(f"{ratio:.2f}" for ratio in ratios), "1"),
    ]


def prompt_rows(prompt: dict[str, Any]) -> list[Row]:
    shares = prompt["overhead"]

    def middle(name: str) -> str:
        values = sorted(shares[name])
        return f"{100 * values[len(values) // 2]:.1f} %"

    rivals = "; ".join(f"{strategy} {middle(f'{strategy}, wall clock')}" for strategy in ("beam", "ucb", "thompson"))
    return [("prompt loop, share of its time that is not rendering (0.1 s an image)",
             f"greedy {middle('greedy, wall clock')}", rivals)]  # fmt: skip


def rewards_rows(server: dict[str, Any]) -> list[Row]:
    adapters = [value for name, value in server.items() if name.startswith("CPU, ") and "score(" in name]
    rate, own = server["server at 32 clients, images/s"], server["scorer, images/s"]
    late, forward = server["p99 at half load, ms"], server["one forward, ms"]
    return [
        ("server under 32 clients", f"{rate:.1f} images/s ({rate / own:.2f})", f"scorer alone: {own:.1f} images/s"),
        ("its 99th percentile at half that load", f"{late:.0f} ms", f"one forward: {forward:.0f} ms"),
        ("its memory after many requests / before", f"{server['memory after / before']:.3f}", "1"),
        ("reward adapters over `score()`, the worst", f"{max(adapters):.3f}", "limit: 1.02"),
        ("gradient to the pixels over a forward", f"{server['CPU, gradient / forward']:.2f}", "limit: 3"),
        ("scores by tensors against PIL, largest difference",
         f"{server['tensors against PIL, largest difference']:.4f}", "limit: .01"),
    ]  # fmt: skip


def ray_rows(ray: dict[str, Any]) -> list[Row]:
    one, two = (ray[f"{name}_images_per_second"] for name in ("one_worker", "two_workers"))
    what = "Ray, two workers on 12-megapixel JPEGs, decoding bound"
    return [(what, f"{two:.1f} images/s ({ray['two_over_one']:.2f})", f"one worker: {one:.1f} images/s")]


def retrieval_rows(found: dict[str, Any]) -> list[Row]:
    brute = f"brute force: {found['brute_force_ms'] / 1e3:.1f} s"
    return [
        (f"search of {found['images']:,} images: recall@100 ({found['judged']} people)",
         f"{found['recall_at_100']:.3f} (worst {found['recall_at_100_worst']:.2f})", "brute force: 1"),
        ("a person's first search", f"{found['first_ms_median']:.0f} ms", brute),
        ("another search for the same person", f"{found['again_ms_median']:.0f} ms", brute),
        ("building the index; its size, of the features' own",
         f"{found['build_seconds']:.0f} s; {found['index_over_features']:.2f}", ""),
    ]  # fmt: skip


def accuracy_rows(result: dict[str, Any]) -> list[Row]:
    seconds = sum(result["training_seconds"]) / len(result["training_seconds"])
    rows = [("training on OASIS (29,251 ratings), whole process",
             f"{seconds:.0f} s, {result['training_peak_mb']:.0f} MB", "")]  # fmt: skip
    for split in ("test_seen", "test_unseen"):
        scorers = {name: metrics["user_srocc"]["mean"] for name, metrics in result["splits"][split].items()}
        own = scorers.pop("pamela")
        rows.append((f"OASIS {split}, SROCC", f"{own:.3f}", "; ".join(f"{k} {v:.3f}" for k, v in scorers.items())))
    return rows


def benches(args: argparse.Namespace) -> list[Bench]:
    """What is run, in this order."""
    model, ratings = str(args.demo / "model"), str(args.demo / "ratings")
    chosen = [
        Bench("speed", speed_rows, (), ("--quick",)),
        Bench("embedding", embedding_rows, ("--images", "64"), ("--images", "8", "--batch-size", "4")),
        Bench("training", training_rows, (), ("--quick",)),
        Bench("heads", heads_rows, ("--model", model, "--data", ratings, "--only", "fit,load")),
        Bench("metrics", metrics_rows, ("--loop-draws", "3", "--slope", "1000000"),
              ("--ratings", "3000", "--users", "20", "--images", "400", "--bootstrap", "50", "--slope", "10000")),
        Bench("hub", hub_rows, (), ("--images", "60", "--encoder", "tiny")),
        Bench("prompt", prompt_rows, ("--model", model, "--only", "overhead")),
        Bench("rewards", rewards_rows, ("--soak", "300"),
              ("--layers", "1", "--width", "64", "--pictures", "20", "--requests", "40", "--soak", "40")),
        Bench("ray", ray_rows, (), ("--images", "16"), "ray"),
    ]  # fmt: skip
    if "retrieval" in args.also:
        arguments = ("--model", model, "--features", ratings, "--judged", "50")
        quick = ("--images", "20000", "--people", "3")
        chosen.append(Bench("retrieval", retrieval_rows, arguments, quick, "lance"))
    if "accuracy" in args.also:
        arguments = ("--data", str(args.data), "--splits", SPLITS)
        chosen.append(Bench("accuracy", accuracy_rows, arguments, ("--seeds", "0")))
    return [bench for bench in chosen if bench.name in (args.only or [bench.name])]


def table(chosen: list[Bench], figures: dict[str, dict[str, Any]], seconds: float, quick: bool) -> str:
    """The table in Markdown, with when and where it was made."""
    import torch

    first = f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores ({torch.get_num_threads()} threads), torch "
    rows = [("what", "figure", "limit or rival"), ("---", "---", "---")]
    peaks = []
    for bench in chosen:
        found = figures.get(bench.name)
        if found is None:
            rows.append((f"{bench.name}: left out, {bench.needs} is not installed", "–", ""))
            continue
        peaks.append((bench.name, found["took"]["peak_mb"]))
        rows += [(f"{bench.name}: failed", "–", "")] if "failed" in found else bench.rows(found)
    memory = "; ".join(f"{name} {peak:,.0f}" for name, peak in peaks)
    rows.append(("peak memory of each benchmark's largest process, MB", memory, ""))
    warning = "Tiny sizes (`--quick`): no figure of this table means anything.\n\n" if quick else ""
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{warning}{first}{torch.__version__}; {seconds / 60:.0f} minutes in all.\n\n{lines}\n"


def put_between_marks(file: Path, text: str) -> None:
    """Puts text in place of what stands between the marks of a file. Raises ValueError where it has none."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file} has no marks {BEGIN} … {END}; put them where the table shall stand.")
    write_text(file, f"{before}{BEGIN}\n{text}{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, default=Path("runs/bench"))
    add("--demo", type=Path, default=Path("runs/demo"), help="what `make demo` wrote (runs/demo)")
    add("--data", type=Path, default=Path("../shared/data/oasis_beauty"), help="OASIS, for --with accuracy")
    add("--with", dest="also", action="append", choices=("retrieval", "accuracy"), default=[], help="more of them")
    add("--only", action="append", metavar="NAME", help="only these benchmarks, without --results")
    add("--results", type=Path, metavar="FILE", help="Markdown file whose marks the table is put between")
    add("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    args = parser.parse_args()
    if args.results and (args.quick or args.only):
        parser.error("--results takes the table of a whole run; leave out --quick and --only.")
    if not (args.demo / "model" / "config.json").exists():
        parser.error(f"--demo {args.demo} has no model: run `make demo` first, or name another demo's folder.")
    args.output.mkdir(parents=True, exist_ok=True)
    start, figures, chosen = time.perf_counter(), {}, benches(args)
    for bench in chosen:
        if bench.needs is None or importlib.util.find_spec(bench.needs):
            figures[bench.name] = run(bench, args.output, args.quick)
            write_json(args.output / "bench.json", figures)  # what is there already, should a later one be cut off
    text = table(chosen, figures, time.perf_counter() - start, args.quick)
    write_text(args.output / "table.md", text)
    if args.results:
        put_between_marks(args.results, text)
    print(f"\n{text}\nWritten to {args.output / 'table.md'} and bench.json")
    if failed := [name for name, found in figures.items() if "failed" in found]:
        sys.exit(f"failed: {', '.join(failed)}; see {args.output}/NAME.log")


if __name__ == "__main__":
    main()
