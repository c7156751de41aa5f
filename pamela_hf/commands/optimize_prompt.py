"""`pamela optimize-prompt`: a prompt rewritten for one person."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ._arguments import DEVICE_HELP, STORE_HELP

if TYPE_CHECKING:
    from ..heads.head import UserHead
    from ..prompts.pipeline_pamela import PamelaPromptPipeline

HELP = """\
Rewrite a prompt for one person: variants are written, rendered and scored, and the best is varied further.

  pamela optimize-prompt --pipeline procedural --reward runs/demo/model --user simulated_0003 \\
      --prompt "a cottage, photo" --output runs/cottage          # offline, with simulated images
  pamela optimize-prompt --config scripts/configs/flux2_llama.yaml --reward DIR --user NAME --prompt "…" --output DIR

Writes trace.jsonl (one line for every image), images/ and report.html. Killed? The same command goes on where it
stopped. Several --user, or --runs 5, are compared in a report.html above theirs. Fields of SearchConfig and arguments
of the pipeline are keys:
  num_iterations=5 num_candidates=20 num_seeds=4 strategy=ucb adherence_floor=0.5 max_images=400 max_seconds=3600
  height=1024 width=1024 num_inference_steps=28 guidance_scale=4.0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..refiners import available_refiners

    add = parser.add_argument
    add("--prompt", required=True, metavar="TEXT", help="what the image shows, without a taste")
    add("--output", required=True, metavar="DIR", help="folder of the run; the same command again resumes there")
    person = parser.add_mutually_exclusive_group()
    user_help = "a participant the reward was trained on; several times: compared (default: everyone's taste)"
    person.add_argument("--user", action="append", metavar="NAME", help=user_help)
    person.add_argument("--head", action="append", metavar="HEAD", help="folder of a head: somebody it was fitted for")
    add("--store", metavar="FILE.db", help=STORE_HELP)
    add("--config", metavar="YAML", help="pipeline, reward, refiner, … and any key=value; see scripts/configs")
    add("--pipeline", metavar="P", help="Hub id or folder of a text-to-image pipeline, or 'procedural' (simulated)")
    add("--reward", metavar="DIR", help="folder or Hub id of a trained reward")
    add("--refiner", metavar="R", help=f"who writes variants: {', '.join(available_refiners())} (vocabulary)")
    model_help = "chat model for transformers_chat, or the model a server offers"
    add("--refiner-model", metavar="ID", help=model_help)
    add("--refiner-url", metavar="URL", help="endpoint: an OpenAI-style server (default: Inference Providers)")
    add("--judge", metavar="DIR", help="another reward that is asked about the winner only, never optimized")
    add("--seed", type=int, help="of the first image and of every choice (0)")
    add("--runs", type=int, help="independent runs, to see whether they agree (1)")
    add("--device", help=DEVICE_HELP)
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="precision of pipeline and chat model (float32)")
    offload_help = "keep on the accelerator one model, or one layer, at a time (none)"
    add("--offload", choices=("none", "model", "sequential"), help=offload_help)
    add("overrides", nargs="*", metavar="key=value", help="on top of --config")


def run(args: argparse.Namespace) -> None:
    from ..prompts.loading import SETUP, load_options, load_prompt_pipeline, load_users
    from ..prompts.runs import optimize_prompt

    setup, options = load_options(
        args.config, args.overrides, {key: getattr(args, key) for key in (*SETUP, "seed", "runs")}
    )
    pipe, refiner, judge = load_prompt_pipeline(**setup)
    if args.store:
        users = _people_of_the_app(args, pipe)
    else:
        users = load_users(args.user, args.head, pipe.reward_model)
    done = optimize_prompt(pipe, args.prompt, users, args.output, refiner=refiner, judge=judge, **options)
    for name, runs in zip(done.summary["people"], done.outputs):
        for out in runs:
            before, after = (sum(s) / len(s) for s in (out.baseline_scores, out.scores))
            print(f"{name}: predicted rating {before:.2f} -> {after:.2f}  {out.prompts[0]}")
    print(f"Look at {Path(args.output) / 'report.html'}")


def _people_of_the_app(args: argparse.Namespace, pipe: "PamelaPromptPipeline") -> "list[UserHead]":
    from ..app.heads import store_head
    from ..scoring import PamelaScorer

    if not args.user:
        raise ValueError("--store names people of the app; say which: --user NAME.")
    scorer = PamelaScorer(pipe.reward_model, pipe.processor)
    return [store_head(args.store, name, scorer) for name in args.user]
