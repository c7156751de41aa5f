"""The page that the evaluation report is shown on: style and template, without outside references."""

from jinja2 import Environment

from .charts import number

CSS = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #fff; --fg: #1d2026; --soft: #646b76; --line: #e2e4e8; --s0:
#2f6fde; --s1: #7fa9ec; --s2: #e0663a; --s3: #7d8590; --s4: #2a9d78; --s5: #9a62c7; --s6: #c2972b; --s7: #c64f84; }
@media (prefers-color-scheme: dark) { :root { --bg: #14161a; --card: #1c1f25; --fg: #e7e9ed; --soft: #9aa2ae; --line:
#31363f; --s0: #6ea2ff; --s1: #4567a3; --s2: #ff8f66; --s3: #8b95a3; --s4: #4cc79d; --s5: #bd8be6; --s6: #e0b94f; --s7:
#ea7fab; } } * { box-sizing: border-box } body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.55
system-ui, -apple-system, "Segoe UI", Roboto, sans-serif } main { max-width: 1200px; margin: 0 auto; padding: 40px 24px
64px } h1 { font-size: 28px; margin: 0 0 4px } h2 { font-size: 22px; margin: 56px 0 2px } h3 { font-size: 16px; margin:
0 } p { margin: 4px 0 } .soft, .card p { color: var(--soft); font-size: 14px } .lead { font-size: 20px; font-weight:
600; margin: 20px 0 4px } ul { margin: 0; padding-left: 22px } .badge { display: inline-block; vertical-align: middle;
margin-left: 10px; padding: 2px 12px; border-radius: 99px; background: var(--s2); color: var(--bg); font-size: 14px;
font-weight: 600 } .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap:
18px; margin: 18px 0; align-items: start }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding:
18px 20px 12px } svg { width: 100%; max-width: 640px; display: block; margin: 10px auto 0; font-size: 12.5px } svg text
{ fill: var(--fg) } svg .tick { fill: var(--soft); font-size: 12px } svg .value { font-weight: 600;
font-variant-numeric: tabular-nums } .grid { stroke: var(--line) } .axis { stroke: var(--soft) } .target { stroke:
var(--fg); stroke-dasharray: 4 3 } .whisker { stroke: var(--fg); stroke-width: 2 } .thin { stroke-width: 1.5; opacity:
.55 } SERIES .pale { opacity: .55 }
svg .curve { fill: none; stroke-width: 2.5 } svg rect { stroke: none } svg circle { stroke: var(--card) }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 14px } th, td { padding: 8px
12px; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; white-space: nowrap;
font-variant-numeric: tabular-nums } th:first-child { text-align: left; white-space: normal; min-width: 270px } tbody
th { font-weight: 600 } th small, td small { display: block; font-weight: 400; color: var(--soft); font-size: 12.5px }
td.best b { border-bottom: 3px solid var(--s0) } td b { font-weight: 400 } td.best b { font-weight: 700 } .key {
display: inline-block; width: 10px; height: 10px; border-radius: 99px; margin-right: 6px }
svg rect.ceiling { fill: var(--line); stroke: var(--soft); stroke-dasharray: 4 3 } details.card { margin-top: 18px }
summary { cursor: pointer } summary h2 { display: inline-block; margin: 40px 8px 2px 0 } footer { margin-top: 56px;
border-top: 1px solid var(--line); padding-top: 14px }
""".replace(
    "SERIES",
    "\n".join(
        f".s{k} {{ fill: var(--s{k}); stroke: var(--s{k}) }} .key.s{k} {{ background: var(--s{k}) }}" for k in range(8)
    ),
)

ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
ENVIRONMENT.filters |= {"number": number, "thousands": "{:,}".format, "count": lambda n: "–" if n is None else f"{n:,}"}
PAGE = ENVIRONMENT.from_string("""\
{% macro cell(one, digits=3) %}<b>{{ one.value | number(digits) }}</b>
<small>{% if one.ci_low is not none %}{{ one.ci_low | number(2) }} to {{ one.ci_high | number(2) }}{% endif %}</small>
{%- endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ meta.reference }} on {{ meta.data }}: how well are personal ratings predicted?</title>
<style>{{ css }}</style>
</head>
<body><main>
<h1>How well are people's own ratings predicted?
{% if meta.simulated %}<span class="badge">simulated</span>{% endif %}</h1>
<p class="soft">Ratings: {{ meta.data }}. Everything is judged person by person, then averaged over people.</p>
{% if meta.simulated %}
<p class="soft">The people and images of this report are simulated: it shows that the parts work, not how well real
taste is predicted.</p>
{% endif %}
{% for text, details in headlines %}
<p class="lead">{{ text }}</p>
<ul>{% for detail in details %}<li>{{ detail }}</li>{% endfor %}</ul>
{% endfor %}
{% if overall %}<div class="cards">
{% for title, text, chart in overall %}
<div class="card"><h3>{{ title }}</h3><p>{{ text }}</p>{{ chart }}</div>
{% endfor %}
</div>{% endif %}
{% if paper.held_out %}
<div class="card scroll"><h3>In the form of the paper's table: people never met (test_unseen)</h3>
<p>{% if paper.same_ratings %}These are the paper's own ratings: its figures stand beside ours.{% else %}
The paper's own figures are not shown beside these: the ratings are others.{% endif %}</p>
<table><thead><tr><th>Method</th>{% for metric in ("SROCC", "PLCC", "pairs ordered right") %}<th>{{ metric }}</th>
{% if paper.same_ratings %}<th>the paper's</th>{% endif %}{% endfor %}</tr></thead><tbody>
{% for row in paper.held_out %}
<tr><th>{{ row.scorer or row.method }}{% if row.scorer and row.paper %}<small>{{ row.method }}</small>{% endif %}</th>
{% for metric in paper.columns %}
{% if row.ours %}<td>{{ cell(row.ours[metric], 4) }}</td>{% else %}<td>–</td>{% endif %}
{% if paper.same_ratings %}<td>{{ row.paper[metric] | number(4) if row.paper else "–" }}</td>{% endif %}
{% endfor %}</tr>
{% endfor %}
</tbody></table>
<table><tbody>
{% for row in paper.claims %}
<tr><th>{{ row.claim }}</th><td>{% if row.ours %}{{ cell(row.ours) }}{% else %}–{% endif %}</td>
{% if paper.same_ratings %}<td>{{ row.paper | number(2) }}<small>the paper's</small></td>{% endif %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% for section in sections %}
<details class="split"{% if section.open %} open{% endif %}>
<summary><h2>{{ section.split }}</h2> {{ section.people }}</summary>
<p class="soft">{{ section.counts.ratings | thousands }} ratings of {{ section.counts.images | thousands }} images by
{{ section.counts.participants | thousands }} people; left out of the per-person means:
{{ section.counts.left_out.few_ratings }} with fewer than 6 ratings,
{{ section.counts.left_out.constant_ratings }} who rated everything alike. {{ section.use }}</p>
{% for note in section.notes %}<p class="soft">{{ note }}</p>
{% endfor %}<div class="cards">
{% for title, text, chart in section.charts %}
<div class="card"><h3>{{ title }}</h3><p>{{ text }}</p>{{ chart }}</div>
{% endfor %}
</div>
<div class="card scroll"><table>
<thead><tr><th>Every metric, with its 95 % interval over people</th>
{% for scorer, color in section.scorers %}<th><span class="key {{ color }}"></span>{{ scorer }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for metric, cells in section.table %}
<tr><th>{{ metric }}<small>{{ explanations[metric] }}</small></th>
{% for one, best in cells %}
<td{% if best %} class="best"{% endif %}>{{ cell(one) }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if section.groups %}
<details class="card scroll">
<summary>Every group, with counts: user_srocc and bias (predicted minus given rating)</summary>
<table><thead><tr><th>Group</th><th>people</th><th>ratings</th><th>images</th>
{% for scorer, color in section.grouped %}
<th><span class="key {{ color }}"></span>{{ scorer }}<small>user_srocc</small></th><th><small>bias</small></th>
{% endfor %}</tr></thead><tbody>
{% for row in section.groups %}
<tr><th>{{ row.value }}<small>{{ row.field }}{% if row.people is none %} · fewer than 5 people: not shown
{% elif row.few %} · few people{% endif %}</small></th>
<td>{{ row.people | count }}</td><td>{{ row.ratings | count }}</td><td>{{ row.images | count }}</td>
{% for one in row.cells %}<td>{% if one and one.value is not none %}{{ cell(one) }}{% else %}–{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></details>
{% endif %}
</details>
{% endfor %}
<footer class="soft">
<p><b>Scorers.</b> {% for name, about in meta.scorers.items() %}
{{ name }}: {{ "personal" if about.personal else "the same for everybody" }}{% if about.identity %},
identity {{ about.identity }}{% endif %}. {% endfor %}
<b>@no_user</b>: of the person it is told nothing but the demographics. <b>@wrong_user</b>: it is told somebody else's
name. <b>@k=20</b>: a new person whose first 20 ratings it has seen; <b>@k=0</b> is a new person as such.</p>
<p>Underlined: best of its row. Intervals: {{ meta.bootstrap | thousands }} bootstrap draws of people.
Seed {{ meta.seed }}, pamela_hf {{ meta.version }}.</p>
</footer>
</main></body>
</html>
""")
