"""Scores: the reward model with its processor, and what any scorer gives.

scorer: `PamelaScorer`.  folder: `score_folder`, every image of a folder.  predictions: `Scorer` and `Predictions`, the
contract of evaluation and of rivals.  arrays: ratings and choices as row numbers.  mode: eval mode from many threads.

May import: encoder, ratings, folder_cache and all below them; never training.
"""

from ..exports import exports

__getattr__, __all__ = exports(
    __name__,
    arrays=["ChoiceArrays", "RatingArrays", "encode_choices", "encode_ratings"],
    folder=["best_first", "image_facts", "score_batch", "score_folder", "skipped_path", "staged_scores",
            "write_scores", "write_skipped"],
    mode=["scoring_mode"],
    predictions=["Predictions", "Scorer", "choice_credit"],
    scorer=["Head", "PamelaScorer", "ScoreResult", "SingleScore"],
)
