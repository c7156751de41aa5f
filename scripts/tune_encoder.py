"""Fine-tune an encoder's last blocks by ratings: `python scripts/tune_encoder.py --help`. As `pamela tune-encoder`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="tune-encoder")
