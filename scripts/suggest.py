"""Say which photos to star next: `python scripts/suggest.py --help`. The same as `pamela suggest`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="suggest")
