"""Heads of the people in an app's store, by name: fitted when they are first asked for, anew after further answers."""

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..embeddings import Embeddings, check_encoder, load_embeddings
from ..files.escaping import printable
from ..heads.head import UserHead
from ..model.configuration_pamela import LOCAL_ENCODER
from ..scoring import PamelaScorer
from .answers import Answers
from .base import default_store, features_file
from .learner import FEWEST
from .lessons import head_name
from .store import Store

if TYPE_CHECKING:
    from .base import Base


class StoreHeads(Mapping):
    """Name → [`UserHead`] of everybody in a store who gave at least [`FEWEST`] answers.

    Args:
        store: the answers.
        scorer: the base that heads are fitted on.
        embeddings: features of the pictures, by that base's encoder.
    """

    def __init__(self, store: Store, scorer: PamelaScorer, embeddings: Embeddings):
        self.store, self.scorer, self.embeddings = store, scorer, embeddings
        self._known = {id: row for row, id in enumerate(embeddings.image_ids)}
        self._fitted: dict[str, tuple[tuple, UserHead]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of_base(cls, store: Store, base: "Base") -> "StoreHeads":
        """Those of a running app."""
        return cls(store, base.scorer, base.embeddings)

    @classmethod
    def open(cls, place: str | os.PathLike, scorer: PamelaScorer) -> "StoreHeads":
        """Those of a store on the disk, with the features that the app kept beside it.

        Args:
            place: the store's file, or the folder of pictures that `pamela app` was started on without `--store`.
            scorer: the base that heads are fitted on.

        Raises:
            FileNotFoundError: no store, or no features beside it. EmbeddingError: another encoder's features.
        """
        path = store_file(place)
        embeddings = store_features(path)
        check_encoder(scorer.config, embeddings, str(features_file(path)))
        return cls(Store(path), scorer, embeddings)

    def __getitem__(self, name: str) -> UserHead:
        mark = self.store.marks().get(name) if isinstance(name, str) else None
        if mark is None:
            raise KeyError(name)
        with self._lock:
            if name not in self._fitted or self._fitted[name][0] != mark:
                self._fitted[name] = mark, self._fit(name)
            return self._fitted[name][1]

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __iter__(self) -> Iterator[str]:
        return (person["name"] for person in self.store.people() if person["answers"] >= FEWEST)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _fit(self, name: str) -> UserHead:
        answers = Answers.of(self.store.answers(name), self._known)
        if not len(answers):
            raise ValueError(f"{name!r} has answered about no picture whose features are known. Rate some in the app.")
        return answers.fit_on(self.scorer, self.embeddings, head_name(name, self.scorer))


def store_file(place: str | os.PathLike) -> Path:
    """The file of a store that is given as such, or as the folder of pictures it is for.

    Raises:
        FileNotFoundError: there is none.
    """
    path = default_store(place) if Path(place).is_dir() else Path(place)
    if not path.is_file():
        of = f" (of the pictures in {place})" if path != Path(place) else ""
        raise FileNotFoundError(f"--store {path}{of} does not exist. `pamela app` prints where it keeps answers.")
    return path


def store_features(path: Path) -> Embeddings:
    """The features that the app kept beside its store.

    Raises:
        FileNotFoundError: there are none.
    """
    file = features_file(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist. Start `pamela app` on this store once; it makes it.")
    return load_embeddings(file)


def blank_scorer(place: str | os.PathLike, device: str | None = None) -> PamelaScorer:
    """The base that the app uses without a model, of the same features; their encoder is loaded when it is needed.

    Args:
        place: as in [`StoreHeads.open`].
        device: where it runs; default: the CPU.

    Raises:
        FileNotFoundError: no store, or no features. ValueError: their encoder was a folder, which nobody can find now.
    """
    path = store_file(place)
    embeddings = store_features(path)
    if embeddings.backbone in (None, LOCAL_ENCODER):
        raise ValueError(f"{features_file(path)} is an encoder's of a folder. Name the app's model: --model DIR.")
    scorer = PamelaScorer.blank(embeddings)
    if device is not None:
        scorer.model.to(device)
    return scorer


def store_head(place: str | os.PathLike, name: str, scorer: PamelaScorer) -> UserHead:
    """The head of a person whom the app knows by name.

    Args:
        place: as in [`StoreHeads.open`].
        name: as on the app's page; on a Space with sign-in `VISITOR/NAME`.
        scorer: the base that the head is fitted on.

    Raises:
        ValueError: nobody of that name has answered. FileNotFoundError, EmbeddingError: see [`StoreHeads.open`].
    """
    heads = StoreHeads.open(place, scorer)
    try:
        if name not in heads:
            raise ValueError(_nobody(name, heads.store))
        return heads[name]
    finally:
        heads.store.close()


def store_ratings(place: str | os.PathLike, name: str) -> dict[str, float]:
    """Picture → rating, the mean of several, that a person gave in the app.

    Args:
        place: as in [`StoreHeads.open`].
        name: as on the app's page.

    Raises:
        FileNotFoundError: no store. ValueError: nobody of that name has rated a picture.
    """
    with Store(store_file(place)) as store:
        given: dict[str, list[float]] = {}
        for answer in store.answers(name):
            if answer.kind == "rating":
                given.setdefault(answer.image_id, []).append(answer.score)
        if not given:
            raise ValueError(_nobody(name, store))
    return {image: sum(scores) / len(scores) for image, scores in given.items()}


def _nobody(name: str, store: Store) -> str:
    people = [person["name"] for person in store.people() if person["answers"]]
    known = ", ".join(printable(one, 60) for one in people[:20]) or "nobody"
    return f"{printable(name, 80)!r} has rated nothing in {store.path}; there are the answers of: {known}."
