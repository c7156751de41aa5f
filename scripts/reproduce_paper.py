"""The paper's tables from its released ratings, in one command:

  python scripts/reproduce_paper.py --output runs/paper                       # the Hub's PAMELA, SigLIP2 so400m
  python scripts/reproduce_paper.py PAMELA.zip --output runs/paper --seeds 0  # a zip or folder that is here already
  python scripts/reproduce_paper.py --output runs/paper --baselines consensus,ridge,hpsv3

Downloads, prepares, embeds, trains, evaluates (with few-shot fits of people never met), runs the ablations, and prints
our figures beside the paper's Table 2, its diverging pairs and its ablation: beside, only where the ratings are the
paper's own. The test splits are read: this is for the claim, not to choose anything. Killed? The same command goes on
where it stopped; a step whose output is whole is skipped.
"""

import argparse
import sys
from pathlib import Path

from pamela_hf.baselines import available_baselines
from pamela_hf.commands._arguments import names, numbers
from pamela_hf.training.config import TrainingConfig


def main() -> None:
    from pamela_hf.experiments.reproduction import PAPER_VARIANTS, RELEASE, reproduce

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", nargs="?", default=RELEASE, help=f"Hub id, zip or folder of the ratings ({RELEASE})")
    add("--output", required=True, metavar="DIR", help="folder of the run; the same command again resumes there")
    add("--revision", help="commit or tag of the Hub dataset; pin it for work you publish")
    config_help = "of the training; its encoder makes the features (scripts/configs/pamela.yaml)"
    add("--config", default=str(Path(__file__).parent / "configs" / "pamela.yaml"), metavar="YAML", help=config_help)
    rivals = f"rivals beside it, {', '.join(available_baselines())} (consensus,ridge)"
    add("--baselines", type=names, default=["consensus", "ridge"], metavar="A,B", help=rivals)
    few_help = "ratings of their own to fit people never met on (10,20,50); who has too few is left out"
    add("--few-shot", type=numbers, default=[10, 20, 50], metavar="K,K", help=few_help)
    add(
        "--variants", type=names, default=list(PAPER_VARIANTS), metavar="A,B", help="of the ablation, see pamela ablate"
    )
    add("--seeds", type=numbers, default=[0, 1, 2], metavar="N,N", help="of the ablation (0,1,2)")
    add("--batch-size", type=int, default=32, help="images a forward pass of the encoder (32)")
    add("--set", action="append", default=[], metavar="key=value", help="on top of --config, repeatable")
    args = parser.parse_args()
    options = {name: value for name, value in vars(args).items() if name not in ("set", "config")}
    try:
        print(reproduce(config=TrainingConfig.read(args.config, args.set), **options))
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
