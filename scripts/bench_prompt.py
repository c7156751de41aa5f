"""What optimizing a prompt for a person is worth, in the simulated world, where their true taste is known.

  python scripts/demo.py --output runs/world --people 199 --images 5077 --ratings 69904    # the released ratings' size
  python scripts/bench_prompt.py --model runs/world/model --part test --output runs/bench/prompt.json

Simulated people, procedural images: the figures show that the parts work together, not what real people would say. The
people and prompts of `--part dev` are for tuning; those of `test` are read for the claims.
"""

import argparse
import json
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from pamela_hf.prompts.pipeline_pamela import PamelaPromptPipeline
from pamela_hf.prompts.runs import stability
from pamela_hf.prompts.search import PromptSearch, SearchConfig
from pamela_hf.refiners.vocabulary import Refiner as VocabularyRefiner
from pamela_hf.scoring import PamelaScorer
from pamela_hf.simulation.pipeline import SimulatedPipeline
from pamela_hf.simulation.world import (
    CALIBRATION,
    SCALARS,
    SUBJECTS,
    population_liking,
    render,
    simulated_participants,
    traits_from_prompt,
)

PAPER = {"self over other": 0.54, "self over none": 0.57}  # Elo 1065, 1038, 1016 in arXiv 2604.07427
FRESH_SEEDS = range(9_000_000, 9_000_008)  # rendered by no search: does the prompt please, or was the seed lucky?
STRATEGIES = (("ucb", 10, 6), ("ucb", 5, 12), ("beam", 5, 20), ("ucb", 5, 20))
PARTS = ("taste", "limit", "reward", "strategies", "stability", "overhead")


def people_and_prompts(users: list[str], part: str, people: int, prompts: int) -> tuple[list[str], list[str]]:
    """Of a model's users and the world's subjects, those of a part; dev and test share no person and no subject."""
    rng = np.random.default_rng(7)
    users, groups = list(rng.permutation(sorted(users))), list(rng.permutation(sorted(SUBJECTS)))
    half = slice(0, len(users) // 2) if part == "dev" else slice(len(users) // 2, None)
    groups = groups[: len(groups) // 2] if part == "dev" else groups[len(groups) // 2 :]
    nouns = [f"{SUBJECTS[group][k % len(SUBJECTS[group])]}, photo" for k, group in enumerate(groups)]
    return users[half][:people], nouns[:prompts]


def interval(values: np.ndarray, draws: int = 4000) -> list[float]:
    """Mean and its 95 % interval; whole people are resampled. `values` are `(people, prompts)`, or `(people asked,
    people optimized for, prompts)`: then what was made for others counts, and people are resampled as both."""
    values, rng = np.asarray(values), np.random.default_rng(0)
    picks = rng.integers(0, len(values), (draws, len(values)))
    if values.ndim == 2:
        means = values.mean(1)
        return [float(means.mean()), *np.quantile(means[picks].mean(1), [0.025, 0.975]).tolist()]
    means = values.mean(2)

    def of_others(rows: np.ndarray) -> float:
        other = rows[:, None] != rows[None, :]
        return float(means[rows[:, None], rows[None, :]][other].mean())

    spread = np.quantile([of_others(rows) for rows in picks], [0.025, 0.975])
    return [of_others(np.arange(len(values))), *spread.tolist()]


def shown(cell: list[float]) -> str:
    return f"{cell[0]:+.3f} [{cell[1]:+.3f}, {cell[2]:+.3f}]"


class Bench:
    """Every person and prompt has seeds of its own, so that no seed's luck is everybody's."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.scorer = PamelaScorer.from_pretrained(args.model, device="cpu")
        self.pipe = PamelaPromptPipeline(SimulatedPipeline(args.size), self.scorer.model, self.scorer.processor)
        self.pipe.set_progress_bar_config(disable=True)
        users = self.scorer.config.users
        self.names, self.prompts = people_and_prompts(users, args.part, args.people, args.prompts)
        self.everyone = simulated_participants(max(int(u.split("_")[-1]) for u in users) + 1)
        known = {p.participant_id: p for p in self.everyone}
        self.people = [known[name] for name in self.names]
        self.runs = [(j, k) for j in range(len(self.people)) for k in range(len(self.prompts))]

    def seed(self, person: int, prompt: int) -> int:
        return 5_000_000 + 1_000 * (person * len(self.prompts) + prompt)

    def winners(self, everyone: bool = False, **options) -> dict:
        """(person, prompt) → the result of the run for that person, or for everyone at the same seeds."""
        return {
            (j, k): self.pipe(
                self.prompts[k],
                None if everyone else self.names[j],
                generator=torch.Generator().manual_seed(self.seed(j, k)),
                **options,
            )
            for j, k in self.runs
        }

    def liking(self, prompt: str, seeds) -> np.ndarray:
        """True liking `(people,)` of a prompt's images, mean over `seeds`."""
        return np.array([np.mean([person.true_liking(prompt, s) for s in seeds]) for person in self.people])

    def gains(self, prompts: dict, num_seeds: int, fresh: bool = False) -> np.ndarray:
        """`[asked, optimized for, prompt]`: true liking of a winner less that of the unoptimized image, same seeds."""
        out = np.zeros((len(self.people), len(self.people), len(self.prompts)))
        for j, k in self.runs:
            seeds = FRESH_SEEDS if fresh else range(self.seed(j, k), self.seed(j, k) + num_seeds)
            out[:, j, k] = self.liking(prompts[j, k], seeds) - self.liking(self.prompts[k], seeds)
        return out

    def taste(self, personal: dict, shared: dict, num_seeds: int, fresh: bool) -> dict:
        """What was made for oneself, for others and for everyone: gains over the unoptimized image."""
        n = np.arange(len(self.people))
        made = self.gains(personal, num_seeds, fresh)
        own, consensus = made[n, n], self.gains(shared, num_seeds, fresh)[n, n]
        return {
            "self - none": interval(own),
            "self - other": interval(own[:, None] - made),
            "other - none": interval(made),
            "consensus - none": interval(consensus),
            "self - consensus": interval(own - consensus),
            "Elo": elo(made, consensus, np.random.default_rng(1)),
        }

    def limit(self, num_seeds: int) -> dict:
        """The same search with true liking in place of the reward: what the world and the vocabulary allow."""

        def search(like, j: int, k: int) -> str:
            def evaluate(pairs):
                return [(like(traits_from_prompt(text, seed)), 0.0, 1.0) for text, seed in pairs]

            config = SearchConfig(seed=self.seed(j, k), num_seeds=num_seeds)
            return PromptSearch(self.prompts[k], config, VocabularyRefiner(), evaluate).run().best.prompt

        def everyone(traits) -> float:
            return float(population_liking(self.everyone, [traits])[0])

        personal = {(j, k): search(self.people[j].true_liking, j, k) for j, k in self.runs}
        shared = {(j, k): search(everyone, j, k) for j, k in self.runs}
        return self.taste(personal, shared, num_seeds, False)

    def reward(self, won: dict) -> dict[str, list[float]]:
        """Correlation of prediction and truth over the candidates of a run (Pearson), mean over runs by person."""
        cells = {name: np.full((len(self.people), len(self.prompts)), np.nan) for name in ("person", "everyone")}
        for j, k in self.runs:
            rows = won[j, k].history
            texts = [row["prompt"] for row in rows]
            images = [render(row["prompt"], row["seed"], self.args.size) for row in rows]
            traits = [traits_from_prompt(row["prompt"], row["seed"]) for row in rows]
            generic = self.scorer.score(images, texts, batch_size=len(images)).scores
            own = [row["score"] for row in rows]
            cells["person"][j, k] = np.corrcoef(own, [self.people[j].true_liking(t) for t in traits])[0, 1]
            cells["everyone"][j, k] = np.corrcoef(generic, population_liking(self.everyone, traits))[0, 1]
        return {f"correlation, {name}": interval(values) for name, values in cells.items()}


def independent(bench: Bench, options: dict, people: int = 6, runs: int = 5) -> dict[str, list[float]]:
    """Are the winners of a person's independent runs (other seeds) more alike than those of different people?"""
    names = bench.names[:people]
    stabilities = []
    for k, prompt in enumerate(bench.prompts):
        seeds = [7_000_000 + 1_000 * (k * runs + r) for r in range(runs)]
        made = [[bench.pipe(prompt, n, generator=torch.Generator().manual_seed(s), **options) for s in seeds]
                for n in names]  # fmt: skip
        stabilities.append(stability(bench.pipe, made))
        points = [[_traits(out.prompts[0]) for out in of] for of in made]
        for p, own in enumerate(points):
            apart = [np.abs(a - b).mean() for a, b in combinations(own, 2)]
            others = [np.abs(a - b).mean() for r, a in enumerate(own) for q in range(people) for s, b in
                      enumerate(points[q]) if q != p and s != r]  # fmt: skip
            stabilities[-1][p] |= {"apart": float(np.mean(apart)), "apart_others": float(np.mean(others))}
    cells = {name: np.array([[of[p][name] for of in stabilities] for p in range(people)]) for name in
             ("winners", "others", "unoptimized", "shared", "shared_others", "apart", "apart_others")}  # fmt: skip
    cells["winners - others"] = cells["winners"] - cells["others"]
    cells["shared - others"] = cells["shared"] - cells["shared_others"]
    cells["apart - others"] = cells["apart"] - cells["apart_others"]
    return {name: interval(values) for name, values in cells.items()}


def _traits(prompt: str) -> np.ndarray:
    """The true scalar traits of a prompt's image at one seed, 0..1."""
    return np.array([getattr(traits_from_prompt(prompt, FRESH_SEEDS[0]), name) for name in SCALARS])


def elo(made: np.ndarray, consensus: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Elo of the four conditions from simulated choices: gain plus the raters' noise on both sides (Bradley–Terry by
    minorization–maximization, Hunter 2004), mean 1000."""
    names = ("self", "other", "none", "consensus")
    wins = np.zeros((4, 4))
    n, _, prompts = made.shape
    for i in range(n):
        for k in range(prompts):
            for _ in range(20):
                j = (i + 1 + int(rng.integers(n - 1))) % n
                values = np.array([made[i, i, k], made[i, j, k], 0.0, consensus[i, k]])
                for a in range(4):
                    for b in range(a + 1, 4):
                        x, y = values[[a, b]] + CALIBRATION["noise"] * rng.standard_normal(2)
                        wins[(a, b) if x > y else (b, a)] += 1
    strength = np.ones(4)
    for _ in range(500):
        total = (wins + wins.T) / (strength[:, None] + strength[None, :])
        strength = wins.sum(1) / total.sum(1)
        strength /= np.exp(np.log(strength).mean())
    rates = {f"self over {name}": float(wins[0, k] / (wins[0, k] + wins[k, 0])) for k, name in enumerate(names) if k}
    return {**{name: float(1000 + 400 * np.log10(s)) for name, s in zip(names, strength)}, **rates}


def overhead(bench: Bench, seconds: float = 0.1, repeats: int = 3) -> dict[str, list[float]]:
    """Share of a run's time that is neither rendering nor the refiner, where a renderer takes `seconds` an image: by
    the wall clock, and by the processor's time, which other programs on a busy machine leave alone."""
    spent = np.zeros(2)

    def clocks() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    class Slow(SimulatedPipeline):
        def __call__(self, *args, **kwargs):
            start = clocks()
            out = super().__call__(*args, **kwargs)
            time.sleep(max(0.0, seconds - (time.perf_counter() - start[0])))
            spent[:] += clocks() - start
            return out

    class Timed(VocabularyRefiner):
        def propose(self, *args):
            start = clocks()
            out = super().propose(*args)
            spent[:] += clocks() - start
            return out

    pipe = PamelaPromptPipeline.from_pipe(bench.pipe, pipeline=Slow(bench.args.size))
    pipe.set_progress_bar_config(disable=True)
    figures: dict[str, list[float]] = {}
    pipe(bench.prompts[0], None, num_iterations=1, strategy="ucb")  # the encoder is loaded once a process
    for _ in range(repeats):
        for strategy in ("greedy", "beam", "ucb", "thompson"):
            spent[:], start = 0.0, clocks()
            with tempfile.TemporaryDirectory() as folder:
                out = pipe(
                    bench.prompts[0], bench.names[0], strategy=strategy, refiner=Timed(), output=Path(folder) / "run"
                )
            wall, own = clocks() - start - spent
            figures.setdefault(f"{strategy}, wall clock", []).append(wall / (wall + spent[0]))
            figures.setdefault(f"{strategy}, processor", []).append(own / (own + seconds * len(out.history)))
    for name, shares in figures.items():
        print(f"overhead {name}: {', '.join(f'{100 * share:.2f} %' for share in sorted(shares))}", flush=True)
    return figures


def show(title: str, cells: dict) -> None:
    print(f"\n{title}, mean [95 % interval over people]")
    for name, cell in cells.items():
        print(f"  {name:18} {shown(cell) if isinstance(cell, list) else json.dumps(cell)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a reward trained in the simulated world")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--part", choices=("dev", "test"), default="dev")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--size", type=int, default=64, help="side of the rendered images in pixels")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--options", default="{}", help="JSON of further arguments of the pipeline")
    args = parser.parse_args()
    bench, figures, only = Bench(args), {"part": args.part}, args.only or PARTS
    options = json.loads(args.options)
    seeds, n, greedy = options.get("num_seeds", 1), np.arange(args.people), {}
    if {"taste", "reward", "strategies"} & set(only):
        start = time.perf_counter()
        greedy = bench.winners(**options)
        print(f"{len(greedy)} runs in {time.perf_counter() - start:.0f} s", flush=True)
    won = {key: result.prompts[0] for key, result in greedy.items()}
    if "taste" in only:
        shared = {key: result.prompts[0] for key, result in bench.winners(everyone=True, **options).items()}
        for title, fresh in (("at the run's seeds", False), ("at fresh seeds", True)):
            figures[f"true gain {title}"] = bench.taste(won, shared, seeds, fresh)
            show(f"True gain {title}", figures[f"true gain {title}"])
        figures["adherence held"] = float(np.mean([r.adherence >= r.floor for r in greedy.values()]))
        figures["subject kept"] = float(
            np.mean(
                [traits_from_prompt(won[key]).group == traits_from_prompt(bench.prompts[key[1]]).group for key in won]
            )
        )
        gain = [np.mean(r.scores) - np.mean(r.baseline_scores) for r in greedy.values()]
        figures["predicted gain"] = float(np.mean(gain))
        print(f"  the paper's win rates: {PAPER}; floor held {figures['adherence held']:.1%}, subject kept ", end="")
        print(f"{figures['subject kept']:.1%}; predicted gain {figures['predicted gain']:.3f}", flush=True)
    if "limit" in only:
        figures["limit"] = bench.limit(seeds)
        show("True gain if the reward were the truth, at the run's seeds", figures["limit"])
    if "reward" in only:
        figures["reward"] = bench.reward(greedy)
        show("Prediction and truth over a run's candidates", figures["reward"])
    if "strategies" in only:

        def of(results: dict) -> list[np.ndarray]:
            prompts = {key: result.prompts[0] for key, result in results.items()}
            predicted = np.zeros((len(bench.people), len(bench.prompts)))
            for key, result in results.items():
                predicted[key] = np.mean(result.scores)
            return [bench.gains(prompts, seeds, fresh)[n, n] for fresh in (False, True)] + [predicted]

        base, figures["strategies"] = of(greedy), {}
        print("\nTrue gain at the run's seeds, at fresh seeds, and predicted, less that of the run above")
        for strategy, rounds, count in STRATEGIES:
            other = {"strategy": strategy, "num_iterations": rounds, "num_candidates": count}
            cells = [interval(a - b) for a, b in zip(of(bench.winners(**{**options, **other})), base)]
            figures["strategies"][f"{strategy} {rounds}x{count}"] = cells
            print(f"  {strategy:8} {rounds:2}x{count:<2} {'  '.join(map(shown, cells))}", flush=True)
    if "stability" in only:
        figures["stability"] = independent(bench, options)
        show("Independent runs", figures["stability"])
    if "overhead" in only:
        figures["overhead"] = overhead(bench)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
