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

# A process that has imported the package and nothing more (no encoder's code, no weights, no threads) forks one for a
# job, two at a time: what is new in a new process is new in each of them, without the seconds that imports take.
FORKS = """
import json, os, sys, threading, traceback
import torch
torch.set_num_threads(1)
from pamela_hf import PamelaProcessor, PamelaRewardModel, PamelaScorer, UserHead

def prepared(what, model, paths):
    scorer = PamelaScorer.from_pretrained(model, device="cpu")
    if what == "score":
        return lambda: scorer.score(paths, "a photo of a cat", user="bob").scores.tolist()
    if what == "fit":
        rated = [(path, 1 + 4 * (k % 2)) for k, path in enumerate(paths)]
        return lambda: UserHead.fit(scorer, rated, name="new").row.tolist()
    if what == "server":
        from PIL import Image
        from pamela_hf.rewards._personal import PersonalReward
        from pamela_hf.rewards.serving.service import Question, ScoringService
        service = ScoringService(PersonalReward(scorer))
        pictures = [Image.open(path).convert("RGB") for path in paths]
        def ask():
            people = service.people(["bob", "ann"])
            asked = [Question(service.prepare(picture), "a photo of a cat", people) for picture in pictures]
            return [answer.tolist() for answer in service.ask(asked).result(60)]
        return ask
    from pamela_hf import PamelaPromptPipeline
    from pamela_hf.simulation.pipeline import SimulatedPipeline
    pipe = PamelaPromptPipeline(SimulatedPipeline(size=32), scorer.model, scorer.processor)
    pipe.set_progress_bar_config(disable=True)
    small = {"num_iterations": 1, "num_candidates": 2, "num_seeds": 1, "adherence_floor": 0}
    return lambda: [row["score"] for row in pipe("a photo of a cat", "ann", **small).history]

def job(what, count):
    work = prepared(what, model, paths)
    barrier, results = threading.Barrier(count), [None] * count
    def run(i):
        barrier.wait()
        try:
            results[i] = work()
        except Exception:
            results[i] = traceback.format_exc()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    [t.start() for t in threads], [t.join() for t in threads]
    return [*results, work()]

model, jobs, *paths = sys.argv[1:]
waiting, running = list(enumerate(json.loads(jobs))), {}
while waiting or running:
    while waiting and len(running) < 2:
        number, (what, count) = waiting.pop(0)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            code = 1
            try:
                with os.fdopen(writing, "w") as pipe:
                    json.dump([number, what, job(what, count)], pipe)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        running[reading] = pid
    reading = next(iter(running))
    with os.fdopen(reading) as pipe:
        print(pipe.read(), flush=True)
    _, status = os.waitpid(running.pop(reading), 0)
    if status:
        sys.exit(f"a process of its own ended with status {status}")
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    files = [folder / f"{i}.png" for i in range(4)]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(file)
    return [str(file) for file in files]


def check(model: str, jobs: list[tuple[str, int]], paths: list[str]) -> int:
    """Does each job, (what, threads), in a process of its own whose threads start at the same time: all get what one
    gets alone. Returns how many threads' results were compared."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", FORKS, model, json.dumps(jobs), *paths]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert sorted(number for number, *_ in answers) == list(range(len(jobs)))
    compared = 0
    for number, what, (*by_threads, alone) in answers:
        assert not isinstance(alone, str) and len(by_threads) == jobs[number][1]
        for result in by_threads:
            assert not isinstance(result, str), result
            np.testing.assert_allclose(result, alone, atol=1e-6, err_msg=what)
            compared += 1
    print(f"{len(jobs)} fresh processes, {compared} threads: none got anything else than one gets alone")
    return compared


def test_fresh_threads_get_what_one_gets(reward_folder, paths):
    jobs = [("score", 2), ("score", 8), ("fit", 4), ("pipeline", 3), ("server", 4)]
    assert check(reward_folder, jobs, paths) == 21


@pytest.mark.faults
def test_fresh_threads_get_what_one_gets_in_200_processes(reward_folder, paths):
    kinds = ("score", "score", "fit", "pipeline", "server")
    jobs = [(kinds[run % 5], 2 + run % 7) for run in range(200)]
    assert check(reward_folder, jobs, paths) == sum(threads for _, threads in jobs)


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
