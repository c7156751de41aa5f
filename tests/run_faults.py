"""Runs every proof of a promise of faults and hostile input at its full number (`make faults`), two at a time.

    python tests/run_faults.py --output runs/faults [--write SECURITY.md] [--workers 2] [-k WORD] [--promise 3 …]

The promises and their proofs are those of `promises.py`. The proofs of a file run in one pytest process; those of load
run last and alone. A proof holds if all of it passes and it compared as many cases as it has to. `OUTPUT/report.md`
and `OUTPUT/report.json` get what each counted and how long it took, beside what an earlier run there found of the
proofs that this one leaves out; `--write` puts the table between the marks of SECURITY.md.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

from promises import PROMISES, Proof

TESTS = Path(__file__).parent
ROOT = TESTS.parent
LIMIT = 28 * 60  # seconds that the proofs of a file may take together
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
COUNTED = re.compile(r"^\.*([0-9][0-9,]*) (?!passed|failed)(.{5,250})$")  # a proof's own line: "200 kills: …"
# what takes longest starts first; the others in the order of the promises
LONGEST = ("training/test_train.py", "heads/test_head.py", "hub/test_clients.py", "test_promises.py", "test_threads.py")
ALONE = ("ratings/test_load.py", "app/test_load.py")  # figures of time: nothing else runs meanwhile
MARKS = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass
class Outcome:
    """How a proof went: whether it holds, seconds, how many cases it compared, and its own words."""

    test: str
    holds: bool = False
    seconds: float = 0.0
    cases: int = 0
    words: str = "did not run"


def collected(files: list[str]) -> dict[str, list[str]]:
    """Test function, `file::function` below tests/ → ids of its parameters that are marked `faults`."""
    paths = [str(TESTS / file) for file in files]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "faults", *paths]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if "::" in line:
            name = line.removeprefix("tests/")
            found.setdefault(name.partition("[")[0], []).append(name)
    if done.returncode not in (0, 5):  # 5: none is marked
        raise SystemExit(f"error: the tests cannot be collected.\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found


def run(file: str, proofs: list[Proof], marked: dict[str, list[str]], output: Path) -> list[Outcome]:
    """Runs the proofs of a file: how each went."""
    stem = re.sub(r"\W+", "_", file)
    report, log = output / f"{stem}.xml", output / f"{stem}.log"
    report.unlink(missing_ok=True)
    ids = [f"tests/{id}" for proof in proofs for id in marked.get(proof.test, [proof.test])]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += ["-o", "junit_logging=system-out", "-o", "junit_family=xunit2", *ids]
    with open(log, "w", encoding="utf-8") as stream:
        try:
            subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=stream, stderr=subprocess.STDOUT, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            pass  # there is no report then: its proofs did not run
    return [_outcome(proof, report) for proof in proofs]


def _outcome(proof: Proof, report: Path) -> Outcome:
    outcome, passed, words = Outcome(proof.test), 0, []
    function = proof.test.rpartition("::")[2]
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    cases = [case for case in cases if case.get("name", "").partition("[")[0] == function]
    for case in cases:
        outcome.seconds += float(case.get("time", 0))
        passed += not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        for line in (case.findtext("system-out") or "").splitlines():
            if match := COUNTED.match(line.strip()):
                outcome.cases += int(match[1].replace(",", ""))
                words.append(match[0].lstrip("."))
    if not words:
        outcome.cases = passed
    outcome.holds = bool(cases) and passed == len(cases) and outcome.cases >= proof.cases
    if cases:
        shown = words[:2] if len(words) <= 2 else [f"{outcome.cases:,} in {len(words)} parts, such as: {words[0]}"]
        outcome.words = "; ".join(shown) or f"{passed} of {len(cases)} cases pass"
        if not outcome.holds:
            counted = f"{outcome.cases:,} of {proof.cases:,} cases"
            outcome.words = f"{passed} of {len(cases)} pass, {counted}; {outcome.words}"
    return outcome


def table(outcomes: dict[str, Outcome]) -> str:
    """The promises as Markdown: what keeps each, its proofs, and what they counted."""
    rows = ["| # | promise | mechanism | proof | last figures |", "|---|---|---|---|---|"]
    for promise in PROMISES:
        names, figures = [], []
        for proof in promise.proofs:
            file, _, function = proof.test.partition("::")
            names.append(f"`{function}` (`tests/{file}`)")
            outcome = outcomes.get(proof.test)
            if outcome is not None:
                held = "" if outcome.holds else "**FAILS** "
                figures.append(f"{held}{outcome.words.replace('|', '/')} ({outcome.seconds:.0f} s)")
            else:
                figures.append("not run")
        cells = [str(promise.number), promise.promise, promise.mechanism, "<br>".join(names), "<br>".join(figures)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def earlier(report: Path) -> dict[str, Outcome]:
    """What a report says of each proof; nothing where there is none."""
    if not report.exists():
        return {}
    found = [Outcome(**proof) for proof in json.loads(report.read_text(encoding="utf-8"))["proofs"]]
    return {outcome.test: outcome for outcome in found}


def write_between_marks(file: Path, text: str) -> None:
    """Replaces what stands between the two marks of a file."""
    whole = file.read_text(encoding="utf-8")
    begin, end = (whole.index(mark) for mark in MARKS)
    file.write_text(whole[: begin + len(MARKS[0])] + "\n" + text + whole[end:], encoding="utf-8")


def main() -> None:
    """Runs the proofs, prints each as it ends, and fails if any does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT / "runs" / "faults"
    parser.add_argument("--output", metavar="DIR", type=Path, default=default, help="gets logs and the report")
    parser.add_argument("--write", metavar="FILE", type=Path, help="a file whose marked table is replaced")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="how many run at a time (default: 2)")
    parser.add_argument("-k", metavar="WORD", help="proofs whose name holds it")
    parser.add_argument("--promise", metavar="N", type=int, nargs="*", help="these promises alone")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.write and not all(mark in args.write.read_text(encoding="utf-8") for mark in MARKS):
        raise SystemExit(f"error: {args.write} lacks the marks {MARKS[0]} and {MARKS[1]}. Put them into it.")
    by_file: dict[str, list[Proof]] = {}
    for promise in PROMISES:
        for proof in promise.proofs:
            if (not args.k or args.k in proof.test) and (not args.promise or promise.number in args.promise):
                by_file.setdefault(proof.test.partition("::")[0], []).append(proof)
    if not by_file:
        raise SystemExit("error: no proof is of that name. promises.py lists them.")
    files = sorted(by_file, key=lambda file: LONGEST.index(file) if file in LONGEST else len(LONGEST))
    marked, start, outcomes = collected(files), time.monotonic(), {}
    together, alone = [f for f in files if f not in ALONE], [f for f in files if f in ALONE]
    for group, workers in ((together, args.workers), (alone, 1)):
        with ThreadPoolExecutor(workers) as pool:
            work = [pool.submit(run, file, by_file[file], marked, args.output) for file in group]
            for done in work:
                for outcome in done.result():
                    outcomes[outcome.test] = outcome
                    held = "holds" if outcome.holds else "FAILS"
                    print(f"{held} {outcome.seconds:6.0f} s  {outcome.test}  {outcome.words[:200]}", flush=True)
    failed = sum(not outcome.holds for outcome in outcomes.values())
    used, minutes = sum(os.times()[2:4]) / 60, (time.monotonic() - start) / 60
    held = f"{len(outcomes) - failed} of {len(outcomes)} proofs hold"
    known = earlier(args.output / "report.json") | outcomes
    (args.output / "report.md").write_text(table(known), encoding="utf-8")
    report = {"minutes": minutes, "processor_minutes": used, "proofs": [asdict(o) for o in known.values()]}
    (args.output / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    if args.write:
        write_between_marks(args.write, table(known))
    print(f"{held}; {minutes:.1f} minutes, {used:.1f} of processor time; {args.output / 'report.md'}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
