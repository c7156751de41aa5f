"""`pamela embed`: the frozen encoder's features of all rated images, or of a folder of pictures."""

import argparse
from pathlib import Path

from ._arguments import DEVICE_HELP, add_engine_arguments, positive

HELP = """\
Run the frozen encoder once over every rated image and prompt, or over a folder of pictures.

  pamela embed --data runs/pamela                                    # SigLIP2 so400m, into runs/pamela
  pamela embed --data runs/pamela --config scripts/configs/pamela_small.yaml --dtype bfloat16
  pamela embed --images photos --output photos.safetensors           # pictures without ratings

Writes embeddings.safetensors beside the ratings (or to --output). A run that was cut off goes on where it stopped;
run again after adding images, only these are embedded. Training, evaluation and scoring read this file.

--images walks a folder as `pamela score` does and writes the file that score, taste and suggest take as --embeddings,
one for each folder: unchanged pictures are not read again, moved ones not encoded again. A picture that cannot be read
is a row (image,reason) in photos.skipped.csv, beside the file.

  pamela embed --images s3://bucket/photos --output s3://bucket/features --engine ray

--engine ray is as in `pamela score`: folders, Parquet or tars at any URL; an --output without a suffix is a folder of
Parquet files (image, image_embeds), which `pamela index --images` reads.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", metavar="SOURCE", help="ratings with images: folder, zip, CSV, prepared or Hub id")
    what.add_argument("--images", metavar="FOLDER", help="folder of pictures, read with all in it; needs --output")
    encoder_help = "Hub id or folder of an image–text AutoModel (google/siglip2-so400m-patch14-384)"
    add("--encoder", metavar="ID", help=encoder_help)
    add("--config", metavar="YAML", help="a training configuration whose `encoder` is used")
    add("--revision", help="commit or tag of the encoder; pin it for work you publish")
    add("--output", metavar="FILE", help="default: embeddings.safetensors in the --data folder")
    add("--batch-size", type=positive, default=32, help="images a forward pass (32); halved if memory runs out")
    workers_help = "processes that decode images (default: one a core, at most 8); of --engine ray, its workers"
    add("--workers", type=int, metavar="N", help=workers_help)
    add("--fast-decoding", action="store_true", help="JPEGs at a reduced size: faster, features differ a little")
    add("--device", help=DEVICE_HELP)
    add_engine_arguments(parser)
    add("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="precision of the encoder")


def run(args: argparse.Namespace) -> None:
    from ..encoder import DEFAULT_ENCODER
    from ..training.config import TrainingConfig

    encoder = args.encoder or (TrainingConfig.read(args.config).encoder if args.config else None) or DEFAULT_ENCODER
    if args.engine == "ray":
        _embed_on_cluster(args, encoder)
    elif args.images is None:
        _embed_ratings(args, encoder)
    else:
        _embed_pictures(args, encoder)


def _embed_ratings(args: argparse.Namespace, encoder: str) -> None:
    from ..embeddings import EMBEDDINGS_NAME
    from ..encoder import FrozenEncoder, compute_embeddings
    from ..ratings.builder import load_ratings

    data = load_ratings(args.data)
    if data.open_image is None:
        raise ValueError(f"--data {args.data} has no images to embed. Give the ratings with their images/.")
    if args.output is None and not Path(args.data).is_dir():
        raise ValueError(f"--data {args.data} is not a folder to write to; name the file with --output FILE.")
    output = Path(args.output) if args.output else Path(args.data) / EMBEDDINGS_NAME
    frozen = FrozenEncoder(encoder, args.revision, args.device, args.dtype)
    images = data.images()
    prompts = [p if isinstance(p, str) else None for p in images["prompt"]]
    ids = images["image_id"].astype(str).tolist()
    made = compute_embeddings(
        frozen,
        ids,
        data.open_image,
        prompts,
        output,
        args.batch_size,
        workers=args.workers,
        fast_decoding=args.fast_decoding,
    )
    text = 0 if made.text_embeds is None else made.text_embeds.shape[1]
    print(f"{len(made):,} images ({made.image_embeds.shape[1]} image and {text} prompt features) in {output}")


def _embed_pictures(args: argparse.Namespace, encoder: str) -> None:
    from ..files.escaping import printable
    from ..folder_cache import EncoderSource, embed_folder
    from ..scoring import skipped_path, write_skipped

    if args.output is None:
        raise ValueError(f"--images {args.images} needs --output FILE: nothing is written among your pictures unasked.")
    source = EncoderSource(encoder, args.revision, args.device, args.dtype)
    made = embed_folder(args.images, args.output, source, batch_size=args.batch_size)
    write_skipped(skipped_path(args.output), made.skipped.items())
    features = made.embeddings.image_embeds.shape[1]
    print(f"{len(made.embeddings):,} images ({features} features), {made.encoded:,} encoded now, in {args.output}")
    for name, reason in list(made.skipped.items())[:1]:
        where, first = skipped_path(args.output), printable(f"{name}: {reason}", 300)
        print(f"{len(made.skipped):,} could not be read, listed in {where}; the first: {first}")


def _embed_on_cluster(args: argparse.Namespace, encoder: str) -> None:
    from ..folder_cache import EncoderSource
    from ..rewards.cluster import Workers, embed_on_cluster

    if args.images is None or args.output is None:
        raise ValueError("--engine ray takes --images and --output; ratings (--data) are embedded on one machine.")
    source = EncoderSource(encoder, args.revision, args.device, args.dtype)
    workers = Workers(args.workers, batch_size=args.batch_size)
    done = embed_on_cluster(source, args.images, args.output, workers=workers)
    print(f"{done['rows']:,} images embedded, in {args.output}; {done['skipped']:,} could not be read")
