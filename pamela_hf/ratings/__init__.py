"""Ratings and choices from anywhere as checked tables.

table: the columns, and what holds of them.  sources/: one module a layout, found by its name.  builder: reads, checks,
`datasets` splits.  splits, near_duplicates: dividing what comes undivided.  preparation: the Parquet folder.
card: its README.md.

May import: files, metrics, model, embeddings, hub.
"""

from ..exports import exports

__getattr__, __all__ = exports(
    __name__,
    builder=["PamelaRatings", "load_ratings"],
    preparation=["prepare"],
    splits=["split_answers", "split_ratings"],
    table=["RatingData", "RatingError", "join_ratings"],
)
