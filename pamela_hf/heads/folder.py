"""A head's folder: PEFT's two files, `head.json` and a card. Written whole or not at all; read as if by a stranger.

The row stands in `adapter_model.safetensors` as PEFT's trainable token 0 of the user table, so `PeftModel` loads it
too. PEFT wants a LoRA beside trainable tokens if adapters are to be mixed in one batch; a rank-1 LoRA of zeros is there
for that alone. Nothing of the folder is ever executed, and no name in it is followed.
"""

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ..files.config import ParseError, read_json
from ..files.escaping import printable
from ..files.writing import recover, replacing_folder

FORMAT = 1  # of head.json
CONFIG, WEIGHTS, ABOUT, CARD = "adapter_config.json", "adapter_model.safetensors", "head.json", "README.md"
FILES = (CONFIG, WEIGHTS, ABOUT, CARD)
MAX_BYTES = {CONFIG: 64 << 10, WEIGHTS: 256 << 10, ABOUT: 64 << 10}
READ_ATTEMPTS = 100  # while others write: each save may come between
LEFT_ALONE = (".git", ".gitattributes", ".gitignore", ".cache", ".huggingface", ".DS_Store")  # other tools'
MAX_LENGTH = 1e3  # of a row; trained people's have lengths about 5
ROW = "base_model.model.user_embedding.token_adapter.trainable_tokens_delta"
LORA_TARGET = "members.0.blocks.0.q_proj"
LORA_A, LORA_B = (f"base_model.model.{LORA_TARGET}.lora_{x}.weight" for x in "AB")
MAX_STD = 100.0  # of a number in a row; the priors' are below 10
MAX_STRENGTH = 1.5  # what `UserHead.with_strength` allows
MAX_TEXT = 1000  # letters of a note or of a group's name
MAX_GROUPS = 500
MAX_DEPTH = 6  # of head.json and adapter_config.json
KEYS = ("format", "name", "base", "base_identity", "row_std", "about", "weights_sha256")  # of head.json
_MARKUP = re.compile(r"[<>]")
_NAME = re.compile(r"\w[\w .@+-]{0,63}")
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class HeadError(ValueError):
    """A head that cannot be used or written: the message says which file, what is wrong and what to do."""


def check_name(name: Any) -> str:
    """The name, if it is one: 1 to 64 letters, digits, spaces and `_ . @ + -`, and no path. Raises HeadError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name or name != name.strip():
        raise HeadError(f"name={str(name)[:80]!r} must be 1 to 64 letters, digits, spaces or _ . @ + -, and no path.")
    return name


def adapter_config(base: str | None) -> dict[str, Any]:
    """What PEFT reads; `base` is a Hub id or `None`, never a path of this machine."""
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "revision": None,
        "inference_mode": True,
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [LORA_TARGET],
        "trainable_token_indices": {"user_embedding": [0]},
    }


def write_head(folder: str | os.PathLike, row: np.ndarray, hidden_size: int, about: dict[str, Any], card: str) -> None:
    """Writes a head's folder beside its place and then swaps it in: whoever reads sees the old head or the new one,
    and of several who write at a time one comes after the other. `hidden_size`: the base's, which PEFT wants to see in
    a LoRA of zeros.

    Raises:
        HeadError: `folder` is a file, or the current directory, or holds something that is not a head.
    """
    folder = Path(os.path.realpath(folder))
    if folder == Path.cwd():
        raise HeadError(f"{folder} is the current directory, which cannot be swapped. Give a folder of its own.")
    zeros = np.zeros((1, hidden_size), np.float32)
    weights = save_tensors({ROW: row[None].astype(np.float32), LORA_A: zeros, LORA_B: zeros.T.copy()}, {"format": "pt"})
    about = {"format": FORMAT, **about, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    contents = {
        CONFIG: _json(adapter_config(about["base"])),
        WEIGHTS: weights,
        ABOUT: _json(about),
        CARD: card.encode(),
    }
    recover(folder)
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / ABOUT).is_file())):
        raise HeadError(f"{folder} holds something that is not a head and stays as it is. Choose another folder.")
    with replacing_folder(folder, overwrite=True) as staged:
        for name, content in contents.items():
            with open(staged / name, "wb") as file:
                file.write(content)


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def read_head(folder: str | os.PathLike) -> tuple[np.ndarray, int, dict[str, Any]]:
    """The row `(H,)` float32, the base's `hidden_size`, and what `head.json` says, everything checked.

    Raises:
        HeadError: no head; a file that does not belong, such as a pickle; a file that is damaged or too large; a
            missing, extra or misshapen tensor; a number that is not finite; an impossible name.
    """
    folder = Path(os.path.realpath(folder))
    for _ in range(READ_ATTEMPTS):
        if not folder.exists() and recover(folder):
            time.sleep(0.01)  # where a system cannot exchange two folders, a writer has moved the old one aside
            continue
        found = _version(folder)
        try:
            contents = _read_files(folder)
        except (HeadError, OSError):
            if _version(folder) == found:
                raise
            continue  # its files went while they were read: a writer has put a new folder in place
        if _version(folder) == found:
            break
    else:
        raise HeadError(f"{folder} is being written again and again. Read it when its writers have ended.")
    about = _about(folder / ABOUT, contents[ABOUT])
    _check_config(folder / CONFIG, contents[CONFIG])
    row, hidden_size = _row(folder / WEIGHTS, contents[WEIGHTS])
    if about["weights_sha256"] != hashlib.sha256(contents[WEIGHTS]).hexdigest():
        raise HeadError(f"{folder / WEIGHTS} is not what {ABOUT} was written for (sha256 differs). Get the head again.")
    return row, hidden_size, about


def _version(folder: Path) -> tuple[int, ...] | None:
    """What differs between a folder and another one that took its place; `None` where there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _read_files(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise HeadError(f"{folder} is not a folder. A head is a folder with {', '.join(FILES)}; fit one with fit_user.")
    for path in sorted(folder.iterdir()):
        if path.name not in FILES + LEFT_ALONE:
            raise HeadError(
                f"{folder} holds {path.name!r}, which no head has; nothing was loaded. Remove it, or don't trust "
                "this head."
            )
    contents: dict[str, bytes] = {}
    for name in MAX_BYTES:
        path = folder / name
        if path.is_symlink():
            raise HeadError(f"{path} is a link, and a head's folder holds none. Copy the file itself there.")
        if not path.is_file():
            raise HeadError(f"{folder} lacks {name}; the head is incomplete. Fit or download it again.")
        if path.stat().st_size > MAX_BYTES[name]:
            raise HeadError(f"{path} has {path.stat().st_size:,} bytes; a head's has {MAX_BYTES[name]:,} at most.")
        contents[name] = path.read_bytes()
    return contents


def _read_json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        values = read_json(content, max_bytes=MAX_BYTES[path.name], max_depth=MAX_DEPTH)
    except ParseError as error:
        raise HeadError(f"{path} is damaged ({error}). Get the head again.") from None
    if not isinstance(values, dict):
        raise HeadError(f"{path} holds a {type(values).__name__} instead of an object. Get the head again.")
    return values


def _about(path: Path, content: bytes) -> dict[str, Any]:
    about = _read_json(path, content)
    if about.get("format") != FORMAT:
        raise HeadError(f"{path}: format {about.get('format')!r}; this version reads {FORMAT}. Fit the head again.")
    check_name(about.get("name"))
    for key in ("base_identity", "weights_sha256"):
        if not isinstance(about.get(key), str) or not _IDENTITY.fullmatch(about[key]):
            raise HeadError(f"{path}: {key} is not a sha256. Fit or download the head again.")
    base = about.get("base")
    if base is not None and not (isinstance(base, str) and _HUB_ID.fullmatch(base) and ".." not in base):
        raise HeadError(f"{path}: base {str(base)[:80]!r} is not a Hub id. Fit or download the head again.")
    uncertainty = about.get("row_std")
    if not isinstance(uncertainty, list) or not all(_is_number(v) and 0 <= v <= MAX_STD for v in uncertainty):
        raise HeadError(f"{path}: row_std must be a list of numbers from 0 to {MAX_STD:g}. Fit the head again.")
    if extra := sorted(set(about) - set(KEYS)):
        raise HeadError(f"{path} has {printable(extra[0], 60)!r}, which no head has. Nothing was loaded.")
    if not isinstance(about.get("about"), dict):
        raise HeadError(f"{path}: about is missing. Fit or download the head again.")
    for key, value in about["about"].items():
        if key not in _SUMMARIES or not _SUMMARIES[key](value):
            raise HeadError(
                f"{path}: about[{printable(key, 80)!r}] is {printable(str(value), 80)!r}, which no head says of "
                "itself. Nothing was loaded."
            )
    return {**about, "about": _cleaned(about["about"])}


def _cleaned(value: Any) -> Any:
    """What a head says of itself, its texts without control characters and markup: they are shown in terminals, pages
    and cards."""
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    return _MARKUP.sub("", printable(" ".join(value.split()), MAX_TEXT)) if isinstance(value, str) else value


def _is_number(value: Any) -> bool:
    """Finite, and of a size that figures of a head have."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_LENGTH


def _is_note(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _are_numbers(values: Any) -> bool:
    return (
        isinstance(values, dict)
        and len(values) <= MAX_GROUPS
        and all(len(name) <= MAX_TEXT for name in values)
        and all(value is None or _is_number(value) for value in values.values())
    )


def _are_groups(fields: Any) -> bool:
    return (
        isinstance(fields, dict)
        and len(fields) <= MAX_GROUPS
        and all(len(name) <= MAX_TEXT and _are_numbers(values) for name, values in fields.items())
    )


_SUMMARIES = {
    **dict.fromkeys(("ratings", "likes", "choices", "images", "mixed_from"), _is_count),
    "strength": lambda value: _is_number(value) and 0 <= value <= MAX_STRENGTH,
    "prior_scale": lambda value: value is None or _is_number(value),
    "uses_demographics": lambda value: isinstance(value, bool),
    "held_out": lambda value: value is None or _are_numbers(value),
    "distance": lambda value: value is None or _are_numbers(value),
    "likes_more": _are_groups,
    "unsure": _are_groups,
    "notes": lambda value: isinstance(value, list) and len(value) <= 50 and all(map(_is_note, value)),
}  # what `about` may say, see UserHead.describe


def _check_config(path: Path, content: bytes) -> None:
    config = _read_json(path, content)
    for key, wanted in adapter_config(None).items():
        if key != "base_model_name_or_path" and config.get(key) != wanted:
            found = str(config.get(key))[:80]
            raise HeadError(f"{path}: {key} is {found!r}; a head has {wanted!r}. Nothing was loaded.")
    base = config.get("base_model_name_or_path")
    if extra := sorted(set(config) - set(adapter_config(None))):
        raise HeadError(f"{path} has {extra[0][:80]!r}, which no head has. Nothing was loaded.")
    if base is not None and not (isinstance(base, str) and _HUB_ID.fullmatch(base) and ".." not in base):
        raise HeadError(f"{path}: base_model_name_or_path {str(base)[:80]!r} is not a Hub id. Nothing was loaded.")


def _row(path: Path, content: bytes) -> tuple[np.ndarray, int]:
    try:
        tensors = load_tensors(content)
    # the parser meets hostile bytes here: whatever it raises means that this is not a head
    except Exception as error:
        raise HeadError(f"{path} is not a safetensors file ({str(error)[:100]}). Get the head again.") from None
    if set(tensors) != {ROW, LORA_A, LORA_B}:
        wrong = sorted(set(tensors) ^ {ROW, LORA_A, LORA_B})
        raise HeadError(f"{path}: tensor {wrong[0][:100]!r} is missing or extra. Nothing was loaded.")
    row = tensors[ROW]
    width = row.shape[1] if row.ndim == 2 else 0
    hidden = min(len(tensors[LORA_B]), width) if tensors[LORA_B].ndim else 0
    shapes = {ROW: (1, width), LORA_A: (1, hidden), LORA_B: (hidden, 1)}
    for name, shape in shapes.items():
        value = tensors[name]
        if not hidden or value.shape != shape or value.dtype != np.float32:
            raise HeadError(f"{path}: {name} has shape {value.shape}, {value.dtype}; expected {shape}, float32.")
        if not np.isfinite(value).all():
            raise HeadError(f"{path}: {name} holds a number that is not finite. Nothing was loaded.")
    if np.any(tensors[LORA_A]) or np.any(tensors[LORA_B]):
        raise HeadError(f"{path} holds a LoRA that changes the base. A head is one row; nothing was loaded.")
    if float(np.linalg.norm(row[0].astype(np.float64))) > MAX_LENGTH:
        raise HeadError(f"{path}: the row is longer than {MAX_LENGTH:g}; trained people's are about 5. Fit it again.")
    return row[0].copy(), hidden
