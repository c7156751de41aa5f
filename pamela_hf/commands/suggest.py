"""`pamela suggest`: which photos of a library to star next."""

import argparse

from ._arguments import add_library_arguments, positive

HELP = """\
Say which photos to star next: those that, with the starred ones, stand for all.

  pamela suggest ~/Pictures --name ann --output runs/ann
  pamela suggest ~/Pictures --name ann --output runs/ann -n 50

Prints the files, one a line, and writes DIR/suggestions.html (a contact sheet) and DIR/suggestions.csv. Star them in
your photo program, save its metadata to files, and run again or run `pamela taste`; both use the same cache.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_library_arguments(parser)
    parser.add_argument("-n", type=positive, default=24, metavar="N", help="how many photos (24)")


def run(args: argparse.Namespace) -> None:
    import sys

    from ..files.escaping import printable
    from ..photos.suggest import suggest_photos
    from ..photos.taste import Choices

    found = suggest_photos(
        args.folder,
        args.name,
        args.output,
        args.n,
        model=args.model,
        encoder=args.encoder,
        choices=Choices(picks=args.picks, labels=dict(args.label)),
        embeddings=args.embeddings,
        device=args.device,
        batch_size=args.batch_size,
        progress=not args.quiet,
    )
    for path in found.photos:  # as they are for another program, made harmless for a terminal
        print(printable(str(path)).replace("\n", "\\n") if sys.stdout.isatty() else path)
    print(found.message, file=sys.stderr)
