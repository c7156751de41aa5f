"""`pamela index`: an index over many images, for `pamela search`."""

import argparse
from pathlib import Path

from ._arguments import DEVICE_HELP, positive

HELP = """\
Index many images, to be searched for what one person would like best.

  pamela index --images photos --model runs/demo/model --output photos.index
  pamela index --images runs/demo/ratings --model runs/demo/model --output demo.index     # features that are there
  pamela index --images new --model runs/demo/model --output photos.index --add

--images is a folder of pictures, embeddings.safetensors (or a folder that holds it), or Parquet with the columns
image_id and image (or image_embeds), prompt and any fields. --metadata is a table with the column image and any fields
(group, style, year …): filters of a search, and what the model knows of the images. An image that cannot be read is a
row of OUTPUT.skipped.csv. A run that was cut off goes on where it stopped. Needs: pip install 'pamela_hf[retrieval]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--images", required=True, metavar="SOURCE", help="folder of images, Parquet, or embeddings.safetensors")
    add("--model", required=True, metavar="DIR", help="folder or Hub id of the model whose encoder embeds the images")
    add("--output", required=True, metavar="INDEX", type=Path, help="the folder to write")
    add("--metadata", metavar="CSV", type=Path, help="columns image, any fields, and prompt")
    add("--add", action="store_true", help="add to an index; an image whose name is there takes the other's place")
    add("--overwrite", action="store_true", help="replace an index that is there")
    add("--batch-size", type=positive, default=32, help="images a forward pass (32)")
    add("--device", help=DEVICE_HELP)


def run(args: argparse.Namespace) -> None:
    from ..retrieval.index import ImageIndex, check_lance
    from ..retrieval.sources import cache_path, open_source, write_skipped
    from ..scoring import PamelaScorer

    check_lance()
    if args.add and not args.output.is_dir():
        raise FileNotFoundError(f"--output {args.output} does not exist; leave --add out to make a new index.")
    there = args.output.is_dir() and any(args.output.iterdir())
    if there and not (args.add or args.overwrite):
        raise FileExistsError(f"--output {args.output} exists. Choose another one, or give --add or --overwrite.")
    source = open_source(args.images, args.metadata)
    scorer = PamelaScorer.from_pretrained(args.model, device=args.device)
    embeddings, metadata, skipped = source.embed(lambda: scorer.encoder, args.output, args.batch_size)
    if args.add:
        index = ImageIndex(args.output)
        index.add(embeddings, metadata)
        index.optimize()
    else:
        index = ImageIndex.create(args.output, embeddings, metadata, overwrite=args.overwrite)
    index.check_model(scorer.config)
    cache_path(args.output).unlink(missing_ok=True)
    listed = write_skipped(args.output, skipped)
    print(f"{len(index):,} images in {args.output}; fields: {', '.join(index.fields) or 'none'}")
    if skipped:
        print(f"{len(skipped):,} could not be read, listed in {listed}")
