"""Learn a taste from a photo library's stars: `python scripts/taste.py --help`. The same as `pamela taste`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="taste")
