"""Checkpoints of a training run that are whole or not there: staged, hashed, synced to disk, renamed, then pruned."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from transformers.utils import logging

logger = logging.get_logger(__name__)


class CheckpointError(RuntimeError):
    """No checkpoint of a run can be trusted."""


@dataclass
class Checkpoint:
    """`path`/state is Accelerate's; `state` the run's own; `best_state` the best epoch's weights, if any."""

    path: Path
    state: dict[str, Any]
    best_state: dict[str, torch.Tensor] | None


def write_checkpoint(
    folder: Path, accelerator: Accelerator, state: dict[str, Any], best_state: dict[str, torch.Tensor] | None, keep: int
) -> None:
    """Writes `folder/step-<n>` and then removes all but the newest `keep`. Every process must call it."""
    final = folder / f"step-{state['step']:08d}"
    staged = folder / f".{final.name}.part"
    if accelerator.is_main_process:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(staged / "state"))
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    if best_state is not None:
        save_file({k: v.contiguous().cpu() for k, v in best_state.items()}, staged / "best.safetensors")
    (staged / "run.json").write_text(json.dumps(state), encoding="utf-8")
    files = sorted(p for p in staged.rglob("*") if p.is_file())
    manifest = {str(p.relative_to(staged)): _sha256(p) for p in files}
    (staged / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in [*files, staged / "manifest.json", staged / "state", staged]:
        _fsync(path)
    shutil.rmtree(final, ignore_errors=True)  # from a resumed run that comes by here again
    os.replace(staged, final)
    _fsync(folder)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose every file is the one that was written; `None` if there is none at all.

    Raises:
        CheckpointError: there are checkpoints, but each is damaged; the message names what is wrong with each.
    """
    complaints = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        complaint = _verify(path)
        if complaint is None:
            best = path / "best.safetensors"
            state = json.loads((path / "run.json").read_text(encoding="utf-8"))
            return Checkpoint(path, state, load_file(best) if best.exists() else None)
        complaints.append(f"{path}: {complaint}")
        logger.warning(f"Checkpoint {path} is not used: {complaint}.")
    if complaints:
        raise CheckpointError(
            f"No checkpoint in {folder} can be trusted ({'; '.join(complaints)}). "
            "Restore one from a backup, or train anew into another output."
        )
    return None


def _verify(path: Path) -> str | None:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        manifest = {str(name): str(digest) for name, digest in manifest.items()}
    except (OSError, ValueError, AttributeError):
        return "manifest.json is missing or damaged"
    present = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()} - {"manifest.json"}
    if extra := present - set(manifest):
        return f"{sorted(extra)[0]} does not belong to it"
    for name, digest in manifest.items():
        if name not in present:
            return f"{name} is missing"
        if _sha256(path / name) != digest:
            return f"{name} is not what was written (sha256 differs)"
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
