"""Check ratings and write them as a Parquet folder: `python scripts/prepare_ratings.py --help`.

The same as `pamela prepare-ratings`.
"""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="prepare-ratings")
