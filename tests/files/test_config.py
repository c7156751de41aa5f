"""JSON and YAML from anywhere: what is read, and what is refused before anything is made of it."""

import json
import sys

import pytest
from processes import peak_of

from pamela_hf.files.config import ParseError, read_json, read_yaml

BAD_JSON = [
    ("{", "Expecting"), ("", "Expecting"), ("[1, 2", "Expecting"), ("nul", "Expecting"),
    ('{"a": 1, "a": 2}', "'a' occurs twice"),
    ('{"b": {"a": 1, "\\u0061": 2}}', "'a' occurs twice"), ("[NaN]", "NaN is not a number"),
    ("-Infinity", "not a number"),
    ("1e999", "beyond the range"), ("-1e999", "beyond the range"), ("9" * 5000, "5,000 digits"),
    ("[" * 100_000, "within each other"),
    ('{"a":' * 40 + "1" + "}" * 40, "more than 32"), ('"\\ud800"', "surrogates"), (b"\xff\xfe", "decode"),
    ('"a\x1b[31m"', "control"),
]  # fmt: skip
BAD_YAML = [
    ("a: [", "expected"), ("a: 1\na: 2", "'a' occurs twice"), ("a: {b: 1, b: 2}", "'b' occurs twice"),
    ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ("a: !evil 1", "could not determine"),
    ("x: &a [1]\ny: *a", r"repeats another value by \*a"), ("[" * 5000, "within each other"),
    ("a: 1\n---\nb: 2", "single document"),
    ("2001-99-99", "month"), ("? [1]\n: 2", "unhashable"),
    ("a: \x00", "special characters|unacceptable"), ("9" * 5000, "digits"),
    ("- " * 2000 + "a", "within each other"), (b"\xff\xfea", "decode"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_JSON, ids=range(len(BAD_JSON)))
def test_bad_json_is_one_short_line(text, message):
    with pytest.raises(ParseError, match=message) as caught:
        read_json(text, max_bytes=1 << 20)
    assert len(str(caught.value)) < 200 and str(caught.value).isprintable()


@pytest.mark.parametrize(("text", "message"), BAD_YAML, ids=range(len(BAD_YAML)))
def test_bad_yaml_is_one_short_line(text, message):
    with pytest.raises(ParseError, match=message) as caught:
        read_yaml(text)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


def test_good_texts_are_read_as_they_are():
    value = {"a": [1, -2.5, True, None, "é \U0001f600", {"b": {}}], "]": "[{" * 100, '"': "\\"}
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert read_json(text, max_bytes=10_000) == read_json(text.encode(), max_bytes=10_000) == value
    assert read_yaml("a: 1e-3\nb: [x, 2]\nc:\n") == {"a": 1e-3, "b": ["x", 2], "c": None}
    with pytest.raises(ParseError, match="at most 5"):
        read_json("[1, 2, 3]", max_bytes=5)
    with pytest.raises(ParseError, match="at most 5"):
        read_yaml("a: 1, 2", max_bytes=5)


def test_what_is_refused_costs_no_memory():
    """The child's own peak (VmHWM), above what it has before it reads."""
    code = """
from pamela_hf.files.config import ParseError, read_json, read_yaml
bomb = "a0: &a0 [" + ", ".join(["lol"] * 9) + "]\\n"
for i in range(9):
    bomb += f"a{i + 1}: &a{i + 1} [" + ", ".join([f"*a{i}"] * 9) + "]\\n"
texts = ["[" * (1 << 20), '{"a":' * (1 << 18), "9" * (1 << 20), "[" + "1," * (1 << 19)]
before = peak()
refused = 0
for text in texts:
    try:
        read_json(text, max_bytes=1 << 21)
    except ParseError:
        refused += 1
try:
    read_yaml(bomb)
except ParseError:
    refused += 1
print(refused, peak() - before)
"""
    refused, megabytes = peak_of(code)
    assert refused == 5 and megabytes < 50, megabytes
    assert sys.getrecursionlimit() >= 1000
