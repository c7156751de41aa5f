"""Runs every proof of a promise of faults and hostile input at its full number (`make faults`), two at a time.

    python tests/run_faults.py --output runs/faults [--workers 2] [-k EXPRESSION] [pytest's paths]

Each test function runs in a pytest process of its own. `OUTPUT/report.md` gets a row for each: how it ended, seconds,
and what it printed of the cases it compared.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 25 * 60  # seconds a single proof may take
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
# a proof's own line: "200 kills: …"
COUNTED = re.compile(r"^\.*([0-9][0-9,]*(?: of [0-9]+)? (?!passed|failed).{10,200})$")


def collected(expression: str | None, paths: list[str]) -> list[str]:
    """Ids of the marked test functions, without parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "faults", *paths]
    command += ["-k", expression] if expression else []
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    names = [line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line]
    if not names:
        raise SystemExit(f"error: no test is marked `faults` there.\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return list(dict.fromkeys(names))


def run(name: str, log: Path) -> tuple[bool, float, str]:
    """Runs one test function, all its marked parameters: whether it holds, seconds, what it printed of its cases."""
    start = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-s", "-m", "faults", "-p", "no:cacheprovider", name]
    with open(log, "w", encoding="utf-8") as output:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT, timeout=LIMIT
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    counted = [match[1] for line in lines if (match := COUNTED.match(line.strip()))]
    return code == 0, time.monotonic() - start, "; ".join(counted)[:300]


def main() -> None:
    """Runs the proofs, prints each as it ends, and fails if any does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="pytest's paths (default: all tests)")
    default = ROOT / "runs" / "faults"
    parser.add_argument("--output", metavar="DIR", type=Path, default=default, help="gets logs and report.md")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="how many run at a time (default: 2)")
    parser.add_argument("-k", metavar="EXPRESSION", help="pytest's -k")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    names, start = collected(args.k, args.paths), time.monotonic()
    rows = ["| proof | | seconds | cases |", "|---|---|---|---|"]
    failed = 0
    with ThreadPoolExecutor(args.workers) as pool:
        logs = [args.output / f"{re.sub(r'[^A-Za-z0-9]+', '_', name)}.log" for name in names]
        for name, (holds, seconds, counted) in zip(names, pool.map(run, names, logs)):
            failed += not holds
            outcome = "holds" if holds else "FAILS"
            print(f"{outcome} {seconds:6.0f} s  {name}  {counted}", flush=True)
            rows.append(f"| `{name}` | {outcome} | {seconds:.0f} | {counted} |")
    (args.output / "report.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    minutes = (time.monotonic() - start) / 60
    print(f"{len(names) - failed} of {len(names)} proofs hold, {minutes:.1f} minutes; {args.output / 'report.md'}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
