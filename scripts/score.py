"""Score a folder of images for one person: `python scripts/score.py --help`. The same as `pamela score`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="score")
