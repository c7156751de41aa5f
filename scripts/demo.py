"""The main job from start to end, offline and in a few minutes, in a simulated world: `make demo`.

Paints images, invents raters, trains a tiny encoder, embeds, trains the reward, evaluates it person by person, fits two
newcomers and rewrites a prompt for one of them. Everything in it is simulated; no figure of it says anything about real
people.
"""

import argparse
import shutil
import time
from pathlib import Path

from transformers.utils import logging

from pamela_hf.cli import main as pamela
from pamela_hf.experiments.demo import Fitted, write_demo_page
from pamela_hf.simulation.encoder import simulated_pairs, train_tiny_encoder
from pamela_hf.simulation.tastes import choose_newcomers
from pamela_hf.simulation.world import new_rater_csv, write_world

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
RATINGS = 60  # of each newcomer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder, made anew (runs/demo)")
    for name, number in {"people": 60, "images": 1200, "ratings": 14000}.items():
        parser.add_argument(f"--{name}", type=int, default=number, help=f"how many ({number})")
    parser.add_argument("--encoder-epochs", type=int, help="fewer make a quicker, less able encoder")
    args = parser.parse_args()
    logging.disable_progress_bar()  # everything that is loaded here is tiny
    out, start = args.output, time.perf_counter()
    if out.exists() and not (out / "ratings" / "README.md").exists() and any(out.iterdir()):
        parser.error(f"--output {out} exists and is not an earlier demo; choose another folder.")
    shutil.rmtree(out, ignore_errors=True)

    def step(title: str) -> None:
        print(f"\n[{time.perf_counter() - start:4.0f} s] {title}", flush=True)

    ratings, model, encoder = str(out / "ratings"), str(out / "model"), str(out / "encoder")
    step("Painting images and asking simulated people")
    plan = write_world(ratings, args.people, args.images, args.ratings)
    step("Training a tiny image–text encoder on other simulated images")
    train_tiny_encoder(*simulated_pairs(), encoder, epochs=args.encoder_epochs, progress=True)
    step("Embedding every image and prompt once")
    pamela(["embed", "--data", ratings, "--encoder", encoder])
    step("Training the reward")
    pamela(["train", "--config", str(CONFIG), "--data", ratings, "--output", model, "--encoder", encoder])
    step("Evaluating it, person by person")
    pamela(["evaluate", "--model", model, "--data", ratings, "--output", str(out / "eval"), "--baselines", "ridge"])

    def fit(newcomer, name: str, head: Path) -> Fitted:
        step(f"Fitting {name}, a simulated person, from {RATINGS} ratings")
        answers = out / f"{name}.csv"
        new_rater_csv(ratings, answers, RATINGS, newcomer.seed)
        options = ["--ratings", str(answers), "--images", ratings, "--name", name, "--output", str(head)]
        pamela(["fit-user", "--model", model, *options])
        return Fitted(newcomer, head, RATINGS)

    unseen = [image.traits for image in plan.images if image.part == "test"]
    usual, own = choose_newcomers(plan.people, unseen)
    usual, own = fit(usual, "usual_newcomer", out / "usual_head"), fit(own, "newcomer", out / "head")
    step("Rewriting a prompt for the newcomer")
    prompt = ["--pipeline", "procedural", "--reward", model, "--head", str(own.head), "num_seeds=4", "strategy=ucb"]
    pamela(["optimize-prompt", *prompt, "--prompt", "a cottage, photo", "--output", str(out / "prompt")])
    step("Scoring unseen images and writing the page")
    page = write_demo_page(out, plan, usual, own)
    step(f"Done. Look at {page}")


if __name__ == "__main__":
    main()
