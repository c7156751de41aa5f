"""Ablations and learning curves: `python scripts/ablate.py --help`. The same as `pamela ablate`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="ablate")
