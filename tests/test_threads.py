"""One scorer, several threads: what each of them gets is what a single one would get."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from pamela_hf.scoring import PamelaScorer, scoring_mode

# A fresh process: nothing of the encoder is loaded when the threads start, all at once.
AT_ONCE = """
import json, sys, threading
import torch
torch.set_num_threads(1)
from pamela_hf import PamelaProcessor, PamelaRewardModel, PamelaScorer, UserHead
what, model, count, *paths = sys.argv[1:]
count = int(count)
scorer = PamelaScorer.from_pretrained(model, device="cpu")
if what == "pipeline":
    from pamela_hf import PamelaPromptPipeline
    from pamela_hf.simulation.pipeline import SimulatedPipeline
    pipe = PamelaPromptPipeline(SimulatedPipeline(size=32), scorer.model, scorer.processor)
    pipe.set_progress_bar_config(disable=True)

def work(i):
    if what == "score":
        return scorer.score(paths, "a photo of a cat", user="bob").scores.tolist()
    if what == "fit":
        head = UserHead.fit(scorer, [(path, 1 + 4 * (k % 2)) for k, path in enumerate(paths)], name="new")
        return head.row.tolist()
    out = pipe("a photo of a cat", "ann", num_iterations=1, num_candidates=2, num_seeds=1, adherence_floor=0)
    return [row["score"] for row in out.history]

barrier, results = threading.Barrier(count), [None] * count
def run(i):
    barrier.wait()
    try:
        results[i] = work(i)
    except Exception as error:
        results[i] = repr(error)
threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
[t.start() for t in threads], [t.join() for t in threads]
print(json.dumps([*results, work(0)]))
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    files = [folder / f"{i}.png" for i in range(4)]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(file)
    return [str(file) for file in files]


def at_once(what: str, model: str, threads: int, paths: list[str]) -> list:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", AT_ONCE, what, model, str(threads), *paths]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def check(what: str, model: str, threads: int, paths: list[str]) -> None:
    *by_threads, alone = at_once(what, model, threads, paths)
    for result in by_threads:
        assert not isinstance(result, str), result
        np.testing.assert_allclose(result, alone, atol=1e-6)


@pytest.mark.parametrize(("what", "threads"), [("score", 2), ("score", 8), ("fit", 4), ("pipeline", 3)])
def test_fresh_threads_get_what_one_gets(what, threads, reward_folder, paths):
    check(what, reward_folder, threads, paths)


@pytest.mark.faults
@pytest.mark.parametrize("run", range(200))
def test_fresh_threads_get_what_one_gets_200_times(run, reward_folder, paths):
    check(("score", "score", "fit", "pipeline")[run % 4], reward_folder, 2 + run % 7, paths)


def test_scoring_is_in_eval_mode_and_leaves_the_mode_as_it_was(reward_folder, paths):
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    expected = scorer.score(paths, user="ann").scores
    scorer.model.train()
    scorer.model.members[0].eval()
    before = [module.training for module in scorer.model.modules()]
    np.testing.assert_array_equal(scorer.score(paths, user="ann").scores, expected)
    np.testing.assert_array_equal(scorer.score(paths, users=["ann"]).scores[:, 0], expected)
    assert [module.training for module in scorer.model.modules()] == before
    with pytest.raises(ValueError, match="missing"):
        scorer.score("missing.png")
    assert [module.training for module in scorer.model.modules()] == before


def test_the_last_of_several_scorers_gives_the_mode_back():
    model = torch.nn.Sequential(torch.nn.Dropout())
    first, second = scoring_mode(model), scoring_mode(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not model.training and not model[0].training
    second.__exit__(None, None, None)
    assert model.training and model[0].training


def test_the_encoder_is_loaded_once(reward_folder, monkeypatch):
    from pamela_hf.model import backbone_pamela

    calls, load = [], backbone_pamela.load_encoder
    monkeypatch.setattr(backbone_pamela, "load_encoder", lambda *a, **k: calls.append(a) or load(*a, **k))
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    found: list = []
    threads = [threading.Thread(target=lambda: found.append(scorer.encoder.model)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len({id(model) for model in found}) == 1 and len(found) == 8
