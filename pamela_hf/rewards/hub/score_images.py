# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.10", "transformers>=5.0", "pillow>=12.2,<13", "numpy>=2.0"]
# ///
"""Scores a folder of images for one person, best first, without an installation.

    uv run https://huggingface.co/OWNER/MODEL/resolve/main/score_images.py OWNER/MODEL photos scores.csv --user p0001
    hf jobs uv run score_images.py OWNER/MODEL photos scores.csv

The model's own code is loaded from its repository (trust_remote_code).
"""

import argparse
import csv
import sys
from pathlib import Path

import torch
from PIL import Image, ImageOps
from transformers import AutoModel, AutoProcessor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def upright(path: Path) -> Image.Image:
    """An image file as upright RGB, transparency on white."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Score a folder of images for one person.")
    parser.add_argument("model", help="Hub id or folder of a published model")
    parser.add_argument("images", type=Path, help="folder of PNG, JPEG or WebP images")
    parser.add_argument("output", type=Path, help="a CSV file: image, score, std")
    parser.add_argument("--user", help="a participant of the training (default: everyone's taste)")
    parser.add_argument("--prompt", help="what all images were made from")
    parser.add_argument("--revision", help="commit of the model; pin it for work you publish")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = {"revision": args.revision, "trust_remote_code": True}
    model = AutoModel.from_pretrained(args.model, **where).to(device).eval()
    processor = AutoProcessor.from_pretrained(args.model, config=model.config, **where)
    rows, skipped = [], 0
    for path in sorted(p for p in args.images.rglob("*") if p.suffix.lower() in SUFFIXES):
        try:
            image = upright(path)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            print(f"{path}: left out ({error})", file=sys.stderr)
            skipped += 1
            continue
        with torch.inference_mode():
            out = model(**processor(images=[image], prompts=args.prompt, user=args.user))
        rows.append((path.relative_to(args.images).as_posix(), float(out.scores[0]), float(out.std[0])))
    rows.sort(key=lambda row: -row[1])
    with args.output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "score", "std"), *rows])
    print(f"{len(rows)} images scored, best first, in {args.output}" + (f"; {skipped} left out" if skipped else ""))


if __name__ == "__main__":
    main()
