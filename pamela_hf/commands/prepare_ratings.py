"""`pamela prepare-ratings`: ratings and choices in, a checked Parquet folder out."""

import argparse

from ._arguments import key_value

HELP = """\
Ratings in, a checked Parquet folder out, which datasets.load_dataset reads as typed splits.

  # the PAMELA release, straight from its zip
  pamela prepare-ratings PAMELA.zip runs/pamela

  # your own ratings: a CSV with image,score[,participant][,prompt][,age,gender,…], images beside it
  pamela prepare-ratings mine.csv runs/mine --rating-min 1 --rating-max 5

  # choices: a CSV with preferred,other[,tie][,participant][,prompt]; or any of the public releases, such as Pick-a-Pic
  pamela prepare-ratings pickapic_v1_no_images runs/pickapic

  # look at bad rows later instead of stopping at the first
  pamela prepare-ratings PAMELA.zip runs/pamela --quarantine bad_rows.jsonl

  >>> datasets.load_dataset("runs/pamela")["train"][0]             # typed ratings by split
  >>> datasets.load_dataset("runs/pickapic", "choices")["train"][0]  # who preferred which of two images
  >>> datasets.load_dataset("runs/pamela", "images", split="all")  # each image once
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..ratings.sources import source_names
    from ..ratings.table import SPLIT_BY

    add = parser.add_argument
    known = ", ".join(source_names())
    add("source", help="folder or zip in the released layout, CSV, prepared folder or Hub dataset id")
    add("out", help="folder to write: ratings/, images/, README.md; absent until it is complete")
    add("--source", dest="layout", metavar="NAME", help=f"how to read it, if that isn't plain to see: {known}")
    add("--name", help="what to call these ratings and their scale (default: the source's own name)")
    add("--rating-min", type=float, metavar="A", help="lowest possible rating (default: train's lowest)")
    add("--rating-max", type=float, metavar="B", help="highest one; both are integers")
    add("--quarantine", metavar="FILE", help="set bad rows aside in FILE (JSON lines) and go on")
    split_help = "how ratings that come without splits are divided: unseen people and unseen images (default), "
    split_help += "unseen images only, or not at all"
    add("--split-by", choices=SPLIT_BY, default=SPLIT_BY[0], help=split_help)
    add("--seed", type=int, default=0, help="of that division (0)")
    add("--images", metavar="FOLDER", help="CSV: where its image paths start (default: beside the CSV)")
    add("--participant", metavar="ID", help="CSV without a column participant: who rated (default: me)")
    more = "further option of a source, repeatable: test_users=FILE (para), score=artifacts (ai_horde), …"
    add("--option", type=key_value, action="append", default=[], metavar="KEY=VALUE", help=more)
    add("--overwrite", action="store_true", help="replace OUT if it is a prepared folder")
    add("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> None:
    import pandas as pd

    from ..ratings.preparation import prepare

    ratings = prepare(
        args.source,
        args.out,
        source=args.layout,
        name=args.name,
        rating_min=args.rating_min,
        rating_max=args.rating_max,
        quarantine=args.quarantine,
        split_by=args.split_by,
        seed=args.seed,
        overwrite=args.overwrite,
        progress=not args.quiet,
        **{key: value for key in ("images", "participant") if (value := getattr(args, key)) is not None},
        **dict(args.option),
    )
    for split, table in ratings.splits.items():
        people, images = table.participant_id.nunique(), table.image_id.nunique()
        print(f"{split:15} {len(table):>9,} ratings  {people:>6,} people  {images:>7,} images")
    for split, table in ratings.choices.items():
        people, images = table.participant_id.nunique(), pd.concat([table.preferred_id, table.other_id]).nunique()
        print(f"{split:15} {len(table):>9,} choices  {people:>6,} people  {images:>7,} images")
    print(f"written to {args.out}")
