"""Rewrite a prompt for one person: `python scripts/optimize_prompt.py --help`. The same as `pamela optimize-prompt`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="optimize-prompt")
