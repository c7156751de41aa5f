"""Training by several processes (torchrun, gloo) is training by one: the same batches, shared out, the same weights.

Without the network's own dropout, which every process draws for its share; what is left out of the inputs is drawn for
the whole batch and stays.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from toys import TINY_MODEL

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
# Sums over processes are in another order than sums over a batch, and AdamW carries what a last bit differs by along.
TOLERANCE = 2e-4


def command(processes: int, data: Path, output: Path, *more: str) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [
        sys.executable, *(launcher if processes > 1 else []), "scripts/train.py", "--data", str(data), "--output",
        str(output), "epochs=3", "users_per_batch=4", "images_per_user=6", "checkpoint_every=3",
        *(f"model.{k}={v}" for k, v in {**TINY_MODEL, "text_dropout": 0.0, "fusion_dropout": 0.0}.items()), *more,
    ]  # fmt: skip


def run(*arguments) -> None:
    done = subprocess.run(command(*arguments), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]


def run_until_killed(checkpoints: Path, *arguments) -> None:
    """Kills the launcher and all its processes at once, as soon as there is a checkpoint."""
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if any(checkpoints.glob("step-*")):
            everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for one in everyone:
                one.kill()
            psutil.wait_procs(everyone[1:], timeout=60)
            break
        time.sleep(0.002)
    assert process.wait(timeout=60) != 0, "the run ended before it was killed"


def assert_close(output: Path, expected: Path) -> None:
    found, wanted = (load_file(folder / "model.safetensors") for folder in (output, expected))
    assert found.keys() == wanted.keys()
    differing = {name: float((found[name] - wanted[name]).abs().max()) for name in wanted}
    assert max(differing.values()) <= TOLERANCE, max(differing.items(), key=lambda item: item[1])
    steps = [
        [(line["step"], line["epoch"]) for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]
        for folder in (output, expected)
    ]
    assert steps[0] == steps[1]


@pytest.fixture(scope="module")
def by_one(ratings_folder, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("one") / "model"
    run(1, ratings_folder, output)
    return output


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_train_what_one_does_also_after_a_kill(processes, ratings_folder, by_one, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(processes, ratings_folder, whole)
    assert_close(whole, by_one)
    run_until_killed(killed / "checkpoints", processes, ratings_folder, killed)
    assert not (killed / "config.json").exists()
    run(processes, ratings_folder, killed, "--resume")
    assert_close(killed, by_one)
    if processes == 2:  # a sum of two numbers has one order, and of more several: the very weights
        weights = [load_file(folder / "model.safetensors") for folder in (whole, killed)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
