"""Types and texts of arguments that several commands share."""

import argparse

PROMPTS_HELP = "columns image and prompt, group, …: what each image was made from, and its metadata"
DEVICE_HELP = "cuda, mps, cpu (default: the first of these there is)"


def names(text: str) -> list[str]:
    """`A,B` as a list of names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[int]:
    """`1,2` as a list of integers."""
    return [int(number) for number in names(text)]


def positive(text: str) -> int:
    """An integer of at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; at least 1 is needed.")
    return number


def key_value(text: str) -> tuple[str, str]:
    """`KEY=VALUE` as a pair."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} must be KEY=VALUE.")
    return key, value
