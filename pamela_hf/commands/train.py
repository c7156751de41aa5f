"""`pamela train`: a reward model from ratings and features."""

import argparse

HELP = """\
Train a personal reward from ratings and their embeddings.

  pamela train --config scripts/configs/oasis.yaml --data FOLDER --output runs/mine seed=1
  pamela train --data mine=runs/mine --data lapis=runs/lapis --output runs/joint source_weights.lapis=0.3
  torchrun --nproc_per_node 2 scripts/train.py …      (on CPUs with ACCELERATE_USE_CPU=true in front)

Writes a folder that AutoModel.from_pretrained loads, with metrics.jsonl and checkpoints/. Killed? The same command
with --resume gives the very weights of an uninterrupted run. Any field of TrainingConfig is a key:
  without=[user]      an ablation: user, demographics, metadata, prompt, multiplicative, linear, pairwise, ordinal
  early_stopping=val_seen/user_srocc      keep the best epoch on a validation split
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="YAML", help="any of TrainingConfig's fields; scripts/configs has some")
    data_help = "ratings to learn from; given several times, all are trained on jointly, each on its own scale"
    add("--data", required=True, action="append", metavar="[NAME=]SOURCE", help=data_help)
    add("--output", required=True, metavar="DIR", help="folder for the model, metrics.jsonl and checkpoints/")
    add("--encoder", metavar="FOLDER", help="local folder of the encoder of the features; goes with the model")
    add("--resume", action="store_true", help="go on from the newest whole checkpoint in --output")
    add("--rating-min", type=int, metavar="A", help="lowest rating (default: the smallest in the train split)")
    add("--rating-max", type=int, metavar="B", help="highest rating")
    add("overrides", nargs="*", metavar="key=value", help="on top of --config: seed=1 epochs=4 model.hidden_size=32 …")


def run(args: argparse.Namespace) -> None:
    from ..training.config import TrainingConfig
    from ..training.train import load_sources, train

    config = TrainingConfig.read(args.config, args.overrides)
    data, embeddings = load_sources(args.data, rating_min=args.rating_min, rating_max=args.rating_max)
    train(config, data, embeddings, args.output, encoder=args.encoder, resume=args.resume)
    print(f"Model written to {args.output}")
