"""The commands: one module each, found by its file name (`fit_user.py` is `pamela fit-user`).

A module has `HELP` (what the command is for and lines to copy; the first line stands in `pamela --help`),
`add_arguments(parser)` and `run(args)`. It imports what it needs inside these two, so that help is quick. Adding a
file is all it takes; `scripts/<name>.py` calls the same. Modules whose names begin with `_` are shared.

May import: everything below, which is all but [`pamela_hf.cli`].
"""

import pkgutil
from importlib import import_module
from types import ModuleType


def command_names() -> list[str]:
    """Names of the commands as people type them, sorted."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load_command(name: str) -> ModuleType:
    """The module of a command.

    Args:
        name: such as "fit-user".

    Raises:
        ValueError: no command has this name.
    """
    if name not in command_names():
        raise ValueError(f"command {name!r} does not exist; there are {', '.join(command_names())}. Name one of these.")
    return import_module(f"{__name__}.{name.replace('-', '_')}")
