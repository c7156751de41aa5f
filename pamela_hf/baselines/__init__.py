"""Rivals to judge against: one module each, found by its name.

A module `baselines/<name>.py` has one function::

    fit(train, embeddings, *, seed=0, **context) -> Scorer

train: the train split's ratings (columns of `pamela_hf.data.RatingData`). embeddings: features of all images.
context: what may be at hand, each optional: `level_values` (rating scale → its levels), `model_dir` (the
judged model), `data` (the whole `RatingData`; a baseline fits nothing on its other splits), `output` (a
folder to keep files in). A baseline that was trained elsewhere ignores `train` and loads its weights in
`fit`. The scorer's `name` is the module's, `personal` says whether the participant's id matters to it,
`score_range` is None or its own where its scores are not on the rating scale.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType


def available_baselines() -> list[str]:
    """The names `load_baseline` knows."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def load_baseline(name: str) -> ModuleType:
    """The module of a baseline. Raises ValueError naming those that exist."""
    there = available_baselines()
    if name not in there:
        raise ValueError(f"baseline {name!r} does not exist; there are {', '.join(there)}. Name one of these.")
    return import_module(f"{__name__}.{name}")
