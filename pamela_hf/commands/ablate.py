"""`pamela ablate`: what each piece of the model is worth: a grid of trainings."""

import argparse
from pathlib import Path

from ._arguments import names, numbers

HELP = """\
What is each piece of the model worth, and how many ratings does it take? A grid of trainings that can be resumed.

  pamela ablate --data runs/pamela --config scripts/configs/pamela.yaml --output runs/ablation
  pamela ablate --data FOLDER --output OUT --variants full,no_user,no_demographics+metadata --seeds 0
  pamela ablate --data FOLDER --output OUT --variants full --users 25,50,100 --images 200,500 --ratings-per-user 10,30

Every variant is trained with every seed and judged on the val splits, person by person. Printed, and written to
OUT/ablation.json and OUT/ablation.html: means over seeds ± their sd, and each variant minus `full`, paired over the
same people with a 95 % interval. An interval clear of 0 is a difference other people would show too; one smaller than
the seeds' sd is still no reason to prefer anything.

Variants: full; no_user, no_demographics, no_metadata, no_prompt, no_multiplicative, no_pairwise, no_ordinal, … (any
piece of TrainingConfig.without, several with +); user_only (no demographics, metadata, prompt); image_only. What these
ratings don't have is skipped and named. --users, --images and --ratings-per-user cut the train split to random parts,
each in the next larger one; val and test stay whole.

Killed, or more seeds wanted? The same command trains only what is missing: each cell lies in OUT/cells under a hash of
all that defines it. One process at a time works on OUT; a second is refused.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", required=True, metavar="FOLDER", help="ratings with embeddings, as for train")
    add("--output", required=True, metavar="OUT", help="folder of the grid; the same command again resumes there")
    add("--config", metavar="YAML", help="of all trainings; scripts/configs has some")
    add("--variants", type=names, metavar="A,B", help="default: full, one without each piece, user_only, image_only")
    add("--seeds", type=numbers, default=[0, 1, 2], metavar="N,N", help="each variant is trained with each (0,1,2)")
    add("--users", type=numbers, default=[], metavar="N,N", help="learning curve: so many people of the training")
    add("--images", type=numbers, default=[], metavar="N,N", help="learning curve: so many images")
    rated_help = "learning curve: at most so many ratings of each person"
    add("--ratings-per-user", type=numbers, default=[], metavar="N,N", help=rated_help)
    splits_help = "to judge on (every val split there is); name test splits for the final claim, not to choose"
    add("--splits", type=names, metavar="A,B", help=splits_help)
    add("--keep-models", action="store_true", help="leave every cell's model in OUT/models")
    add("overrides", nargs="*", metavar="key=value", help="on top of --config")


def run(args: argparse.Namespace) -> None:
    from ..experiments.ablation import VARIANTS
    from ..experiments.ablation import run as ablate
    from ..experiments.ablation_page import ablation_table
    from ..training.config import TrainingConfig

    given = ("data", "output", "seeds", "users", "images", "ratings_per_user", "splits", "keep_models")
    options = {name: getattr(args, name) for name in given}
    config = TrainingConfig.read(args.config, args.overrides)
    print(ablation_table(ablate(config=config, variants=args.variants or VARIANTS, **options)))
    print(f"\nWrote {Path(args.output) / 'ablation.json'} and {Path(args.output) / 'ablation.html'}.")
