"""`pamela app`: rate pictures on a page, see your taste, use it."""

import argparse

HELP = """\
Rate pictures on a page, see your taste, use it.

Starts a server on this machine and prints where to open it. Rate for three minutes; then see what was learned and how
sure it is, rank pictures of your own, try a prompt, and take your head along. Nothing leaves this machine.

  pamela app --images ~/Pictures
  pamela app --images runs/demo/ratings/images --model runs/demo/model

Answers are kept in one SQLite file (--store; default: one for each folder, in the user's own data folder). Without
--model it starts from a blank base of the folder's own features, which knows nobody's taste; with one, from everyone's.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--images", required=True, metavar="FOLDER", help="folder of pictures, read recursively")
    add("--model", metavar="DIR", help="folder or Hub id of a trained model (default: a blank base)")
    encoder_help = "folder or Hub id of the image–text encoder (default: the model's, else SigLIP 2)"
    add("--encoder", metavar="ID", help=encoder_help)
    add("--store", metavar="FILE.db", help="where answers are kept (default: one for each folder of images)")
    host_help = "where to listen (127.0.0.1: this machine alone); with another, a token stands in the printed address"
    add("--host", default="127.0.0.1", help=host_help)
    add("--port", type=int, default=7860, help="7860")
    pipeline_help = "Hub id or folder of a text-to-image pipeline for the page Prompt (procedural: simulated pictures)"
    add("--pipeline", default="procedural", metavar="P", help=pipeline_help)


def run(args: argparse.Namespace) -> None:
    from ..app.server import AppSettings, serve

    names = ("images", "model", "encoder", "store", "host", "port", "pipeline")
    serve(AppSettings(**{name: getattr(args, name) for name in names}))
