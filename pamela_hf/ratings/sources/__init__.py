"""Raw rating files → rating rows: one module for each layout, found by its name.

A module ``<name>.py`` here provides

- ``matches(path: Path) -> bool``: whether it reads what lies at `path`, from names alone (nothing is parsed);
  at most one module may say so;
- ``open_source(path: Path, *, rating_min: float | None, rating_max: float | None, **options) ->
  RatingSource``: opens it, checking its structure, without reading rows. Both ends of the scale given: the
  levels are the integers between them; otherwise the module's own levels, or None to read them from train.
  Options of its own are keyword arguments with defaults.

Adding a file is all it takes: no list to edit. Modules whose names begin with ``_`` are shared by the others.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from ..table import RatingError, RatingSource


def source_names() -> list[str]:
    """Names of the layouts that can be read, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def open_source(
    path: str | Path,
    name: str | None = None,
    *,
    rating_min: float | None = None,
    rating_max: float | None = None,
    **options: Any,
) -> RatingSource:
    """Opens raw ratings.

    Args:
        path: file or folder.
        name: module that reads it, one of :func:`source_names`; None: each module is asked whether it matches.
        rating_min: lowest rating of the scale, an integer, given with `rating_max` or not at all; None: see the module.
        rating_max: highest rating of the scale, an integer, given with `rating_min` or not at all; None: see the
            module.
        options: the module's own, such as ``images=FOLDER`` of ``csv``.

    Raises:
        RatingError: nothing at `path`, an unknown name or option, no module that matches, a broken layout.
    """
    path = Path(path)
    names = source_names()
    if name is not None and name not in names:
        raise RatingError(f"source {name!r} does not exist; there are {', '.join(names)}. Pass one of them, or none.")
    if not path.exists():
        raise RatingError(f"{path}: no such file or folder. Give a folder or zip with annotations/, or a CSV file.")
    if (rating_min is None) != (rating_max is None):
        raise RatingError(f"rating_min={rating_min}, rating_max={rating_max}: give both ends of the scale or neither.")
    if name is None:
        matching = [name for name in names if _module(name).matches(path)]
        if len(matching) != 1:
            found = f"several sources read it ({', '.join(matching)})" if matching else "no source reads it"
            raise RatingError(
                f"{path}: {found}. Known layouts: {', '.join(names)}; say which with source=NAME (--source NAME). "
                "The released layout is a folder or zip with annotations/<prefix>_<split>.json; own ratings are a "
                "CSV with the columns image,score."
            )
        name = matching[0]
    opener = _module(name).open_source
    if unknown := options.keys() - inspect.signature(opener).parameters.keys():
        known = [option for option in inspect.signature(opener).parameters if option != "path"]
        raise RatingError(f"source {name!r} has no option {', '.join(sorted(unknown))}; it has {', '.join(known)}.")
    return opener(path, rating_min=rating_min, rating_max=rating_max, **options)
