"""The kit of all reports: a page runs nothing and loads nothing, colours can be told from each other, numbers read."""

import base64
import hashlib
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pamela_hf.reports.charts import WIDTH, Axis, columns_chart, effects_chart, mark, series_color
from pamela_hf.reports.numbers import count, number, signed
from pamela_hf.reports.page import Card, Picture, address, template
from pamela_hf.reports.style import CARD, DARK, LIGHT

PAGE = template("""{% extends "frame.html" %}{% import "kit.html" as kit %}
{% block title %}{{ title }}{% endblock %}
{% block content %}{{ kit.heading(title, true) }}{{ kit.cards(cards) }}{{ kit.sheet(pictures, "two", pixels=true) }}
{% endblock %}""")


def test_the_policy_allows_the_one_style_sheet_and_no_script():
    page = PAGE.render(title="<b>", cards=[], pictures=[])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1).replace("&#39;", "'")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"style-src 'sha256-{digest}'" in policy and "script" not in policy
    assert "unsafe" not in policy and 'style="' not in page
    assert "<h1>&lt;b&gt; <span" in page and "<title>&lt;b&gt;</title>" in page


def test_a_contact_sheet_opens_the_originals(tmp_path):
    name = 'a#b?c %d"<é>.png'
    source = address(tmp_path / "photos" / name, tmp_path / "out")
    assert source == "../photos/a%23b%3Fc%20%25d%22%3C%C3%A9%3E.png"
    page = PAGE.render(title="t", cards=[], pictures=[Picture(source, name, "4.5", source)])
    assert f'<a href="{source}"><img src="{source}"' in page and 'class="pixels"' in page
    assert 'alt="a#b?c %d&#34;&lt;é&gt;.png"' in page and '<figcaption class="center">4.5</figcaption>' in page


def test_no_file_name_reads_as_a_scheme():
    assert address("javascript:alert(1)", ".") == "javascript%3Aalert%281%29"


def linear(color: str) -> np.ndarray:
    channels = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2.2, contrast ratio."""
    darker, lighter = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (a, b))
    return (lighter + 0.05) / (darker + 0.05)


SIGHT = {
    "usual": np.eye(3),
    # Machado, Oliveira and Fernandes (2009), severity 1
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def oklab(rgb: np.ndarray) -> np.ndarray:
    cones = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                      [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
    lab = np.array([[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
                    [0.0259040371, 0.7827717662, -0.808675766]])  # fmt: skip
    return lab @ np.cbrt(cones @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize(("colors", "card"), [(LIGHT, CARD["light"]), (DARK, CARD["dark"])], ids=["light", "dark"])
def test_colours_stand_out_and_apart(colors, card):
    assert len(set(colors)) == len(colors) == 16
    assert min(contrast(color, card) for color in colors) >= 2.95
    for sight, matrix in SIGHT.items():
        seen = [oklab(np.asarray(matrix) @ linear(color)) for color in colors[:8]]
        nearest = min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))
        assert nearest > 0.06, sight  # .02 is about the least difference that can be seen


def test_thirty_two_series_differ():
    looks = {(series_color(k), mark(0, 0, 4, series_color(k))) for k in range(32)}
    assert len(looks) == 32 and len({series_color(k) for k in range(16)}) == 16
    assert len({mark(0, 0, 4, series_color(k)).split(" ")[0] for k in range(4)}) > 1  # and their shapes


def test_numbers():
    assert [number(v, d) for v, d in ((0.1234, 3), (-0.5, 1), (12.345, 1), (0.0, 0), (-0.0001, 3), (1, 0))] == [
        ".123", "−.5", "12.3", "0", ".000", "1",
    ]  # fmt: skip
    assert [number(v) for v in (None, float("nan"), float("inf"))] == ["–"] * 3
    assert [signed(v) for v in (0.1, -0.1, 0.0, 0.0001, None)] == ["+.100", "−.100", ".000", ".000", "–"]
    assert (count(12345), count(None)) == ("12,345", "–")


@pytest.mark.parametrize("values", [[0, 1], [3.61, 3.79], [-0.3, 0.4], [5, 5], [0, 97], [1e-9, 2e-9], [900, 1100]])
def test_ticks_are_round_cover_the_values_and_differ(values):
    axis = Axis.over(values, 0, 100)
    assert axis.ticks[0] <= min(values) and max(values) <= axis.ticks[-1] and 2 <= len(axis.ticks) <= 8
    labels = [axis.label(tick) for tick in axis.ticks]
    assert len(set(labels)) == len(labels)
    assert axis(axis.ticks[0]) == 0 and axis(axis.ticks[-1]) == 100


def test_boxes_lie_where_the_values_are():
    chart = columns_chart("x", [("1", [1, 2, 3, 4, 5]), ("2", [])], (1, 5), ("given", "predicted"))
    box = re.search(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)" rx="2" class="s0"', chart)
    top, height = map(float, box.groups())
    assert (top, top + height) == (85, 195)  # 4 and 2 on an axis from 250 px (1) to 30 px (5)
    assert chart.count('class="s0"') == 1  # none of the empty group


def test_text_in_charts_is_escaped_and_stays_inside():
    chart = effects_chart("<svg>", [("</title><script>" * 9, 0.3, "<i>"), ("b", -0.2, "")])
    assert "<script>" not in chart and "<i>" not in chart and "&lt;svg&gt;" in chart
    bars = [tuple(map(float, found)) for found in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart)]
    assert all(0 <= start and start + width <= WIDTH for start, width in bars) and bars[0][0] > bars[1][0]


def test_cards_show_title_text_and_chart():
    card = Card("What <is> it?", "It & that.", effects_chart("e", [("a", 1.0, "")]))
    page = PAGE.render(title="t", cards=[card], pictures=[])
    assert "<h3>What &lt;is&gt; it?</h3><p>It &amp; that.</p><svg" in page


def test_no_other_module_writes_a_frame_or_a_style():
    package = Path(__file__).parents[2] / "pamela_hf"
    for path in package.rglob("*.py"):
        if path.parent.name != "reports":
            text = path.read_text(encoding="utf-8").lower()
            assert "<!doctype" not in text and "<style" not in text and "<svg" not in text, path
