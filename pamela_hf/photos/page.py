"""The page that shows what was learned of a person's taste: figures on held-out photos, and contact sheets."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.images import ImageError, open_image_checked
from ..files.writing import replacing_file
from ..reports.charts import rows_chart
from ..reports.page import Card, Picture, address, template
from .held_out import MEAN, PERSONAL

THUMBNAIL = 320  # pixels of the longer side
THUMBNAILS = ".thumbnails"  # hidden, so that a library around it does not take them for photos

_PAGE = """\
{% extends "frame.html" %}{% import "kit.html" as kit %}
{% block title %}{{ title }}{% endblock %}
{% block content %}
{{ kit.heading(title) }}
<p class="soft">{{ counts }}</p>
{% for text in leads %}<p class="lead">{{ text }}</p>{% endfor %}
{% for text in notes %}<p class="soft">{{ text }}</p>
{% endfor %}
{{ kit.cards(cards) }}
{% for sheet in sheets %}
<h2>{{ sheet.title }}</h2>
<p class="soft">{{ sheet.text }}</p>
{{ kit.sheet(sheet.pictures) }}
{% endfor %}
<footer class="soft"><p>A picture opens its original. Photos that show nearly the same are shown once, by the best of
them. Files that could not be read: {{ skipped | count }}{% if skipped %} (skipped.csv){% endif %}.
pamela_hf {{ version }}.</p></footer>
{% endblock %}
"""


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Attributes:
        title: what its photos have in common.
        text: how they were chosen.
        photos: file and caption of each.
    """

    title: str
    text: str
    photos: Sequence[tuple[Path, str]]


def render(
    output: Path,
    *,
    name: str,
    counts: str,
    leads: Sequence[str],
    notes: Sequence[str],
    figures: Mapping[str, Mapping[str, Mapping[str, Any]]],
    sheets: Sequence[Sheet],
    skipped: int,
    title: str | None = None,
) -> str:
    """The page as HTML; thumbnails are written beside it.

    Args:
        output: folder of the page.
        name: the person's name.
        counts: one line on the library.
        leads: sentences shown large, before the notes.
        notes: the other sentences.
        figures: `figures` of [`pamela_hf.photos.held_out.HeldOut`].
        sheets: contact sheets; those without photos are left out.
        skipped: number of files that could not be read.
        title: title of the page; default: what the person likes.
    """
    from ..version import __version__

    shown = [
        {"title": sheet.title, "text": sheet.text, "pictures": _pictures(sheet, output)}
        for sheet in sheets
        if sheet.photos
    ]
    return template(_PAGE).render(
        title=title or f"What {name} likes", counts=counts, leads=leads, notes=notes, cards=_cards(figures),
        sheets=shown, skipped=skipped, version=__version__,
    )  # fmt: skip


def _cards(figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Card]:
    if not figures:
        return []
    colors = {method: "s0" if method == PERSONAL else "s1" for method in figures}
    pairs = [(method, cells["pairs"], colors[method]) for method, cells in figures.items()]
    ranks = [(method, cells["srocc"], colors[method]) for method, cells in figures.items() if method != MEAN]
    return [
        Card(
            "How often are two photos put in the right order?",
            "Of pairs of held-out photos with different stars, the share ordered as starred, with its 95 % interval. "
            "Guessing, or the mean star for every photo, is right half of the time.",
            rows_chart("Pairs of held-out photos in the right order", pairs, 0.5, "dot", room=(0.4, 1.0)),
        ),
        Card(
            "How well are stars ranked?",
            "Spearman's rank correlation of stars and predictions on held-out photos: 1 is the same order, 0 chance.",
            rows_chart("Rank correlation on held-out photos", ranks, 0.0, "dot", room=(0.0, 1.0)),
        ),
    ]


def _pictures(sheet: Sheet, output: Path) -> list[Picture]:
    pictures = []
    for path, caption in sheet.photos:
        thumbnail = _thumbnail(path, output / THUMBNAILS)
        if thumbnail is not None:
            link = address(path, output)
            pictures.append(Picture(address(thumbnail, output), path.name, caption, link))
    return pictures


def _thumbnail(path: Path, folder: Path) -> Path | None:
    """A small JPEG of a picture; None where it can't be read any more. Named by the file's place, size and time."""
    try:
        stat = path.stat()
        what = f"{os.path.realpath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}"
        place = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:20]}.jpg"
        if not place.exists():
            picture = open_image_checked(path)
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            with replacing_file(place) as staged:
                picture.save(staged, "JPEG", quality=82)
    except (ImageError, OSError):
        return None
    return place
