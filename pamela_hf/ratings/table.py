"""The rating row and the choice row: two tables, enforced wherever answers come in. See :class:`RatingData` for them.

A source (``sources/<name>.py``) says where raw rows are (:class:`RatingSource`); ``sources/_rows.py`` turns them
into rows of the tables or says what is wrong with them; :func:`pamela_hf.ratings.splits.split_answers` divides what
comes without splits so that nothing leaks; :func:`join_ratings` puts several sources side by side.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa

from ..files.hashing import sha256_of

logger = logging.getLogger(__name__)

SPLITS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen", "support_unseen")
SPLIT_BY = ("user+image", "image", "none")  # how ratings without splits may be divided
UNSPLIT = "all"  # the one key of `RatingSource.rows` when ratings come without splits
DEMOGRAPHIC_FIELDS = ("age_binned", "gender", "nationality")
METADATA_FIELDS = ("group", "style", "type")
RATING_COLUMNS = ("participant_id", "image_id", "prompt", "score", "rating_scale", "age")
RATING_COLUMNS += DEMOGRAPHIC_FIELDS + METADATA_FIELDS
IMAGE_COLUMNS = ("image_id", "prompt", *METADATA_FIELDS)
SIDES = ("preferred", "other")
CHOICE_COLUMNS = ("participant_id", "preferred_id", "other_id", "tie", "prompt", "age", *DEMOGRAPHIC_FIELDS)
CHOICE_COLUMNS += tuple(f"{side}_{fact}" for side in SIDES for fact in IMAGE_COLUMNS[1:])
TEXT_COLUMNS = frozenset(RATING_COLUMNS + CHOICE_COLUMNS) - {"score", "age", "tie"}

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
"""The table of ratings of :class:`RatingData` in Arrow's terms."""

CHOICE_SCHEMA = pa.schema(
    [
        *(pa.field(column, pa.string(), nullable=False) for column in CHOICE_COLUMNS[:3]),
        pa.field("tie", pa.bool_(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("age", pa.int64()),
        *(pa.field(column, pa.string()) for column in CHOICE_COLUMNS[6:]),
    ]
)
"""The table of choices of :class:`RatingData` in Arrow's terms."""

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
        dataset: the public dataset on the Hub that the ratings were read from; `None` for ratings from elsewhere.
            Publishing looks there for who is public already.
        revision: commit of that dataset; `None` for ratings from elsewhere.
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
    """Checked answers by split: ratings, one row for each (participant, image), and choices, one row a comparison.

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

    A choice says which of two images somebody preferred. The same person may be asked about the same pair again.

    ===========================  ===============  ====================================================
    column                       dtype            meaning
    ===========================  ===============  ====================================================
    participant_id               categorical str  who chose; never missing
    preferred_id, other_id       categorical str  the two images, never missing and never the same
    tie                          bool             neither was preferred; which is named first means nothing
    prompt                       categorical str  what both images were made from; missing = NaN, as below
    age, age_binned, gender,     as above         of the person who chose
    nationality
    preferred_prompt,            categorical str  an image's own prompt, where the two differ
    other_prompt
    preferred_group, …,          categorical str  the images' metadata, as the source writes them
    other_type
    ===========================  ===============  ====================================================

    Attributes:
        name: the source's name; prefixes ids when sources are joined.
        splits: split (of `SPLITS`) → table of ratings with the columns `RATING_COLUMNS`, in the source's row order.
            (participant_id, image_id) occurs once over all splits. All splits share their categories. Empty where
            there are choices only.
        level_values: rating scale → its ascending levels.
        embeddings: an ``embeddings.safetensors`` that came with the ratings.
        open_image: image_id → stream of the image file's bytes; raises KeyError for an unknown id.
            None if the ratings came without images.
        releases: prefix of participant ids ("" or, of joined sources, ``source/``) → the release they are known
            from. All other participants are one's own, who are published under pseudonyms only.
        choices: split → table of choices with the columns `CHOICE_COLUMNS`, in the source's row order. Both images
            of a choice belong to its split. Empty where there are ratings only.
        sources: names of the sources that were joined, which prefix all ids; empty for one alone.
    """

    name: str
    splits: dict[str, pd.DataFrame]
    level_values: dict[str, tuple[float, ...]]
    embeddings: Path | None = None
    open_image: Callable[[str], BinaryIO] | None = None
    releases: dict[str, Release] = field(default_factory=dict)
    choices: dict[str, pd.DataFrame] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def images(self) -> pd.DataFrame:
        """The images rated or compared in any split, once each, in order of first appearance: `IMAGE_COLUMNS`.

        Where rows disagree on an image's prompt or metadata the first row counts (and a warning says so).
        """
        tables = [table[list(IMAGE_COLUMNS)].drop_duplicates() for table in self.splits.values()]
        if self.choices:
            compared = [compared_images(table) for table in self.choices.values()]
            tables = [_with_known_facts([*(table.astype(object) for table in tables), *compared])]
        rows = pd.concat(tables, ignore_index=True).drop_duplicates()
        images = rows.drop_duplicates("image_id").reset_index(drop=True)
        if len(images) < len(rows):
            logger.warning(
                "%s: %d images have rows that disagree on prompt or metadata; the first row counts.",
                self.name,
                rows[rows.duplicated("image_id")].image_id.nunique(),
            )
        return images


def compared_images(choices: pd.DataFrame) -> pd.DataFrame:
    """The images of a table of choices as `IMAGE_COLUMNS`: in each row the preferred one and then the other, each
    (image, facts) once. An image's prompt is its own where the row names it, else that of both."""
    parts = []
    for side in SIDES:
        part = choices[[f"{side}_{column.removeprefix('image_')}" for column in IMAGE_COLUMNS]].set_axis(
            list(IMAGE_COLUMNS), axis=1
        )
        own, shared = part["prompt"].astype(object), choices["prompt"].astype(object)
        parts.append(part.assign(prompt=own.where(own.notna(), shared)))
    return pd.concat([part.astype(object) for part in parts]).sort_index(kind="stable").drop_duplicates()


def _with_known_facts(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows (columns `IMAGE_COLUMNS`), a fact that a row lacks taken from the image's first row that has it."""
    rows = pd.concat(tables, ignore_index=True).drop_duplicates()
    first = rows.groupby("image_id", sort=False)[list(IMAGE_COLUMNS[1:])].transform("first")
    return rows.fillna(first)


@dataclass
class RatingSource:
    """Where raw ratings are: what ``open_source`` of a module in ``sources/`` returns.

    Attributes:
        name: short name of these ratings (letters, digits, ``_ . -``); their rating scale is named so too.
        rows: split → function that starts reading that split's ratings anew, as `RawRow`s whose dict has keys of
            `RATING_COLUMNS` and ``image_path``; further keys are ignored and named once. The only key is
            `UNSPLIT` if the ratings come without splits. Yielding must stay incremental (bounded memory).
        digest: (with image bytes?) → hash of all content that the rows (and the images) come from.
        labels: column → what the file calls it, for error messages.
        level_values: the levels, ascending, if the source knows them; otherwise they are read from train.
        scales: the same by name, for rows that name their ``rating_scale`` themselves.
        slider: a score between the levels' ends that is not a level is moved to the nearest (binned sliders).
        locate: (image_id, image_path or None) → where the image is, in whatever form `open_image` takes;
            raises ValueError, saying what is wrong, if it is missing. `None` if there is nothing to check against.
        open_image: what `locate` returned → stream of the image file's bytes.
        embeddings: an ``embeddings.safetensors`` beside the ratings.
        release: where these ratings were published by their owners; `None` for one's own raters.
        choices: like `rows`, of choices: keys of `CHOICE_COLUMNS` and, of each side, ``preferred_path`` and
            ``other_path`` for `locate`. `rows` may be empty then. Where both come without splits, both have `UNSPLIT`.
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
    choices: dict[str, Callable[[], Iterable[RawRow]]] = field(default_factory=dict)

    @property
    def unsplit(self) -> bool:
        """Whether the answers come without splits."""
        return UNSPLIT in self.rows or UNSPLIT in self.choices

    @property
    def splits(self) -> list[str]:
        """The splits that ratings or choices come in, in the order of `SPLITS`; [`UNSPLIT`] without any."""
        return [split for split in (UNSPLIT, *SPLITS) if split in self.rows or split in self.choices]


def digest_files(paths: Iterable[Path], *, content: bool = True) -> str:
    """SHA-256 over names and bytes of files; without `content` over names, sizes and times of change."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{'' if content else status.st_mtime_ns}\0".encode())
        if content:
            with open(path, "rb") as stream:
                digest.update(sha256_of(stream).digest())
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
    level_values: dict[str, tuple[float, ...]] = {}
    ratings: dict[str, list[pd.DataFrame]] = {}
    choices: dict[str, list[pd.DataFrame]] = {}
    for source in sources:
        alone = len(source.level_values) == 1
        scales = {scale: source.name if alone else f"{source.name}/{scale}" for scale in source.level_values}
        level_values |= {scales[scale]: levels for scale, levels in source.level_values.items()}
        for split, table in source.splits.items():
            scale = table.rating_scale.cat.rename_categories(scales)
            table = _prefixed(table, source.name, ("participant_id", "image_id")).assign(rating_scale=scale)
            ratings.setdefault(split, []).append(table)
        for split, table in source.choices.items():
            choices.setdefault(split, []).append(_prefixed(table, source.name, CHOICE_COLUMNS[:3]))
    openers = {source.name: source.open_image for source in sources if source.open_image is not None}

    def open_image(image_id: str) -> BinaryIO:
        name, _, own_id = image_id.partition("/")
        return openers[name](own_id)

    releases = {f"{source.name}/{prefix}": r for source in sources for prefix, r in source.releases.items()}
    return RatingData(
        "+".join(names), _stacked(ratings), level_values, None, open_image if openers else None, releases,
        _stacked(choices), tuple(names),
    )  # fmt: skip


def _prefixed(table: pd.DataFrame, name: str, columns: Iterable[str]) -> pd.DataFrame:
    """The table with ids as ``name/id``."""
    ids = {
        column: table[column].cat.rename_categories([f"{name}/{value}" for value in table[column].cat.categories])
        for column in columns
    }
    return table.assign(**ids)


def _stacked(tables: Mapping[str, list[pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Each split's tables, one under the other, with categories that all splits share."""
    everything = [table for of_split in tables.values() for table in of_split]
    columns = [column for column in everything[0].columns if column in TEXT_COLUMNS] if everything else []
    shared = {
        column: pd.CategoricalDtype(
            pd.Index(sorted(set().union(*(table[column].cat.categories for table in everything))), dtype="str")
        )
        for column in columns
    }
    return {
        split: pd.concat([table.astype(shared) for table in tables[split]], ignore_index=True)
        for split in SPLITS
        if split in tables
    }


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
