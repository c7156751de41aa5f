"""`pamela search`: the images of an index that one person would like best."""

import argparse
from pathlib import Path

from ._arguments import DEVICE_HELP, add_person_arguments, key_value, person_of, positive, scorer_of

HELP = """\
Find the images of an index that one person would like best, optionally about a text.

  pamela search photos.index --model runs/demo/model --user p0001 -k 100 --output best.csv
  pamela search photos.index --model DIR --store FILE.db --user ann --output best.csv   # who rates in `pamela app`
  pamela search photos.index --model DIR --head runs/me --query "mountains at dawn" --output best.csv
  pamela search photos.index --model DIR --only group=food --where "year > 2000" --output best.csv

Columns image, score (expected rating), std, with --query similarity, then the index's fields; best first. With --query
only the hundredth of the images that are nearest to the text count. Make an index with: pamela index
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("index", metavar="INDEX", help="folder that `pamela index` wrote")
    add_person_arguments(parser)
    add("--output", required=True, metavar="FILE", type=Path, help="a .csv or .parquet file")
    add("--query", metavar="TEXT", help="what the images should show")
    add("-k", type=positive, default=100, help="how many images (100)")
    add("--only", type=key_value, action="append", metavar="FIELD=VALUE", help="images with this value; repeatable")
    add(
        "--where",
        metavar="SQL",
        help='a filter over the fields, such as "year > 2000"; names like `group` in backticks',
    )
    add("--scale", metavar="NAME", help="rating scale of the scores (default: the model's)")
    add("--device", help=DEVICE_HELP)


def run(args: argparse.Namespace) -> None:
    import pandas as pd

    from ..files.writing import replacing_file
    from ..retrieval.index import ImageIndex, sql_filter
    from ..retrieval.search import PersonalSearch

    if args.output.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--output {args.output} must end in .csv or .parquet.")
    index = ImageIndex(args.index)
    scorer = scorer_of(args)
    filters = [sql_filter(dict(args.only))] if args.only else []
    if args.where:
        filters.append(f"({args.where})")
    best = PersonalSearch(index, scorer).best(
        person_of(args, scorer), args.k, query=args.query, where=" AND ".join(filters) or None, scale=args.scale
    )
    with replacing_file(args.output) as staged:
        if args.output.suffix == ".parquet":
            best.to_parquet(staged)
        else:
            texts = [name for name in best if pd.api.types.is_string_dtype(best[name].dropna())]
            best.assign(**{name: [_cell(cell) for cell in best[name]] for name in texts}).to_csv(staged, index=False)
    print(f"{len(best):,} of {len(index):,} images, best first, in {args.output}")


def _cell(value: object) -> str:
    from ..files.escaping import csv_cell

    return csv_cell(value) if isinstance(value, str) else ""
