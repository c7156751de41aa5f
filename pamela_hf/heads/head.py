"""`UserHead`: a new person in ten ratings. One row of numbers on a shared base, a file of kilobytes.

```python
head = UserHead.fit("runs/demo/model", [("a.png", 5), ("b.png", 2), …], name="me")
head.save("runs/me")
PamelaScorer.from_pretrained("runs/demo/model").score("c.png", user=UserHead.load("runs/me"))
```
"""

import numbers
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from scipy.linalg import block_diag

from ..embeddings import Embeddings
from ..files.writing import scratch_folder
from ..model.modeling_pamela import PamelaRewardModel
from ..scoring import PamelaScorer
from .answers import collect
from .fitting import USE_STD, Posterior, fit_row, prior_covariance
from .folder import FILES, MAX_BYTES, HeadError, check_name, read_head, write_head
from .suggest import Suggestion, design_features, suggest_images
from .summary import differences, head_card, held_out

# Cross-validated over people of train: on OASIS 1.6 is .001 better, in the simulated world 2.6. It had been divided by
# the sum of the squared shares of networks and linear taste, as if each told all of a person's taste: too wide on
# OASIS, whose shares are small, and .001 worse in both at 10, 30 and 100 ratings.
PRIOR_WIDTH = 2.0
# Less is known of a newcomer by the networks than of those who trained them, by whom `taste_share` is chosen. With 2,
# ten ratings of the simulated world are worth .004 less; with 3.5, ten of OASIS that were asked for .001.
TASTES_PRIOR_WIDTH = 3.0
FIGURES = ("held_out", "distance", "likes_more", "unsure")  # of `about`: true of the row as it was fitted alone


@dataclass
class UserHead:
    """One person's taste, relative to everyone's, on one base.

    Attributes:
        name: what to call the person; no trained participant's name.
        row: `(H,)` float32, the person's row; zeros = everyone's taste.
        hidden_size: the base's hidden size.
        base_identity: sha256 of the base that the row belongs to.
        base: Hub id of that base; `None` if it has none.
        row_std: `(H,)` how uncertain each number of the row is.
        about: what [`describe`] says; counts and summaries, no rating, no image, no demographic.
        covariance: `(H, H)` of the row, while the head that was fitted is in memory; `None` after loading.
    """

    name: str
    row: np.ndarray
    hidden_size: int
    base_identity: str
    base: str | None = None
    row_std: np.ndarray | None = None
    about: dict[str, Any] = field(default_factory=dict)
    covariance: np.ndarray | None = field(default=None, repr=False)
    _rated: frozenset[str] = field(default=frozenset(), repr=False)

    # -- fitting ---------------------------------------------------------------------------------------------------
    @classmethod
    def fit(
        cls,
        model: PamelaScorer | PamelaRewardModel | str | os.PathLike,
        ratings: Any = (),
        *,
        name: str,
        likes: Any = (),
        choices: Iterable[tuple[Any, Any]] = (),
        rating_range: tuple[float, float] | str | None = None,
        scale: str | None = None,
        embeddings: Embeddings | None = None,
        prompts: Mapping[Any, str] | None = None,
        metadata: Mapping[Any, Mapping[str, Any]] | None = None,
        demographics: Mapping[str, Any] | None = None,
        batch_size: int = 32,
    ) -> "UserHead":
        """Finds a person's row from ratings, likes and choices, alone or mixed, in about a second on a CPU.

        How far the row moves from everyone's taste follows from the evidence: few answers move it little, and answers
        that look like chance hardly at all. `about["notes"]` says what was odd about them.

        Args:
            model: a scorer, a model, or where to load one from.
            ratings: `(image, score)` pairs, a mapping, or a table with columns `image` and `score`. A score that is
                True or False is a like. An image is a path, a PIL image, an array `(H, W, 3)` uint8, a vector
                `(image_embed_dim,)` of features, or an id of `embeddings`.
            name: what to call the person.
            likes: `(image, True or False)` pairs, or a mapping; default: none.
            choices: `(preferred, other)` pairs of images; default: none.
            rating_range: lowest and highest possible score, laid evenly on the model's scale; "rank": only the order
                of scores counts; default: scores are on the model's rating scale, and its nearest level counts.
            scale: that rating scale (default: the model's `default_scale`).
            embeddings: features, if images are given as ids.
            prompts: image → what it was made from; default: none. Keys as in `ratings`; a PIL image's or an array's is
                [`pamela_hf.heads.answers.key_of`] of it.
            metadata: image → `{"group": "animal", …}`; default: none. Keys as in `prompts`.
            demographics: `{"age": 34, …}`: the row is then the deviation from these people's taste, and scoring with
                the head wants the same `demographics`. Default: none, and the head does not depend on any.
            batch_size: images the encoder takes at a time.

        Raises:
            ValueError: nothing rated, a score outside its scale, an image that cannot be read or has no features,
                prompts or metadata of none of the images, a name that a trained participant bears or that is a path.
        """
        scorer = _scorer(model)
        check_name(name)
        if name in scorer.config.users:
            raise HeadError(f"name={name!r} is a participant this base was trained on. Choose another name.")
        answered = collect(
            scorer, ratings, likes, choices, rating_range=rating_range, scale=scale, embeddings=embeddings,
            prompts=prompts, metadata=metadata, batch_size=batch_size,
        )  # fmt: skip
        covariance = prior_of(scorer.model)
        # once is enough: linearized again around the row found, 100 ratings ranked .0006 worse, 10 .0003 better
        answers = answered.linearized(scorer, demographics, covariance)
        held = held_out(answers, answered, covariance)
        found = fit_row(answers, covariance)
        if found.random > 0.5:
            answered.notes.append(
                "The answers hardly tell which images are liked, as if given at random: the head stays close to "
                "everyone's taste."
            )
        about = {
            **answered.counts(),
            "strength": 1.0,
            "prior_scale": round(found.scale, 3),
            "uses_demographics": bool(demographics),
            "held_out": held,
            **differences(scorer, answered, answers, found, covariance, demographics),
            "notes": answered.notes,
        }
        return cls(
            name=name,
            row=found.row.astype(np.float32),
            hidden_size=scorer.config.hidden_size,
            base_identity=scorer.identity,
            base=_hub_id(scorer.model),
            row_std=np.sqrt(np.diag(found.covariance)).astype(np.float32),
            about=about,
            covariance=found.covariance,
            _rated=frozenset(answered.keys),
        )

    # -- what it knows ---------------------------------------------------------------------------------------------
    def describe(self) -> dict[str, Any]:
        """What is known of this person, as plain values.

        Keys: `name`; `ratings`, `likes`, `choices`, `images`: how many; `held_out`: `{"srocc", "ci_low", "ci_high",
        "everyone"}`, the rank correlation of ratings with scores from the other ratings, by cross-validation, and that
        of everyone's taste, or `None` with fewer than 6 rated images; `distance`: `{"rank_correlation",
        "rating_units"}` between this person's and everyone's scores of these images; `likes_more`: metadata field →
        value → how much more than others, in rating units; `unsure`: field → value → share of the prior doubt that
        is left; `notes`: what was odd about the answers. A mix, or a head of another strength, has no such figures.
        """
        return {"name": self.name, **self.about}

    def suggest(
        self,
        model: PamelaScorer | PamelaRewardModel | str | os.PathLike,
        images: Sequence[Any],
        n: int = 10,
        *,
        embeddings: Embeddings | None = None,
        prompts: Mapping[Any, str] | None = None,
        demographics: Mapping[str, Any] | None = None,
        batch_size: int = 32,
    ) -> Suggestion:
        """Which of these images to ask about next: with those that were fitted on, they stand for all of them.

        Args:
            model: the base.
            images: as in [`fit`], all that are to be ranked some day. Those that were fitted on are asked about no
                more, while the head is in memory: a saved head remembers no image.
            n: how many images to suggest, at most; default: 10.
            embeddings: as in [`fit`].
            prompts: as in [`fit`].
            demographics: those the head was fitted with, if any.
            batch_size: as in [`fit`].

        Raises:
            ValueError: no images, or one that cannot be read or has no features; n below 1; another base.
        """
        scorer = _scorer(model)
        self.check_fits(scorer)
        if not isinstance(n, numbers.Integral) or n < 1:
            raise ValueError(f"n={n!r} must be 1 or more.")
        if not len(images):
            raise ValueError("images is empty; give at least one to choose from.")
        answered = collect(
            scorer, [(image, None) for image in images], (), (), embeddings=embeddings, prompts=prompts,
            batch_size=batch_size, only_images=True,
        )  # fmt: skip
        prior = prior_of(scorer.model)
        answers = answered.linearized(scorer, demographics, prior)
        covariance = self.covariance if self.covariance is not None else np.diag(self.row_std.astype(np.float64) ** 2)
        row = self.row.astype(np.float64)
        there = np.array([key in self._rated for key in answered.keys], bool)
        fresh, rated = np.flatnonzero(~there), np.flatnonzero(there)
        if not len(fresh):
            return Suggestion([], 0.0, True, "All of these images are rated already.")
        belief = Posterior(row, covariance)
        features = design_features(answers, prior, answered.image_embeds)
        found = suggest_images(answers, belief, answered.cutpoints, n, features, fresh, rated)
        return replace(found, images=[answered.positions[i] for i in found.images])

    # -- other strengths, several people ---------------------------------------------------------------------------
    def with_strength(self, strength: float) -> "UserHead":
        """The same taste, weaker or stronger: 0 = everyone's, 1 = this head's, at most 1.5 times the person's own.

        Figures of [`describe`] (`held_out`, `distance`, `likes_more`, `unsure`) were true of the old strength and are
        left out.

        Raises:
            ValueError: no number, below 0, or with the strength that this head has already more than 1.5.
        """
        own = self.about.get("strength", 1.0)
        if not isinstance(strength, numbers.Real) or not (strength >= 0 and strength * own <= 1.5 + 1e-9):
            has = f" (this head has {own:g} already)" if own != 1 else ""
            raise ValueError(
                f"strength={strength!r} must lie in 0 (everyone's taste) .. 1.5{has}; 1 is this person's own."
            )
        if strength == 1:
            return replace(self)
        about = {key: value for key, value in self.about.items() if key not in FIGURES}
        about["strength"] = round(float(strength) * own, 4)
        return replace(self, row=(self.row * np.float32(strength)), about=about)

    @classmethod
    def mix(cls, heads: Sequence["UserHead"], weights: Sequence[float] | None = None, *, name: str) -> "UserHead":
        """Several people's taste as one (a couple's): the mean of their rows, with `weights` (default: equal).

        Raises:
            ValueError: no heads, weights that don't fit or don't sum to more than 0, heads of different bases.
        """
        if not heads:
            raise ValueError("heads is empty; give at least one.")
        weights = np.ones(len(heads)) if weights is None else np.asarray(weights, np.float64)
        if weights.shape != (len(heads),) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.sum():
            raise ValueError(f"weights={weights.tolist()}: give {len(heads)} numbers of 0 or more, not all 0.")
        for head in heads[1:]:
            head.check_base(heads[0].base_identity)
            if head.row.shape != heads[0].row.shape:
                raise HeadError(f"Head {head.name!r} has a row of another length than {heads[0].name!r}. Fit it again.")
        share = weights / weights.sum()
        stds = [head.row_std if head.row_std is not None else np.zeros_like(head.row) for head in heads]
        kinds = ("ratings", "likes", "choices")
        about: dict[str, Any] = {key: sum(head.about.get(key, 0) for head in heads) for key in kinds}
        about |= {
            "strength": round(float(share @ [head.about.get("strength", 1.0) for head in heads]), 4),
            "uses_demographics": any(head.about.get("uses_demographics") for head in heads),
            "mixed_from": len(heads),
            "notes": [f"A mix of {len(heads)} people."],
        }
        return cls(
            name=check_name(name),
            row=sum(w * h.row.astype(np.float64) for w, h in zip(share, heads)).astype(np.float32),
            hidden_size=heads[0].hidden_size,
            base_identity=heads[0].base_identity,
            base=heads[0].base,
            row_std=np.sqrt(sum((w * s.astype(np.float64)) ** 2 for w, s in zip(share, stds))).astype(np.float32),
            about=about,
        )

    def check_fits(self, scorer: PamelaScorer) -> None:
        """Raises HeadError unless this head belongs to the scorer's base and has the size of its rows."""
        self.check_base(scorer.identity)
        sizes, own = (scorer.config.row_size, scorer.config.hidden_size), (len(self.row), self.hidden_size)
        if sizes != own:
            raise HeadError(
                f"Head {self.name!r} has a row of {own[0]} numbers and a width of {own[1]}; its base has {sizes[0]} "
                f"and {sizes[1]}. It is damaged: get it, or fit it, again."
            )

    def check_base(self, identity: str) -> None:
        """Raises HeadError unless this head was fitted on the base with that identity."""
        if identity != self.base_identity:
            where = f" ({self.base})" if self.base else ""
            raise HeadError(
                f"Head {self.name!r} belongs to base {self.base_identity[:12]}…{where}, not to {identity[:12]}…. "
                "Load that base, or fit the head again on this one."
            )

    # -- files and the Hub -----------------------------------------------------------------------------------------
    def save(self, folder: str | os.PathLike) -> None:
        """Writes the head's folder, in place of an older head only once it is whole. Raises HeadError: see
        [`pamela_hf.heads.folder.write_head`]."""
        std = self.row_std if self.row_std is not None else np.zeros_like(self.row)
        about = {
            "name": check_name(self.name),
            "base": self.base,
            "base_identity": self.base_identity,
            "row_std": [round(float(v), 5) for v in std],
            "about": self.about,
        }
        card = head_card(self.name, self.base, self.base_identity, self.about)
        write_head(folder, self.row, self.hidden_size, about, card)

    @classmethod
    def load(cls, folder: str | os.PathLike, model: PamelaScorer | PamelaRewardModel | None = None) -> "UserHead":
        """Reads a head's folder; with `model`, for that base alone. Raises HeadError for all that is not a whole,
        plain head, or is another base's; nothing is loaded then."""
        row, hidden_size, values = read_head(folder)
        if len(values["row_std"]) != len(row):
            raise HeadError(f"{folder}: row_std has {len(values['row_std'])} numbers, the row {len(row)}.")
        std = np.array(values["row_std"], np.float32)
        base = values["base_identity"], values["base"]
        head = cls(values["name"], row, hidden_size, *base, std, values["about"])
        if model is not None:
            head.check_fits(_scorer(model))
        return head

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike,
        model: PamelaScorer | PamelaRewardModel | None = None,
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> "UserHead":
        """Loads a head from a folder or from the Hub (`"me/my-taste"`); see [`load`].

        Args:
            name_or_path: folder, or `owner/name` on the Hub.
            model: the base that the head has to belong to; by default, any.
            revision: commit, tag or branch on the Hub.
            token: token for the Hub.
        """
        if Path(name_or_path).is_dir():
            return cls.load(name_or_path, model)
        from ..hub.transfer import pull_folder

        pulled = pull_folder(str(name_or_path), revision=revision, allow=FILES, max_bytes=MAX_BYTES, token=token)
        # the Hub's cache holds links; a head's folder may hold none
        with scratch_folder("pamela-head") as folder:
            for file in FILES:
                if (pulled / file).is_file():
                    shutil.copyfile(pulled / file, folder / file)
            return cls.load(folder, model)

    def push_to_hub(
        self, repo_id: str, *, private: bool = True, dry_run: bool = False, token: str | None = None
    ) -> Any:
        """Publishes the head as one commit, privately by default; returns
        [`pamela_hf.hub.transfer.PushResult`]. No rating, image, demographic or path of this machine is in it."""
        from ..hub.transfer import push_folder

        with scratch_folder("pamela-head") as scratch:
            folder = scratch / "head"
            self.save(folder)
            message = f"Head {self.name}"
            return push_folder(
                folder, repo_id, allow=FILES, private=private, message=message, dry_run=dry_run, token=token
            )

    @staticmethod
    def delete_from_hub(repo_id: str, *, token: str | None = None) -> None:
        """Deletes a published head with all its history. Copies that others have downloaded stay with them."""
        from ..hub.transfer import delete_repo

        delete_repo(repo_id, token=token, of=MAX_BYTES)


def prior_of(model: PamelaRewardModel) -> np.ndarray:
    """`(H, H)` covariance around row 0 of what people's rows are like: of the networks' part what trained people's rows
    say, [`PRIOR_WIDTH`] times as wide, of linear tastes what these were fitted with, [`TASTES_PRIOR_WIDTH`] times. On a
    blank base a factor's share of a utility has variance 1."""
    config = model.config
    factors = np.eye(config.tastes)
    if config.blank:  # no networks: the numbers beside the factors are the person's use of the scale
        return block_diag(np.diag(USE_STD[: config.hidden_size] ** 2), factors / config.taste_share**2)
    rows = model.user_embedding.weight[1:, : config.hidden_size].detach().cpu().double().numpy()
    return block_diag(PRIOR_WIDTH * prior_covariance(rows), TASTES_PRIOR_WIDTH * factors)


def _scorer(model: PamelaScorer | PamelaRewardModel | str | os.PathLike) -> PamelaScorer:
    if isinstance(model, PamelaScorer):
        return model
    if isinstance(model, PamelaRewardModel):
        return PamelaScorer(model)
    return PamelaScorer.from_pretrained(model)


def _hub_id(model: PamelaRewardModel) -> str | None:
    """The Hub id a model was loaded from; `None` for a folder of this machine, whose name is nobody's business.

    A folder's name may look like an id, and be gone from sight after a chdir; what came from the Hub is in its cache.
    """
    name = str(getattr(model, "name_or_path", "") or "")
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or os.path.exists(name):
        return None
    cached = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"), "snapshots")
    return name if any(cached.glob("*/config.json")) else None
