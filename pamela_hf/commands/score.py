"""`pamela score`: a folder of images scored for one person."""

import argparse
import sys
from pathlib import Path

from ._arguments import (
    DEVICE_HELP,
    FOLDER_CACHE_HELP,
    PROMPTS_HELP,
    add_person_arguments,
    person_of,
    positive,
    scorer_of,
)

HELP = """\
Score a folder of images for one person, best first.

  pamela score --model runs/demo/model --images photos --output scores.csv --user p0001
  pamela score --model DIR --images photos --output scores.parquet --prompts prompts.csv
  pamela score --model DIR --images photos --output scores.csv --head runs/me
  pamela score --store FILE.db --user ann --images photos --output scores.csv    # somebody who rates in `pamela app`
  pamela score --model DIR --images photos --output scores.csv --embeddings photos.safetensors   # encoded once

Columns image, score (expected rating), std. --prompts is a CSV with columns image,prompt (image: the file's name), and
the model's metadata, group,style,type, if you know it: what somebody likes may depend on what kind of image it is.

The folder is walked with all that lies in it, links included; hidden files and the folders that programs keep beside
pictures are left alone. Read are PNG, JPEG, WebP, GIF, TIFF, AVIF and what else Pillow decodes; HEIC and camera raw
files with the extra photos. An image that cannot be read is a row (image,reason) in scores.skipped.csv.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_person_arguments(parser, needs_model=False)
    add("--images", required=True, metavar="FOLDER", help="folder of images, read with all in it, or one image")
    add("--output", required=True, metavar="FILE", type=Path, help="a .csv or .parquet file")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="what all images were made from")
    prompt.add_argument("--prompts", metavar="CSV", help=PROMPTS_HELP)
    add("--embeddings", metavar="FILE", help=FOLDER_CACHE_HELP + " (default: nothing is kept)")
    add("--scale", metavar="NAME", help="rating scale of the scores (default: the model's)")
    add("--batch-size", type=positive, default=32, help="images a forward pass (32)")
    add("--device", help=DEVICE_HELP)


def run(args: argparse.Namespace) -> None:
    from ..files.escaping import printable
    from ..scoring import score_folder, skipped_path

    if args.output.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--output {args.output} must end in .csv or .parquet.")
    if not Path(args.images).exists():
        raise FileNotFoundError(f"--images {args.images} does not exist. Give a folder of images, or one image.")
    scorer = scorer_of(args)
    table = score_folder(
        scorer,
        args.images,
        args.output,
        prompts=args.prompt if args.prompt is not None else args.prompts and Path(args.prompts),
        user=person_of(args, scorer),
        scale=args.scale,
        embeddings=args.embeddings,
        batch_size=args.batch_size,
    )
    preview = table.head(10).assign(image=[printable(name, 100) for name in table.head(10)["image"]])
    _show(preview.to_string(index=False))
    _show(f"{len(table):,} images scored, best first, in {args.output}")
    if skipped := table.attrs["skipped"]:
        name, reason = skipped[0]
        first = printable(f"{name}: {reason}", 300)
        _show(f"{len(skipped):,} could not be read, listed in {skipped_path(args.output)}; the first: {first}")


def _show(text: str) -> None:
    """Prints what the console can show: the scores are written, and a preview is not worth a failure."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
