"""Embed every rated image and prompt once: `python scripts/embed.py --help`. The same as `pamela embed`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="embed")
