"""Refiners: who writes variants of a prompt. One module each, found by its name.

A module `refiners/<name>.py` has one class `Refiner`; an instance has a `name` and one method::

    propose(prompt, history, n, rng) -> list[str]

prompt: the text to vary. history: what was tried so far ([`Trial`]), oldest first; `history[0]` is the unoptimized
prompt, whose subject has to stay. n: how many variants are wanted. rng: a numpy Generator, the only source of chance.
A refiner may answer too little, too much or nonsense: the search cleans ([`clean_prompt`]), drops repetitions and fills
up. It sees predicted scores; it never sees whom they are for, anybody's ratings or demographics.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

MAX_PROMPT_CHARACTERS = 1_000  # image models read at most 512 tokens, and a report has to show it
_AROUND = " ,;\"'`“”„»«*_"
_JOINERS = "\u200c\u200d"  # invisible, but Persian, Indic scripts and emoji are misspelt without them


@dataclass(frozen=True)
class Trial:
    """A prompt that was tried.

    Attributes:
        prompt: the text.
        parent: the text it was made from; `None` for the unoptimized prompt.
        iteration: 0 for the unoptimized prompt.
        score: predicted rating, mean over the seeds; NaN where the images or the reward were unusable.
        adherence: similarity to the unoptimized prompt's text, mean over the seeds.
        eligible: whether it may win: a finite score, and adherence above the floor.
    """

    prompt: str
    parent: str | None
    iteration: int
    score: float
    adherence: float
    eligible: bool = True


class PromptRefiner(Protocol):
    name: str

    def propose(self, prompt: str, history: Sequence[Trial], n: int, rng: np.random.Generator) -> list[str]: ...


def available_refiners() -> list[str]:
    """The names `load_refiner` knows."""
    helpers = ("instructions",)
    names = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(name for name in names if not name.startswith("_") and name not in helpers)


def load_refiner(name: str, **options: Any) -> PromptRefiner:
    """A refiner by its module's name, made with `options`. Raises ValueError naming those that exist."""
    there = available_refiners()
    if name not in there:
        raise ValueError(f"refiner={name!r} does not exist; there are {', '.join(there)}. Name one of these.")
    return import_module(f"{__name__}.{name}").Refiner(**options)


def clean_prompt(text: Any) -> str:
    """One line of plain text from whatever a refiner wrote; "" where nothing is left.

    Control, format and unassigned characters go (they hide text or end lines), white space becomes one space, and what
    is longer than `MAX_PROMPT_CHARACTERS` ends at the last comma or word before. Any language stays as it is.
    """
    if not isinstance(text, str):
        return ""
    text = text[: 20 * MAX_PROMPT_CHARACTERS]
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", text)
        hidden = (unicodedata.category(c)[0] == "C" and c not in _JOINERS for c in text)
        text = "".join(" " if c.isspace() else "" if hide else c for c, hide in zip(text, hidden))
    text = " ".join(text.split()).strip(_AROUND)
    if len(text) > MAX_PROMPT_CHARACTERS:
        text = text[:MAX_PROMPT_CHARACTERS]
        cut = max(text.rfind(","), text.rfind(" "))
        text = text[: cut if cut > MAX_PROMPT_CHARACTERS // 2 else MAX_PROMPT_CHARACTERS].strip(_AROUND)
    return text if re.search(r"\w", text) else ""


def prompt_key(prompt: str) -> str:
    """Two prompts with the same key are the same to a text encoder, give or take: case and punctuation don't count."""
    return " ".join(re.findall(r"\w+", prompt.casefold()))


def prompt_parts(prompt: str) -> list[str]:
    """The comma-separated parts of a prompt; the first one usually names the subject."""
    return [part.strip() for part in prompt.split(",") if part.strip()]
