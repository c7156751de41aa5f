"""A training run's folder: whose it is, its log, and checkpoints that are whole or not there.

Checkpoints are staged, hashed, synced to disk, renamed, then pruned.
"""

import json
import math
import re
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

from ..files.config import ParseError, read_json
from ..files.escaping import printable
from ..files.hashing import sha256_of
from ..files.writing import claimed, recover, replacing_folder, write_text

logger = logging.get_logger(__name__)


class CheckpointError(RuntimeError):
    """No checkpoint of a run can be trusted."""


@dataclass
class Checkpoint:
    """`path`/state is Accelerate's; `state` the run's own: `{"step", "best": {"value", "epoch"}}`, value -inf where no
    epoch was measured; `best_state` the best epoch's weights, if any."""

    path: Path
    state: dict[str, Any]
    best_state: dict[str, torch.Tensor] | None


MAX_BYTES = 1 << 20  # of run.json and manifest.json
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        value = state["best"]["value"]
        noted = {**state, "best": {**state["best"], "value": value if math.isfinite(value) else None}}
        (path / "run.json").write_text(json.dumps(noted, allow_nan=False), encoding="utf-8")
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
    for name in {staging.name[1:].partition(".part-")[0] for staging in folder.glob(".step-*.part-*")}:
        recover(folder / name)  # what a killed run was writing, or had just written
    complaints = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        complaint = _verify(path)
        if complaint is None:
            best = path / "best.safetensors"
            return Checkpoint(path, _run_state(path), load_file(best) if best.exists() else None)
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
        manifest = _read(path / "manifest.json")
        if not all(isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in manifest.values()):
            raise ParseError("it is not a list of hashes")
    except (OSError, ParseError) as error:
        return f"manifest.json is missing or damaged ({printable(str(error), 100)})"
    present = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()} - {"manifest.json"}
    if extra := present - set(manifest):
        return f"{sorted(extra)[0]} does not belong to it"
    for name, digest in manifest.items():
        if name not in present:
            return f"{name} is missing"
        if _sha256(path / name) != digest:
            return f"{name} is not what was written (sha256 differs)"
    try:
        _run_state(path)
    except (OSError, ParseError) as error:
        return f"run.json is not a run's ({printable(str(error), 100)})"
    return None


def _read(file: Path) -> dict[str, Any]:
    if file.stat().st_size > MAX_BYTES:
        raise ParseError(f"it has {file.stat().st_size:,} bytes")
    values = read_json(file.read_bytes(), max_bytes=MAX_BYTES, max_depth=3)
    if not isinstance(values, dict):
        raise ParseError(f"it holds a {type(values).__name__} instead of an object")
    return values


def _run_state(path: Path) -> dict[str, Any]:
    """What run.json of a checkpoint says.

    Raises:
        ParseError: it is not what [`write_checkpoint`] writes: `step` a whole number from 0, the one in the folder's
            name; `best` with `epoch`, a whole number from -1, and `value`, a number or null.
    """
    state = _read(path / "run.json")
    step, best = state.get("step"), state.get("best")
    if state.keys() != {"step", "best"} or not isinstance(best, dict) or best.keys() != {"value", "epoch"}:
        raise ParseError("step, or best with value and epoch, is missing, or there is more")
    if type(step) is not int or path.name != f"step-{step:08d}" or step < 0:
        raise ParseError(f"step is {step!r}, in a folder called {path.name}")
    value, epoch = best["value"], best["epoch"]
    if type(epoch) is not int or not -1 <= epoch <= step or not (value is None or type(value) in (int, float)):
        raise ParseError(f"best is {best!r}")
    return {"step": step, "best": {"value": -math.inf if value is None else float(value), "epoch": epoch}}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return sha256_of(file).hexdigest()


def _logged_step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # cut off while it was written
