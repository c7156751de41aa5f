import numpy as np
import pytest
import torch
from tiny_pipelines import Odd

from pamela_hf.prompts.best_of import best_of, choose_diverse
from pamela_hf.scoring import PamelaScorer
from pamela_hf.simulation.pipeline import SimulatedPipeline

PROMPT = "a cottage by the sea"


@pytest.fixture(scope="module")
def scorer(reward_folder) -> PamelaScorer:
    return PamelaScorer.from_pretrained(reward_folder, device="cpu")


def test_the_best_seeds_for_a_person(scorer):
    pipeline = SimulatedPipeline(size=32)
    found = best_of(pipeline, PROMPT, scorer, "ann", n=10, k=4, seed=7, batch_size=3)
    drawn = [pipeline(PROMPT, generator=torch.Generator().manual_seed(7 + i)).images[0] for i in range(10)]
    scores, std = scorer.score(drawn, PROMPT, "ann")
    np.testing.assert_allclose(found.all_scores, scores, atol=1e-5)
    best = np.argsort(-scores, kind="stable")[:4]
    assert found.seeds == (7 + best).tolist()
    np.testing.assert_allclose(found.scores, scores[best], atol=1e-5)
    np.testing.assert_allclose(found.std, std[best], atol=1e-5)
    assert all(np.array_equal(image, drawn[i]) for image, i in zip(found.images, best))
    assert found.seeds != best_of(pipeline, PROMPT, scorer, "bob", n=10, k=4, seed=7).seeds
    assert np.isnan(best_of(pipeline, PROMPT, scorer, n=1, k=1).diversity)


def test_diversity_costs_score_and_pays(scorer):
    pipeline = SimulatedPipeline(size=32)
    plain = best_of(pipeline, PROMPT, scorer, "ann", n=16, k=4)
    varied = best_of(pipeline, PROMPT, scorer, "ann", n=16, k=4, diversity=100.0)
    assert varied.diversity > plain.diversity and varied.scores.mean() <= plain.scores.mean()
    assert varied.seeds[0] == plain.seeds[0]


def test_each_choice_is_the_best_given_those_before():
    scores = np.array([3.0, 2.9, 2.0])
    similar = np.array([[1.0, 0.99, 0.0], [0.99, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert choose_diverse(scores, similar, 2, 0.0) == [0, 1]
    assert choose_diverse(scores, similar, 2, 1.0) == [0, 2]


def test_a_blanked_image_is_never_chosen(scorer):
    def blank_the_second(pipeline, out):
        from PIL import Image

        if pipeline.calls == 2:
            out.images[0] = Image.new("RGB", (32, 32))
        return out

    found = best_of(Odd(blank_the_second), PROMPT, scorer, n=4, k=4, batch_size=1)
    assert np.isnan(found.all_scores[1]) and 1 not in found.seeds and len(found.images) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 2, "k": 3}, "k=3 images cannot be chosen of n=2"),
        ({"diversity": -1}, "diversity=-1"),
        ({"user": "dan"}, "'dan' is not among"),
    ],
)
def test_a_bad_argument_is_named(scorer, arguments, message):
    with pytest.raises(ValueError, match=message):
        best_of(SimulatedPipeline(size=32), PROMPT, scorer, **arguments)
