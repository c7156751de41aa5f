"""Index many images: `python scripts/index.py --help`. The same as `pamela index`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="index")
