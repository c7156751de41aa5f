"""How fast a library is walked and its stars are read: `python scripts/bench_photos.py [--photos 10000] [--folder F]`.

Makes a library of JPEG files of 12 megapixels (hard links would be read from cache once: each is a file of its own; a
few patterns with different metadata), with sidecars for a third of them, and prints seconds and the peak of memory.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pamela_hf.photos.library import read_library
from pamela_hf.photos.xmp import write_packet


def make_library(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    template = folder.parent / "template.jpg"
    coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8))
    coarse.resize((4000, 3000), Image.Resampling.BICUBIC).save(template, quality=85)
    plain = template.read_bytes()
    template.unlink()
    for number in range(count):
        place = folder / f"{2000 + number % 20}"
        place.mkdir(parents=True, exist_ok=True)
        packet = write_packet(None, {}, rating=number % 6)
        body = b"http://ns.adobe.com/xap/1.0/\0" + packet
        segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
        name = place / f"IMG_{number:05d}.jpg"
        name.write_bytes(plain[:2] + segment + plain[2:])
        if number % 3 == 0:
            name.with_name(name.name + ".xmp").write_bytes(write_packet(None, {}, rating=1 + number % 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="made there and kept; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "library"
        if not folder.exists():
            make_library(folder, args.photos)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        library = read_library(folder, progress=False)
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            json.dumps({**library.counts(), "seconds": round(seconds, 2), "more_memory_mb": (after - before) // 1024})
        )


if __name__ == "__main__":
    main()
