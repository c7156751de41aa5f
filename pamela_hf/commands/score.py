"""`pamela score`: a folder of images scored for one person."""

import argparse
import sys
from pathlib import Path

from ._arguments import (
    DEVICE_HELP,
    FOLDER_CACHE_HELP,
    PROMPTS_HELP,
    add_engine_arguments,
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
  pamela score --model DIR --images 's3://bucket/train-*.tar' --output s3://bucket/scores --engine ray

Columns image, score (expected rating), std. --prompts is a CSV with columns image,prompt (image: the file's name), and
the model's metadata, group,style,type, if you know it: what somebody likes may depend on what kind of image it is.

The folder is walked with all that lies in it, links included; hidden files and the folders that programs keep beside
pictures are left alone. Read are PNG, JPEG, WebP, GIF, TIFF, AVIF and what else Pillow decodes; HEIC and camera raw
files with the extra photos. An image that cannot be read is a row (image,reason) in scores.skipped.csv.

--engine ray (extra: ray) scores on a Ray cluster (RAY_ADDRESS; else on this machine's cores), one worker a GPU or group
of cores: a folder, Parquet with images, or WebDataset tars, at any URL that fsspec knows. An --output without a suffix
is a folder of Parquet files, written by the workers themselves; _manifest.json in it comes last and lists them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_person_arguments(parser, needs_model=False)
    add("--images", required=True, metavar="FOLDER", help="folder of images, read with all in it, or one image")
    add("--output", required=True, metavar="FILE", help="a .csv or .parquet file")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="what all images were made from")
    prompt.add_argument("--prompts", metavar="CSV", help=PROMPTS_HELP)
    add("--embeddings", metavar="FILE", help=FOLDER_CACHE_HELP + " (default: nothing is kept)")
    add("--scale", metavar="NAME", help="rating scale of the scores (default: the model's)")
    add("--batch-size", type=positive, default=32, help="images a forward pass (32)")
    add("--device", help=DEVICE_HELP)
    add_engine_arguments(parser)
    add("--workers", type=positive, metavar="N", help="of --engine ray (default: one a GPU, or for four cores)")


def run(args: argparse.Namespace) -> None:
    if args.engine == "ray":
        return _run_on_cluster(args)
    from ..files.escaping import printable
    from ..scoring import score_folder, skipped_path

    args.output = Path(args.output)
    if args.workers is not None:
        raise ValueError(f"--workers {args.workers} goes with --engine ray; one machine scores in one process.")
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


def _run_on_cluster(args: argparse.Namespace) -> None:
    from ..rewards.cluster import Workers, score_on_cluster
    from ..scoring import PamelaScorer

    if args.embeddings:
        raise ValueError(f"--embeddings {args.embeddings} is one machine's; --engine ray keeps no features.")
    if not args.model:
        raise ValueError("--engine ray needs a model that every worker can load: --model DIR.")
    known = args.head or args.store
    user = person_of(args, PamelaScorer.from_pretrained(args.model)) if known else args.user
    done = score_on_cluster(
        args.model,
        args.images,
        args.output,
        prompts=args.prompt if args.prompt is not None else args.prompts and Path(args.prompts),
        user=user,
        scale=args.scale,
        device=args.device,
        workers=Workers(args.workers, batch_size=args.batch_size),
    )
    _show(f"{done['rows']:,} images scored, in {args.output}; {done['skipped']:,} could not be read")


def _show(text: str) -> None:
    """Prints what the console can show: the scores are written, and a preview is not worth a failure."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
