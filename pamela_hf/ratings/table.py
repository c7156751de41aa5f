"""The rating row: one table, enforced wherever ratings come in. See :class:`RatingData` for the table.

A source (``sources/<name>.py``) says where raw rows are (:class:`RatingSource`); ``sources/_rows.py`` turns them
into rows of the table or says what is wrong with them; :func:`split_ratings` divides ratings that come
without splits so that nothing leaks; :func:`join_ratings` puts several sources side by side.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa

logger = logging.getLogger(__name__)

SPLITS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen", "support_unseen")
SPLIT_BY = ("user+image", "image", "none")  # how ratings without splits may be divided
UNSPLIT = "all"  # the one key of `RatingSource.rows` when ratings come without splits
DEMOGRAPHIC_FIELDS = ("age_binned", "gender", "nationality")
METADATA_FIELDS = ("group", "style", "type")
RATING_COLUMNS = ("participant_id", "image_id", "prompt", "score", "rating_scale", "age")
RATING_COLUMNS += DEMOGRAPHIC_FIELDS + METADATA_FIELDS
IMAGE_COLUMNS = ("image_id", "prompt", *METADATA_FIELDS)

RATING_SCHEMA = pa.schema(
    [
        pa.field("participant_id", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("rating_scale", pa.string(), nullable=False),
        pa.field("age", pa.int64()),
        *(pa.field(column, pa.string()) for column in (*DEMOGRAPHIC_FIELDS, *METADATA_FIELDS)),
    ]
)
"""The table of :class:`RatingData` in Arrow's terms."""

MAX_LEVELS = 101  # 0..100: the finest slider whose marks a scale may take as levels

RawRow = tuple[str, int, Any]
"""(file, row number counted from 1, the row as a dict by column name, not yet checked). A source that finds
something wrong with a row itself says so, in a sentence, under the key None."""


class RatingError(ValueError):
    """Ratings that cannot be accepted: the message names file, row, value, what is allowed and what to do."""


def integer_levels(rating_min: float, rating_max: float) -> tuple[float, ...]:
    """The levels ``rating_min, rating_min + 1, …, rating_max``.

    Raises:
        RatingError: unless both are integers and 2 to 101 levels lie between them, ends included.
    """
    for name, value in (("rating_min", rating_min), ("rating_max", rating_max)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
            raise RatingError(f"{name} is {value!r}; an integer is needed. Give both ends, such as 1 and 5.")
    if not 2 <= rating_max - rating_min + 1 <= MAX_LEVELS:
        raise RatingError(
            f"rating_min={rating_min} and rating_max={rating_max} make a scale of "
            f"{int(rating_max - rating_min + 1)} levels; 2 to {MAX_LEVELS} are allowed. Give the ends of the scale "
            "that people rated on, such as 1 and 5."
        )
    return tuple(float(level) for level in range(int(rating_min), int(rating_max) + 1))


@dataclass(frozen=True)
class Release:
    """What the owners of published ratings say of them; the participants' ids are theirs and public already.

    Attributes:
        license: as the Hub writes it, such as "cc-by-4.0"; "other" where it has terms of its own.
        url: where the ratings are described or obtained.
        citation: the paper to cite, in one line.
        dataset, revision: the public dataset on the Hub, and its commit, that the ratings were read from; `None` for
            ratings from elsewhere. Publishing looks there for who is public already.
    """

    license: str
    url: str
    citation: str
    dataset: str | None = None
    revision: str | None = None

    def known(self) -> dict[str, str]:
        """Its fields that have a value, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class RatingData:
    """Checked ratings by split, one row for each (participant, image).

    ========================  ==================  ====================================================
    column                    dtype               meaning
    ========================  ==================  ====================================================
    participant_id            categorical str     who rated; never missing
    image_id                  categorical str     what was rated; never missing
    prompt                    categorical str     the image's text; missing = NaN, as in all below
    score                     float32             the rating: a level of its rating scale, never missing
    rating_scale              categorical str     key of `level_values`; never missing
    age                       Int64               years, 1..120
    age_binned                categorical str     such as "30-39"
    gender, nationality       categorical str     as the source writes them
    group, style, type        categorical str     the image's metadata, as the source writes them
    ========================  ==================  ====================================================

    Attributes:
        name: the source's name; prefixes ids when sources are joined.
        splits: split (of `SPLITS`) → table with the columns `RATING_COLUMNS`, in the source's row order.
            (participant_id, image_id) occurs once over all splits. All splits share their categories.
        level_values: rating scale → its ascending levels.
        embeddings: an ``embeddings.safetensors`` that came with the ratings.
        open_image: image_id → stream of the image file's bytes; raises KeyError for an unknown id.
            None if the ratings came without images.
        releases: prefix of participant ids ("" or, of joined sources, ``source/``) → the release they are known
            from. All other participants are one's own, who are published under pseudonyms only.
    """

    name: str
    splits: dict[str, pd.DataFrame]
    level_values: dict[str, tuple[float, ...]]
    embeddings: Path | None = None
    open_image: Callable[[str], BinaryIO] | None = None
    releases: dict[str, Release] = field(default_factory=dict)

    def images(self) -> pd.DataFrame:
        """The images rated in any split, once each, in order of first appearance: `IMAGE_COLUMNS`.

        Where rows disagree on an image's prompt or metadata the first row counts (and a warning says so).
        """
        tables = [table[list(IMAGE_COLUMNS)].drop_duplicates() for table in self.splits.values()]
        rows = pd.concat(tables, ignore_index=True).drop_duplicates()
        images = rows.drop_duplicates("image_id").reset_index(drop=True)
        if len(images) < len(rows):
            logger.warning(
                "%s: %d images have rows that disagree on prompt or metadata; the first row counts.",
                self.name,
                rows[rows.duplicated("image_id")].image_id.nunique(),
            )
        return images


@dataclass
class RatingSource:
    """Where raw ratings are: what ``open_source`` of a module in ``sources/`` returns.

    Attributes:
        name: short name of these ratings (letters, digits, ``_ . -``); their rating scale is named so too.
        rows: split → function that starts reading that split's rows anew, as `RawRow`s whose dict has keys of
            `RATING_COLUMNS` and ``image_path``; further keys are ignored and named once. The only key is
            `UNSPLIT` if the ratings come without splits. Yielding must stay incremental (bounded memory).
        digest: (with image bytes?) → hash of all content that the rows (and the images) come from.
        labels: column → what the file calls it, for error messages.
        level_values: the levels, ascending, if the source knows them; otherwise they are read from train.
        scales: the same by name, for rows that name their ``rating_scale`` themselves.
        slider: a score between the levels' ends that is no level is moved to the nearest (binned sliders).
        locate: (image_id, image_path or None) → where the image is, in whatever form `open_image` takes;
            raises ValueError, saying what is wrong, if it is missing. None: nothing to check against.
        open_image: what `locate` returned → stream of the image file's bytes.
        embeddings: an ``embeddings.safetensors`` beside the ratings.
        release: where these ratings were published by their owners; None: one's own raters.
    """

    name: str
    rows: dict[str, Callable[[], Iterable[RawRow]]]
    digest: Callable[[bool], str]
    labels: dict[str, str] = field(default_factory=dict)
    level_values: tuple[float, ...] | None = None
    scales: dict[str, tuple[float, ...]] = field(default_factory=dict)
    slider: bool = False
    locate: Callable[[str, str | None], Any] | None = None
    open_image: Callable[[Any], BinaryIO] | None = None
    embeddings: Path | None = None
    release: Release | None = None


def digest_files(paths: Iterable[Path], *, content: bool = True) -> str:
    """SHA-256 over names and bytes of files; without `content` over names, sizes and times of change."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{'' if content else status.st_mtime_ns}\0".encode())
        if content:
            with open(path, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def join_ratings(sources: Sequence[RatingData]) -> RatingData:
    """Puts several sources side by side, to train on them jointly.

    Participant and image ids become ``source/id``; the rating scale of a source is named after the source
    (``source/scale`` where a source has several). `embeddings` is None: each source keeps its own file.

    Raises:
        RatingError: no source, or two with one name.
    """
    names = [source.name for source in sources]
    if not names or len(set(names)) < len(names):
        raise RatingError(
            f"join_ratings got sources named {names}; at least one, with different names, is needed. "
            "Give each its own: load_ratings(…, name=NAME)."
        )
    tables: dict[str, list[pd.DataFrame]] = {}
    level_values = {}
    for source in sources:
        alone = len(source.level_values) == 1
        scales = {scale: source.name if alone else f"{source.name}/{scale}" for scale in source.level_values}
        level_values |= {scales[scale]: levels for scale, levels in source.level_values.items()}
        for split, table in source.splits.items():
            prefixed = {
                column: table[column].cat.rename_categories(
                    [f"{source.name}/{value}" for value in table[column].cat.categories]
                )
                for column in ("participant_id", "image_id")
            }
            scale = table.rating_scale.cat.rename_categories(scales)
            tables.setdefault(split, []).append(table.assign(**prefixed, rating_scale=scale))
    text_columns = [column for column in RATING_COLUMNS if column not in ("score", "age")]
    everything = [table for of_split in tables.values() for table in of_split]
    shared = {
        column: pd.CategoricalDtype(
            pd.Index(sorted(set().union(*(table[column].cat.categories for table in everything))), dtype="str")
        )
        for column in text_columns
    }
    splits = {
        split: pd.concat([table.astype(shared) for table in tables[split]], ignore_index=True)
        for split in SPLITS
        if split in tables
    }
    openers = {source.name: source.open_image for source in sources if source.open_image is not None}

    def open_image(image_id: str) -> BinaryIO:
        name, _, own_id = image_id.partition("/")
        return openers[name](own_id)

    releases = {f"{source.name}/{prefix}": r for source in sources for prefix, r in source.releases.items()}
    return RatingData("+".join(names), splits, level_values, None, open_image if openers else None, releases)


def standardized_scores(ratings: pd.DataFrame) -> pd.Series:
    """Each rating in its rater's own standard deviations from the rater's mean, both of the ratings on its scale alone;
    NaN where all of these are equal."""
    score = ratings["score"].astype(float)
    people = score.groupby([ratings["participant_id"].astype(str), ratings["rating_scale"].astype(str)])
    spread = people.transform("std", ddof=0)
    return (score - people.transform("mean")).div(spread.where(spread > 0))


def consensus_targets(train: pd.DataFrame) -> pd.DataFrame:
    """Per image (index: its id): `target` (mean of within-person standardized ratings), `raters`, `group` (prompt).

    People whose ratings are all equal say nothing about which image is better and are left out.
    """
    table = pd.DataFrame(
        {
            "image": train["image_id"].astype(str),
            "z": standardized_scores(train),
            "prompt": train["prompt"].astype(object).where(train["prompt"].notna(), train["image_id"].astype(object)),
        }
    ).dropna(subset=["z"])
    return table.groupby("image").agg(target=("z", "mean"), raters=("z", "size"), group=("prompt", "first"))
