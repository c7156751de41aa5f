"""Judge a model, person by person: `python scripts/evaluate.py --help`. The same as `pamela evaluate`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="evaluate")
