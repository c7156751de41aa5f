"""The folder for ComfyUI's `custom_nodes`: a few lines that hand over this package's nodes."""

import os
from pathlib import Path

from ...files.writing import write_text
from ...version import __version__
from .nodes import NODES

INIT = '''"""PAMELA: nodes that know one person's taste. Written by `pamela comfyui`; the package has them."""

try:  # ComfyUI's current node API; where there is none, the classic mapping
    from pamela_hf.rewards.comfyui.v3 import comfy_entrypoint

    __all__ = ["comfy_entrypoint"]
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("comfy_api"):
        raise
    from pamela_hf.rewards.comfyui.classic import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
'''
PROJECT = f"""[project]
name = "pamela"
description = "Personal taste in images: score, pick the best, find the prompt for one person"
version = "{__version__}"
license = {{ text = "Apache-2.0" }}
dependencies = ["pamela_hf"]

[tool.comfy]
DisplayName = "PAMELA"
"""


def write_pack(folder: str | os.PathLike) -> list[str]:
    """Writes the node pack.

    Args:
        folder: such as `ComfyUI/custom_nodes/pamela`; it may exist if it holds an older pack or nothing.

    Returns:
        The names of the files written.

    Raises:
        ValueError: the folder holds something else.
    """
    folder = Path(folder)
    files = {
        "__init__.py": INIT,
        "pyproject.toml": PROJECT,
        "requirements.txt": "pamela_hf\n",
        "README.md": _readme(),
    }
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a folder, such as ComfyUI/custom_nodes/pamela.")
    held = {path.name for path in folder.iterdir()} - {"__pycache__"} if folder.is_dir() else set()
    if held - set(files):
        strange = sorted(held - set(files))[0]
        raise ValueError(f"{folder} holds {strange}, which is not of this pack. Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_text(folder / name, text)
    return sorted(files)


def _readme() -> str:
    lines = [f"- **{node.title}**: {node.about}" for node in NODES]
    title = "# PAMELA nodes\n\nNodes for ComfyUI that know one person's taste (category `pamela`):\n\n"
    return title + "\n".join(lines) + "\n"
