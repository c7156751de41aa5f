"""Push a model, ratings or a head to the Hub: `python scripts/push.py --help`. The same as `pamela push`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="push")
