"""Write a node pack for ComfyUI: `python scripts/comfyui.py --help`. The same as `pamela comfyui`."""

from pamela_hf.cli import main

if __name__ == "__main__":
    main(command="comfyui")
