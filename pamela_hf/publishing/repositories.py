"""What goes to the Hub and how it is made ready: a trained model, a prepared ratings folder, a person's head.

Each is put together anew in a fresh folder, one's own raters under pseudonyms, and pushed by
[`pamela_hf.hub.transfer`].
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from huggingface_hub import HfApi
from transformers.utils import logging

from ..embeddings import load_embeddings
from ..evaluation.groups import group_summary
from ..files.writing import scratch_folder
from ..hub.transfer import HubError, PushResult, check_links, push_folder
from ..model.configuration_pamela import LOCAL_ENCODER, PamelaConfig
from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import PamelaProcessor
from ..ratings.builder import ANSWERS, IMAGE_FEATURES, load_ratings
from ..ratings.card import ratings_card
from ..ratings.preparation import write_answers
from ..ratings.sources.prepared import write_images
from ..ratings.table import DEMOGRAPHIC_FIELDS, RatingData, Release
from ..rewards.hub import add_hub_files
from ..scoring import PamelaScorer
from .cards import model_card
from .pictures import cleaned_rows
from .pseudonyms import Pseudonyms
from .released import Released, look_up, released_participants, released_users

logger = logging.get_logger(__name__)

MODEL_FILES = (
    "README.md", "config.json", "processor_config.json", "*.py", "requirements.txt",
    "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json",
    "encoder/config.json", "encoder/*.safetensors", "encoder/model.safetensors.index.json",
    "encoder/preprocessor_config.json", "encoder/processor_config.json", "encoder/image_processor_config.json",
    "encoder/tokenizer.json", "encoder/tokenizer_config.json", "encoder/special_tokens_map.json",
    "encoder/tokenizer.model",
)  # fmt: skip
RATINGS_FILES = ("README.md", "ratings/*.parquet", "choices/*.parquet", "images/*.parquet", "embeddings.safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def push_model(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
    report: str | os.PathLike | None = None,
    trained_on: Iterable[str] = (),
    data: str | os.PathLike | None = None,
    license: str | None = None,
    keep_ids: bool = False,
    pseudonyms: Pseudonyms | None = None,
) -> PushResult:
    """Pushes a trained model: weights without the frozen encoder, processor, the model's own files, filled card.

    Args:
        folder: what training wrote.
        repo_id: as in [`pamela_hf.hub.transfer.push_folder`].
        private: as in `push_folder`; default: True.
        dry_run: as in `push_folder`; default: False.
        token: as in `push_folder`.
        report: report.json of `pamela evaluate` on this very model; default: the one in `folder`, or in `eval/`
            inside or beside it, if there is one.
        trained_on: ids of its ratings on the Hub, for the card.
        data: ratings with embeddings it is tested on: the card gets figures by demographic group.
        license: as the Hub writes it; default: that of the ratings if they share one, else "other".
        keep_ids: publish one's own raters under the names they have, to which they must have agreed.
        pseudonyms: the mapping of one's own raters; default: the one at home.

    Raises:
        HubError: no trained model, links out of its folder, a report of another model, an encoder that cannot be
            found, a release that cannot be looked up; and what `push_folder` raises.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise HubError(f"{folder} holds no config.json. Give the folder that training wrote.")
    check_links(folder, [p.relative_to(folder).as_posix() for pattern in MODEL_FILES for p in folder.glob(pattern)])
    model = PamelaRewardModel.from_pretrained(folder)
    processor = PamelaProcessor.from_pretrained(folder)
    config = model.config
    found = _report(folder, report, config)
    groups = None
    if data is not None:
        tested = load_ratings(data)
        if tested.embeddings is None:
            raise HubError(f"{data} has no embeddings.safetensors. Make it once: pamela embed --data {data}.")
        groups = group_summary(PamelaScorer(model, processor), tested, load_embeddings(tested.embeddings))
    people = make_publishable(model, processor, token, dry_run, keep_ids, license, pseudonyms)
    licenses = {release["license"] for release in (config.releases or {}).values()}
    with scratch_folder("pamela-model") as staged:
        model.save_pretrained(staged)
        processor.save_pretrained(staged)
        forget_places(staged)
        add_hub_files(staged)
        card = model_card(
            config,
            repo_id,
            license=license or (licenses.pop() if len(licenses) == 1 else "other"),
            report=found,
            datasets=list(trained_on),
            groups=groups,
        )
        return push_staged(
            staged, repo_id, card, people, allow=MODEL_FILES, private=private, dry_run=dry_run, token=token
        )


@dataclass(frozen=True)
class PublishedPeople:
    """Under which names people are published.

    Attributes:
        counts: how many, by kind of name, see [`pamela_hf.hub.transfer.PushResult`].
        private_values: names that nothing published may hold.
    """

    counts: dict[str, int]
    private_values: list[str]


def make_publishable(
    model: PamelaRewardModel,
    processor: PamelaProcessor,
    token: str | None,
    dry_run: bool,
    keep_ids: bool,
    license: str | None,
    pseudonyms: Pseudonyms | None,
) -> PublishedPeople:
    """Pins the encoder and gives all who are not public already their pseudonyms, in place. Of the releases that the
    configuration names only those stay that somebody of the model is known from, or that `keep_ids` with their own
    licence vouches for."""
    config = model.config
    _pin_encoder(config, dry_run)
    processor.config = config
    named = {prefix: _release_of(values) for prefix, values in (config.releases or {}).items()}
    found = {prefix: released_users(config.users, {prefix: _looked_up(r, dry_run)}) for prefix, r in named.items()}
    public = set().union(*found.values())
    kept = {p: r.known() for p, r in named.items() if found[p] or (keep_ids and license == r.license)}
    config.releases = kept or None
    names = {} if keep_ids else {user: None for user in config.users if user not in public}
    counts = _counts(len(public), len(config.users) - len(public), keep_ids)
    if not names:
        return PublishedPeople(counts, [])
    mapping = (pseudonyms or Pseudonyms(taken=public)).assign(names, save=not dry_run)
    _rename_users(model, mapping)
    return PublishedPeople(counts, _distinctive(names, mapping.values()))


def push_staged(
    staged: Path, repo_id: str, card: str, people: PublishedPeople, *, allow: Sequence[str], **options: Any
) -> PushResult:
    """Pushes what was staged of a model or a pipeline, with its card.

    Args:
        staged: the folder.
        repo_id: where it will lie.
        card: becomes README.md.
        people: under which names they are in it.
        allow: patterns of the files that go.
        options: `private`, `dry_run` and `token` of [`pamela_hf.hub.transfer.push_folder`].
    """
    (staged / "README.md").write_text(card, encoding="utf-8")
    message = f"Upload {repo_id.rpartition('/')[2]}"
    result = push_folder(
        staged, repo_id, allow=allow, message=message, private_values=people.private_values, **options
    )
    return replace(result, participants=people.counts)


def _release_of(values: Mapping[str, Any]) -> Release:
    """What a model's configuration says of a release."""
    texts = (str(values.get(key, "")) for key in ("license", "url", "citation"))
    return Release(*texts, values.get("dataset"), values.get("revision"))


def _looked_up(release: Release, dry_run: bool) -> Released:
    """Who is public by a release. Where a dry run cannot find out, nobody."""
    try:
        return look_up(release)
    except HubError as error:
        if not dry_run:
            raise HubError(
                f"Nothing was pushed: who is public by {release.dataset} could not be found out. {error}"
            ) from None
        logger.warning(f"Not found out who is public by {release.dataset}, so all count as your own raters: {error}")
        return Released()


def _counts(public: int, others: int, keep_ids: bool) -> dict[str, int]:
    return {"released": public, "pseudonyms": 0 if keep_ids else others, "own names": others if keep_ids else 0}


def push_ratings(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    token: str | None = None,
    license: str | None = None,
    keep_ids: bool = False,
    with_demographics: bool = False,
    pseudonyms: Pseudonyms | None = None,
) -> PushResult:
    """Pushes a prepared ratings folder: checked anew, with a card that says what is in it.

    Participants keep their ids whose ratings here are, all of them, in the public dataset on the Hub that these were
    read from, see [`pamela_hf.publishing.released`]. All others are one's own raters: they get pseudonyms, and their
    age, gender and nationality stay at home. Of each picture the pixels and the colour profile go, nothing else.

    Args:
        folder: what `pamela prepare-ratings` wrote.
        repo_id: as in [`pamela_hf.hub.transfer.push_folder`].
        private: as in `push_folder`; default: True.
        dry_run: as in `push_folder`; default: False.
        token: as in `push_folder`.
        license: as the Hub writes it; default: that of the release if all are its participants, else
            "unknown".
        keep_ids: publish one's own raters under the names they have, to which they must have agreed.
        with_demographics: publish their age, gender and nationality, to which they must have agreed.
        pseudonyms: the mapping of one's own raters; default: the one at home.

    Raises:
        RatingError: the folder's ratings are not in order.
        HubError: no prepared folder, links out of it, a release that cannot be looked up, a picture that cannot be
            cleaned; and what `push_folder` raises.
    """
    folder = Path(folder)
    if not any(any((folder / kind).glob("*.parquet")) for kind in ANSWERS):
        raise HubError(f"{folder} is not a prepared ratings folder. Make one: pamela prepare-ratings SOURCE OUT.")
    check_links(folder, [p.relative_to(folder).as_posix() for pattern in RATINGS_FILES for p in folder.glob(pattern)])
    ratings = load_ratings(folder, source="prepared")
    tables = [*ratings.splits.values(), *ratings.choices.values()]
    everybody = {str(p) for table in tables for p in table.participant_id.unique()}
    release = ratings.releases.get("")
    public = released_participants(ratings, _looked_up(release, dry_run)) if release else set()
    own = sorted(everybody - public)
    if own and not (release and keep_ids and license == release.license):
        ratings, release = replace(ratings, releases={}), None  # not the release, or not it alone
    names = [] if keep_ids else own
    dropped = () if with_demographics or not own else ("age", *DEMOGRAPHIC_FIELDS)
    with scratch_folder("pamela-ratings") as staged:
        (staged / "images").mkdir()
        if names or dropped:
            mapping = (pseudonyms or Pseudonyms(taken=public)).assign(names, save=not dry_run)
            ratings = _published(ratings, mapping, dropped, own)
            private_values = _distinctive(names, mapping.values())
        else:
            private_values = []
        write_answers(ratings, staged)
        stored = sorted((folder / "images").glob("*.parquet"))
        write_images(cleaned_rows(stored), staged / "images", IMAGE_FEATURES.arrow_schema)
        if (folder / "embeddings.safetensors").is_file():
            link_or_copy(folder / "embeddings.safetensors", staged / "embeddings.safetensors")
        card = ratings_card(
            ratings,
            staged,
            repo_id=repo_id,
            license=license or (release.license if release else "unknown"),
            pseudonymous=bool(names),
            without_demographics=bool(dropped),
        )
        (staged / "README.md").write_text(card, encoding="utf-8")
        result = push_folder(
            staged,
            repo_id,
            "dataset",
            allow=RATINGS_FILES,
            private=private,
            message=f"Upload {sum(map(len, tables)):,} {'ratings' if ratings.splits else 'choices'}",
            dry_run=dry_run,
            token=token,
            private_values=private_values,
        )
        return replace(result, participants=_counts(len(public), len(own), keep_ids))


def push_head(
    folder: str | os.PathLike, repo_id: str, *, private: bool = True, dry_run: bool = False, token: str | None = None
) -> PushResult:
    """Pushes a person's head: read from its folder and written anew, so that nothing else of the folder goes along.

    Raises:
        HeadError: the folder holds no head.
        HubError: see `push_folder`.
    """
    from ..heads.head import UserHead

    return UserHead.load(folder).push_to_hub(repo_id, private=private, dry_run=dry_run, token=token)


def _report(folder: Path, path: str | os.PathLike | None, config: PamelaConfig) -> dict[str, Any] | None:
    """report.json, if it judges this very model."""
    places = [folder / "report.json", folder / "eval" / "report.json", folder.parent / "eval" / "report.json"]
    if path is None:
        path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        identity = report["meta"]["scorers"]["pamela"]["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        raise HubError(f"{path} is not a report of an evaluation. Run: pamela evaluate.") from None
    if identity != config.base_identity:
        raise HubError(
            f"{path} judges another model (its identity is {str(identity)[:12]}…, this model's is "
            f"{str(config.base_identity)[:12]}…). Evaluate this model, or name its report with report= (--report)."
        )
    return report


def forget_places(folder: Path) -> None:
    """Takes out of saved configurations where their parts were loaded from: those are paths of this machine."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k not in ("_name_or_path", "name_or_path")}
        return value

    for file in folder.rglob("*.json"):
        if file.name.endswith("config.json") or file.name == "model_index.json":
            read = json.loads(file.read_text(encoding="utf-8"))
            file.write_text(json.dumps(without(read), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _pin_encoder(config: PamelaConfig, dry_run: bool) -> None:
    """Makes the encoder's revision a commit, which stays what it is."""
    if config.backbone in (None, LOCAL_ENCODER) or _COMMIT.fullmatch(config.backbone_revision or "") or dry_run:
        return
    try:
        info = HfApi(token=False).model_info(config.backbone, revision=config.backbone_revision)
    except (OSError, ValueError):
        raise HubError(
            f"The encoder {config.backbone!r} at revision {config.backbone_revision!r} was not found, so it cannot be "
            "pinned. (If its repository is private: a token is not sent to a repository that a file names.) Set "
            "backbone_revision in config.json to a commit of 40 digits."
        ) from None
    config.backbone_revision = info.sha


def _distinctive(names: Iterable[str], published: Iterable[str]) -> list[str]:
    """The old names that stand for nothing but their owner: "max" and "will" occur in code and texts by themselves."""
    public = set(published)
    return [n for n in names if n not in public and (len(n) > 11 or re.search(r"[^a-z]", n[1:])) and len(n) > 3]


def _rename_users(model: PamelaRewardModel, mapping: Mapping[str, str]) -> None:
    """Gives people their published names, and rows in the order of these: the old order was that of the old names."""
    users = [mapping.get(user, user) for user in model.config.users]
    order = sorted(range(len(users)), key=users.__getitem__)
    with torch.no_grad():
        rows = model.user_embedding.weight
        rows[1:] = rows[1:][order].clone()
    model.config.users = [users[i] for i in order]


def _published(
    ratings: RatingData, mapping: Mapping[str, str], dropped: Iterable[str], own: Iterable[str]
) -> RatingData:
    """The ratings and choices under published names, rows in their order, without some columns' values of one's `own`
    raters."""
    own = set(own)

    def published(table: pd.DataFrame) -> pd.DataFrame:
        people = table.participant_id.astype(str)
        hidden = {column: table[column].mask(people.isin(own)) for column in dropped}
        table = table.assign(participant_id=people.map(lambda n: mapping.get(n, n)).astype("category"), **hidden)
        return table.sort_values("participant_id", kind="stable", ignore_index=True)

    return replace(
        ratings,
        splits={split: published(table) for split, table in ratings.splits.items()},
        choices={split: published(table) for split, table in ratings.choices.items()},
    )


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system is another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
