"""Personal taste in images. Importing this package registers PAMELA with the Auto classes of transformers.

The data's way: ratings/ → embeddings.py (features, by encoder.py) → training/ → model/ → scoring/ → evaluation/,
heads/, prompts/. Each folder's `__init__` says what is in it and what it may import.

Where the process is one of the package's own commands, [`pamela_hf.model`] is imported (and PAMELA registered) when the
command first needs it: transformers takes seconds, which `pamela --help` and a second look at a photo library spare.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .exports import exports
from .version import __version__

if TYPE_CHECKING:
    from .heads.head import UserHead
    from .model import PamelaConfig, PamelaProcessor, PamelaRewardModel, PamelaRewardOutput
    from .prompts.pipeline_pamela import PamelaPromptPipeline
    from .ratings.builder import PamelaRatings, load_ratings
    from .scoring import PamelaScorer

__getattr__, _lazy = exports(
    __name__,
    **{
        "heads.head": ["UserHead"],
        "model": ["PamelaConfig", "PamelaProcessor", "PamelaRewardModel", "PamelaRewardOutput"],
        "prompts.pipeline_pamela": ["PamelaPromptPipeline"],
        "ratings.builder": ["PamelaRatings", "load_ratings"],
        "scoring": ["PamelaScorer"],
    },
)

__all__ = [
    "PamelaConfig",
    "PamelaProcessor",
    "PamelaPromptPipeline",
    "PamelaRatings",
    "PamelaRewardModel",
    "PamelaRewardOutput",
    "PamelaScorer",
    "UserHead",
    "__version__",
    "load_ratings",
]


def _is_own_command() -> bool:
    """Whether this process runs `pamela`, `python -m pamela_hf.cli` or one of `scripts/` that does the same."""
    if sys.argv[:1] == ["-m"]:
        return f"{__name__}.cli" in sys.orig_argv
    package, program = Path(__file__).parent, Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    is_script = program.resolve().parent == package.parent / "scripts"
    return program.name == "pamela" or (is_script and (package / "commands" / program.name).is_file())


if not _is_own_command():
    from . import model  # noqa: F401
