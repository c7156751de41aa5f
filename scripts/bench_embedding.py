"""How busy embedding keeps the encoder: `python scripts/bench_embedding.py`.

JPEGs of 12 megapixels, decoded, preprocessed and encoded by `compute_embeddings` with an encoder of the size of SigLIP2
base at 224 or 384 pixels, or of so400m at 384 (random weights: only their size matters here), against the bare forward
of transformers' model on pixels that are prepared already, in turns in this run: as many images a pass as
`compute_embeddings` is given (`encoder`), and as few as it really passes on a CPU, where that is faster
(`encoder_small_passes`). And decoding with preprocessing alone, in one process.
"""

import argparse
import copy
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

from pamela_hf.encoder import FrozenEncoder, compute_embeddings
from pamela_hf.files.images import open_image_checked
from pamela_hf.model.encoder_pamela import images_at_once
from pamela_hf.model.quick_pamela import quicker

SIZE = (4032, 3024)
SIZES = {
    "base": (768, 3072, 12, 12, 224, 16),
    "base384": (768, 3072, 12, 12, 384, 16),
    "so400m": (1152, 4304, 27, 16, 384, 14),
}
"""Of SigLIP2's vision towers: width, of the MLP, layers, heads, pixels a side, of a patch."""
KINDS = {
    "fast": {"fast_decoding": True},
    "full": {},
    "in_process": {"fast_decoding": True, "workers": 0},
}


def photographs(folder: Path, n: int, size: tuple[int, int] = SIZE) -> list[str]:
    """n JPEG files that differ, of four different pictures: smooth shapes with the noise of a camera."""
    rng, names = np.random.default_rng(0), []
    pictures = []
    for number in range(4):
        shapes = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        grain = rng.integers(-6, 7, (size[1], size[0], 1), np.int16)
        picture = (np.asarray(shapes, np.int16) + grain).clip(0, 255).astype(np.uint8)
        path = folder / f"picture{number}"
        Image.fromarray(picture).save(path, "JPEG", quality=90)
        pictures.append(path.read_bytes())
        path.unlink()
    for number in range(n):
        data, comment = pictures[number % 4], f"{number:08d}".encode()
        # a comment (marker FF FE) after the start mark makes each file another one
        marked = data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
        (folder / f"{number:05d}.jpg").write_bytes(marked)
        names.append(f"{number:05d}.jpg")
    return names


def sized_encoder(size: str, device: str) -> tuple[FrozenEncoder, torch.nn.Module]:
    """An encoder of one of [`SIZES`], with random weights, and transformers' model as it is."""
    width, middle, layers, heads, side, patch = SIZES[size]
    shared = {"hidden_size": width, "intermediate_size": middle, "num_attention_heads": heads}
    vision = {**shared, "num_hidden_layers": layers, "image_size": side, "patch_size": patch}
    text = {**shared, "num_hidden_layers": 1, "vocab_size": 64}
    encoder = FrozenEncoder.__new__(FrozenEncoder)
    bare = SiglipModel(SiglipConfig(vision_config=vision, text_config=text)).to(device).requires_grad_(False).eval()
    model = quicker(copy.deepcopy(bare))  # as a loaded one
    encoder._take(model, SiglipImageProcessorPil(size={"height": side, "width": side}), None)
    encoder.name, encoder.revision, encoder.preprocessing = f"simulated/{size}", "0", "0"
    encoder.embed_prompts = lambda prompts: np.zeros((len(prompts), width), np.float32)  # there are no prompts here
    return encoder, bare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--size", choices=SIZES, default="base", help="of the encoder (base)")
    parser.add_argument("--kinds", default="fast,full,in_process", help="of decoding that are timed (all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="JSON file to write as well")
    args = parser.parse_args()
    encoder, model = sized_encoder(args.size, args.device)
    pixels = torch.randn(args.batch_size, 3, encoder.image_side(), encoder.image_side(), device=args.device)
    small = min(args.batch_size, images_at_once(pixels, model.config))
    kinds = args.kinds.split(",")
    rates: dict[str, list[float]] = {kind: [] for kind in ("bare", "bare_small", *kinds)}

    @torch.no_grad()
    def bare(passes: int = max(1, args.images // args.batch_size // 4)) -> None:
        for kind, at_once in (("bare", args.batch_size), ("bare_small", small)):
            start = time.perf_counter()
            for _ in range(passes):
                for part in pixels.split(at_once):
                    model.get_image_features(pixel_values=part).pooler_output.cpu()
            rates[kind].append(passes * args.batch_size / (time.perf_counter() - start))

    bare(1)
    rates["bare"].clear(), rates["bare_small"].clear()  # they warmed up
    encoder.encode_batch({"pixel_values": pixels})  # so does this
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = photographs(folder, args.images)
        bare()
        for kind in kinds:
            start = time.perf_counter()
            compute_embeddings(
                encoder, ids, folder.joinpath, [None] * len(ids), folder / f"{kind}.safetensors", args.batch_size,
                progress=False, **KINDS[kind],
            )  # fmt: skip
            rates[kind].append(len(ids) / (time.perf_counter() - start))
            bare()
        decoding = {}
        for kind, side in (("fast", encoder.reduced_side()), ("full", None)):
            start = time.perf_counter()
            for one in ids[:8]:
                encoder.prepare_images([open_image_checked(folder / one, smallest_side=side)])
            decoding[kind] = min(8, len(ids)) / (time.perf_counter() - start)
    limit = float(np.mean(rates["bare"]))
    result = {
        "images": args.images,
        "threads": torch.get_num_threads(),
        "device": args.device,
        "encoder_images_per_second": limit,
        "encoder_slowest": min(rates["bare"]),
        "encoder_fastest": max(rates["bare"]),
        "encoder_small_passes_images_per_second": float(np.mean(rates["bare_small"])),
        "small_pass": small,
    }
    for kind in kinds:
        result[f"{kind}_images_per_second"] = rates[kind][0]
        result[f"{kind}_over_encoder"] = rates[kind][0] / limit
        result[f"{kind}_over_small_passes"] = rates[kind][0] / result["encoder_small_passes_images_per_second"]
    for kind, rate in decoding.items():
        result[f"decoding_{kind}_images_per_second"] = rate
    text = json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()})
    print(text)
    if args.output:
        Path(args.output).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
