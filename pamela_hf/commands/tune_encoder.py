"""`pamela tune-encoder`: the last blocks of a reward's encoder, fine-tuned by ratings."""

import argparse

from ._arguments import positive

HELP = """\
Fine-tune the last blocks of a trained reward's encoder by ratings with their images.

  pamela tune-encoder --model runs/mine --data runs/ratings --output runs/encoder
  torchrun --nproc_per_node 8 scripts/tune_encoder.py … --mixed-precision bf16      (weights shared out by FSDP)

For who has very many ratings and GPUs: nothing else in this package trains an encoder. The result is an encoder. Make
features with it anew, in a copy of the ratings without their embeddings.safetensors, train a reward on them, and see in
its metrics.jsonl by val_* whether it was worth it:

  pamela embed --data runs/copy --encoder runs/encoder
  pamela train --data runs/copy --encoder runs/encoder --output runs/tuned

The epoch with the least loss on val_seen is kept; its figures are printed beside those before.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="folder or Hub id of a trained reward that has an encoder")
    add("--data", required=True, metavar="SOURCE", help="ratings with images: folder, zip, prepared or Hub id")
    add("--output", required=True, metavar="DIR", help="new folder for the encoder")
    add("--blocks", type=positive, default=2, metavar="N", help="last blocks of the vision tower to train (2)")
    add("--epochs", type=positive, default=3, help="passes over the images (3)")
    add("--batch-size", type=positive, default=32, help="images a step, all processes together (32)")
    add("--learning-rate", type=float, default=1e-5, help="of AdamW (1e-5)")
    add("--seed", type=int, default=0, help="of the order of the images (0)")
    add("--mixed-precision", default="no", choices=("no", "bf16"), help="on GPUs: bf16 (no)")


def run(args: argparse.Namespace) -> None:
    from accelerate import PartialState

    from ..experiments.encoder_tuning import EncoderTuning, tune_encoder
    from ..ratings.builder import load_ratings
    from ..scoring import PamelaScorer

    fields = EncoderTuning.__dataclass_fields__
    config = EncoderTuning(**{name: getattr(args, name) for name in fields})
    scorer, data = PamelaScorer.from_pretrained(args.model), load_ratings(args.data)
    before, *after = tune_encoder(scorer, data, args.output, config)
    say = PartialState().print
    if losses := [name for name in before if name.endswith("/loss")]:
        kept = min(after, key=lambda line: line[losses[0]])
        for name in (name for name in before if name in kept and name != "epoch"):
            say(f"{name}: {before[name]:.4f} before, {kept[name]:.4f} after epoch {kept['epoch']}")
        if kept[losses[0]] >= before[losses[0]]:
            say("It got no better: keep the encoder you have, or try a lower --learning-rate or fewer --blocks.")
    say(f"Encoder written to {args.output}")
