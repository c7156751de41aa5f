"""A training run's folder: whose it is, its log, and checkpoints that are whole or not there.

Checkpoints are staged, hashed, synced to disk, renamed, then pruned.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
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


def claim_folder(output: Path, config: Mapping[str, Any], resume: bool, accelerator: Accelerator) -> None:
    """Notes down in `training_config.yaml` what this run is. Every process must call it.

    Raises:
        FileExistsError: other work is in the folder. ValueError: `resume` of a run with another configuration.
    """
    note = output / "training_config.yaml"
    if note.exists() and not resume:
        raise FileExistsError(f"{output} holds a training run. Go on with it by --resume, or choose another output.")
    if not note.exists() and (output / "config.json").exists():
        raise FileExistsError(f"{output} holds a model that is not of a training run here. Choose another output.")
    if note.exists():
        before = yaml.safe_load(note.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError(
                f"{note} does not say what this run was: it is damaged. Delete the folder, or choose another output."
            )
        changed = {k for k, v in config.items() if before.get(k) != v}
        if changed:
            raise ValueError(
                f"--resume goes on with the run in {output} as it was, but these differ now: "
                f"{', '.join(sorted(changed))}. Take them from {note}, or choose another output."
            )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not note.exists():
        output.mkdir(parents=True, exist_ok=True)
        _write_whole(note, yaml.safe_dump(dict(config), sort_keys=False))
    accelerator.wait_for_everyone()


def rewind_log(path: Path, step: int) -> None:
    """Takes out of a JSON-lines log what came after a step: it happens again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    _write_whole(path, "".join(line + "\n" for line in lines if _logged_step(line) <= step))


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


def _logged_step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # cut off while it was written


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
