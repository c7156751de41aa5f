"""`pamela evaluate`: a model judged person by person."""

import argparse
from pathlib import Path

from ._arguments import names, numbers

HELP = """\
Judge a model, person by person, on the splits of a ratings folder.

  pamela evaluate --model runs/demo/model --data runs/demo/ratings --output runs/demo/eval
  pamela evaluate --model DIR --data FOLDER --output OUT --splits val_seen,val_unseen --baselines consensus,ridge
  pamela evaluate --model DIR --data FOLDER --output OUT --few-shot 0,10,100    # heads of unseen people: pamela@k=10
  pamela evaluate … --repeats again.csv    # participant,image,score of second ratings: the noise ceiling

Prints a table and writes OUT/report.json and OUT/report.html. Every metric is computed for each person and averaged
over people; the intervals (95 %) resample people. The model is `pamela`; on *_seen splits stand also
`pamela@no_user` (without knowing who is asked) and `pamela@wrong_user` (with somebody else's name). What it
gains over the first is what knowing the person is worth; on *_unseen splits nobody is known.

Make choices on val_seen and val_unseen; read the test splits once, for the final claim.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..baselines import available_baselines

    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="folder or Hub id of a trained model")
    add("--data", required=True, metavar="FOLDER", help="ratings: folder or zip as released, prepared folder or Hub id")
    add("--output", required=True, metavar="OUT", type=Path, help="folder for report.json and report.html")
    add("--embeddings", metavar="FILE", help="features of the images; default: embeddings.safetensors in --data")
    rivals = f"rivals to judge beside it, fitted on the train split: {', '.join(available_baselines())}"
    add("--baselines", type=names, default=[], metavar="A,B", help=rivals)
    add("--splits", type=names, metavar="A,B", help="default: every val and test split there is")
    add("--bootstrap", type=int, default=1000, metavar="N", help="draws for intervals (1000); 0: none")
    add("--seed", type=int, default=0, help="of the draws and of the coverage's randomization (0)")
    few_help = "fit unseen people on so many of their own ratings (support_unseen, or some of the split's): pamela@k=10"
    add("--few-shot", type=numbers, default=[], metavar="K,K", help=few_help)
    add("--draws", type=int, default=3, help="how often these ratings are drawn anew (3)")
    select_help = "draw them at random, or ask about images that stand for all"
    add("--select", choices=("random", "active"), default="random", help=select_help)
    repeats_help = "CSV participant,image,score of second ratings: how well do people agree with themselves?"
    add("--repeats", metavar="CSV", help=repeats_help)


def run(args: argparse.Namespace) -> None:
    from ..evaluation.evaluate import run as evaluate
    from ..evaluation.table import metric_table

    options = {name: value for name, value in vars(args).items() if name != "command"}
    print(metric_table(evaluate(**options)))
    print(f"\nWrote {args.output / 'report.json'} and {args.output / 'report.html'}.")
