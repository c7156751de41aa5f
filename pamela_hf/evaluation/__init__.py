"""How well a scorer predicts people's own ratings, person by person.

evaluate: the run.  few_shot: newcomers.  choices: choices between two images.  calibration, disagreement, groups,
noise_ceiling, paper: further tables.  page, group_charts: report.html.  table: the console.

May import: baselines, heads, reports and all below them.
"""

from ..exports import exports

__getattr__, __all__ = exports(__name__, evaluate=["evaluate", "run"])
