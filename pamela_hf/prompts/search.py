"""The search for the prompt whose images one person likes best: which prompts to try next, and which one wins.

Knows nothing of diffusion models, rewards or language models: it asks a refiner for variants, hands (prompt, seed)
pairs to a function that renders and scores them, and keeps the trace. Everything random follows from the seed and the
step, so a run that is repeated or resumed takes the same course.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Real
from statistics import fmean
from typing import Any

import numpy as np

from ..refiners import PromptRefiner, Trial, clean_prompt, prompt_key
from ..refiners.vocabulary import Refiner as VocabularyRefiner
from .run_folder import RunFolder
from .surrogate import PromptSurrogate

logger = logging.getLogger(__name__)

_FIGURES = ("score", "std", "adherence")
STRATEGIES = ("greedy", "beam", "ucb", "thompson")


@dataclass(frozen=True)
class SearchConfig:
    """How to search.

    Attributes:
        num_iterations: rounds of variants.
        num_candidates: prompts rendered a round.
        num_seeds: images a prompt, all prompts with the same seeds; its score is their mean.
        seed: of the first image and of every choice; image k of a prompt is rendered with seed + k.
        strategy: "greedy": variants of the best prompt so far (the paper's). "beam": of the `beam_width` best.
            "ucb", "thompson": of the `beam_width` best, `oversample` times as many as are rendered; a model of the
            scores so far chooses which, by upper confidence bound or by sampling from what it holds possible.
        beam_width: how many of the best prompts "beam", "ucb" and "thompson" make variants of.
        oversample: how many times as many variants as are rendered "ucb" and "thompson" choose from.
        exploration: standard deviations that "ucb" adds to the expected score.
        adherence_floor: a prompt may win only if its images keep this share of the unoptimized images' adherence to
            the unoptimized prompt; 0 = off.
        max_images: images to render at most; 0 = no limit.
        max_seconds: after so many seconds the step under way is the last; 0 = no limit. A resumed run has them anew.
        patience: stop when the best prompt's interval (mean ± reward's std / √seeds) moved by less than `tolerance`
            rating units in this many rounds; 0 = off.
        tolerance: rating units, see `patience`.
    """

    num_iterations: int = 5
    num_candidates: int = 20
    num_seeds: int = 1
    seed: int = 0
    strategy: str = "greedy"
    beam_width: int = 4
    oversample: int = 8
    exploration: float = 1.0
    adherence_floor: float = 0.5
    max_images: int = 0
    max_seconds: float = 0.0
    patience: int = 0
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        for name in ("num_iterations", "num_candidates", "num_seeds", "beam_width", "oversample"):
            if not _is_integer(getattr(self, name)) or getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be an integer of at least 1.")
        for name in ("seed", "max_images", "patience"):
            if not _is_integer(getattr(self, name)) or getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be an integer of at least 0.")
        for name in ("exploration", "max_seconds", "tolerance", "adherence_floor"):
            if not isinstance(getattr(self, name), Real) or not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a number of at least 0.")
        if self.adherence_floor > 1:
            raise ValueError(f"adherence_floor={self.adherence_floor} is a share of the unoptimized images', 0..1.")
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy={self.strategy!r} does not exist; there are {', '.join(STRATEGIES)}.")
        if 0 < self.max_images < self.num_seeds:
            raise ValueError(
                f"max_images={self.max_images} does not even allow the unoptimized prompt at num_seeds="
                f"{self.num_seeds}; allow more images or fewer seeds."
            )

    @property
    def seeds(self) -> list[int]:
        return [self.seed + k for k in range(self.num_seeds)]


@dataclass
class Candidate:
    """A prompt with its images' figures, one for each seed: predicted rating, its std, adherence (NaN: unusable)."""

    prompt: str
    parent: str | None
    iteration: int
    scores: list[float]
    stds: list[float]
    adherences: list[float]
    eligible: bool = True

    @property
    def score(self) -> float:
        """Mean over the seeds; NaN if any is."""
        return fmean(self.scores)

    @property
    def std(self) -> float:
        """The reward's uncertainty of that mean, rating units: the root mean square of its std, over √seeds."""
        return math.sqrt(fmean(std**2 for std in self.stds) / len(self.stds))

    @property
    def adherence(self) -> float:
        return fmean(self.adherences)

    def trial(self) -> Trial:
        return Trial(self.prompt, self.parent, self.iteration, self.score, self.adherence, self.eligible)


@dataclass
class SearchResult:
    """How a search went.

    Attributes:
        candidates: all prompts tried, in order; the first is the unoptimized one.
        best: the eligible one with the highest score; the unoptimized one where none beats it.
        best_by_iteration: the best after each round, round 0 first; its score never falls.
        floor: lowest adherence that may win; -inf = off.
        stopped: why it ended: "iterations", "max_images", "max_seconds", "interval", "interrupted", "no new prompts".
        filled: how many of the prompts the vocabulary wrote in the refiner's place.
        rows: the trace.
    """

    candidates: list[Candidate]
    best: Candidate
    best_by_iteration: list[Candidate]
    floor: float
    stopped: str
    filled: int
    rows: list[dict[str, Any]] = field(repr=False)

    @property
    def baseline(self) -> Candidate:
        return self.candidates[0]


Evaluate = Callable[[Sequence[tuple[str, int]]], Sequence[tuple[float, float, float]]]


class PromptSearch:
    """One search.

    Args:
        prompt: the unoptimized prompt.
        config: how to search, a [`SearchConfig`].
        refiner: writes variants ([`pamela_hf.refiners`]).
        evaluate: `[(prompt, seed), …]` → as many `(score, std, adherence)`; NaN where an image is unusable.
        features: prompts → `(n, D)` array, what the surrogate of "ucb" and "thompson" compares prompts by; default: the
            words they consist of.
        folder: where to keep the trace; `None` = nowhere.
        on_row: called with the index and the trace row of every image, in order, also when it is only read back.
        interrupted: asked after every step; True ends the run there.
    """

    def __init__(
        self,
        prompt: str,
        config: SearchConfig,
        refiner: PromptRefiner,
        evaluate: Evaluate,
        *,
        features: Callable[[Sequence[str]], np.ndarray] | None = None,
        folder: RunFolder | None = None,
        on_row: Callable[[int, dict[str, Any]], None] | None = None,
        interrupted: Callable[[], bool] | None = None,
    ):
        self.prompt, self.config, self.refiner, self.evaluate = prompt, config, refiner, evaluate
        self.features, self.folder, self.on_row, self.interrupted = features, folder, on_row, interrupted
        self.fallback = VocabularyRefiner()
        self.candidates: list[Candidate] = []
        self.rows: list[dict[str, Any]] = []
        self.floor = -math.inf
        self._by_fallback: set[str] = set()
        self._filled = 0

    @property
    def best(self) -> Candidate:
        """The eligible candidate with the highest score, the earliest of equals; else the unoptimized one."""
        able = [c for c in self.candidates if c.eligible]
        return max(able, key=lambda c: c.score) if able else self.candidates[0]

    def run(self) -> SearchResult:
        """Searches to the end, or to where the folder's run had come and on from there.

        Raises:
            ValueError: every score is NaN. TraceError, OSError: the folder. Whatever `evaluate` raises.
        """
        config, started, stopped = self.config, time.monotonic(), "iterations"
        self._try(0, [(self.prompt, None)])
        best = [self.best]
        for iteration in range(1, config.num_iterations + 1):
            left = config.num_candidates
            if config.max_images:
                left = min(left, (config.max_images - len(self.rows)) // config.num_seeds)
            if self.interrupted is not None and self.interrupted():
                stopped = "interrupted"
            elif config.max_seconds and time.monotonic() - started > config.max_seconds:
                stopped = "max_seconds"
            elif left < 1:
                stopped = "max_images"
            elif self._settled(best):
                stopped = "interval"
            elif not (proposals := self._proposals(iteration, left)):
                stopped = "no new prompts"
            else:
                self._try(iteration, proposals)
                best.append(self.best)
                continue
            break
        if not math.isfinite(self.best.score):
            raise ValueError(
                "The reward gave no finite score for any image, so nothing can win. Check the reward model and the "
                "images (were all blanked by a safety checker?)."
            )
        filled = self.folder.filled if self.folder is not None else self._filled
        return SearchResult(self.candidates, self.best, best, self.floor, stopped, filled, self.rows)

    def _try(self, iteration: int, proposals: Sequence[tuple[str, str | None]]) -> None:
        """Renders and scores prompts at every seed, unless the folder has them; adds them as candidates."""
        seeds = self.config.seeds
        pairs = [(prompt, seed) for prompt, _ in proposals for seed in seeds]
        rows = self.folder.next_rows(pairs) if self.folder is not None else None
        if rows is None:
            parents = dict(proposals)
            rows = [
                {
                    "iteration": iteration,
                    "parent": parents[prompt],
                    "prompt": prompt,
                    "seed": seed,
                    **{name: _finite(value) for name, value in zip(_FIGURES, figures)},
                    "image": self.folder.image_name(prompt, seed) if self.folder is not None else None,
                }
                for (prompt, seed), figures in zip(pairs, self.evaluate(pairs))
            ]
            if self.folder is not None:
                rows = self.folder.add_rows(rows)
        rows = [{k: _finite(v) if k in _FIGURES else v for k, v in row.items()} for row in rows]
        for k, (prompt, parent) in enumerate(proposals):
            own = rows[k * len(seeds) : (k + 1) * len(seeds)]
            candidate = Candidate(prompt, parent, iteration, *([row[name] for row in own] for name in _FIGURES))
            if iteration == 0 and self.config.adherence_floor and math.isfinite(candidate.adherence):
                # for a similarity below 0, too, the floor lies below it
                self.floor = candidate.adherence - (1 - self.config.adherence_floor) * abs(candidate.adherence)
            elif iteration == 0 and self.config.adherence_floor:
                logger.warning("The unoptimized image has no adherence (was it blanked?): no floor holds, any may win.")
            candidate.eligible = math.isfinite(candidate.score) and (
                iteration == 0 or self.floor == -math.inf or candidate.adherence >= self.floor
            )
            self.candidates.append(candidate)
        for row in rows:
            self.rows.append(row)
            if self.on_row is not None:
                self.on_row(len(self.rows) - 1, row)

    def _settled(self, best: Sequence[Candidate]) -> bool:
        if not self.config.patience or len(best) <= self.config.patience:
            return False
        old, new = best[-1 - self.config.patience], best[-1]
        moved = max(abs((new.score + k * new.std) - (old.score + k * old.std)) for k in (-1, 1))
        return moved < self.config.tolerance  # False for NaN: there is no best yet

    # -- what to try next ------------------------------------------------------------------------------------------
    def _proposals(self, iteration: int, count: int) -> list[tuple[str, str]]:
        """At most `count` new prompts with their parents, as recorded or newly asked for."""
        recorded = self.folder.next_proposals() if self.folder is not None else None
        if recorded is not None:
            return [(prompt, parent) for prompt, parent in recorded]
        rng = np.random.default_rng([self.config.seed, iteration])
        modelled = self.config.strategy in ("ucb", "thompson")
        width = 1 if self.config.strategy == "greedy" else self.config.beam_width
        able = sorted((c for c in self.candidates if c.eligible), key=lambda c: -c.score) or self.candidates[:1]
        parents = able[:width]
        pool = self._ask(parents, count * (self.config.oversample if modelled else 1), rng)
        chosen = self._choose(pool, count, rng) if modelled and len(pool) > count else pool[:count]
        filled = sum(prompt in self._by_fallback for prompt, _ in chosen)
        self._filled += filled
        if self.folder is not None and chosen:
            self.folder.add_proposals(iteration, chosen, filled)
        return chosen

    def _ask(self, parents: Sequence[Candidate], n: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """`n` new prompts, variants of each parent in turn; what a refiner leaves open the vocabulary fills up."""
        seen = {prompt_key(c.prompt) for c in self.candidates}
        history = [c.trial() for c in self.candidates]
        found: list[list[tuple[str, str]]] = [[] for _ in parents]

        def add(refiner: PromptRefiner, k: int, wanted: int) -> None:
            answer = refiner.propose(parents[k].prompt, history, wanted, rng)
            if isinstance(answer, str):
                answer = [answer]
            elif not isinstance(answer, Iterable) or isinstance(answer, Mapping):
                answer = []  # anything but a list of prompts is not an answer
            for text in islice(answer, 10 * wanted):
                prompt = clean_prompt(text)
                if prompt and prompt_key(prompt) not in seen and len(found[k]) < shares[k]:
                    seen.add(prompt_key(prompt))
                    found[k].append((prompt, parents[k].prompt))
                    if refiner is self.fallback:
                        self._by_fallback.add(prompt)

        shares = [n // len(parents) + (k < n % len(parents)) for k in range(len(parents))]
        for refiner in (self.refiner, self.fallback):
            for k, share in enumerate(shares):
                if len(found[k]) < share:
                    add(refiner, k, share - len(found[k]))
            missing = n - sum(map(len, found))
            if refiner is not self.fallback and missing:
                # a vocabulary that is used up has nothing to add; a language model should have
                level = logging.INFO if isinstance(refiner, VocabularyRefiner) else logging.WARNING
                name = getattr(refiner, "name", type(refiner).__name__)
                logger.log(level, "%s gave %d of %d new prompts; the vocabulary fills up.", name, n - missing, n)
        return [found[k][i] for i in range(max(shares)) for k in range(len(parents)) if i < len(found[k])]

    def _choose(self, pool: Sequence[tuple[str, str]], count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """The `count` most promising of `pool`, by a model of the scores so far."""
        known = [c for c in self.candidates if math.isfinite(c.score)]
        prompts = [c.prompt for c in known] + [prompt for prompt, _ in pool]
        surrogate = PromptSurrogate(self.features(prompts) if self.features is not None else None, prompts)
        surrogate.fit([c.score for c in known])
        pick = surrogate.by_sampling if self.config.strategy == "thompson" else surrogate.by_upper_bound
        return [pool[i] for i in pick(count, self.config.exploration, rng)]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: float | None) -> float:
    """The number, or NaN for anything else: infinity wins as little as NaN does."""
    return float(value) if value is not None and math.isfinite(value) else math.nan
