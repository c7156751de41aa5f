"""A prompt rewritten for one person.

pipeline_pamela: `PamelaPromptPipeline`.  search, surrogate: which prompts to try.  rendering: images and their scores.
run_folder: what is on disk.  runs, comparison: several runs.  loading: from names to a pipeline.  page, charts: report.
output: what a run returns.  best_of: the k best of n seeds.

May import: scoring, heads, refiners, reports and all below them.
"""

from ..exports import exports

__getattr__, __all__ = exports(
    __name__, best_of=["BestOf"], pipeline_pamela=["PamelaPromptOutput", "PamelaPromptPipeline"]
)
