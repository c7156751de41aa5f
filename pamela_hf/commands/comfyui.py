"""`pamela comfyui`: a node pack for ComfyUI."""

import argparse

HELP = """\
Write a node pack for ComfyUI: load a reward or a head, score images, pick the best, find the prompt for one person.

  pamela comfyui ComfyUI/custom_nodes/pamela

ComfyUI's Python needs this package, too: pip install pamela_hf. Restart ComfyUI; the nodes are in the category pamela.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder to write, in ComfyUI's custom_nodes")


def run(args: argparse.Namespace) -> None:
    from ..rewards.comfyui.pack import write_pack

    print(f"{', '.join(write_pack(args.folder))} written to {args.folder}")
