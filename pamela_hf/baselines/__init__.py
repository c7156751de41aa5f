"""Rivals to judge against: one module each, found by its name.

A module `baselines/<name>.py` has one function::

    fit(train, embeddings, *, seed=0, **context) -> Scorer

train: the train split's ratings (columns of `pamela_hf.ratings.table.RatingData`). embeddings: features of all images.
context: what may be at hand, each optional: `level_values` (rating scale → its levels), `model_dir` (the
judged model), `data` (the whole `RatingData`; a baseline fits nothing on its other splits), `output` (a
folder to keep files in). A baseline that was trained elsewhere ignores `train` and loads its weights in
`fit`. The scorer's `name` is the module's, `personal` says whether the participant's id matters to it,
`score_range` is None or its own where its scores are not on the rating scale. Where the ends of such a range
may be the rating scale's by chance, `rating_units = False` says so.

A baseline that can be fitted on choices alone says `FITS_CHOICES = True`; its `train` is None then. A scorer with a
method `predict_choices(choices, embeddings) -> (m, 3)` says how likely each outcome of a choice is, see
[`pamela_hf.scoring.PamelaScorer.predict_choices`]; of any other the higher score is expected to be preferred.

A personal scorer may have a method `adapt(support, embeddings) -> Scorer`: itself for the people of `support` (a table
of ratings), each known by their ratings there and by nothing else. Few-shot evaluation judges it beside the model.

A baseline that comes in several kinds takes a keyword `variant: str`, which people write after a colon:
`pyiqa:musiq`, `clip_similarity:openai/clip-vit-base-patch32`.
"""

from functools import partial
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from types import ModuleType, SimpleNamespace


def available_baselines() -> list[str]:
    """The names `load_baseline` knows."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def load_baseline(name: str) -> ModuleType | SimpleNamespace:
    """The module of a baseline; of `NAME:VARIANT`, its `fit` for that variant.

    Raises:
        ValueError: an unknown name, a variant of a baseline that has none, or none where one is needed.
    """
    stem, _, variant = name.partition(":")
    there = available_baselines()
    if stem not in there:
        raise ValueError(f"baseline {stem!r} does not exist; there are {', '.join(there)}. Name one of these.")
    module = import_module(f"{__name__}.{stem}")
    takes = signature(module.fit).parameters.get("variant")
    if takes is None and variant:
        raise ValueError(f"baseline {name!r}: {stem} comes in one kind only. Name it alone: {stem}.")
    if takes is not None and takes.default is Parameter.empty and not variant:
        raise ValueError(f"baseline {name!r} needs a variant, such as {module.EXAMPLE!r}.")
    return SimpleNamespace(fit=partial(module.fit, variant=variant)) if variant else module
