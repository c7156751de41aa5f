"""Figures in the form that pages get them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # PyTorch comes with them
    from ..heads.head import UserHead
    from .base import Base


def how_well(head: "UserHead | None", base: "Base | None") -> dict[str, Any] | None:
    """The held-out figure of a head: `srocc`, `ci_low`, `ci_high`, and `everyone` where the base has a taste of its
    own; `None`: too little is known."""
    figures = dict(head.about.get("held_out") or {}) if head else {}
    if base is not None and base.blank:
        figures.pop("everyone", None)
    return figures or None


def finite(value: Any) -> Any:
    """Plain values for JSON: NaN and infinities, which JSON lacks, are `None`."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
