"""What the pages of prompt runs share: the frame, how they look, how numbers are written.

No script, all text escaped (a language model wrote most of it), light and dark by the reader's setting.
"""

import math

from jinja2 import Environment
from markupsafe import Markup


def number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    return ("+" if value is not None and value > 0 else "") + number(value, digits)


CSS = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #fff; --fg: #1d2026; --soft: #646b76; --line: #e2e4e8;
--main: #2f6fde; --pale: #9db9ea; --warm: #e0663a; --good: #2a9d78; --shade: #e0663a14 }
@media (prefers-color-scheme: dark) { :root { --bg: #14161a; --card: #1c1f25; --fg: #e7e9ed; --soft: #9aa2ae;
--line: #31363f; --main: #6ea2ff; --pale: #45618f; --warm: #ff8f66; --good: #4cc79d; --shade: #ff8f6618 } }
* { box-sizing: border-box } body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.55 system-ui,
-apple-system, "Segoe UI", Roboto, sans-serif } main { max-width: 1200px; margin: 0 auto; padding: 40px 24px 64px }
h1 { font-size: 28px; margin: 0 0 4px } h2 { font-size: 21px; margin: 44px 0 6px } h3 { font-size: 16px; margin: 0 }
p { margin: 4px 0 } .soft, .card p { color: var(--soft); font-size: 14px } .lead { font-size: 20px; font-weight: 600;
margin: 18px 0 4px } .badge { display: inline-block; vertical-align: middle; margin-left: 10px; padding: 2px 12px;
border-radius: 99px; background: var(--warm); color: var(--bg); font-size: 14px; font-weight: 600 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 18px;
margin: 18px 0 } .card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
padding: 18px 20px 14px } svg { width: 100%; max-width: 640px; display: block; margin: 10px auto 0; font-size: 12.5px }
svg text { fill: var(--fg) } svg .tick { fill: var(--soft); font-size: 12px } svg .value { font-weight: 600 }
.grid { stroke: var(--line) } .axis { stroke: var(--soft) } .target { stroke: var(--warm); stroke-dasharray: 4 3 }
.shade { fill: var(--shade) } .band { fill: var(--main); opacity: .14 } .curve { fill: none; stroke: var(--main);
stroke-width: 2.5 } .dot { fill: var(--pale) } .win { fill: var(--main) } .base { fill: var(--fg) }
.barred { fill: var(--card); stroke: var(--soft); opacity: .8 } .edge { fill: none; stroke: var(--line);
stroke-width: 1.2 } .vein { fill: none; stroke: var(--main); stroke-width: 2.5 } .up { fill: var(--good) }
.down { fill: var(--warm) } .pair { display: grid;
grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 24px; margin: 14px 0 } figure { margin: 0 }
.sheet { display: grid; gap: 8px;
grid-template-columns: repeat(auto-fill, minmax(110px, 1fr)) } .sheet.one { grid-template-columns: minmax(0, 320px) }
figure img { width: 100%; border-radius: 10px; display: block; image-rendering: auto } figcaption { margin-top: 8px }
.prompt { overflow-wrap: anywhere } .came { background: color-mix(in srgb, var(--good) 22%, transparent);
border-radius: 4px; padding: 0 4px } .went { text-decoration: line-through; color: var(--soft) }
.big { font-size: 24px; font-weight: 700; font-variant-numeric: tabular-nums } .scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: 14px } th, td { padding: 7px 12px; border-bottom: 1px solid
var(--line); text-align: right; vertical-align: top; font-variant-numeric: tabular-nums } th:first-child,
td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 240px } ol { margin: 6px 0; padding-left: 22px }
.people { display: grid; gap: 18px; margin: 18px 0; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)) }
.people h3 { margin-bottom: 8px } td img { width: 84px; border-radius: 8px; display: block; margin-left: auto }
td.own { background: color-mix(in srgb,
var(--main) 12%, transparent) } footer { margin-top: 48px; border-top: 1px solid var(--line); padding-top: 14px }
"""


_FRAME = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'">
<title>{% block title %}{% endblock %}</title>
<style>{{ css }}</style>
</head>
<body><main>
{% block content %}{% endblock %}
</main></body>
</html>
"""

ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
ENVIRONMENT.filters |= {"number": number, "signed": signed}
ENVIRONMENT.globals |= {"css": Markup(CSS), "frame": ENVIRONMENT.from_string(_FRAME)}
