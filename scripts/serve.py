"""Serve the reward over HTTP and MCP: `python scripts/serve.py --help`. The same as `pamela serve`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="serve")
