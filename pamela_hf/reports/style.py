"""How every report looks: one style sheet, light and dark by the reader's setting, from a phone's width upward.

It is text in a module rather than a file of its own because a pushed pipeline carries the package's modules only.

The colours of the series were chosen greedily: each next one is as far as possible (in Oklab) from all before it, as
seen with usual sight and with a simulated lack of each of the three cones (Machado, Oliveira and Fernandes 2009), at a
contrast of 3 or more against the card behind it.
"""

LIGHT = (
    "#2f6fde", "#7c8794", "#d2521f", "#621b42", "#4a4c90", "#009ce9", "#006e69", "#962d00",
    "#7c61a8", "#008c4f", "#7f9c79", "#541076", "#004b67", "#a77fc5", "#734841", "#790000",
)  # fmt: skip
DARK = (
    "#6ea2ff", "#9aa5b1", "#ff8f66", "#fee657", "#b9efff", "#8e5b99", "#b74d00", "#cbd7ac",
    "#a77971", "#0099c8", "#ffbc49", "#617de6", "#a8caff", "#c96900", "#a4c19d", "#8156c0",
)  # fmt: skip
CARD = {"light": "#ffffff", "dark": "#1c1f25"}


def _variables(colors: tuple[str, ...]) -> str:
    return " ".join(f"--s{k}: {color};" for k, color in enumerate(colors))


_COLORS = f"""
:root {{ color-scheme: light dark; --bg: #fafaf8; --card: {CARD["light"]}; --fg: #1d2026; --soft: #5d6470;
  --line: #e2e4e8; --good: #1d7f5f; --warm: #c2481d; {_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ --bg: #14161a; --card: {CARD["dark"]}; --fg: #e7e9ed; --soft: #a3abb7;
  --line: #343941; --good: #4cc79d; --warm: #ff8f66; {_variables(DARK)} }} }}
"""
_PAGE = """
* { box-sizing: border-box }
body { margin: 0; background: var(--bg); color: var(--fg);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { max-width: 1200px; margin: 0 auto; padding: 40px 24px 64px; overflow-wrap: anywhere }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; text-wrap: balance }
h2 { font-size: 22px; line-height: 1.3; margin: 52px 0 6px }
h3 { font-size: 16px; margin: 0 }
h4 { font-size: 14px; margin: 14px 0 0; color: var(--soft); font-weight: 600 }
p { margin: 4px 0; max-width: 90ch }
.block > p { max-width: none }
a { color: var(--s0) }
ul, ol { margin: 6px 0; padding-left: 22px }
.soft, .card > p { color: var(--soft); font-size: 14px }
.lead { font-size: 20px; line-height: 1.4; font-weight: 600; margin: 20px 0 4px }
.big { font-size: 24px; font-weight: 700; font-variant-numeric: tabular-nums }
.badge { display: inline-block; vertical-align: middle; margin-left: 8px; padding: 2px 12px; border-radius: 99px;
  background: var(--warm); color: var(--card); font-size: 14px; font-weight: 600; line-height: 1.6 }
.note { border-left: 4px solid var(--warm); background: color-mix(in srgb, var(--warm) 9%, transparent);
  padding: 8px 14px; border-radius: 0 8px 8px 0; max-width: none; margin: 12px 0 }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr)); gap: 18px;
  margin: 18px 0; align-items: start }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; min-width: 0;
  margin: 0 }
.block, .card + .card.scroll, .cards + .card.scroll, details.card { margin-top: 18px }
summary { cursor: pointer }
summary h2 { display: inline-block; margin: 40px 8px 2px 0 }
footer { margin-top: 56px; border-top: 1px solid var(--line); padding-top: 14px }
@media (max-width: 600px) {
  main { padding: 24px 14px 48px } h1 { font-size: 25px } h2 { margin-top: 40px } .card { padding: 14px } }
"""
_TABLES = """
.scroll { overflow-x: auto; overflow-wrap: normal }
table { border-collapse: collapse; width: 100%; font-size: 14px }
th, td { padding: 8px 12px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 150px }
table.wide th:first-child, table.wide td:first-child { min-width: min(270px, 55vw) }
tbody th { font-weight: 600 }
th small, td small { display: block; font-weight: 400; color: var(--soft); font-size: 12.5px }
td b { font-weight: 400 }
td.best b { font-weight: 700; border-bottom: 3px solid var(--s0) }
td.own { background: color-mix(in srgb, var(--s0) 14%, transparent); font-weight: 700 }
"""
_PICTURES = """
figure { margin: 0; min-width: 0 }
figcaption { margin-top: 6px; font-size: 14px; line-height: 1.4 }
figcaption.center { text-align: center; font-size: 13px; font-variant-numeric: tabular-nums }
img { width: 100%; height: auto; border-radius: 8px; display: block; background: var(--line) }
img.pixels { image-rendering: pixelated }
.sheet { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); margin: 10px 0 }
.sheet.small { gap: 8px; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)) }
.sheet.two { grid-template-columns: repeat(2, minmax(0, 1fr)) }
.sheet.eight { grid-template-columns: repeat(8, minmax(0, 1fr)) }
.sheet.one { grid-template-columns: minmax(0, 320px) }
.pair { display: grid; gap: 18px; margin: 16px 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)) }
.came { background: color-mix(in srgb, var(--good) 22%, transparent); border-radius: 4px; padding: 0 4px }
.went { text-decoration: line-through; color: var(--soft) }
.up { color: var(--good) } .down { color: var(--warm) }
@media (max-width: 900px) { .sheet.two { grid-template-columns: repeat(2, minmax(0, 1fr)) }
.sheet.eight { grid-template-columns: repeat(4, minmax(0, 1fr)) } }
@media (max-width: 600px) { .sheet { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 8px } }
"""
_CHARTS = """
svg { width: 100%; max-width: 480px; display: block; margin: 10px auto 0; font-size: 13px }
svg text { fill: var(--fg); paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round }
svg .tick { fill: var(--soft); font-size: 12px }
svg .value { font-weight: 600; font-variant-numeric: tabular-nums }
svg rect { stroke: none } svg .mark { stroke: var(--card) }
.grid { stroke: var(--line) } .axis { stroke: var(--soft) } .target { stroke: var(--fg); stroke-dasharray: 4 3 }
.whisker { stroke: var(--fg); stroke-width: 2 } .thin { stroke-width: 1.5; opacity: .6 }
svg .curve { fill: none; stroke-width: 2.5 } .again { stroke-dasharray: 6 4 } .pale { opacity: .55 }
svg rect.ceiling { fill: var(--line); stroke: var(--soft); stroke-dasharray: 4 3 }
.shade { fill: var(--warm); opacity: .09 } .band { fill: var(--s0); opacity: .16 }
.win { fill: var(--s0) } .base { fill: var(--fg) } .plain { fill: var(--s1) }
svg .barred { fill: var(--card); stroke: var(--soft) }
.edge { fill: none; stroke: var(--line); stroke-width: 1.2 } .vein { fill: none; stroke: var(--s0); stroke-width: 2.5 }
rect.more { fill: var(--good) } rect.less { fill: var(--warm) }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 99px; margin-right: 6px }
"""
_SERIES = "\n".join(
    f".s{k} {{ fill: var(--s{k}); stroke: var(--s{k}) }} .key.s{k} {{ background: var(--s{k}) }}"
    for k in range(len(LIGHT))
)
CSS = "\n".join([_COLORS, _PAGE, _TABLES, _PICTURES, _SERIES, _CHARTS])
