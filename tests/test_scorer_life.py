"""The scorer in real programs: copied, pickled, compiled, replicated, on a mapped device, in workers, threads and
forks. Each works, with the same scores."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pamela_hf import PamelaRewardModel
from pamela_hf.scoring import PamelaScorer

PROMPTS = ["a photo of a cat", None, "the sea at night", "an old red car"]


@pytest.fixture(scope="module")
def scorer(reward_folder) -> PamelaScorer:
    return PamelaScorer.from_pretrained(reward_folder, device="cpu")


@pytest.fixture
def expected(scorer, images) -> np.ndarray:
    return scorer.score(images, PROMPTS, user="ann").scores


def scores_of(scorer, images) -> np.ndarray:
    return scorer.score(images, PROMPTS, user="ann").scores


@pytest.mark.parametrize("scored_before", [False, True])
def test_deepcopy(reward_folder, images, expected, scored_before):
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    if scored_before:
        scores_of(scorer, images)
    copied = copy.deepcopy(scorer)
    np.testing.assert_allclose(scores_of(copied, images), expected, atol=1e-5)
    with torch.no_grad():  # a copy is a copy: what happens to it leaves the first alone
        copied.model.user_embedding.weight[1:] += 1
    np.testing.assert_allclose(scores_of(scorer, images), expected, atol=1e-5)


@pytest.mark.parametrize("scored_before", [False, True])
def test_pickle(reward_folder, images, expected, scored_before):
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")
    if scored_before:
        scores_of(scorer, images)
    np.testing.assert_allclose(scores_of(pickle.loads(pickle.dumps(scorer)), images), expected, atol=1e-5)
    assert pickle.loads(pickle.dumps(scorer)).identity == scorer.identity


def test_compile(scorer, images, expected):
    """With a backend that traces and does not build, so that the test needs no compiler."""
    inputs = scorer.processor(images=images, prompts=PROMPTS, user="ann")
    compiled = torch.compile(scorer.model, backend="eager")
    with torch.inference_mode():
        np.testing.assert_allclose(compiled(**inputs).scores, expected, atol=1e-5)
        np.testing.assert_allclose(compiled(**inputs).scores, expected, atol=1e-5)


def test_data_parallel(scorer, images, expected):
    """One device here: DataParallel then calls the module as it is."""
    replicated = torch.nn.DataParallel(scorer.model)
    with torch.inference_mode():
        inputs = scorer.processor(images=images, prompts=PROMPTS, user="ann")
        np.testing.assert_allclose(replicated(**inputs).scores, expected, atol=1e-5)


def test_a_mapped_device(reward_folder, scorer, images, expected):
    model = PamelaRewardModel.from_pretrained(reward_folder, device_map="cpu")
    np.testing.assert_allclose(scores_of(PamelaScorer(model, scorer.processor), images), expected, atol=1e-5)
    model = PamelaRewardModel.from_pretrained(reward_folder, device_map={"": "cpu"}, dtype=torch.bfloat16)
    np.testing.assert_allclose(scores_of(PamelaScorer(model, scorer.processor), images), expected, atol=0.1)


class Scored(torch.utils.data.Dataset):
    """Images that are scored where they are read."""

    def __init__(self, scorer, images):
        self.scorer, self.images = scorer, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> float:
        return float(self.scorer.score(self.images[index], PROMPTS[index], user="ann").scores[0])


class Prepared(Scored):
    """Images made ready for the encoder by workers, which is how a model is fed."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return dict(self.scorer.processor(images=[self.images[index]], user="ann"))


def batch_of(rows):
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_loader_workers_prepare_images(scorer, images, start):
    loader = torch.utils.data.DataLoader(
        Prepared(scorer, images), 2, num_workers=2, collate_fn=batch_of, multiprocessing_context=start
    )
    with torch.inference_mode():
        got = torch.cat([scorer.model(**batch).scores for batch in loader])
    np.testing.assert_allclose(got, scorer.score(images, user="ann").scores, atol=1e-5)


def test_loader_workers_score_on_the_cpu(scorer, images, expected):
    loader = torch.utils.data.DataLoader(Scored(scorer, images), 4, num_workers=2, multiprocessing_context="spawn")
    np.testing.assert_allclose(next(iter(loader)), expected, atol=1e-5)


def test_threads(reward_folder, images, expected):
    scorer = PamelaScorer.from_pretrained(reward_folder, device="cpu")  # the encoder is loaded by whoever comes first
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: scores_of(scorer, images), range(24)))
    for one in found:
        np.testing.assert_allclose(one, expected, atol=1e-5)


def _in_child(scorer, images, queue):
    torch.set_num_threads(1)
    queue.put(scores_of(scorer, images))


def test_fork_after_load(scorer, images, expected):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(scorer, images, queue))
    child.start()
    try:
        np.testing.assert_allclose(queue.get(timeout=60), expected, atol=1e-5)
    finally:
        child.join(20)
        child.kill()


def test_a_batcher_that_was_forked_answers(scorer, images):
    """verl's reward: its thread is left behind by a fork, and starts again."""
    from pamela_hf.rewards import load_reward

    score = load_reward("verl", model=scorer, user="ann")
    picture = np.asarray(images[0])
    first = score("toy", picture, "a cat")["score"]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(score("toy", picture, "a cat")["score"]))
    child.start()
    try:
        assert queue.get(timeout=60) == pytest.approx(first, abs=1e-5)
    finally:
        child.join(20)
        child.kill()
