"""What optimizing a prompt for a person is worth, in the simulated world, where their true taste is known.

  make demo                                              # or any run of scripts/demo.py: the world and its reward
  python scripts/bench_prompt.py --model runs/demo/model --output runs/bench/prompt.json

Simulated people, procedural images: the figures show that the parts work together, not what real people would say. The
people and prompts of `--part dev` are for tuning; those of `test` are read for the claims.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pamela_hf.pipeline_pamela import PamelaPromptPipeline
from pamela_hf.refiners.vocabulary import Refiner as VocabularyRefiner
from pamela_hf.scoring import PamelaScorer
from pamela_hf.simulated_pipeline import SimulatedPipeline
from pamela_hf.simulation import CALIBRATION, SUBJECTS, simulated_participants, traits_from_prompt

PAPER = {"self over other": 0.54, "self over none": 0.57}  # Elo 1065, 1038, 1016 in arXiv 2604.07427
FRESH_SEEDS = range(9_000_000, 9_000_008)  # rendered by no search: does the prompt please, or was the seed lucky?


def people_and_prompts(users: list[str], part: str, people: int, prompts: int) -> tuple[list[str], list[str]]:
    """Of a model's users and the world's subjects, those of a part; dev and test share no person and no subject."""
    rng = np.random.default_rng(7)
    users, groups = list(rng.permutation(sorted(users))), list(rng.permutation(sorted(SUBJECTS)))
    half = slice(0, len(users) // 2) if part == "dev" else slice(len(users) // 2, None)
    groups = groups[: len(groups) // 2] if part == "dev" else groups[len(groups) // 2 :]
    nouns = [f"{SUBJECTS[group][k % len(SUBJECTS[group])]}, photo" for k, group in enumerate(groups)]
    return users[half][:people], nouns[:prompts]


def interval(values: np.ndarray, draws: int = 4000) -> list[float]:
    """Mean and its 95 % interval over people, `values (people, prompts)`: whole people are resampled."""
    means = np.asarray(values).reshape(len(values), -1).mean(1)
    picks = np.random.default_rng(0).integers(0, len(means), (draws, len(means)))
    return [float(means.mean()), *np.quantile(means[picks].mean(1), [0.025, 0.975]).tolist()]


def shown(cell: list[float]) -> str:
    return f"{cell[0]:+.3f} [{cell[1]:+.3f}, {cell[2]:+.3f}]"


def liking(person, prompt: str, seeds) -> float:
    return float(np.mean([person.true_liking(prompt, seed) for seed in seeds]))


class Bench:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.scorer = PamelaScorer.from_pretrained(args.model, device="cpu")
        self.pipe = PamelaPromptPipeline(SimulatedPipeline(), self.scorer.model, self.scorer.processor)
        self.pipe.set_progress_bar_config(disable=True)
        users = self.scorer.config.users
        names, self.prompts = people_and_prompts(users, args.part, args.people, args.prompts)
        known = {p.participant_id: p for p in simulated_participants(max(int(u.split("_")[-1]) for u in users) + 1)}
        self.people = [known[name] for name in names]

    def run(self, prompt: str, user: str | None, **options):
        seed = 5_000_000 + self.prompts.index(prompt)
        return self.pipe(prompt, user, generator=torch.Generator().manual_seed(seed), **options), seed

    def winners(self, users: list[str | None], **options) -> dict:
        """(user, prompt) → the run's result and seeds."""
        out = {}
        for user in users:
            for prompt in self.prompts:
                result, seed = self.run(prompt, user, **options)
                out[user, prompt] = result, [seed + k for k in range(len(result.images))]
        return out

    def likings(self, won: dict, seeds=None) -> dict[str, np.ndarray]:
        """True liking `(people, prompts)` of what was made for oneself, for each other person, and not optimized."""
        names = [p.participant_id for p in self.people]
        n = len(names)
        matrix = np.zeros((n, n, len(self.prompts)))  # [person asked, person optimized for, prompt]
        none = np.zeros((n, len(self.prompts)))
        for i, person in enumerate(self.people):
            for k, prompt in enumerate(self.prompts):
                for j, name in enumerate(names):
                    result, own = won[name, prompt]
                    matrix[i, j, k] = liking(person, result.prompts[0], seeds or own)
                none[i, k] = liking(person, prompt, seeds or own)
        mine = matrix[np.arange(n), np.arange(n)]
        others = (matrix.sum(1) - mine) / (n - 1)
        return {"self": mine, "other": others, "none": none, "matrix": matrix}


def elo(matrix: np.ndarray, none: np.ndarray, consensus: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Elo of the four conditions from simulated choices: liking plus the raters' noise on both sides (Bradley–Terry by
    minorization–maximization, Hunter 2004), mean 1000."""
    names = ("self", "other", "none", "consensus")
    wins = np.zeros((4, 4))
    n, _, prompts = matrix.shape
    for i in range(n):
        for k in range(prompts):
            for _ in range(20):
                j = (i + 1 + int(rng.integers(n - 1))) % n
                values = np.array([matrix[i, i, k], matrix[i, j, k], none[i, k], consensus[i, k]])
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


def overhead(bench: Bench, seconds: float = 0.1) -> dict[str, float]:
    """Share of a run's time that is neither rendering nor the refiner, where a renderer takes `seconds` an image."""

    class Slow(SimulatedPipeline):
        spent = 0.0

        def __call__(self, *args, **kwargs):
            start = time.perf_counter()
            out = super().__call__(*args, **kwargs)
            time.sleep(max(0.0, seconds - (time.perf_counter() - start)))
            Slow.spent += time.perf_counter() - start
            return out

    class Timed(VocabularyRefiner):
        spent = 0.0

        def propose(self, *args):
            start = time.perf_counter()
            out = super().propose(*args)
            Timed.spent += time.perf_counter() - start
            return out

    bench.run(bench.prompts[0], None, num_iterations=1)  # the encoder is loaded once a process
    pipe = PamelaPromptPipeline.from_pipe(bench.pipe, pipeline=Slow(bench.args.size))
    pipe.set_progress_bar_config(disable=True)
    figures = {}
    for strategy in ("greedy", "ucb"):
        Slow.spent, Timed.spent, start = 0.0, 0.0, time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            out = pipe(
                bench.prompts[0],
                bench.people[0].participant_id,
                strategy=strategy,
                refiner=Timed(),
                output=Path(folder) / "run",
            )
        whole = time.perf_counter() - start
        figures[strategy] = (whole - Slow.spent - Timed.spent) / whole
        print(
            f"{strategy}: {len(out.history)} images in {whole:.2f} s, overhead {100 * figures[strategy]:.2f} %",
            flush=True,
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a reward trained in the simulated world")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--part", choices=("dev", "test"), default="dev")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--size", type=int, default=64, help="side of the rendered images in pixels")
    parser.add_argument("--only", choices=("taste", "strategies", "overhead"), action="append")
    parser.add_argument("--options", default="{}", help="JSON of further arguments of the pipeline")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench, figures, only = Bench(args), {"part": args.part}, args.only or ["taste", "strategies", "overhead"]
    names, options = [p.participant_id for p in bench.people], json.loads(args.options)
    greedy = None
    if "taste" in only:
        start = time.perf_counter()
        greedy = bench.winners(names, **options)
        consensus = bench.winners([None], **options)
        print(f"{len(greedy)} runs in {time.perf_counter() - start:.0f} s")
        for title, seeds in (("at the run's seeds", None), ("at fresh seeds", FRESH_SEEDS)):
            got = bench.likings(greedy, seeds)
            shared = np.array(
                [
                    [liking(p, consensus[None, q][0].prompts[0], seeds or consensus[None, q][1]) for q in bench.prompts]
                    for p in bench.people
                ]
            )
            cells = {
                "self": interval(got["self"]), "other": interval(got["other"]), "none": interval(got["none"]),
                "consensus": interval(shared),
                "self - other": interval(got["self"] - got["other"]),
                "other - none": interval(got["other"] - got["none"]),
                "self - none": interval(got["self"] - got["none"]),
                "self - consensus": interval(got["self"] - shared),
            }  # fmt: skip
            cells["Elo"] = elo(got["matrix"], got["none"], shared, np.random.default_rng(1))
            figures[f"true liking {title}"] = cells
            print(f"\nTrue liking {title}, mean [95 % interval over people]")
            for name, cell in cells.items():
                print(f"  {name:18} {shown(cell)}" if name != "Elo" else f"  {name}: {json.dumps(cell)}")
        print(f"  the paper's win rates: {PAPER}")
        held = [r.adherence >= r.floor for r, _ in greedy.values()]
        kept = [
            traits_from_prompt(r.prompts[0], s[0]).group == traits_from_prompt(q, s[0]).group
            for (_, q), (r, s) in greedy.items()
        ]
        predicted = np.mean([r.scores[0] - r.baseline_scores[0] for r, _ in greedy.values()])
        figures |= {"adherence held": float(np.mean(held)), "subject kept": float(np.mean(kept))}
        figures["predicted gain"] = float(predicted)
        print(
            f"  adherence floor held {np.mean(held):.1%}, subject kept {np.mean(kept):.1%}, "
            f"predicted gain {predicted:.3f}"
        )
    if "strategies" in only:
        greedy = greedy or bench.winners(names, **options)

        def gain(won):
            likes = bench.likings(won)
            fresh = bench.likings(won, FRESH_SEEDS)
            score = np.array([[won[n, q][0].scores[0] for q in bench.prompts] for n in names])
            return likes["self"] - likes["none"], fresh["self"] - fresh["none"], score

        base = gain(greedy)
        base_score = np.array([[greedy[n, q][0].baseline_scores[0] for q in bench.prompts] for n in names])
        print(
            f"\ngreedy 5x20: gain {shown(interval(base[0]))}, fresh {shown(interval(base[1]))}, "
            f"predicted {shown(interval(base[2] - base_score))}"
        )
        figures["strategies"] = {"greedy 5x20": [interval(base[0]), interval(base[2] - base_score)]}
        for strategy, rounds, count in (
            ("beam", 5, 20), ("ucb", 5, 20), ("greedy", 5, 12), ("ucb", 5, 12), ("thompson", 5, 12), ("ucb", 10, 6),
        ):  # fmt: skip
            won = bench.winners(
                names, **{**options, "strategy": strategy, "num_iterations": rounds, "num_candidates": count}
            )
            this = gain(won)
            name = f"{strategy} {rounds}x{count}"
            cells = [interval(a - b) for a, b in zip(this, base)]
            figures["strategies"][name] = cells
            print(
                f"{name:14} minus greedy 5x20: true {shown(cells[0])}, fresh {shown(cells[1])}, "
                f"predicted {shown(cells[2])}",
                flush=True,
            )
    if "overhead" in only:
        figures["overhead"] = overhead(bench)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
