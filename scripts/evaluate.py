"""Judge a model, person by person, on the splits of a ratings folder.

    python scripts/evaluate.py --model runs/demo/model --data runs/demo/ratings --output runs/demo/eval
    python scripts/evaluate.py --model DIR --data FOLDER --output OUT --splits val_seen,val_unseen --baselines ridge

Prints a table and writes OUT/report.json and OUT/report.html. Every metric is computed for each person and averaged
over people; the intervals (95 %) resample people. The model is `pamela`; on *_seen splits stand also
`pamela@no_user` (it is not told who is asked) and `pamela@wrong_user` (it is told somebody else's name). What it
gains over the first is what knowing the person is worth; on *_unseen splits nobody is known.

Make choices on val_seen and val_unseen; read the test splits once, for the final claim.
"""

import argparse
import sys
from pathlib import Path

from pamela_hf.baselines import available_baselines


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR", help="folder or Hub id of a trained model")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help="ratings: a folder or zip in the released layout, a prepared folder, or a Hub id",
    )
    parser.add_argument("--output", required=True, metavar="OUT", type=Path, help="folder for the report")
    parser.add_argument(
        "--embeddings",
        metavar="FILE",
        help="features of the images; default: embeddings.safetensors beside the ratings",
    )
    parser.add_argument(
        "--baselines",
        type=names,
        default=[],
        metavar="A,B",
        help=f"rivals to judge beside it, fitted on the train split: {', '.join(available_baselines())}",
    )
    parser.add_argument("--splits", type=names, metavar="A,B", help="default: every val and test split there is")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="draws for intervals (1000); 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the draws and of the coverage's randomization (0)")
    args = parser.parse_args()

    from pamela_hf.evaluation import metric_table, run  # after --help, which needs no torch

    try:
        report = run(**vars(args))
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {error}")
    print(metric_table(report))
    print(f"\nWrote {args.output / 'report.json'} and {args.output / 'report.html'}.")


if __name__ == "__main__":
    main()
