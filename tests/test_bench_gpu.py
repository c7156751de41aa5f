"""The bench that waits for a GPU runs: on a CPU it says the same of that."""

import json
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
SMALL = "--images 4 --batch-size 2 --size base --matrix-images 40 --people 20 --product 64 --heads 2".split()


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "bench_gpu.py"), *SMALL, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_it_runs_on_a_cpu_and_writes_what_it_prints(tmp_path):
    done = run("--device", "cpu", "--output", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["device"] == "cpu" and set(found) == {"device", "torch", "embedding", "matrix", "heads"}
    assert all(value > 0 for bench in ("embedding", "matrix", "heads") for value in found[bench].values())
    assert all(json.dumps(found[bench]) in done.stdout for bench in ("embedding", "matrix", "heads"))


def test_what_it_cannot_run_is_said_with_what_to_do():
    asked, told = (["--only", "tea"], "embedding, matrix, heads") if torch.cuda.is_available() else ([], "--device cpu")
    done = run(*asked)
    assert done.returncode == 2 and told in done.stderr
