"""Push a model, ratings, a head or a pipeline: `python scripts/push.py --help`. The same as `pamela push`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="push")
