"""Fit a head for a new person: `python scripts/fit_user.py --help`. The same as `pamela fit-user`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="fit-user")
