"""A report as files: `report.json` for programs, `report.html` for people."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files.writing import write_json, write_text


def write_report(
    report: Mapping[str, Any],
    out_dir: str | os.PathLike,
    render: Callable[[Mapping[str, Any]], str],
    name: str = "report",
) -> tuple[Path, Path]:
    """Writes `NAME.json` (strict JSON, NaN as null) and `NAME.html`, each whole or not at all."""
    folder = Path(out_dir)
    plain = _without_nan(report)
    write_json(folder / f"{name}.json", plain)
    write_text(folder / f"{name}.html", render(plain))
    return folder / f"{name}.json", folder / f"{name}.html"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, (np.integer, np.bool_)) else value
