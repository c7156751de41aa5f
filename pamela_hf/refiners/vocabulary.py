"""Variants from a vocabulary of looks, without a language model; also what fills up when one answers too little.

Terms of photography and painting are grouped by what they set (lighting, camera angle, …). A variant keeps the prompt's
subject and swaps, adds or drops one to three terms, at most one for each aspect; parts of successful prompts are
crossed in. Which terms are drawn follows what the history says of them.
"""

import math
from collections.abc import Sequence

import numpy as np

from . import MAX_PROMPT_CHARACTERS, Trial, clean_prompt, prompt_key, prompt_parts

TERMS: dict[str, tuple[str, ...]] = {
    "lighting": (
        "soft light", "diffused light", "golden hour", "blue hour", "backlit", "rim lighting", "dramatic lighting",
        "chiaroscuro", "studio lighting", "natural light", "candlelight", "moonlight", "midday sun", "overcast",
        "misty", "spotlight", "moody lighting", "volumetric light", "low key", "high key", "high contrast",
        "low contrast",
    ),
    "camera angle": (
        "eye level view", "low angle shot", "high angle shot", "bird's-eye view", "worm's-eye view", "overhead view",
        "aerial view", "Dutch angle", "three-quarter view", "profile view",
    ),
    "viewpoint": (
        "close-up", "extreme close-up", "macro shot", "tight framing", "medium shot", "full shot", "wide shot",
        "wide angle", "panoramic view", "distant view", "telephoto",
    ),
    "palette": (
        "warm palette", "cool palette", "neutral palette", "pastel palette", "muted tones", "vivid colors",
        "jewel tones", "earth tones", "monochrome", "black and white", "sepia", "teal and orange", "autumn colors",
        "neon", "natural colors",
    ),
    "medium": (
        "photograph", "35mm film photograph", "oil painting", "watercolor", "gouache", "ink drawing",
        "charcoal drawing", "pastel drawing", "digital art", "woodblock print", "film still",
    ),
    "style": (
        "impressionist", "post-impressionist", "expressionist", "art nouveau", "baroque", "romantic painting",
        "realist painting", "pointillist", "cubist", "pop art", "minimalism", "ukiyo-e", "symbolist", "rococo",
    ),
    "composition": (
        "centered composition", "symmetrical composition", "rule of thirds", "diagonal composition",
        "asymmetrical composition", "balanced composition", "dynamic composition", "negative space",
        "leading lines", "framed by foreground",
    ),
    "density": (
        "minimalist composition", "uncluttered", "sparse", "simple composition", "some detail", "richly detailed",
        "intricate detail", "lush", "layered composition", "busy",
    ),
    "texture": (
        "smooth", "crisp", "sharp focus", "film grain", "textured", "impasto", "loose brushwork", "fine brushwork",
        "visible brushstrokes", "shallow depth of field",
    ),
}  # fmt: skip
"""Aspect → terms. Neither a subject nor a name of a living artist is among them."""

_EAGERNESS = 8.0  # a term worth .1 more than another is drawn e^.8 times as often
_ASPECT = {prompt_key(term): (aspect, term) for aspect, terms in TERMS.items() for term in terms}


def known_terms(prompt: str) -> dict[str, str]:
    """Aspect → term, of the parts of a prompt that are a term of the vocabulary (the last one of an aspect counts)."""
    return dict(_ASPECT[key] for part in prompt_parts(prompt) if (key := prompt_key(part)) in _ASPECT)


class Refiner:
    """See the module.

    Args:
        exploration: share of terms drawn evenly rather than by what the history says of them, 0..1.
        restarts: share of variants made from the unoptimized prompt's terms rather than the given one's, 0..1.
    """

    name = "vocabulary"

    def __init__(self, exploration: float = 0.3, restarts: float = 0.2):
        for name, share in (("exploration", exploration), ("restarts", restarts)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: a share between 0 and 1.")
        self.exploration, self.restarts = exploration, restarts

    def propose(self, prompt: str, history: Sequence[Trial], n: int, rng: np.random.Generator) -> list[str]:
        """`n` distinct variants of `prompt`, or as many as 40 n attempts give."""
        worth = _worth(history)
        good = sorted((t for t in history if t.eligible), key=lambda t: -t.score)[:5]
        seen = {prompt_key(trial.prompt) for trial in history} | {prompt_key(prompt)}
        found: list[str] = []
        for _ in range(40 * n):
            if len(found) == n:
                break
            # now and then from the start, so that no early choice is for ever
            terms = known_terms(history[0].prompt if history and rng.random() < self.restarts else prompt)
            if len(good) > 1 and rng.random() < 0.3:
                other = known_terms(good[int(rng.integers(len(good)))].prompt)
                terms |= {aspect: term for aspect, term in other.items() if rng.random() < 0.5}
            for _ in range(int(rng.choice((1, 2, 3), p=(0.45, 0.35, 0.2)))):
                aspect = list(TERMS)[int(rng.integers(len(TERMS)))]
                if aspect in terms and rng.random() < 0.2:
                    del terms[aspect]
                else:
                    terms[aspect] = self._draw(aspect, worth, rng)
            variant = clean_prompt(_with_terms(prompt, terms))
            if variant and prompt_key(variant) not in seen:
                seen.add(prompt_key(variant))
                found.append(variant)
        return found

    def _draw(self, aspect: str, worth: dict[str, float], rng: np.random.Generator) -> str:
        terms = TERMS[aspect]
        if rng.random() < self.exploration:
            return terms[int(rng.integers(len(terms)))]
        weights = np.exp([_EAGERNESS * worth.get(term, 0.0) for term in terms])
        return terms[int(rng.choice(len(terms), p=weights / weights.sum()))]


def _with_terms(prompt: str, terms: dict[str, str]) -> str:
    """`prompt` with its own terms taken out and `terms` in their place, behind what names the subject."""
    kept = ", ".join(part for part in prompt_parts(prompt) if prompt_key(part) not in _ASPECT)
    look = ", ".join(terms.values())
    room = MAX_PROMPT_CHARACTERS - len(look) - 2
    if len(kept) > room:  # an endless prompt loses its end rather than the variation
        kept = kept[:room].rstrip(" ,")
    return f"{kept}, {look}" if look else kept


def _worth(history: Sequence[Trial], ridge: float = 1.0) -> dict[str, float]:
    """Term → what it adds to a prompt's score, by ridge regression on which prompts have which terms; rating units.

    Regression rather than means, because variants inherit most terms from one parent: a new term is not credited with
    what came with it. A prompt that may not win, having lost its subject say, counts as no better than the worst
    quarter of the rest.
    """
    able = sorted(trial.score for trial in history if trial.eligible)
    terms = [set(known_terms(trial.prompt).values()) for trial in history]
    names = sorted(set().union(*terms))
    if not able or not names:
        return {}
    low = able[len(able) // 4]
    scores = np.array(
        [t.score if t.eligible else min(low, t.score) if math.isfinite(t.score) else low for t in history]
    )
    has = np.array([[name in of for name in names] for of in terms], float)
    has -= has.mean(0)
    worth = np.linalg.solve(has.T @ has + ridge * np.eye(len(names)), has.T @ (scores - scores.mean()))
    return dict(zip(names, worth.tolist()))
