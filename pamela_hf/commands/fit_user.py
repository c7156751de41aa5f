"""`pamela fit-user`: a head from a new person's ratings."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ._arguments import DEVICE_HELP, PROMPTS_HELP, positive

if TYPE_CHECKING:
    from ..embeddings import Embeddings
    from ..scoring import PamelaScorer

HELP = """\
A new person from a few ratings: a head of a few kilobytes, fitted in about a second on a CPU.

  pamela fit-user --model runs/demo/model --ratings mine.csv --name me --output runs/me --images photos
  pamela fit-user --model DIR --ratings mine.csv --name me --output runs/me --embeddings embeddings.safetensors
  pamela fit-user … --rating-min 0 --rating-max 100      # the scale they are on, if it isn't the model's
  pamela fit-user … --choices chosen.csv                 # which of two images, beside ratings or alone
  pamela fit-user … --choices chosen.csv --prompts p.csv # image,prompt: what they were made from
  pamela fit-user --ratings mine.csv --images photos --name me --output runs/me    # no model: a blank base

mine.csv has columns image,score (a score of true or false is a like), chosen.csv preferred,other: a path below --images
(default: beside the CSV), or an id of the embeddings file. What an image was made from (prompt) and its metadata, where
the model knows any (group,style,type), are columns of mine.csv or of --prompts. Then:
pamela score --model DIR --images photos --output scores.csv --head runs/me
Without --model the base is made of the images' own features and written to HEAD_DIR-base, which is then --model. Once
you have a trained model, fit again from the same answers.
No rating, image or demographic is in the head; pamela push head runs/me me/my-taste shares it, privately.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="DIR", help="folder or Hub id of a trained model, the head's base (default: a blank base)")
    add("--encoder", metavar="ID", help="without --model: folder or Hub id of the image–text encoder for --images")
    add("--ratings", metavar="CSV", help="columns image,score[,prompt,group,…]; this, --choices, or both")
    add("--choices", metavar="CSV", help="columns preferred,other: images chosen over others")
    add("--prompts", metavar="CSV", help=PROMPTS_HELP)
    add("--user", metavar="NAME", help="whose rows, where a CSV has a column participant with several people")
    add("--name", required=True, help="what to call the person; no name of a trained participant")
    add("--output", required=True, metavar="HEAD_DIR", help="folder for the head; an older head there is replaced")
    features = parser.add_mutually_exclusive_group()
    features.add_argument("--images", metavar="FOLDER", help="where the CSV's paths start (default: beside the CSV)")
    features.add_argument("--embeddings", metavar="FILE", help="embeddings.safetensors; then image is an id of it")
    add("--rating-min", type=float, metavar="A", help="lowest possible score (default: the model's own scale)")
    add("--rating-max", type=float, metavar="B", help="highest possible score")
    add("--by-rank", action="store_true", help="only the order of the scores counts")
    add("--scale", metavar="NAME", help="rating scale of the model that the scores are on (default: the model's)")
    add("--batch-size", type=positive, default=32, help="images a forward pass (32)")
    add("--device", help=DEVICE_HELP)


def run(args: argparse.Namespace) -> None:
    from ..embeddings import load_embeddings
    from ..heads.csv import read_choices_csv, read_prompts_csv, read_ratings_csv
    from ..heads.head import UserHead
    from ..heads.summary import in_words
    from ..scoring import PamelaScorer

    ends = (args.rating_min, args.rating_max)
    if (ends[0] is None) != (ends[1] is None) or (args.by_rank and ends[0] is not None):
        raise ValueError("Give both --rating-min and --rating-max, or --by-rank, or none of them (the model's scale).")
    if not args.ratings and not args.choices:
        raise ValueError("Give --ratings CSV, --choices CSV, or both: a head is fitted to somebody's answers.")
    if args.encoder and (args.model or args.embeddings):
        raise ValueError("--encoder is for --images without --model: a model and a file of features name their own.")
    is_path = args.embeddings is None
    features = load_embeddings(args.embeddings) if args.embeddings else None
    if args.model:
        scorer = PamelaScorer.from_pretrained(args.model, device=args.device)
    else:
        scorer = _blank_base(args, features)
    ratings, prompts, metadata, fields = [], {}, {}, scorer.config.metadata
    if args.ratings:
        ratings, prompts, metadata = read_ratings_csv(args.ratings, args.images, is_path, fields, args.user)
    if args.prompts:
        more_prompts, more_metadata = read_prompts_csv(args.prompts, args.images, is_path, fields)
        prompts, metadata = {**prompts, **more_prompts}, {**metadata, **more_metadata}
    choices = read_choices_csv(args.choices, args.images, is_path, args.user) if args.choices else []
    head = UserHead.fit(
        scorer,
        ratings,
        name=args.name,
        choices=choices,
        rating_range="rank" if args.by_rank else None if ends[0] is None else ends,
        scale=args.scale,
        embeddings=features,
        prompts=prompts,
        metadata=metadata,
        batch_size=args.batch_size,
    )
    head.save(args.output)
    print("\n".join(in_words(head.about)))
    print(f"Head {head.name!r} written to {args.output}")


def _blank_base(args: argparse.Namespace, features: "Embeddings | None") -> "PamelaScorer":
    """A base made of the images' own features, saved beside the head."""
    from ..encoder import DEFAULT_ENCODER
    from ..files.folders import walk
    from ..files.writing import adding_files
    from ..folder_cache import EncoderSource, embed_files
    from ..ratings.table import integer_levels
    from ..scoring import PamelaScorer

    folder, encoder = Path(f"{args.output.rstrip('/')}-base"), None
    if features is None:
        images = Path(args.images) if args.images else Path(args.ratings or args.choices).parent
        files = {found.name: found.path for found in walk(images) if found.problem is None}
        if not files:
            raise ValueError(f"--images {images} holds no images to make a base of. Name their folder, or --model.")
        source = EncoderSource(args.encoder or DEFAULT_ENCODER, device=args.device)
        features = embed_files(files, folder / "embeddings.safetensors", source, batch_size=args.batch_size).embeddings
        encoder = source.encoder
    ends = (args.rating_min, args.rating_max)
    levels = (1.0, 2.0, 3.0, 4.0, 5.0) if ends[0] is None else integer_levels(*ends)
    scorer = PamelaScorer.blank(features, levels, encoder)
    with adding_files(folder, last="config.json") as staged:
        scorer.save_pretrained(staged)
    print(f"No --model: a blank base, made of {len(features):,} images' features, is written to {folder}")
    return scorer
