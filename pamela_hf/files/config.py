"""JSON and YAML from anywhere, read strictly: bounded in size and depth before anything is made of it, no key twice,
plain values only. Configuration files, with `key=value` texts of the command line on top, are read with it too."""

import json
import re
from typing import Any

import yaml

from .escaping import printable

MAX_DEPTH = 32  # lists and mappings within each other
MAX_DIGITS = 40  # of a number; a larger one is none that any file here holds
MAX_YAML_BYTES = 1 << 20
_BRACKETS = re.compile(r"[\[\]{}]")


class NumberLoader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in Python and in YAML 1.2; in YAML 1.1 it is text."""


NumberLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class ParseError(ValueError):
    """A text that is not JSON or YAML, or more than a file here may hold; the message is one short printable line."""


def read_json(text: bytes | str, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """The value that a JSON text stands for (RFC 8259).

    Args:
        text: UTF-8 bytes, or text.
        max_bytes: of the text; a longer one is refused before it is looked at.
        max_depth: lists and objects within each other, counted before anything is made.

    Raises:
        ParseError: too long, too deep, no JSON, a key twice in one object, NaN or Infinity or a number beyond the range
            of float64, a number of more than 40 digits, half of a surrogate pair.
    """
    if len(text) > max_bytes:
        raise ParseError(f"it has {len(text):,} bytes; at most {max_bytes:,} are allowed")
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        _check_json_depth(decoded, max_depth)
        value = json.loads(
            decoded, object_pairs_hook=_object, parse_constant=_no_number, parse_int=_integer, parse_float=_float
        )
        if "\\u" in decoded:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is not a text
    except ParseError:
        raise
    except (ValueError, RecursionError) as error:
        raise ParseError(printable(str(error), 150)) from None
    return value


def _check_json_depth(text: str, most: int) -> None:
    depth = 0
    outside_strings = text.replace("\\\\", "").replace('\\"', "").split('"')[::2]
    for bracket in _BRACKETS.finditer(" ".join(outside_strings)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > most:
            raise ParseError(f"more than {most} lists or objects within each other")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ParseError(f"the key {printable(twice, 60)!r} occurs twice")
    return values


def _no_number(text: str) -> None:
    raise ParseError(f"{text} is not a number")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ParseError(f"a number of {len(text):,} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text) if len(text) <= 10 * MAX_DIGITS else float("inf")
    if value in (float("inf"), float("-inf")):
        raise ParseError(f"{printable(text, 40)} is beyond the range of numbers")
    return value


def read_yaml(text: bytes | str, *, max_bytes: int = MAX_YAML_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The value that a YAML text stands for, numbers as in [`NumberLoader`].

    Args:
        text: UTF-8 bytes, or text.
        max_bytes: of the text, as in [`read_json`]; default: `MAX_YAML_BYTES`.
        max_depth: lists and mappings within each other, as in [`read_json`]; default: `MAX_DEPTH`.

    Raises:
        ParseError: too long, too deep, no YAML, more than one document, tags of other things than plain values, an
            alias (a few lines of which can stand for gigabytes), a key twice in one mapping, a number of more than 40
            digits.
    """
    if len(text) > max_bytes:
        raise ParseError(f"it has {len(text):,} bytes; at most {max_bytes:,} are allowed")
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        _check_yaml_events(decoded, max_depth)
        loader = _StrictLoader(decoded)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except ParseError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise ParseError(printable(" ".join(str(error).split()), 200)) from None


def _check_yaml_events(text: str, most: int) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ParseError(
                f"line {event.start_mark.line + 1} repeats another value by *{event.anchor[:40]}; write it out"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > most:
                raise ParseError(f"more than {most} lists or mappings within each other")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and not event.style and event.value.isdigit():
            if len(event.value) > MAX_DIGITS:
                raise ParseError(f"a number of {len(event.value):,} digits")


class _StrictLoader(NumberLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        values = super().construct_mapping(node, deep=deep)
        if len(values) < len(node.value):
            names = [str(key.value) for key, _ in node.value]
            twice = next((name for name in names if names.count(name) > 1), names[0] if names else "")
            raise ParseError(f"line {node.start_mark.line + 1}: the key {printable(twice, 60)!r} occurs twice")
        return values
