"""Messages to a language model, and the variants in its answer; shared by the refiners that use one."""

import json
import re
from collections.abc import Sequence
from typing import Any

from . import Trial
from .instructions import DIGEST_BARRED, DIGEST_BEST, DIGEST_WORST, FIRST_REQUEST, REQUEST, SYSTEM

_MAX_ANSWER = 100_000  # characters of one answer that are looked at
# always matches, to the end if need be: what failed would be tried again from every quote inside, in quadratic time
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)("?)', re.DOTALL)
_LABEL = re.compile(
    r"^\s*(?:[-*•–>#]+\s*)?(?:\(?\d{1,3}[.):\]]\s+|(?:variant|prompt|option)\s*(?:\d+\s*)?[:.–-]\s*)?", re.IGNORECASE
)
_TALK = re.compile(
    r"^(?:sure|certainly|of course|okay|ok|here (?:are|is)|these are|below (?:are|is)|"
    r"i (?:hope|have|can|will|cannot|can't|am)|"
    r"i'm|as an ai|sorry|let me know|feel free|note)\b",
    re.IGNORECASE,
)


def digest(history: Sequence[Trial], best: int = 6, worst: int = 4) -> str:
    """A few lines of what worked and what did not, with scores of two decimals; "" where nothing was tried."""
    tried = [t for t in history if t.iteration > 0]
    able = sorted((t for t in tried if t.eligible), key=lambda t: -t.score)
    barred = [t for t in tried if not t.eligible and t.score == t.score][-2:]
    parts = []
    for title, trials in (
        (DIGEST_BEST, able[:best]),
        (DIGEST_WORST, able[max(best, len(able) - worst) :]),
        (DIGEST_BARRED, barred),
    ):
        if trials:
            parts.append("\n".join([title, *(f"{t.score:.2f}  {t.prompt}" for t in trials)]))
    return "\n\n".join(parts)


def messages(prompt: str, history: Sequence[Trial], n: int) -> list[dict[str, str]]:
    """The chat that asks for `n` variants."""
    original = history[0].prompt if history else prompt
    examples = digest(history)
    text = (
        REQUEST.format(original=original, prompt=prompt, digest=examples, n=n)
        if examples
        else FIRST_REQUEST.format(original=original, n=n)
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def parse_variants(answer: Any) -> list[str]:
    """The prompts in a model's answer, however it chose to write them: JSON, JSON cut off, a list, or lines.

    Never raises; whatever is not a prompt is left out, and what comes back still has to be cleaned.
    """
    if not isinstance(answer, str):
        return []
    text = re.sub(r"<think>.*?(?:</think>|\Z)", "", answer[:_MAX_ANSWER], flags=re.DOTALL)
    for block in [*re.findall(r"```(?:json)?\s*(.*?)(?:```|\Z)", text, re.DOTALL), text]:
        if found := _from_json(block):
            return found
    # an array that was cut off, or has a comma too many: its whole strings are still there
    start = text.find("[")
    if start >= 0:
        quoted = [q for q, closed in _QUOTED.findall(text[start:]) if closed and len(q) > 2]
        if found := [s for q in quoted if (s := _unescaped(q)) not in ("variants", "prompts", "prompt")]:
            return found
    lines = [_LABEL.sub("", line, count=1).strip() for line in text.splitlines()]
    return [
        line for line in lines if line and not _TALK.match(line) and not line.endswith(":") and line[0] not in "[]{}`"
    ]


def _from_json(text: str) -> list[str]:
    for opening in ("[", "{"):
        start = text.find(opening)
        if start < 0:
            continue
        try:
            value, _ = json.JSONDecoder().raw_decode(text[start:])
        except (ValueError, RecursionError):
            continue
        if found := _strings(value):
            return found
    return []


def _strings(value: Any, depth: int = 0) -> list[str]:
    """The texts of a list, of a list of objects' first text, or of an object's first such list."""
    if isinstance(value, list):
        items = [item if isinstance(item, str) else _first_text(item) for item in value]
        return [item for item in items if item]
    if isinstance(value, dict) and depth < 3:
        for inner in value.values():
            if found := _strings(inner, depth + 1):
                return found
        return [item for item in value.values() if isinstance(item, str)]
    return []


def _first_text(value: Any) -> str | None:
    if isinstance(value, dict):
        for key in ("prompt", "variant", "text"):
            if isinstance(value.get(key), str):
                return value[key]
        return next((item for item in value.values() if isinstance(item, str)), None)
    return None


def _unescaped(text: str) -> str:
    try:
        return json.loads(f'"{text}"')
    except ValueError:
        return text
