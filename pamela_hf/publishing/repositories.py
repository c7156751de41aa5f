"""What goes to the Hub and how it is made ready: a trained model, a prepared ratings folder, a person's head.

Each is put together anew in a fresh folder, one's own raters under pseudonyms, and pushed by
[`pamela_hf.hub.transfer`].
"""

import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import torch
from huggingface_hub import HfApi
from PIL import Image
from transformers.utils import logging

from ..embeddings import load_embeddings
from ..evaluation.groups import group_summary
from ..files.writing import scratch_folder
from ..hub.transfer import HubError, PushResult, push_folder
from ..model.configuration_pamela import LOCAL_ENCODER, PamelaConfig
from ..model.modeling_pamela import PamelaRewardModel
from ..model.processing_pamela import PamelaProcessor
from ..ratings.builder import ANSWERS, load_ratings
from ..ratings.card import ratings_card
from ..ratings.preparation import write_answers
from ..ratings.table import DEMOGRAPHIC_FIELDS, RatingData
from ..rewards.hub import add_hub_files
from ..scoring import PamelaScorer
from .cards import model_card
from .pseudonyms import Pseudonyms

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
GPS_TAG = 0x8825  # of EXIF: where a photograph was taken
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
        repo_id, private, dry_run, token: as in [`pamela_hf.hub.transfer.push_folder`].
        report: report.json of `pamela evaluate` on this very model; default: the one in `folder`, or in `eval/`
            inside or beside it, if there is one.
        trained_on: ids of its ratings on the Hub, for the card.
        data: ratings with embeddings it is tested on: the card gets figures by demographic group.
        license: as the Hub writes it; default: that of the ratings if they share one, else "other".
        keep_ids: publish one's own raters under the names they have, to which they must have agreed.
        pseudonyms: the mapping of one's own raters; default: the one at home.

    Raises:
        HubError: no trained model, a report of another model, an encoder without a fixed revision (dry run) or that
            cannot be found; and what `push_folder` raises.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise HubError(f"{folder} holds no config.json. Give the folder that training wrote.")
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
    private_values = make_publishable(model, processor, token, dry_run, keep_ids, pseudonyms)
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
        (staged / "README.md").write_text(card, encoding="utf-8")
        return push_folder(
            staged,
            repo_id,
            allow=MODEL_FILES,
            private=private,
            message=f"Upload {repo_id.rpartition('/')[2]}",
            dry_run=dry_run,
            token=token,
            private_values=private_values,
        )


def make_publishable(
    model: PamelaRewardModel,
    processor: PamelaProcessor,
    token: str | None,
    dry_run: bool,
    keep_ids: bool,
    pseudonyms: Pseudonyms | None,
) -> list[str]:
    """Pins the encoder and gives one's own raters their pseudonyms, in place.

    Returns:
        The names that nothing published may hold.
    """
    config = model.config
    _pin_encoder(config, token, dry_run)
    processor.config = config
    names = {} if keep_ids else _own_names(config.users, config.releases or {})
    if not names:
        return []
    mapping = (pseudonyms or Pseudonyms(taken=set(config.users) - set(names))).assign(names, save=not dry_run)
    _rename_users(model, mapping)
    return _distinctive(names, mapping.values())


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

    One's own raters (of ratings that no release is known for) get pseudonyms, and their age, gender and nationality
    stay at home.

    Args:
        folder: what `pamela prepare-ratings` wrote.
        repo_id, private, dry_run, token: as in [`pamela_hf.hub.transfer.push_folder`].
        license: as the Hub writes it; default: that of the release, "unknown" for one's own ratings.
        keep_ids: publish one's own raters under the names they have, to which they must have agreed.
        with_demographics: publish their age, gender and nationality, to which they must have agreed.
        pseudonyms: the mapping of one's own raters; default: the one at home.

    Raises:
        RatingError: the folder's ratings are not in order.
        HubError: no prepared folder, a photograph of one's own that says where it was taken; and what `push_folder`
            raises.
    """
    folder = Path(folder)
    if not any(any((folder / kind).glob("*.parquet")) for kind in ANSWERS):
        raise HubError(f"{folder} is not a prepared ratings folder. Make one: pamela prepare-ratings SOURCE OUT.")
    ratings = load_ratings(folder, source="prepared")
    release = ratings.releases.get("")
    own = release is None
    tables = [*ratings.splits.values(), *ratings.choices.values()]
    names = {} if keep_ids or not own else {p: None for t in tables for p in t.participant_id.unique()}
    dropped = () if with_demographics or not own else ("age", *DEMOGRAPHIC_FIELDS)
    with scratch_folder("pamela-ratings") as staged:
        for part in (*ANSWERS, "images"):
            files = sorted((folder / part).glob("*.parquet"))
            if files:
                (staged / part).mkdir()
            for file in files:
                link_or_copy(file, staged / part / file.name)
        if (folder / "embeddings.safetensors").is_file():
            link_or_copy(folder / "embeddings.safetensors", staged / "embeddings.safetensors")
        private_values: list[str] = []
        if names or dropped:
            mapping = (pseudonyms or Pseudonyms()).assign(names, save=not dry_run)
            ratings = _veiled(ratings, mapping, dropped)
            for kind in ANSWERS:
                shutil.rmtree(staged / kind, ignore_errors=True)  # links: the folder's own files stay
            write_answers(ratings, staged)
            private_values = _distinctive(names, mapping.values())
        if own:
            _refuse_locations(sorted((staged / "images").iterdir()))
        card = ratings_card(
            ratings,
            staged,
            repo_id=repo_id,
            license=license or (release.license if release else "unknown"),
            pseudonymous=bool(names),
            without_demographics=bool(dropped),
        )
        (staged / "README.md").write_text(card, encoding="utf-8")
        return push_folder(
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


def _pin_encoder(config: PamelaConfig, token: str | None, dry_run: bool) -> None:
    """Makes the encoder's revision a commit, which stays what it is."""
    if config.backbone in (None, LOCAL_ENCODER) or _COMMIT.fullmatch(config.backbone_revision or "") or dry_run:
        return
    try:
        info = HfApi(token=token).model_info(config.backbone, revision=config.backbone_revision)
    except (OSError, ValueError):
        raise HubError(
            f"The encoder {config.backbone!r} at revision {config.backbone_revision!r} was not found, so it cannot be "
            f"pinned. Set backbone_revision in config.json to a commit of 40 digits."
        ) from None
    config.backbone_revision = info.sha


def _own_names(users: Iterable[str], releases: Mapping[str, Any]) -> dict[str, None]:
    """Participants whom no release has published, in order."""
    return {user: None for user in users if not user.startswith(tuple(releases))} if releases else dict.fromkeys(users)


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


def _veiled(ratings: RatingData, mapping: Mapping[str, str], dropped: Iterable[str]) -> RatingData:
    """The ratings under published names, rows in their order, without some columns' values."""

    def veiled(table: pd.DataFrame) -> pd.DataFrame:
        people = table.participant_id.astype(str).map(lambda name: mapping.get(name, name)).astype("category")
        table = table.assign(participant_id=people, **{c: table[c].mask(table[c].notna()) for c in dropped})
        return table.sort_values("participant_id", kind="stable", ignore_index=True)

    return replace(
        ratings,
        splits={split: veiled(table) for split, table in ratings.splits.items()},
        choices={split: veiled(table) for split, table in ratings.choices.items()},
    )


def _refuse_locations(files: Iterable[Path]) -> None:
    """Raises HubError if an image says where it was taken."""
    for file in files:
        stored = pq.ParquetFile(file)
        for batch in stored.iter_batches(64, columns=["image_id", "image"]):
            for row in batch.to_pylist():
                content = (row["image"] or {}).get("bytes")
                if content and Image.open(io.BytesIO(content)).getexif().get_ifd(GPS_TAG):
                    raise HubError(
                        f"Nothing was pushed: image {row['image_id']!r} says where it was taken (EXIF GPS). Remove "
                        "that from the file, for example by saving it anew, and prepare the ratings again."
                    )


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system is another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
