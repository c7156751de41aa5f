"""`pamela taste`: a person's taste from the star ratings of their photo library."""

import argparse

from ._arguments import add_library_arguments

HELP = """\
Learn a person's taste from the stars in a photo library, and rank all its photos.

  pamela taste ~/Pictures --name ann --output runs/ann
  pamela taste ~/Pictures --name ann --output runs/ann --write-xmp --stars
  pamela taste ~/Pictures --name ann --output runs/ann --store ~/Pictures   # with what ann rated in `pamela app`
  pamela taste ~/Takeout --name ann --output runs/ann --unrated as-dislikes

Reads stars from XMP sidecars (IMG.CR2.xmp and IMG.xmp: Lightroom, darktable, digiKam, Immich), from XMP and EXIF inside
JPEG, TIFF, PNG, WebP, HEIC and RAW files, favourites from Google Takeout and Apple Photos. Writes DIR/head, ranking.csv
(image, score, std, stars, best first), report.html with contact sheets, and embeddings.safetensors, which later runs
use again: the second one takes seconds. Photos are never changed; --write-xmp writes sidecars beside them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_library_arguments(parser)
    unrated_help = "photos without stars: left out (default), or as many as have stars count as disliked"
    add("--unrated", choices=("ignore", "as-dislikes"), default="ignore", help=unrated_help)
    store_help = "answers of `pamela app`: what NAME rated there counts where a photo has no stars"
    add("--store", metavar="FILE.db", help=store_help + " (the file, or the folder of photos it was started on)")
    add("--write-xmp", action="store_true", help="write score and std into XMP sidecars beside the photos")
    add("--stars", action="store_true", help="with --write-xmp: and xmp:Rating, where no person gave one")


def run(args: argparse.Namespace) -> None:
    from ..files.escaping import printable
    from ..photos.taste import Choices, learn_taste

    if args.stars and not args.write_xmp:
        raise ValueError("--stars says what to write; give --write-xmp, too.")
    rated = {}
    if args.store:
        from ..app.heads import store_ratings

        rated = store_ratings(args.store, args.name)
    result = learn_taste(
        args.folder,
        args.name,
        args.output,
        model=args.model,
        encoder=args.encoder,
        choices=Choices(args.unrated, args.picks, dict(args.label), rated),
        embeddings=args.embeddings,
        write_xmp=args.write_xmp,
        stars=args.stars,
        device=args.device,
        batch_size=args.batch_size,
        progress=not args.quiet,
    )
    for sentence in result.summary:
        print(printable(sentence))
    if result.sidecars is not None:
        print(f"{result.sidecars:,} sidecars hold the predictions.")
    if result.unchanged:
        print("Nothing has changed since the last run.")
    print(f"{len(result.ranking):,} photos ranked in {args.output}: ranking.csv, report.html, head/")
