"""A report as files: `report.json` for programs, `report.html` for people."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_report(
    report: Mapping[str, Any],
    out_dir: str | os.PathLike,
    render: Callable[[Mapping[str, Any]], str],
    name: str = "report",
) -> tuple[Path, Path]:
    """Writes `NAME.json` (strict JSON, NaN as null) and `NAME.html`, each whole or not at all."""
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plain = _without_nan(report)
    text = json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return write_whole(folder / f"{name}.json", text), write_whole(folder / f"{name}.html", render(plain))


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, (np.integer, np.bool_)) else value


def write_whole(path: Path, text: str) -> Path:
    """Beside the target, then moved over it: a reader sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
