"""A made-up world that scores prompts by their words, and refiners with fixed answers: no model needed."""

import time

import numpy as np
from PIL import Image

from pamela_hf.prompts.run_folder import RunFolder
from pamela_hf.prompts.search import PromptSearch, SearchConfig
from pamela_hf.refiners.vocabulary import TERMS, Refiner, known_terms

PROMPT = "a cottage by the sea"


ALL_TERMS = [term for terms in TERMS.values() for term in terms]


class World:
    """Scores a prompt by the worth of its terms, plus what a seed is worth; saves a small image of its own."""

    def __init__(self, seed: int = 0, folder: RunFolder | None = None, noise: float = 0.1, seconds: float = 0.0):
        rng = np.random.default_rng(seed)
        self.worth = dict(zip(ALL_TERMS, rng.normal(0, 0.3, len(ALL_TERMS))))
        self.folder, self.noise, self.seconds, self.rendered = folder, noise, seconds, []

    def score(self, prompt: str, seed: int) -> float:
        jitter = np.random.default_rng([seed, len(prompt)]).normal(0, self.noise)
        return 3 + sum(self.worth[t] for t in known_terms(prompt).values()) + jitter

    def __call__(self, pairs):
        out = []
        for prompt, seed in pairs:
            if self.folder is None or self.folder.load_image(prompt, seed) is None:
                self.rendered.append((prompt, seed))
                if self.folder is not None:
                    time.sleep(self.seconds)
                    image = Image.new("RGB", (8, 8), (len(prompt) % 256, seed % 256, 9))
                    self.folder.save_image(image, prompt, seed, self.seconds)
            out.append((self.score(prompt, seed), 0.5, 1.0 / (1 + 0.1 * len(known_terms(prompt)))))
        return out


def search(world=None, refiner=None, folder=None, **options):
    world = world or World()
    config = SearchConfig(**{"num_iterations": 4, "num_candidates": 6, "adherence_floor": 0.0, **options})
    return PromptSearch(PROMPT, config, refiner or Refiner(), world, folder=folder)


class Answers:
    """A refiner with the same answer to everything, or the next of several."""

    name = "answers"

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def propose(self, prompt, history, n, rng):
        self.asked.append((prompt, list(history), n))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]
