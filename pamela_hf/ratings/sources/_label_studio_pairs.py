"""Choices of Label Studio's control Pairwise, for the source ``label_studio``, whose module describes them."""

from collections.abc import Callable
from typing import Any

DEFAULT_KEYS = ("image1", "image2")  # of a task's data, where an export does not say what was on the left and right


def choice_row(
    data: dict[Any, Any], who: Any, selected: Any, keys: tuple[str, str], find: Callable[[str], str]
) -> dict[Any, Any]:
    """The row of a choice.

    Args:
        data: of the task.
        who: chose.
        selected: ``left`` or ``right``.
        keys: of the data: the left image and the right one.
        find: reference of an image → its id.
    """
    row: dict[Any, Any] = {"participant_id": who, "prompt": data.get("prompt")}
    if selected not in ("left", "right"):
        row[None] = f"selected is {str(selected)[:60]!r}; left or right is needed."
        return row
    try:
        images = {side: find(data[key]) for side, key in zip(("left", "right"), keys)}
    except (KeyError, TypeError, AttributeError):
        row[None] = (
            f"data lacks {' or '.join(keys)}, the images that were compared; it has {sorted(map(str, data))[:10]}. "
            "Name their keys: left_key=…, right_key=…"
        )
        return row
    except ValueError as error:
        row[None] = f"data.{keys[0]}, data.{keys[1]}: {error}"
        return row
    other = {"left": "right", "right": "left"}[selected]
    return row | {"preferred_id": images[selected], "other_id": images[other]}


def keys_of(result: dict, data: dict[Any, Any], keys: tuple[str, str] | None) -> tuple[str, str]:
    """Keys of the left and the right image: those given, those that ``to_name`` names, or `DEFAULT_KEYS`."""
    if keys is not None:
        return keys
    names = result.get("to_name")
    names = names.split(",") if isinstance(names, str) else names if isinstance(names, list) else []
    names = [str(name).strip() for name in names]
    return (names[0], names[1]) if len(names) == 2 and all(name in data for name in names) else DEFAULT_KEYS
