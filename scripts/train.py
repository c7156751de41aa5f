"""Train a personal reward.

    python scripts/train.py --config scripts/configs/oasis.yaml --data FOLDER --output runs/mine seed=1

Reads ratings (a folder in the released layout, a zip, CSV, prepared Parquet folder or Hub id) and their
embeddings.safetensors, and writes a folder that `AutoModel.from_pretrained` loads. On several processes:
`torchrun --nproc_per_node 2 scripts/train.py …` (on CPUs with ACCELERATE_USE_CPU=true in front).
"""

import argparse

from pamela_hf.training import load_sources, train
from pamela_hf.training_config import TrainingConfig


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="YAML file with any of TrainingConfig's fields; scripts/configs has some")
    parser.add_argument(
        "--data",
        required=True,
        action="append",
        metavar="[NAME=]SOURCE",
        help="ratings to learn from; several are trained on jointly, each on its own scale",
    )
    parser.add_argument("--output", required=True, help="folder for the model, metrics.jsonl and checkpoints/")
    parser.add_argument("--encoder", help="local folder of the encoder that made the features, to ship with the model")
    parser.add_argument("--resume", action="store_true", help="go on from the newest whole checkpoint in --output")
    parser.add_argument("--rating-min", type=int, help="lowest rating (default: the smallest in the train split)")
    parser.add_argument("--rating-max", type=int, help="highest rating")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="on top of --config: seed=1 epochs=4 …")
    args = parser.parse_args(argv)
    config = TrainingConfig.read(args.config, args.overrides)
    data, embeddings = load_sources(args.data, rating_min=args.rating_min, rating_max=args.rating_max)
    train(config, data, embeddings, args.output, encoder=args.encoder, resume=args.resume)
    print(f"Model written to {args.output}")


if __name__ == "__main__":
    main()
