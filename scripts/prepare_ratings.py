"""Ratings in, a checked Parquet folder out: what `datasets.load_dataset` reads, and `scripts/push.py` publishes."""

import argparse
import logging
import sys

from pamela_hf.builder import SPLIT_BY, prepare
from pamela_hf.data import RatingError
from pamela_hf.images import ImageError
from pamela_hf.sources import source_names

EXAMPLES = """examples:
  # the PAMELA release, straight from its zip
  python scripts/prepare_ratings.py PAMELA.zip runs/pamela

  # your own ratings: a CSV with image,score[,participant][,prompt][,age,gender,…], images beside it
  python scripts/prepare_ratings.py mine.csv runs/mine --rating-min 1 --rating-max 5

  # look at bad rows later instead of stopping at the first
  python scripts/prepare_ratings.py PAMELA.zip runs/pamela --quarantine bad_rows.jsonl

then:
  >>> import datasets
  >>> datasets.load_dataset("runs/pamela")["train"][0]            # typed ratings by split
  >>> datasets.load_dataset("runs/pamela", "images", split="all") # each image once
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder or zip in the released layout, CSV, prepared folder or Hub dataset id")
    parser.add_argument("out", help="folder to write: ratings/, images/, README.md; absent until it is complete")
    parser.add_argument("--source", dest="layout", metavar="NAME", choices=source_names(),
                        help=f"how to read it, if that isn't plain to see: {', '.join(source_names())}")  # fmt: skip
    parser.add_argument("--name", help="what to call these ratings and their scale (default: the source's own name)")
    parser.add_argument(
        "--rating-min", type=float, metavar="A", help="lowest possible rating (default: train's lowest)"
    )
    parser.add_argument("--rating-max", type=float, metavar="B", help="highest one; both are integers")
    parser.add_argument("--quarantine", metavar="FILE", help="set bad rows aside in FILE (JSON lines) and go on")
    parser.add_argument("--split-by", choices=SPLIT_BY, default=SPLIT_BY[0],
                        help="how ratings that come without splits are divided: unseen people and unseen images "
                             "(default), unseen images only, or not at all")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of that division (default 0)")
    parser.add_argument("--images", metavar="FOLDER", help="CSV: where its image paths start (default: beside the CSV)")
    parser.add_argument("--participant", metavar="ID", help="CSV without a column participant: who rated (default: me)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is a prepared folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
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
        )
    except (RatingError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for split, table in ratings.splits.items():
        print(f"{split:15} {len(table):>9,} ratings  {table.participant_id.nunique():>6,} people  "
              f"{table.image_id.nunique():>7,} images")  # fmt: skip
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
