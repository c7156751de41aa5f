"""From a photo library to a taste: stars read, photos encoded once, a head fitted and judged, everything ranked."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..embeddings import DEFAULT_ENCODER, EMBEDDINGS_NAME, Embeddings
from ..files.escaping import csv_cell, from_csv_cell
from ..files.writing import locked, replacing_folder, write_json, write_text
from ..folder_cache import EncoderSource, FolderFeatures, embed_files
from ..version import __version__
from .library import Library, Photo, read_library
from .stars import Stars
from .write_back import Prediction, write_sidecars

if TYPE_CHECKING:
    from ..heads.head import UserHead
    from ..scoring import PamelaScorer
    from .held_out import HeldOut

RATED = "given elsewhere"  # the source of such ratings
STARS = (1.0, 5.0)  # the range of stars; a rejected photo counts as the lowest
UNRATED = ("ignore", "as-dislikes")
ENOUGH = 50  # rated and unrated photos, each, before held-out stars may decide what unrated photos mean
SHOWN = 24  # pictures of a contact sheet
ENCODER = "encoder"  # folder of a base, with an encoder that has no home on the Hub
STATE, RANKING, REPORT, SKIPPED, HEAD, BASE = "taste.json", "ranking.csv", "report.html", "skipped.csv", "head", "base"
MIN_COSINE = 0.95  # of features around their mean: nearer photos are near-duplicates


@dataclass(frozen=True)
class Choices:
    """What a person may choose about a run.

    Attributes:
        unrated: "ignore", or "as-dislikes": photos without stars count as disliked, as many as there are rated ones.
        picks: pick flags count as likes where there are no stars.
        labels: colour label → stars it stands for, where there are none.
        rated: photo (path below the library) → 1 … 5, ratings given elsewhere, which count where there are no stars.
    """

    unrated: str = UNRATED[0]
    picks: bool = False
    labels: Mapping[str, float] = field(default_factory=dict)
    rated: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.unrated not in UNRATED:
            raise ValueError(f"unrated={self.unrated!r} must be one of {', '.join(UNRATED)}.")
        for label, stars in self.labels.items():
            if not -1 <= stars <= 5 or stars == 0:
                raise ValueError(f"labels: {label}={stars:g} must be −1 (rejected) or 1 … 5 stars.")
        for photo, score in self.rated.items():
            if not STARS[0] <= score <= STARS[1]:
                raise ValueError(f"rated: {photo}={score:g} must be {STARS[0]:g} … {STARS[1]:g}.")

    def stars_of(self, photo: Photo) -> Stars:
        """What counts for a photo: its own stars, else the rating given elsewhere."""
        if photo.stars.rating is None and photo.name in self.rated:
            return Stars(float(self.rated[photo.name]), None, RATED)
        return photo.stars


@dataclass
class Taste:
    """What a run gives.

    Attributes:
        ranking: columns `image` (path below the library), `score`, `std`, `stars` (NaN = unrated, −1 = rejected), best
            first. In the CSV, names that a spreadsheet would take for formulas have an apostrophe in front.
        summary: sentences for the person.
        unchanged: whether everything was as in the run before, and nothing was computed.
        sidecars: how many sidecars hold the predictions; None where they were not asked for.
    """

    ranking: pd.DataFrame
    summary: list[str]
    unchanged: bool = False
    sidecars: int | None = None


@dataclass
class Answers:
    """A person's stars as [`pamela_hf.heads.head.UserHead.fit`] takes them: photo and star 1 … 5; photo and like."""

    ratings: list[tuple[str, float]]
    likes: list[tuple[str, bool]]

    def __len__(self) -> int:
        return len(self.ratings) + len(self.likes)


@dataclass
class EncodedLibrary:
    """A library with the features of its photos and the encoder that made them."""

    library: Library
    features: FolderFeatures
    source: EncoderSource


def learn_taste(
    folder: str | os.PathLike,
    name: str,
    output: str | os.PathLike,
    *,
    model: str | os.PathLike | None = None,
    encoder: str | None = None,
    choices: Choices | None = None,
    embeddings: str | os.PathLike | None = None,
    write_xmp: bool = False,
    stars: bool = False,
    device: str | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> Taste:
    """Learns one person's taste from the stars of a photo library, and ranks its photos.

    Writes `head/`, `ranking.csv`, `report.html`, the cache `embeddings.safetensors` with its index, `skipped.csv` if a
    file could not be read, and `base/` where no model is given. A second run on an unchanged library only looks.

    Args:
        folder: folder of the library.
        name: the person's name.
        output: folder to write; it holds one person's library.
        model: folder or Hub id of a trained model; default: a blank base made from the library's own features.
        encoder: Hub id or folder; default: the model's, else [`pamela_hf.embeddings.DEFAULT_ENCODER`].
        choices: what to do with unrated photos, flags and labels.
        embeddings: the cache file; default: in `output`. Several commands may share one.
        write_xmp: write score and std into sidecars; default: False.
        stars: with `write_xmp`, write `xmp:Rating`, too, where no person gave one; default: False.
        device: where the encoder runs; default: as in [`pamela_hf.encoder.FrozenEncoder`].
        batch_size: images the encoder takes at a time; default: 32.
        progress: show progress bars; default: True.

    Raises:
        ValueError: no photo, no stars, a name that can't be one, an output that belongs to another person or library, a
            cache made by another encoder.
    """
    output, choices = Path(output), choices or Choices()
    opened = open_library(
        folder, name, output, model=model, encoder=encoder, choices=choices, embeddings=embeddings, device=device,
        batch_size=batch_size, progress=progress,
    )  # fmt: skip
    with locked(output / STATE, timeout=0):
        inputs = _inputs(opened, model, name, choices)
        result = _unchanged(output, inputs)
        if result is None:
            result = _learn(opened, name, output, model, choices, inputs)
    if write_xmp:
        _write_back(opened.library, result, stars, progress)
    return result


def open_library(
    folder: str | os.PathLike,
    name: str,
    output: Path,
    *,
    model: str | os.PathLike | None,
    encoder: str | None,
    choices: Choices,
    embeddings: str | os.PathLike | None,
    device: str | None,
    batch_size: int,
    progress: bool,
) -> EncodedLibrary:
    """Reads a library's stars and its photos' features; the arguments and errors are those of [`learn_taste`]."""
    folder = Path(folder)
    check_output(output, name, folder)
    library = read_library(folder, leave_out=output, picks=choices.picks, labels=choices.labels, progress=progress)
    library.photos = [replace(photo, stars=choices.stars_of(photo)) for photo in library.photos]
    if not library.photos:
        raise ValueError(f"{folder} holds no photos. Name the folder that they are in.")
    output.mkdir(parents=True, exist_ok=True)
    source = encoder_of(model) if encoder is None else EncoderSource(encoder)
    source.device = device
    cache = Path(embeddings) if embeddings is not None else output / EMBEDDINGS_NAME
    files = {photo.name: photo.path for photo in library.photos}
    features = embed_files(files, cache, source, folder=folder, batch_size=batch_size, progress=progress)
    return EncodedLibrary(library, features, source)


def check_output(output: Path, name: str, folder: Path) -> None:
    """Raises ValueError if `output` holds another person's taste, or another library's, or is a file; or if `name` is
    none."""
    from ..heads.folder import check_name

    check_name(name)
    if output.exists() and not output.is_dir():
        raise ValueError(f"output={str(output)!r} is a file. Name a folder.")
    state = _read_state(output)
    if state is None:
        return
    if state.get("name") != name:
        raise ValueError(
            f"output={str(output)!r} holds the taste of {state.get('name')!r}, not of {name!r}. Choose another folder."
        )
    before = str(state.get("folder"))
    if before != os.path.realpath(folder) and os.path.isdir(before):
        raise ValueError(
            f"output={str(output)!r} belongs to the library {before}, not to {folder}. Choose another folder."
        )


def problems_of(opened: EncodedLibrary) -> list[tuple[str, str]]:
    """File (below the library) and reason of each that could not be read."""
    library = opened.library
    found = [(os.path.relpath(path, library.folder), why) for path, why in library.problems]
    return found + list(opened.features.skipped.items())


def answers_of(photos: Sequence[Photo], known: Embeddings, unrated: str) -> Answers:
    """The stars of photos that have features. `unrated`: see [`Choices`]."""
    have = set(known.image_ids)
    photos = [photo for photo in photos if photo.name in have]
    ratings = [
        (photo.name, float(max(photo.stars.rating, STARS[0]))) for photo in photos if photo.stars.rating is not None
    ]
    likes = [(photo.name, photo.stars.liked) for photo in photos if photo.stars.liked is not None]
    if unrated == "as-dislikes":
        rest = [photo.name for photo in photos if photo.stars.rating is None and photo.stars.liked is None]
        # as many as were rated: of more, the stars would count for nothing beside them
        order = sorted(rest, key=lambda one: hashlib.sha256(one.encode()).digest())
        likes += [(one, False) for one in order[: max(len(ratings) + len(likes), ENOUGH)]]
    return Answers(ratings, likes)


def load_base(
    model: str | os.PathLike | None,
    features: Embeddings,
    source: EncoderSource,
    before: Path,
    device: str | None = None,
) -> "PamelaScorer":
    """The trained model, or a blank base made from the features.

    Args:
        model: folder or Hub id of the trained model, or None.
        features: of the library's photos.
        source: the encoder that made them.
        before: where the blank base of an earlier run is: its encoder is used if it is the same, and not loaded.
        device: where a trained model runs.

    Raises:
        EmbeddingError: the model has another encoder.
    """
    from ..embeddings import check_encoder
    from ..scoring import PamelaScorer

    if model is None:
        if not Path(source.backbone).is_dir():  # an encoder of the Hub is found by its name
            return PamelaScorer.blank(features)
        if encoder_lies_in(before, features):
            return _blank_beside(before, features)
        return PamelaScorer.blank(features, encoder=source.encoder)
    scorer = PamelaScorer.from_pretrained(model, device=device)
    check_encoder(scorer.config, features, f"the features by {source.backbone}")
    return scorer


def encoder_lies_in(base: Path, features: Embeddings) -> bool:
    """Whether a saved base has the encoder that made these features in its folder, by the hash of its weights."""
    from ..model.configuration_pamela import LOCAL_ENCODER, PamelaConfig

    if features.revision is None or not any((base / ENCODER).glob("*.safetensors")):
        return False
    try:
        config = PamelaConfig.from_pretrained(base)
    except (OSError, ValueError):
        return False
    made_by = [config.backbone, config.backbone_revision, config.preprocessing]
    return made_by == [LOCAL_ENCODER, features.revision, features.preprocessing]


def _blank_beside(base: Path, features: Embeddings) -> "PamelaScorer":
    """A blank base whose encoder is that of another one, loaded when it is needed."""
    from ..model.configuration_pamela import LOCAL_ENCODER
    from ..model.modeling_pamela import PamelaRewardModel
    from ..model.processing_pamela import PamelaProcessor
    from ..scoring import PamelaScorer

    model = PamelaRewardModel.blank(features)
    model.config.backbone, model.name_or_path = LOCAL_ENCODER, str(base)
    return PamelaScorer(model, PamelaProcessor.from_pretrained(base, config=model.config))


def save_base(scorer: "PamelaScorer", base: Path, features: Embeddings) -> None:
    """Writes a blank base. The weights of an encoder that lies there already are kept, not copied: they are large."""
    kept = encoder_lies_in(base, features)
    with replacing_folder(base, overwrite=True) as staged:
        if kept:
            (staged / ENCODER).mkdir()
            for file in (base / ENCODER).iterdir():
                is_weights = ".safetensors" in file.name
                if is_weights or file.name == "config.json":
                    _link_or_copy(file, staged / ENCODER / file.name, link=is_weights)
        scorer.model.save_pretrained(staged, with_encoder=not kept)
        scorer.processor.save_pretrained(staged)


def _link_or_copy(file: Path, place: Path, link: bool) -> None:
    if link:
        try:
            os.link(file, place)
            return
        except OSError:  # a file system without hard links
            pass
    shutil.copy2(file, place)


def group_photos(features: FolderFeatures) -> dict[str, int]:
    """Photo → group of near-duplicates: by difference hash, and by features around their mean."""
    from ..ratings.near_duplicates import near_duplicate_groups

    values = features.embeddings.image_embeds
    return near_duplicate_groups(
        features.embeddings.image_ids,
        hashes=features.hashes,
        embeddings=values - values.mean(0) if len(values) > 2 else None,
        min_cosine=MIN_COSINE,
    )


def score_photos(
    scorer: "PamelaScorer", head: "UserHead | None", features: Embeddings
) -> tuple[np.ndarray, np.ndarray]:
    """Score and std of every photo, in stars `1 … 5` whatever the base's scale is."""
    import torch

    found = scorer.score(image_embeds=torch.from_numpy(features.image_embeds), user=head, batch_size=512)
    low, high = scorer.score_range
    unit = (STARS[1] - STARS[0]) / (high - low)
    return STARS[0] + (found.scores - low) * unit, found.std * unit


def encoder_of(model: str | os.PathLike | None) -> EncoderSource:
    """The encoder that a model was trained with; without a model the default one."""
    if model is None:
        return EncoderSource(DEFAULT_ENCODER)
    from ..model.configuration_pamela import LOCAL_ENCODER, PamelaConfig

    config = PamelaConfig.from_pretrained(model)
    if config.backbone is None:
        raise ValueError(f"model={str(model)!r} does not say which encoder it needs. Name it: encoder=, --encoder.")
    if config.backbone != LOCAL_ENCODER:
        return EncoderSource(config.backbone, config.backbone_revision)
    local = Path(model) / "encoder"
    if not local.is_dir():
        raise ValueError(f"model={str(model)!r} has no encoder/ of its own. Name its encoder: encoder=, --encoder.")
    return EncoderSource(str(local))


def _learn(
    opened: EncodedLibrary,
    name: str,
    output: Path,
    model: str | os.PathLike | None,
    choices: Choices,
    inputs: str,
) -> Taste:
    from ..heads.head import UserHead
    from ..scoring import write_skipped

    library, features, source = opened.library, opened.features, opened.source
    if not len(answers_of(library.photos, features.embeddings, UNRATED[0])):
        raise ValueError(
            f"No photo of {library.folder} has stars. Give some a rating in your photo program and save its metadata "
            "to files; `pamela suggest` says which to begin with."
        )
    scorer = load_base(model, features.embeddings, source, output / BASE)
    groups = group_photos(features)
    answers, judged, note = _choose_answers(library, features, scorer, groups, choices, model is not None)
    head = UserHead.fit(
        scorer, answers.ratings, name=name, likes=answers.likes, rating_range=STARS, embeddings=features.embeddings
    )
    scores, std = score_photos(scorer, head, features.embeddings)
    ranking = _ranking(library, features.embeddings, scores, std)
    problems = problems_of(opened)
    summary = _summary(library, head, judged, note, model, len(problems))
    if model is None:
        save_base(scorer, output / BASE, features.embeddings)
    head.save(output / HEAD)
    write_skipped(output / SKIPPED, problems)
    write_text(output / REPORT, _report(library, ranking, groups, judged, head, summary, name, output, len(problems)))
    write_text(output / RANKING, ranking.assign(image=ranking["image"].map(csv_cell)).to_csv(index=False))
    state = {"name": name, "folder": os.path.realpath(library.folder), "inputs": inputs, "summary": summary}
    write_json(output / STATE, state)
    return Taste(ranking, summary)


def _choose_answers(
    library: Library,
    features: FolderFeatures,
    scorer: "PamelaScorer",
    groups: Mapping[str, int],
    choices: Choices,
    trained: bool,
) -> tuple[Answers, "HeldOut | None", str]:
    """What to fit, how well it is predicted when held out, and a sentence on the unrated photos."""
    from .held_out import PERSONAL, hold_out

    def judge(unrated: str) -> tuple[Answers, "HeldOut | None"]:
        answers = answers_of(library.photos, features.embeddings, unrated)
        judged = hold_out(scorer, answers.ratings, answers.likes, features.embeddings, groups, STARS, trained)
        return answers, judged

    counts = library.counts()
    share = f"{counts['unrated']:,} of {counts['photos']:,} photos have no stars. "
    if choices.unrated == "ignore":
        note = "They are left out: nobody stars photos by chance, so what is learned holds for photos like "
        return *judge("ignore"), share + note + "the starred ones (--unrated as-dislikes counts them as disliked)."
    plain, with_dislikes = judge("ignore"), judge("as-dislikes")
    enough = min(counts["rated"], counts["unrated"]) >= ENOUGH and plain[1] and with_dislikes[1]
    if not enough:
        return *with_dislikes, share + "As many of them as have stars count as disliked, as asked for."
    values = [judged.figures[PERSONAL]["srocc"]["value"] for _, judged in (plain, with_dislikes)]
    figures = f"held-out stars are ranked with a correlation of {values[1]:.3f} with them and {values[0]:.3f} without"
    if values[1] < values[0]:
        return *plain, share + f"Counted as disliked they do not help ({figures}): they are left out."
    return *with_dislikes, share + f"As many of them as have stars count as disliked ({figures})."


def _ranking(library: Library, known: Embeddings, scores: np.ndarray, std: np.ndarray) -> pd.DataFrame:
    stars = {photo.name: photo.stars.rating for photo in library.photos}
    table = pd.DataFrame(
        {
            "image": known.image_ids,
            "score": np.round(scores, 4),
            "std": np.round(std, 4),
            "stars": [np.nan if stars[one] is None else stars[one] for one in known.image_ids],
        }
    )
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _summary(
    library: Library,
    head: "UserHead",
    judged: "HeldOut | None",
    note: str,
    model: str | os.PathLike | None,
    problems: int,
) -> list[str]:
    """Sentences, the most important first."""
    from ..reports.numbers import signed
    from .held_out import PERSONAL, RIDGE

    counts = library.counts()
    out = []
    if judged is None:
        out.append("Too few photos with different stars to say how well this taste predicts others.")
    else:
        pairs, other = judged.figures[PERSONAL]["pairs"], judged.figures[RIDGE]["pairs"]
        out.append(
            f"Of two photos with different stars it has not seen, it puts {_percent(pairs['value'])} in the right "
            f"order (95 % interval {_percent(pairs['ci_low'])} to {_percent(pairs['ci_high'])}; ridge regression "
            f"{_percent(other['value'])}, guessing 50 %)."
        )
        out += [
            f"Its rank correlation minus that of {method}: {signed(cell['value'])} (95 % interval "
            f"{signed(cell['ci_low'])} to {signed(cell['ci_high'])})."
            for method, cell in judged.differences.items()
        ]
    out.append(note)
    if counts["conflicts"]:
        out.append(
            f"{counts['conflicts']:,} photos have different ratings in different places; the sidecar's counts before "
            "the picture's own."
        )
    if model is None:
        out.append(
            "The base is blank: it knows this library's pictures and no other person. With a trained base, run again "
            "with --model: the same stars are fitted anew."
        )
    if problems:
        out.append(f"Files that could not be read: {problems:,}; skipped.csv says which and why.")
    return out + list(head.about.get("notes", ()))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"  # on one line


def _report(
    library: Library,
    ranking: pd.DataFrame,
    groups: Mapping[str, int],
    judged: "HeldOut | None",
    head: "UserHead",
    summary: Sequence[str],
    name: str,
    output: Path,
    problems: int,
) -> str:
    from .page import render

    counts = library.counts()
    sources = ", ".join(
        f"{counts[one]:,} {words}"
        for one, words in (
            ("sidecar", "from sidecars"), ("XMP in the file", "from XMP in the files"), ("EXIF", "from EXIF"),
            ("favourite", "favourites"), (RATED, "given elsewhere"),
        )
        if counts.get(one)
    )  # fmt: skip
    line = f"{counts['photos']:,} photos; {counts['rated'] + counts['liked']:,} with stars or a like ({sources})."
    return render(
        output, name=name, counts=line, leads=summary[:1], notes=summary[1:],
        figures={} if judged is None else judged.figures,
        sheets=_sheets(library, ranking, groups, judged), skipped=problems,
    )  # fmt: skip


def _sheets(library: Library, ranking: pd.DataFrame, groups: Mapping[str, int], judged: "HeldOut | None") -> list[Any]:
    from .page import Sheet

    paths = {photo.name: photo.path for photo in library.photos}
    answered = {
        photo.name for photo in library.photos if photo.stars.rating is not None or photo.stars.liked is not None
    }

    def one_a_group(rows: Sequence[tuple[str, str]]) -> list[tuple[Path, str]]:
        shown, seen = [], set()
        for image, caption in rows:
            if groups[image] not in seen and len(shown) < SHOWN:
                seen.add(groups[image])
                shown.append((paths[image], caption))
        return shown

    fresh = ranking[~ranking["image"].isin(answered)]
    best = [(row.image, f"{row.score:.1f} ± {row.std:.1f}") for row in fresh.itertuples()]
    sheets = [
        Sheet("Best without stars", "What you would star highest, of what you have not starred.", one_a_group(best)),
        Sheet("Least liked", "At the other end, of what you have not starred.", one_a_group(best[::-1])),
    ]
    if judged is None:
        return sheets
    expected = judged.in_stars()
    gap = judged.truth - expected
    order = np.argsort(-gap, kind="stable")
    rows = [(judged.names[i], f"{_stars(judged.truth[i])}, ranked like {_stars(expected[i])}", gap[i]) for i in order]
    higher = [(image, caption) for image, caption, by in rows if by >= 1]
    lower = [(image, caption) for image, caption, by in rows[::-1] if by <= -1]
    text = "The prediction was made without the photo itself. "
    return [
        *sheets,
        Sheet("Most surprising", text + "You gave these more stars than your taste explains.", one_a_group(higher)),
        Sheet("Stars and taste disagree", text + "You gave these fewer stars than expected.", one_a_group(lower)),
    ]


def _stars(value: float) -> str:
    return f"{value:.0f}★" if float(value).is_integer() else f"{value:.1f}★"


def _write_back(library: Library, result: Taste, stars: bool, progress: bool) -> None:
    predictions = {
        row.image: Prediction(float(row.score), float(row.std)) for row in result.ranking.itertuples(index=False)
    }
    result.sidecars, problems = write_sidecars(library.photos, predictions, stars, progress)
    if problems:
        result.summary.append(
            f"Sidecars that could not be written: {len(problems):,}, such as {problems[0][0]} ({problems[0][1]})."
        )


def _inputs(opened: EncodedLibrary, model: str | os.PathLike | None, name: str, choices: Choices) -> str:
    """sha256 over all that the results follow from."""
    library, features, source = opened.library, opened.features, opened.source
    known = features.embeddings
    rated = {photo.name: [photo.stars.rating, photo.stars.liked, photo.stars.source] for photo in library.photos}
    what = [
        __version__, name, source.stamp, None if model is None else EncoderSource(str(model)).stamp,
        choices.unrated, choices.picks, dict(choices.labels),
        [[one, key, *rated[one]] for one, key in zip(known.image_ids, known.source_keys)],
        sorted(features.skipped), [str(path) for path, _ in library.problems],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _unchanged(output: Path, inputs: str) -> Taste | None:
    """The results of the run before, if they follow from the same inputs and are all there."""
    state = _read_state(output)
    if state is None or state.get("inputs") != inputs:
        return None
    if not (output / HEAD).is_dir() or not (output / REPORT).is_file() or not (output / RANKING).is_file():
        return None
    ranking = pd.read_csv(output / RANKING, dtype={"image": str}, keep_default_na=False, na_values={"stars": [""]})
    ranking["image"] = ranking["image"].map(from_csv_cell)
    return Taste(ranking, list(state["summary"]), unchanged=True)


def _read_state(output: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((output / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None
