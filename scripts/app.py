"""Rate pictures on a page and use your taste: `python scripts/app.py --help`. The same as `pamela app`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="app")
