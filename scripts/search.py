"""Search an index for one person: `python scripts/search.py --help`. The same as `pamela search`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="search")
