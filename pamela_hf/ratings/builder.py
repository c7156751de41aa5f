"""Ratings and choices from anywhere as checked tables, and as typed `datasets` splits."""

import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import datasets
import numpy as np
import pandas as pd
from huggingface_hub import DatasetCard, HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from ..files.images import verify_image
from .sources import open_source
from .sources._rows import RowChecker, read_choices, read_tables
from .sources.prepared import card_release
from .splits import split_answers
from .table import (
    CHOICE_COLUMNS,
    IMAGE_COLUMNS,
    RATING_COLUMNS,
    SIDES,
    SPLITS,
    UNSPLIT,
    RatingData,
    RatingError,
    RatingSource,
    Release,
    integer_levels,
)

logger = logging.getLogger(__name__)

# Strings rather than ClassLabel throughout: no vocabulary here is closed. Other releases know other genders,
# groups and types; a missing value has no label; and splits whose labels are numbered differently can be
# neither concatenated nor streamed before everything was read once. Parquet stores repeated strings once anyway.
_DTYPES = {"score": "float32", "age": "int64", "tie": "bool"}
RATING_FEATURES = datasets.Features({c: datasets.Value(_DTYPES.get(c, "string")) for c in RATING_COLUMNS})
CHOICE_FEATURES = datasets.Features({c: datasets.Value(_DTYPES.get(c, "string")) for c in CHOICE_COLUMNS})
IMAGE_FEATURES = datasets.Features(
    {
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        **{column: datasets.Value("string") for column in IMAGE_COLUMNS[1:]},
    }
)

IMAGE_SPLIT = "images"
ANSWERS = ("ratings", "choices")  # configs of a prepared folder; the first that is there is its default
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


def load_ratings(
    data: str | Path,
    *,
    name: str | None = None,
    rating_min: float | None = None,
    rating_max: float | None = None,
    quarantine: str | Path | None = None,
    splits: Iterable[str] | None = None,
    split_seed: int | None = None,
    source: str | None = None,
    **options: Any,
) -> RatingData:
    """Reads and checks ratings and choices, whatever form they come in.

    Args:
        data: a folder or zip in the released layout, a CSV, a prepared Parquet folder, the Hub id of one, or any other
            layout of :func:`pamela_hf.ratings.sources.source_names`.
        name: what to call these ratings (letters, digits, ``_ . -``); None: the source's own name.
        rating_min: lower end of the rating scale, an integer, given with `rating_max` or not at all; None: the
            source's levels, else from the smallest integer of train.
        rating_max: upper end of the rating scale, an integer, given with `rating_min` or not at all; None: the
            source's levels, else up to the largest integer of train.
        quarantine: file that bad rows are set aside in, one JSON object a line; None: a bad row is an error.
        splits: which of `SPLITS` to return; None: all there are.
        split_seed: answers that come without splits (CSV) are all ``train`` if None; an integer divides them
            with :func:`pamela_hf.ratings.splits.split_answers`.
        source: module of ``pamela_hf/sources`` that reads `data`; None: the one that matches.
        options: that module's own, such as ``images=FOLDER`` of ``csv``.

    Raises:
        RatingError: what is wrong, where, what is allowed, what to do.
    """
    opened = find_source(data, source, rating_min=rating_min, rating_max=rating_max, **options)
    return read_source(rename_source(opened, name), quarantine=quarantine, splits=splits, split_seed=split_seed)


def find_source(data: str | Path, source: str | None, **options: Any) -> RatingSource:
    if not Path(data).exists() and source is None and HUB_ID.fullmatch(str(data)):
        return _hub_source(str(data), **options)
    return open_source(data, source, **options)


def rename_source(source: RatingSource, name: str | None) -> RatingSource:
    if name is None or name == source.name:
        return source
    if not re.fullmatch(r"[\w.-]+", name):
        raise RatingError(f"name is {name!r}; letters, digits, '_', '.' and '-' are allowed.")
    return replace(source, name=name)


def read_source(
    source: RatingSource,
    *,
    quarantine: str | Path | None = None,
    splits: Iterable[str] | None = None,
    split_seed: int | None = None,
    check_images: bool = False,
) -> RatingData:
    """The checked ratings of an opened source; see [`load_ratings`].

    Args:
        source: where they are.
        quarantine: file that bad rows are set aside in, as in [`load_ratings`].
        splits: which of `SPLITS` to return, as in [`load_ratings`].
        split_seed: divides answers that come without splits, as in [`load_ratings`].
        check_images: a row whose image file cannot be read is a bad row.
    """
    wanted = list(SPLITS) if splits is None else list(splits)
    if unknown := [split for split in wanted if split not in SPLITS]:
        raise RatingError(f"splits has {unknown}; allowed: {', '.join(SPLITS)}.")
    there = [split for split in source.splits if split in wanted or split == UNSPLIT]
    if splits is not None and not source.unsplit and (missing := [s for s in wanted if s not in there]):
        raise RatingError(f"{source.name} has no split {', '.join(missing)}; it has {', '.join(source.splits)}.")
    checker = RowChecker(source, quarantine=quarantine, check_image=verify_image if check_images else None)
    try:
        tables = read_tables(checker, [split for split in there if split in source.rows])
        choices = read_choices(checker, [split for split in there if split in source.choices])
    except BaseException:
        checker.discard()
        raise
    checker.close()
    level_values = checker.level_values
    releases = {} if source.release is None else {"": source.release}
    opener = _opener(source, checker)
    data = RatingData(source.name, tables, level_values, source.embeddings, opener, releases, choices)
    if source.unsplit:
        data.splits, data.choices = _divided(data, split_seed)
        data.splits = {split: data.splits[split] for split in wanted if split in data.splits}
        data.choices = {split: data.choices[split] for split in wanted if split in data.choices}
    _warn_of_leaks(data)
    return data


def _divided(data: RatingData, seed: int | None) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Ratings and choices of data that came without splits; all of them are train without a seed."""
    ratings, choices = data.splits.get(UNSPLIT), data.choices.get(UNSPLIT)
    if seed is not None:
        return split_answers(ratings, choices, seed=seed)
    return ({"train": ratings} if ratings is not None else {}), ({"train": choices} if choices is not None else {})


def _opener(source: RatingSource, checker: RowChecker) -> Callable[[str], BinaryIO] | None:
    """image_id → stream, for the images that `checker` has met; KeyError for others and those without a file."""
    # A partial rather than a closure: it travels to a DataLoader's workers.
    return partial(_open_image, source.open_image, checker.image_paths) if source.open_image is not None else None


def _open_image(open_located: Callable[[Any], BinaryIO], paths: dict[str, Any], image_id: str) -> BinaryIO:
    if paths[image_id] is None:
        raise KeyError(image_id)
    return open_located(paths[image_id])


def image_record(open_image: Callable[[str], BinaryIO] | None, image_id: str) -> dict[str, Any] | None:
    """An image as `datasets.Image` stores it: the file's own bytes, once they have proved to be whole.

    None if there are no images, or none of this id (known by its embedding only).

    Raises:
        ImageError: see :func:`pamela_hf.files.images.verify_image`.
    """
    if open_image is None:
        return None
    try:
        stream = open_image(image_id)
    except KeyError:
        return None
    with stream:
        name = file_name(stream, image_id)
        return {"bytes": verify_image(stream, name), "path": PurePath(name).name}


def file_name(stream: BinaryIO, image_id: str) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) else image_id


def _warn_of_leaks(data: RatingData) -> None:
    """Says so if what training must not meet is in train: such a release is usable, but not for claims."""
    tables = [
        (split, set(table.participant_id.unique()), set(pd.unique(np.concatenate([table[c] for c in columns]))))
        for of_split, columns in ((data.splits, ["image_id"]), (data.choices, [f"{side}_id" for side in SIDES]))
        for split, table in of_split.items()
    ]
    people = set().union(*(who for split, who, _ in tables if split == "train"))
    images = set().union(*(what for split, _, what in tables if split == "train"))
    for split, who, what in tables:
        if split.endswith("_unseen") and (known := people & who):
            logger.warning("%s: %d participants of %s are also in train.", data.name, len(known), split)
        if split.startswith(("val", "test")) and (known := images & what):
            logger.warning("%s: %d images of %s are also in train.", data.name, len(known), split)


def _hub_source(
    dataset_id: str, *, rating_min: float | None = None, rating_max: float | None = None, **options: Any
) -> RatingSource:
    """Prepared ratings on the Hub (or a local prepared folder) through `datasets.load_dataset`."""
    if options:
        raise RatingError(f"options {sorted(options)} are a local source's; a dataset on the Hub has none.")
    if (rating_min is None) != (rating_max is None):
        raise RatingError(f"rating_min={rating_min}, rating_max={rating_max}: give both ends of the scale or neither.")
    local = Path(dataset_id)
    revision = None if local.is_dir() else _public_revision(dataset_id)
    at = {} if revision is None else {"revision": revision}
    try:
        configs = datasets.get_dataset_config_names(dataset_id, **at)
        tables = {config: datasets.load_dataset(dataset_id, config, **at) for config in ANSWERS if config in configs}
        if not tables:
            raise ValueError(f"it has the configs {configs}")
    except (ValueError, OSError) as error:
        raise RatingError(
            f"{dataset_id}: neither a file or folder here nor a dataset with a config 'ratings' or 'choices' on the "
            f"Hub ({str(error)[:300]}). Check the name, or prepare the ratings with `pamela prepare-ratings`."
        ) from error
    card = (DatasetCard.load(local / "README.md") if local.is_dir() else DatasetCard.load(dataset_id)).data.to_dict()
    scales = {name: tuple(float(x) for x in levels) for name, levels in (card.get("rating_scales") or {}).items()}
    name = str(card.get("rating_source") or dataset_id.rstrip("/").rpartition("/")[2])
    if rating_min is not None:
        scales = dict.fromkeys(scales or [name], integer_levels(rating_min, rating_max))
    embeddings: Path | None = local / "embeddings.safetensors"
    if not local.is_dir():
        try:
            embeddings = Path(hf_hub_download(dataset_id, "embeddings.safetensors", repo_type="dataset", **at))
        except EntryNotFoundError:
            embeddings = None

    def rows(config: str, split: str) -> Iterator[tuple[str, int, dict]]:
        number = 0
        for batch in tables[config][split].with_format("arrow").iter(10_000):
            for row in batch.to_pylist():
                number += 1
                yield f"{dataset_id} ({config}, {split})", number, row

    def readers(config: str) -> dict[str, Callable[[], Iterator[tuple[str, int, dict]]]]:
        return {s: partial(rows, config, s) for s in SPLITS if s in tables.get(config, {})}

    return RatingSource(
        name=name,
        rows=readers("ratings"),
        choices=readers("choices"),
        digest=lambda with_images: "".join(table._fingerprint for of in tables.values() for table in of.values()),
        scales=scales,
        locate=lambda image_id, image_path: image_id,
        open_image=_HubImages(dataset_id, at),
        embeddings=embeddings if embeddings is not None and embeddings.is_file() else None,
        release=_hub_release(dataset_id, revision, card),
    )


def _public_revision(dataset_id: str) -> str | None:
    """The newest commit of a dataset that everybody may read; None if it is private, or the Hub is out of reach."""
    try:
        return HfApi(token=False).dataset_info(dataset_id).sha
    except (OSError, ValueError):
        return None


def _hub_release(dataset_id: str, revision: str | None, card: dict[str, Any]) -> Release | None:
    """Where these ratings are public, if they are: the release that the card names, or the dataset itself."""
    named = card_release(card)
    if revision is None:
        return named
    if named is None:
        url = f"https://huggingface.co/datasets/{dataset_id}"
        named = Release(str(card.get("license") or "other"), url, f"Dataset {dataset_id} on the Hugging Face Hub")
    return replace(named, dataset=dataset_id, revision=revision)


class _HubImages:
    """image_id → stream of its bytes; the `images` config is downloaded when an image is first asked for."""

    def __init__(self, dataset_id: str, at: dict[str, str]):
        self._id, self._at = dataset_id, at
        self._images: datasets.Dataset | None = None
        self._places: dict[str, int] = {}

    def __call__(self, image_id: str) -> io.BytesIO:
        if self._images is None:
            images = datasets.load_dataset(self._id, "images", split=IMAGE_SPLIT, **self._at)
            self._images = images.cast_column("image", datasets.Image(decode=False))
            self._places = {name: place for place, name in enumerate(images["image_id"])}
        image = self._images[self._places[image_id]]["image"]
        if image is None or image["bytes"] is None:
            raise KeyError(image_id)
        return io.BytesIO(image["bytes"])


@dataclass
class PamelaRatingsConfig(datasets.BuilderConfig):
    """What :class:`PamelaRatings` reads: `data_dir` is the folder, zip or CSV; the rest as in `load_ratings`."""

    source: str | None = None
    rating_min: float | None = None
    rating_max: float | None = None
    quarantine: str | None = None
    split_seed: int | None = None

    def open(self) -> RatingSource:
        """Opens the source at `data_dir`.

        Raises:
            RatingError: `data_dir` is missing or cannot be read.
        """
        if self.data_dir is None:
            raise RatingError("data_dir is missing; give the folder, zip or CSV of ratings: PamelaRatings(data_dir=…).")
        return open_source(self.data_dir, self.source, rating_min=self.rating_min, rating_max=self.rating_max)

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Names the cache after the content that is read, so that a changed source is built anew."""
        given = super().create_config_id(config_kwargs, custom_features)
        content = self.open().digest(self.name == "images")
        return f"{self.name}-{hashlib.sha256(f'{given} {content}'.encode()).hexdigest()[:32]}"


class PamelaRatings(datasets.GeneratorBasedBuilder):
    """Ratings and choices as typed splits, built or streamed.

    Config ``ratings`` (the default): `RATING_FEATURES` in the splits of the source. Config ``choices``: the same of
    choices, `CHOICE_FEATURES`. Config ``images``:
    `IMAGE_FEATURES` in one split ``images``, since images recur across splits (`datasets` keeps the name
    ``all`` for the union of splits, so ``split="all"`` gives it too); `image` is None where the ratings came
    without images. Bad rows, and bad images when built, raise :class:`RatingError` or
    :class:`pamela_hf.files.images.ImageError`; with ``quarantine=FILE`` (building only) bad rows are set aside.

    >>> builder = PamelaRatings(data_dir="PAMELA.zip")  # doctest: +SKIP
    >>> builder.download_and_prepare()  # doctest: +SKIP
    >>> builder.as_dataset(split="train")[0]["score"]  # doctest: +SKIP
    >>> next(iter(builder.as_streaming_dataset(split="train")))  # doctest: +SKIP
    """

    BUILDER_CONFIG_CLASS = PamelaRatingsConfig
    BUILDER_CONFIGS = [
        PamelaRatingsConfig(name="ratings", version=datasets.Version("1.0.0"), description="one row a rating"),
        PamelaRatingsConfig(name="choices", version=datasets.Version("1.0.0"), description="one row a comparison"),
        PamelaRatingsConfig(name="images", version=datasets.Version("1.0.0"), description="one row an image"),
    ]
    DEFAULT_CONFIG_NAME = "ratings"

    def __init__(self, *args: Any, dataset_name: str | None = "pamela_ratings", **kwargs: Any):
        self._checker: RowChecker | None = None
        super().__init__(*args, dataset_name=dataset_name or "pamela_ratings", **kwargs)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_checker": None}  # open files do not travel to a DataLoader's workers

    def _info(self) -> datasets.DatasetInfo:
        features = {"images": IMAGE_FEATURES, "choices": CHOICE_FEATURES}
        return datasets.DatasetInfo(features=features.get(self.config.name, RATING_FEATURES))

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """As in `datasets`, but our own errors come through as they are."""
        try:
            super().download_and_prepare(*args, **kwargs)
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, ValueError):
                raise error.__cause__ from None
            raise
        else:
            if self._checker is not None:
                self._checker.close()
        finally:
            if self._checker is not None:
                self._checker.discard()
            self._checker = None

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        source = self.config.open()
        if dl_manager.is_streaming:
            if self.config.quarantine is not None:
                raise RatingError("quarantine needs the whole of the ratings: use download_and_prepare, not streaming.")
        else:
            self._checker = RowChecker(source, quarantine=self.config.quarantine)
        answers = self._answers(source)
        if self.config.name == "images":
            splits = [IMAGE_SPLIT]
        elif not answers:
            there = ", ".join(name for name in ANSWERS if getattr(source, _READERS[name]))
            raise RatingError(f"{source.name} holds no {self.config.name}; it holds {there}. Use that config.")
        elif source.unsplit:
            splits = list(self._divided(source, self._checker)) if self.config.split_seed is not None else ["train"]
        else:
            splits = list(answers)
        return [datasets.SplitGenerator(name=split, gen_kwargs={"split": split}) for split in splits]

    def _answers(self, source: RatingSource) -> dict[str, Callable]:
        return getattr(source, _READERS.get(self.config.name, "rows"))

    def _divided(self, source: RatingSource, checker: RowChecker | None) -> dict[str, pd.DataFrame]:
        checker = checker or RowChecker(source)
        ratings = read_tables(checker, source.rows).get(UNSPLIT)
        choices = read_choices(checker, source.choices).get(UNSPLIT)
        divided = split_answers(ratings, choices, seed=self.config.split_seed)
        return divided[ANSWERS.index(self.config.name)]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        source = self.config.open()
        # One checker for all splits of a build finds what occurs in two of them; each stream has its own, since
        # streams may be read at the same time.
        checker = self._checker or RowChecker(source)
        if self.config.name == "images":
            yield from enumerate(self._images(source, checker))
        elif source.unsplit and self.config.split_seed is not None:
            table = self._divided(source, None)[split]
            rows = table.astype(object).where(table.notna(), None)
            yield from enumerate(rows.to_dict("records"))
        else:
            read = checker.choices if self.config.name == "choices" else checker.rows
            columns = CHOICE_COLUMNS if self.config.name == "choices" else RATING_COLUMNS
            for number, row in enumerate(read(UNSPLIT if source.unsplit else split)):
                yield number, dict(zip(columns, row))

    @staticmethod
    def _images(source: RatingSource, checker: RowChecker) -> Iterator[dict[str, Any]]:
        tables = read_tables(checker, source.rows)
        data = RatingData(source.name, tables, {}, choices=read_choices(checker, source.choices))
        images = data.images().astype(object)
        opener = _opener(source, checker)
        for row in images.where(images.notna(), None).to_dict("records"):
            yield {**row, "image": image_record(opener, row["image_id"])}


_READERS = {"ratings": "rows", "choices": "choices"}  # config → field of a source
