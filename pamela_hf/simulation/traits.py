"""What can be seen in a simulated image, and how a prompt says it.

`traits_from_prompt` reads a prompt by `simulated_vocabulary.VOCABULARY`; what the prompt leaves open is drawn
from the seed alone, so that editing the prompt under one seed changes only what it says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from .vocabulary import (
    FAMILY_ROUGHNESS,
    GROUPS,
    SCALAR_TRAITS,
    STYLE_FAMILY,
    STYLE_TENDENCY,
    STYLES,
    SUBJECTS,
    VOCABULARY,
)

SCALARS: tuple[str, ...] = tuple(SCALAR_TRAITS)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash_uniform(*keys: int | np.ndarray) -> np.ndarray:
    """Uniform numbers in (0, 1) that depend on the integer `keys` alone (splitmix64), broadcast over arrays.

    A generator with a state would make a rating depend on the order of the calls; this doesn't.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(0)
        for key in keys:
            state = (state ^ np.asarray(key).astype(np.int64).astype(np.uint64)) * _GOLDEN + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return (np.asarray(state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def hash_normal(*keys: int | np.ndarray) -> np.ndarray:
    """Standard normal numbers that depend on the integer `keys` alone (Box–Muller on `hash_uniform`)."""
    radius = np.sqrt(-2.0 * np.log(hash_uniform(1, *keys)))
    return radius * np.cos(2.0 * np.pi * hash_uniform(2, *keys))


@dataclass(frozen=True)
class Traits:
    """What can be seen in a simulated image.

    Scalars lie in [0, 1]; `SCALAR_TRAITS` says what the ends look like. `group` is one of `GROUPS`; `style`
    is one of `STYLES` or None, and None exactly where `type` is "Photorealism".
    """

    warmth: float = 0.5
    saturation: float = 0.5
    brightness: float = 0.5
    contrast: float = 0.5
    elevation: float = 0.5
    closeness: float = 0.5
    density: float = 0.5
    symmetry: float = 0.5
    roughness: float = 0.2
    group: str = "landscape"
    style: str | None = None
    type: str = "Photorealism"

    def __post_init__(self) -> None:
        for name in SCALARS:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)!r}: a scalar trait lies in [0, 1]")
        if self.group not in GROUPS:
            raise ValueError(f"group={self.group!r}: choose one of {', '.join(GROUPS)}")
        if self.style is not None and self.style not in STYLES:
            raise ValueError(f"style={self.style!r}: choose None or one of {', '.join(STYLES)}")
        if self.type != ("Photorealism" if self.style is None else "Art"):
            raise ValueError(f"type={self.type!r} with style={self.style!r}: 'Art' has a style, 'Photorealism' none")

    @property
    def family(self) -> str:
        """The style family that decides the brush treatment: "photo" or a value of `STYLE_FAMILY`."""
        return "photo" if self.style is None else STYLE_FAMILY[self.style]


@lru_cache(maxsize=1)
def _phrases() -> dict[str, list[tuple[str, float | str]]]:
    phrases: dict[str, list[tuple[str, float | str]]] = {}
    for trait, words in VOCABULARY.items():
        for phrase, value in words.items():
            phrases.setdefault(phrase, []).append((trait, value))
    return phrases


@lru_cache(maxsize=8192)
def _named(prompt: str) -> tuple[tuple[str, float | str], ...]:
    words = re.findall(r"[a-z0-9]+", re.sub(r"['’]", "", prompt.lower()))
    phrases, found, start = _phrases(), {}, 0
    while start < len(words):
        length = next((n for n in (4, 3, 2, 1) if " ".join(words[start : start + n]) in phrases), 0)
        for trait, value in phrases[" ".join(words[start : start + length])] if length else ():
            found.setdefault(trait, []).append(value)
        start += max(length, 1)
    named = {name: float(np.mean(found[name])) for name in SCALARS if name in found}
    # The subject comes first in a prompt, the style last; a style word outweighs any medium.
    named.update({"group": found["group"][0]} if "group" in found else {})
    named.update({"style": found["style"][-1], "type": "Art"} if "style" in found else {})
    if "type" in found and "style" not in found:
        named["type"] = found["type"][0]
    return tuple(named.items())


def traits_named_in(prompt: str) -> dict[str, float | str]:
    """The traits that `prompt` settles by its words, and their values; traits left open are absent.

    Longest phrase first, several phrases of one scalar are averaged; the first subject, the first medium and
    the last style count, and a style makes the type "Art". Negation ("no fog") isn't understood: it reads as
    "fog".
    """
    return dict(_named(prompt))


@lru_cache(maxsize=8192)
def traits_from_prompt(prompt: str, seed: int = 0) -> Traits:
    """All traits of the image that `prompt` and `seed` give (see `Traits`).

    A named scalar takes its phrase's value ± .03; an open one is drawn around .5 (sd .17, shifted by the
    style's tendency) from the seed alone. An open group is any of `GROUPS`; an open type is "Art" for
    abstract images and flower paintings and else "Photorealism"; an open style of an "Art" image is any of
    `STYLES`.
    """
    named = traits_named_in(prompt)
    uniform = hash_uniform(seed, 11, np.arange(2))
    group = str(named.get("group", GROUPS[int(uniform[0] * len(GROUPS))]))
    kind = str(named.get("type", "Art" if group in ("abstract", "flower painting") else "Photorealism"))
    style = named.get("style", STYLES[int(uniform[1] * len(STYLES))] if kind == "Art" else None)
    tendency = STYLE_TENDENCY.get(str(style), {})
    family = "photo" if style is None else STYLE_FAMILY[str(style)]
    normal = hash_normal(seed, 12, np.arange(len(SCALARS)))
    scalars = {}
    for name, z in zip(SCALARS, normal.tolist()):
        if name in named:
            scalars[name] = min(max(float(named[name]) + 0.03 * max(min(z, 2.0), -2.0), 0.0), 1.0)
        else:
            center = FAMILY_ROUGHNESS[family] if name == "roughness" else 0.5
            spread = 0.08 if name == "roughness" else 0.17
            scalars[name] = min(max(center + tendency.get(name, 0.0) + spread * z, 0.03), 0.97)
    return Traits(**scalars, group=group, style=None if style is None else str(style), type=kind)


def prompt_from_traits(traits: Traits, mention: tuple[str, ...] | None = None, seed: int = 0) -> str:
    """A prompt that names `traits`: subject, then one phrase for each scalar of `mention`, then medium or
    style.

    Each phrase is one of the two whose value is nearest the trait's (the seed picks); phrases that set
    several traits at once ("golden hour") are left to people. `mention` defaults to all scalars.
    """
    pick = hash_uniform(seed, 13, np.arange(len(SCALARS) + 3))
    nouns = SUBJECTS[traits.group]
    parts = [nouns[int(pick[-1] * len(nouns))]]
    for name, u in zip(SCALARS, pick.tolist()):
        if name in (SCALARS if mention is None else mention):
            words = [w for w in VOCABULARY[name] if len(_phrases()[w]) == 1]
            words.sort(key=lambda word: abs(float(VOCABULARY[name][word]) - getattr(traits, name)))
            parts.append(words[int(u * 2)])
    if traits.style is not None:
        parts.append(f"{traits.style.replace('_', ' ')} painting")
    elif pick[-2] < 0.6 or traits.group in ("abstract", "flower painting"):
        parts.append("photo")
    return ", ".join(parts)


def with_traits(traits: Traits, **changes: float | str | None) -> Traits:
    """`traits` with some of them replaced; a changed `style` sets the matching `type`."""
    if "style" in changes and "type" not in changes:
        changes["type"] = "Photorealism" if changes["style"] is None else "Art"
    return replace(traits, **changes)
