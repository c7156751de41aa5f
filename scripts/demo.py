"""The main job from start to end, offline and in a few minutes, in a simulated world: `make demo`.

Paints images, invents raters, trains a tiny encoder, embeds, trains the reward, evaluates it person by person and shows
what it would recommend to whom. Everything in it is simulated; no figure of it says anything about real people.
"""

import argparse
import html
import shutil
import time
from pathlib import Path

from pamela_hf.cli import main as pamela
from pamela_hf.files.writing import write_text
from pamela_hf.scoring import PamelaScorer
from pamela_hf.simulation.encoder import simulated_pairs, train_tiny_encoder
from pamela_hf.simulation.world import new_rater_csv, write_world

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
FIGURE = '<figure><img src="ratings/{}" title="{}"><figcaption>{:.1f}</figcaption></figure>'
PAGE = """<!doctype html><meta charset="utf-8"><title>pamela_hf demo</title>
<style>:root{{color-scheme:light dark}}body{{font:16px system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}}
figure{{display:inline-block;margin:.2rem;text-align:center;font-size:.8rem}}img{{width:84px;border-radius:6px}}
.note{{background:#f5c54233;border-left:4px solid #f5c542;padding:.5rem 1rem}}</style>
<h1>What would each of them like best?</h1>
<p class="note">Simulated: the people are formulas, the images procedural drawings.</p>
{people}<p>A prompt, <a href="prompt/report.html">rewritten for a newcomer</a>.
How far to trust this: <a href="eval/report.html">the evaluation, person by person</a>.</p>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder, made anew (runs/demo)")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--ratings", type=int, default=14000)
    parser.add_argument("--encoder-epochs", type=int, help="fewer make a quicker, blinder encoder")
    args = parser.parse_args()
    out, start = args.output, time.perf_counter()
    if out.exists() and not (out / "ratings" / "README.md").exists() and any(out.iterdir()):
        parser.error(f"--output {out} exists and is no earlier demo; choose another folder.")
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
    step("Fitting a newcomer, a simulated one, from 60 ratings")
    new_rater_csv(ratings, out / "newcomer.csv", 60)
    newcomer = ["--ratings", str(out / "newcomer.csv"), "--images", ratings, "--name", "newcomer"]
    pamela(["fit-user", "--model", model, *newcomer, "--output", str(out / "head")])
    step("Rewriting a prompt for the newcomer")
    prompt = ["--pipeline", "procedural", "--reward", model, "--head", str(out / "head"), "num_seeds=4", "strategy=ucb"]
    pamela(["optimize-prompt", *prompt, "--prompt", "a cottage, photo", "--output", str(out / "prompt")])
    step("Scoring unseen images for three people")
    scorer = PamelaScorer.from_pretrained(model)
    people, images = scorer.config.users[:3], [image for image in plan.images if image.part == "test"]
    files = [out / "ratings" / image.path for image in images]
    grid = scorer.score(files, [image.prompt for image in images], users=people).scores
    rows = []
    for person, scores in zip(people, grid.T):
        best = sorted(zip(scores, images), key=lambda pair: -pair[0])
        for title, chosen in (("most", best[:8]), ("least", best[-8:])):
            shown = "".join(FIGURE.format(i.path, html.escape(i.prompt, quote=True), s) for s, i in chosen)
            rows.append(f"<h3>{html.escape(person)} would like {title} (predicted rating, 1–5)</h3>{shown}")
    write_text(out / "report.html", PAGE.format(people="".join(rows)))
    step(f"Done. Look at {out / 'report.html'}")


if __name__ == "__main__":
    main()
