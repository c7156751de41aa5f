"""A training run's folder: whose it is, its log, and checkpoints that are whole or not there.

Checkpoints are staged, hashed, synced to disk, renamed, then pruned.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from ..files.writing import claimed, replacing_folder, write_text

logger = logging.get_logger(__name__)


class CheckpointError(RuntimeError):
    """No checkpoint of a run can be trusted."""


@dataclass
class Checkpoint:
    """`path`/state is Accelerate's; `state` the run's own; `best_state` the best epoch's weights, if any."""

    path: Path
    state: dict[str, Any]
    best_state: dict[str, torch.Tensor] | None


@contextmanager
def claimed_run(output: Path, config: Mapping[str, Any], resume: bool, accelerator: Accelerator) -> Iterator[None]:
    """Holds `output` for this run alone while the `with` block runs, and notes down in `training_config.yaml` what it
    is. Every process must enter it: the main one claims, and all fail if it fails.

    Raises:
        InUseError: another run is at work there. FileExistsError: it holds other work. ValueError: `resume` of a run
            with another configuration.
    """
    with ExitStack() as stack:
        failed: list[Exception | None] = [None]
        if accelerator.is_main_process:
            claim = claimed(
                output,
                config,
                kind="training run",
                note="training_config.yaml",
                resume=resume,
                refuse=("config.json",),
            )
            try:
                stack.enter_context(claim)
            except Exception as error:
                failed = [error]
        if (error := broadcast_object_list(failed)[0]) is not None:
            raise error
        yield


def rewind_log(path: Path, step: int) -> None:
    """Takes out of a JSON-lines log what came after a step: it happens again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_text(path, "".join(line + "\n" for line in lines if _logged_step(line) <= step))


def write_checkpoint(
    folder: Path, accelerator: Accelerator, state: dict[str, Any], best_state: dict[str, torch.Tensor] | None, keep: int
) -> None:
    """Writes `folder/step-<n>` and then removes all but the newest `keep`. Every process must call it.

    Raises:
        WriteError: it could not be written; the checkpoints that are there stay.
    """
    with ExitStack() as stack:
        staged: list[Path | None] = [None]
        if accelerator.is_main_process:
            # one may be there from a resumed run that comes by here again
            final = folder / f"step-{state['step']:08d}"
            staged = [stack.enter_context(replacing_folder(final, overwrite=True))]
        path = broadcast_object_list(staged)[0]
        accelerator.save_state(str(path / "state"))
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            return
        if best_state is not None:
            save_file({k: v.contiguous().cpu() for k, v in best_state.items()}, path / "best.safetensors")
        (path / "run.json").write_text(json.dumps(state), encoding="utf-8")
        files = sorted(p for p in path.rglob("*") if p.is_file())
        manifest = {str(p.relative_to(path)): _sha256(p) for p in files}
        (path / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose every file is the one that was written; `None` if there is none.

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


def _logged_step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # cut off while it was written
