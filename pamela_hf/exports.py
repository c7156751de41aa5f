"""Names that a package offers, imported when they are first used: importing `pamela_hf` stays quick."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any


def exports(package: str, **names: Sequence[str]) -> tuple[Callable[[str], Any], list[str]]:
    """`__getattr__` (PEP 562) and `__all__` of a package, from its modules' names.

    Args:
        package: its `__name__`.
        names: module → what it exports.
    """
    module_of = {name: module for module, exported in names.items() for name in exported}

    def __getattr__(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{module_of[name]}", package), name)

    return __getattr__, sorted(module_of)
