"""The frame that every report is shown in: one page without scripts or outside references, text escaped by default.

A report is a template made by [`template`]: it extends `frame.html`, fills the blocks `title` and `content`, and may
import the macros of `kit.html`::

    page = template('''{% extends "frame.html" %}{% import "kit.html" as kit %}
    {% block title %}Taste of {{ name }}{% endblock %}
    {% block content %}<h1>…</h1>{{ kit.cards(cards) }}{{ kit.sheet(pictures) }}{% endblock %}''')
    html = page.render(name=…, cards=[Card(…)], pictures=[Picture(…)])
"""

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from .numbers import count, number, signed
from .style import CSS


@dataclass(frozen=True)
class Card:
    """A chart with what it shows.

    Args:
        title: the question that it answers.
        text: how to read it, one to three sentences.
        chart: from [`pamela_hf.reports.charts`].
    """

    title: str
    text: str
    chart: Markup


@dataclass(frozen=True)
class Picture:
    """One picture of a contact sheet.

    Args:
        source: address of what is shown, see [`address`].
        text: what is shown, for those who do not see it and as a tooltip.
        caption: beneath the picture.
        link: address of what a click opens, such as the original of a thumbnail; None: it is not a link.
    """

    source: str
    text: str
    caption: str = ""
    link: str | None = None


def address(path: str | os.PathLike, page: str | os.PathLike) -> str:
    """The address of a file as it stands in `src` or `href` of a page: relative, percent-encoded.

    Args:
        path: the file.
        page: the folder that the page is in.

    Returns:
        A relative address, or a `file:` address where none exists (on Windows: another drive). A `:` is encoded, so
        that no file name reads as a scheme.
    """
    try:
        relative = os.path.relpath(path, page)
    except ValueError:
        return Path(path).resolve().as_uri()
    return quote(Path(relative).as_posix())


_FRAME = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>{% block title %}{% endblock %}</title>
<style>{{ css }}</style>
</head>
<body><main>
{% block content %}{% endblock %}
</main></body>
</html>
"""
_KIT = """\
{% macro heading(title, simulated=false) %}
<h1>{{ title }}{% if simulated %} <span class="badge">simulated</span>{% endif %}</h1>
{% endmacro %}

{% macro cards(cards) %}
{% if cards %}<div class="cards">
{% for card in cards %}
<div class="card"><h3>{{ card.title }}</h3><p>{{ card.text }}</p>{{ card.chart }}</div>
{% endfor %}
</div>{% endif %}
{% endmacro %}

{% macro cell(one, digits=3) %}<b>{{ one.value | number(digits) }}</b>
<small>{% if one.ci_low is not none %}{{ one.ci_low | number(2) }} to {{ one.ci_high | number(2) }}{% endif %}</small>
{%- endmacro %}

{% macro picture(one, pixels=false) %}
{% if one.link %}<a href="{{ one.link }}">{% endif %}<img src="{{ one.source }}" alt="{{ one.text }}"
title="{{ one.text }}" loading="lazy"{% if pixels %} class="pixels"{% endif %}>{% if one.link %}</a>{% endif %}
{% endmacro %}

{% macro sheet(pictures, size="", pixels=false) %}
<div class="sheet {{ size }}">
{% for one in pictures %}
<figure>{{ picture(one, pixels) }}
{% if one.caption %}<figcaption class="center">{{ one.caption }}</figcaption>{% endif %}</figure>
{% endfor %}
</div>
{% endmacro %}
"""
# The style sheet is the only one: by its hash no text that slips through can bring another. No script, font or frame.
_HASH = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; img-src 'self' file: data:; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
)

_ENVIRONMENT = Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    loader=DictLoader({"frame.html": _FRAME, "kit.html": _KIT}),
)
_ENVIRONMENT.filters |= {"number": number, "signed": signed, "count": count}
_ENVIRONMENT.globals |= {"css": Markup(CSS), "policy": POLICY}


def template(source: str) -> Template:
    """A page's template, with the filters `number`, `signed` and `count` and everything else of this module."""
    return _ENVIRONMENT.from_string(source)
