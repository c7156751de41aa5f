"""Analyse or plan a user study: `python scripts/study.py --help`. The same as `pamela study`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="study")
