"""What a second worker brings on a local Ray cluster: `python scripts/bench_ray.py`. Needs the extra `ray`.

JPEGs of 12 megapixels, decoded whole, scored with a reward whose encoder is tiny: a run that is bound by decoding. One
worker against two, of one core each, on one machine. The rate is that between the first batch of results and the last,
so that starting processes is left out; `whole` is with it.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import ray
from bench_embedding import photographs

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from toys import save_tiny_encoder, with_encoder

from pamela_hf.rewards.cluster.batches import ScoreImages
from pamela_hf.rewards.cluster.run import ImageRun, Workers
from pamela_hf.rewards.cluster.sources import open_images


def rate(model: str, folder: Path, workers: int, batch: int) -> tuple[float, float]:
    """Images a second from the first batch of results to the last, and of the whole run."""
    arguments = {"model": model, "device": "cpu"}
    how = Workers(workers, cores=1, batch_size=batch, progress=False)
    run = ImageRun(ScoreImages, arguments, how, lambda **options: open_images(str(folder), **options))
    start, done, first, at_first = time.perf_counter(), 0, None, 0
    for table in run.results().iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        done += len(table)
        if first is None:
            first, at_first = time.perf_counter(), done
    end = time.perf_counter()
    return (done - at_first) / (end - first), done / (end - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    args = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
             object_store_memory=200 << 20)  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        model = with_encoder(save_tiny_encoder(Path(place) / "encoder", "siglip"), Path(place))
        folder = Path(place) / "pictures"
        folder.mkdir()
        photographs(folder, args.images)
        one, two = (rate(model, folder, workers, args.batch_size) for workers in (1, 2))
    result = {
        "images": args.images,
        "one_worker_images_per_second": one[0],
        "two_workers_images_per_second": two[0],
        "two_over_one": two[0] / one[0],
        "whole_two_over_one": two[1] / one[1],
    }
    text = json.dumps({key: round(value, 4) for key, value in result.items()}, indent=1)
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
