"""Train a personal reward: `python scripts/train.py --help`. The same as `pamela train`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="train")
