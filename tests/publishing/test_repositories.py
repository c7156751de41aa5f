"""Models and ratings on a local Hub, as strangers in fresh processes find them."""

import io
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from pushes import CLI, PEOPLE, assert_absent
from releases import small_splits, write_release
from transformers import AutoModel

from pamela_hf import PamelaConfig, PamelaProcessor, PamelaRewardModel
from pamela_hf.hub.transfer import HubError
from pamela_hf.publishing.pseudonyms import Pseudonyms
from pamela_hf.publishing.repositories import push_model, push_ratings

SCORES = """
import json, sys
import numpy as np
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor
images = [Image.fromarray(np.full((20, 24, 3), 40 * i, np.uint8)) for i in range(1, 4)]
out = {}
for repo in sys.argv[1:]:
    config = AutoConfig.from_pretrained(repo, **FLAG)
    model = AutoModel.from_pretrained(repo, **FLAG).eval()
    processor = AutoProcessor.from_pretrained(repo, **FLAG)
    assert model.backbone is None and config.users == model.config.users
    scores = [model(**processor(images=images, prompts="a cat", user=u)).scores.tolist() for u in (None, *config.users)]
    revision = config.backbone_revision
    out[repo] = {"scores": scores, "users": config.users, "revision": revision, "module": type(model).__module__}
print(json.dumps(out))
"""
SNIPPETS = """
import re
from huggingface_hub import hf_hub_download
card = open(hf_hub_download(sys.argv[1], "README.md")).read()
for name in ("a.png", "b.png"):
    images[0].save(name)
blocks = re.findall(r"```python\\n(.*?)```", card, re.S)
scope = {"image": images[0]}
for block in blocks:
    exec(block, scope)
print(json.dumps([len(blocks), list(scope["scores"].shape)]))
"""


def make_model(folder: Path, encoder: Path, backbone: str, **changes) -> PamelaRewardModel:
    torch.manual_seed(3)
    encoder_model = AutoModel.from_pretrained(encoder)
    config = PamelaConfig(
        backbone=backbone, backbone_config=encoder_model.config.to_dict(), image_embed_dim=32, text_embed_dim=32,
        hidden_size=8, num_attention_heads=2, num_fusion_members=1, intermediate_size=16, interaction_rank=3,
        taste_factors=0, **{"users": PEOPLE, **changes},
    )  # fmt: skip
    model = PamelaRewardModel(config).eval()
    torch.nn.init.normal_(model.user_embedding.weight[1:])
    model.set_backbone(encoder_model)
    model.save_pretrained(folder)
    from pamela_hf.model.encoder_pamela import load_preprocessors

    PamelaProcessor(config, *load_preprocessors(str(encoder))).save_pretrained(folder)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "state.json").write_text(json.dumps(PEOPLE))
    (folder / "metrics.jsonl").write_text("{}")
    return model


def report_of(config: PamelaConfig) -> dict:
    def cell(value):
        return {"value": value, "ci_low": value - 0.1, "ci_high": value + 0.1, "n_users": 12}

    metrics = {
        "user_srocc": cell(0.4),
        "user_plcc": cell(0.5),
        "user_pairwise_0": cell(0.66),
        "coverage_80": cell(0.81),
    }
    empty = {"value": None, "ci_low": None, "ci_high": None, "n_users": 0}
    scorers = {"pamela": {**metrics, "rmse": cell(0.9)}, "consensus": {**metrics, "rmse": empty}}
    counts = {"ratings": 120, "participants": 12, "images": 30}
    return {
        "splits": {"val_seen": scorers, "test_seen": scorers},
        "meta": {
            "scorers": {"pamela": {"identity": config.base_identity}}, "data": "toy", "simulated": False,
            "counts": {"val_seen": counts, "test_seen": counts},
        },
    }  # fmt: skip


def test_a_pushed_model_loads_in_a_strangers_process(siglip_encoder, tmp_path, fresh_process, hub_server):
    """With the encoder in a repository of its own (pinned) and in ./encoder; with the package and without it."""
    commit = hub_server.add(siglip_encoder, "me/tiny-siglip")
    models = {
        "me/apart": make_model(tmp_path / "apart", siglip_encoder, "me/tiny-siglip"),
        "me/within": make_model(tmp_path / "within", siglip_encoder, "./encoder"),
    }
    (tmp_path / "apart" / "report.json").write_text(json.dumps(report_of(models["me/apart"].config)))
    pushes = [
        ["model", str(tmp_path / "apart"), "me/apart", "--public", "--trained-on", "me/toy-ratings"],
        ["model", str(tmp_path / "within"), "me/within", "--dry-run"],
        ["model", str(tmp_path / "within"), "me/within"],
    ]
    printed = fresh_process(CLI, json.dumps(pushes))
    assert "Nothing was sent" in printed and hub_server.commits("me/within") == 1
    # where the encoder changes later, the published model keeps the one it was pinned to
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    hub_server.add(tmp_path / "other", "me/tiny-siglip")

    apart, within = hub_server.files("me/apart"), hub_server.files("me/within")
    assert not [name for name in apart if name.startswith(("encoder/", "checkpoints/", "metrics"))]
    assert "encoder/model.safetensors" in within and "encoder/tokenizer.json" in within
    for files in (apart, within):
        assert_absent([*PEOPLE, str(tmp_path)], files)
        assert json.loads(files["config.json"])["auto_map"]["AutoModel"].startswith("modeling_pamela.")
    card = yaml.safe_load(apart["README.md"].decode().split("---")[1])
    assert card["library_name"] == "transformers" and card["base_model"] == "me/tiny-siglip"
    assert card["datasets"] == ["me/toy-ratings"] and card["license"] == "other" and "pamela" in card["tags"]
    assert card["license_name"] == "see-license-section" and card["license_link"].endswith("me/apart#license")
    assert (
        card["base_model_relation"] == "adapter" and "https://arxiv.org/abs/2604.07427" in apart["README.md"].decode()
    )
    results = card["model-index"][0]["results"]
    assert {m["type"]: m["value"] for m in results[0]["metrics"]}["user_srocc"] == 0.4
    text = apart["README.md"].decode()
    for title in (
        "Scale and calibration",
        "How to use",
        "Training data",
        "Evaluation",
        "Limits and bias",
        "Privacy",
        "License",
    ):
        assert f"## {title}" in text
    assert "| `consensus` | 0.400 [0.300, 0.500] | 0.500 [0.400, 0.600] | 0.660 [0.560, 0.760] | – |" in text

    stranger = fresh_process("FLAG = {'trust_remote_code': True}\n" + SCORES, *models, with_package=False)
    said = fresh_process("import pamela_hf\nFLAG = {}\n" + SCORES + SNIPPETS, *models).splitlines()
    assert json.loads(said[-1]) == [3, [4, 1 + len(PEOPLE)]]  # all that the card shows runs
    friend = json.loads(next(line for line in said if line.startswith("{")))
    stranger = json.loads(stranger.splitlines()[-1])
    names = Pseudonyms(tmp_path / "pamela" / "pseudonyms.json").assign(PEOPLE, save=False)
    import numpy as np

    images = [Image.fromarray(np.full((20, 24, 3), 40 * i, np.uint8)) for i in range(1, 4)]
    for repo, model in models.items():
        assert (
            stranger[repo]["module"].startswith("transformers_modules.") and friend[repo]["module"][:9] == "pamela_hf"
        )
        assert stranger[repo]["users"] == friend[repo]["users"] == sorted(names.values())
        processor = PamelaProcessor.from_pretrained(tmp_path / repo[3:])
        processor._image_processor, processor._tokenizer = _preprocessors(siglip_encoder)
        order = [None, *sorted(PEOPLE, key=names.__getitem__)]
        expected = [model(**processor(images=images, prompts="a cat", user=u)).scores.tolist() for u in order]
        for found in (stranger, friend):
            torch.testing.assert_close(torch.tensor(found[repo]["scores"]), torch.tensor(expected), atol=1e-5, rtol=0)
    assert stranger["me/apart"]["revision"] == commit


def _preprocessors(encoder: Path):
    from pamela_hf.model.encoder_pamela import load_preprocessors

    return load_preprocessors(str(encoder))


LOADS = """
import json, sys
from datasets import load_dataset, load_dataset_builder
repo = sys.argv[1]
builder = load_dataset_builder(repo, "ratings")
out = {"splits": {s: i.num_examples for s, i in builder.info.splits.items()}, "features": str(builder.info.features)}
out["streamed"] = next(iter(load_dataset(repo, "ratings", split="train", streaming=True)))
narrow = load_dataset(repo, "ratings", split="train", streaming=True, columns=["participant_id", "score"])
out["narrow"] = next(iter(narrow))
ratings = load_dataset(repo, "ratings")
out["rows"] = {s: len(t) for s, t in ratings.items()}
out["people"] = sorted({p for t in ratings.values() for p in t["participant_id"]})
out["default"] = len(load_dataset(repo)["train"])
out["before images"] = True
print(json.dumps(out))
images = load_dataset(repo, "images", split="images")
both = len(load_dataset(repo, "images", split="all"))
print(json.dumps([len(images), images[0]["image"].size, both]))
"""


def test_pushed_ratings_load_as_users_expect(tmp_path, fresh_process, hub_server):
    from pamela_hf.ratings.preparation import prepare

    prepare(write_release(tmp_path / "release", small_splits()), tmp_path / "prepared")
    before = len(hub_server.requests)
    named = ["--keep-ids", "--with-demographics", "--license", "cc-by-4.0"]  # whoever pushes vouches for it
    said = fresh_process(CLI, json.dumps([["ratings", str(tmp_path / "prepared"), "me/toy-ratings", *named]]))
    assert "3 participants: 0 released, 0 under pseudonyms, 3 under their own names" in said
    assert (
        hub_server.commits("me/toy-ratings", "dataset") == 1 and hub_server.repos["dataset", "me/toy-ratings"].private
    )
    before = len(hub_server.requests)
    loaded, images = map(json.loads, fresh_process(LOADS, "me/toy-ratings", with_package=False).splitlines()[-2:])
    counts = {"train": 10, "val_seen": 1, "test_seen": 2, "test_unseen": 1}
    assert loaded["splits"] == loaded["rows"] == counts and loaded["default"] == 10
    assert loaded["people"] == ["p1", "p2", "p3"]
    assert loaded["narrow"].keys() == {"participant_id", "score"}
    assert loaded["streamed"]["score"] == 2.0 and loaded["streamed"]["age"] == 30
    assert images == [7, [16, 12], 7]
    touched = [r for r in hub_server.requests[before:] if r.method == "GET" and "/resolve/" in r.path]
    first_image = next(i for i, r in enumerate(touched) if "/images/" in r.path)
    assert all("/ratings/" in r.path or "README" in r.path for r in touched[:first_image])

    text = hub_server.files("me/toy-ratings", "dataset")["README.md"].decode()
    card = yaml.safe_load(text.split("---")[1])
    assert card["license"] == "cc-by-4.0" and card["size_categories"] == ["n<1K"] and card["language"] == "en"
    assert card["task_categories"] == ["image-classification", "text-to-image"]
    assert "https://arxiv.org/abs/2604.07427" in text
    assert card["rating_release"]["url"].endswith("bethgelab/PAMELA")
    assert {c["config_name"]: len(c["data_files"]) for c in card["configs"]} == {"ratings": 4, "images": 1}
    assert "| `train` | 10 | 2 | 5 |" in text and "| `train` | 3.00 | 20.0 % | 20.0 % |" in text
    for title in ("Columns", "How the ratings are spread", "Known traps", "People", "License and source"):
        assert f"## {title}" in text


def write_own(folder: Path, people=PEOPLE, gps: bool = False) -> Path:
    """Somebody's own CSV of ratings with demographics, beside images."""
    folder.mkdir()
    rows = []
    for k, person in enumerate(people):
        for i in range(12):
            rows.append((f"{i}.jpg", i % 5 + 1, person, 31 + k % 5, "non-binary-canary", "canarian"))
    columns = ["image", "score", "participant", "age", "gender", "nationality"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "mine.csv", index=False)
    for i in range(12):
        exif = Image.Exif()
        if gps:
            exif[0x8825] = {1: "N", 2: (50.0, 52.0, 0.0)}
        Image.effect_noise((24, 20), 20 + i).convert("RGB").save(folder / f"{i}.jpg", exif=exif)
    return folder / "mine.csv"


def test_ones_own_raters_are_published_under_pseudonyms(tmp_path, fresh_process, hub_server):
    """PROMISES 5, for ratings: 48 names, two demographic values."""
    from pamela_hf.ratings.preparation import prepare

    people = [*PEOPLE, *(f"canary-rater-{k:02d}" for k in range(45))]
    prepare(write_own(tmp_path / "own", people), tmp_path / "prepared", split_by="none")
    push = ["ratings", str(tmp_path / "prepared")]
    fresh_process(CLI, json.dumps([[*push, "me/own"], [*push, "me/own"], [*push, "me/named", "--keep-ids"]]))
    assert hub_server.commits("me/own", "dataset") == 1  # the second push finds nothing to change
    files = hub_server.files("me/own", "dataset")
    pseudonyms = json.loads((tmp_path / "pamela" / "pseudonyms.json").read_text())
    assert pseudonyms.keys() == set(people)
    table = pq.read_table(io.BytesIO(files["ratings/train-00000-of-00001.parquet"])).to_pandas()
    assert sorted(table.participant_id.unique()) == [f"user_{k:04d}" for k in range(1, 49)]
    assert table[["age", "age_binned", "gender", "nationality"]].isna().all(axis=None)
    assert len(table) == 48 * 12 and table.score.between(1, 5).all()
    texts = {name: table.to_csv().encode() if name.endswith("x.parquet") else c for name, c in files.items()}
    assert_absent([*people, "non-binary-canary", "canarian", str(tmp_path)], texts)
    assert sorted(files) == [
        "README.md", "images/all-00000-of-00001.parquet", "ratings/train-00000-of-00001.parquet",
    ]  # fmt: skip
    card = files["README.md"].decode()
    assert "license: unknown" in card and "pseudonyms" in card and "were left out" in card
    assert "anonymous" not in card.lower()
    named = hub_server.files("me/named", "dataset")
    kept = pq.read_table(io.BytesIO(named["ratings/train-00000-of-00001.parquet"]))
    assert set(kept["participant_id"].to_pylist()) == set(people) and kept["gender"].null_count == 48 * 12


def test_choices_are_published_under_pseudonyms_too(tmp_path, fresh_process, hub_server):
    from pamela_hf.ratings.preparation import prepare

    (tmp_path / "own").mkdir()
    rows = [("0.jpg", "1.jpg", "no", person, 31, "non-binary-canary", "canarian") for person in PEOPLE]
    columns = ["preferred", "other", "tie", "participant", "age", "gender", "nationality"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "own" / "mine.csv", index=False)
    for i in range(2):
        Image.effect_noise((24, 20), 20 + i).convert("RGB").save(tmp_path / "own" / f"{i}.jpg")
    prepare(tmp_path / "own" / "mine.csv", tmp_path / "prepared", split_by="none")
    push = ["ratings", str(tmp_path / "prepared"), "me/own-choices"]
    fresh_process(CLI, json.dumps([push]))
    files = hub_server.files("me/own-choices", "dataset")
    table = pq.read_table(io.BytesIO(files["choices/train-00000-of-00001.parquet"])).to_pandas()
    assert all(name.startswith("user_") for name in table.participant_id) and len(table) == len(PEOPLE)
    assert table[["age", "age_binned", "gender", "nationality"]].isna().all(axis=None)
    texts = {name: table.to_csv().encode() if name.endswith("x.parquet") else c for name, c in files.items()}
    assert_absent([*PEOPLE, "non-binary-canary", "canarian", str(tmp_path)], texts)
    assert sorted(files) == [
        "README.md", "choices/train-00000-of-00001.parquet", "images/all-00000-of-00001.parquet",
    ]  # fmt: skip
    assert (tmp_path / "prepared/choices").is_dir()


def test_what_cannot_be_published_is_refused_before_any_request(tmp_path, siglip_encoder):
    from pamela_hf.ratings.preparation import prepare

    home = Pseudonyms(tmp_path / "home" / "pseudonyms.json")
    prepare(write_own(tmp_path / "own"), tmp_path / "prepared", split_by="none")
    for part in ("ratings/train-00000-of-00001.parquet", "images/all-00000-of-00001.parquet", "embeddings.safetensors"):
        linked = Path(shutil.copytree(tmp_path / "prepared", tmp_path / "linked", dirs_exist_ok=True)) / part
        elsewhere = Path("/dev/shm" if os.path.isdir("/dev/shm") else tmp_path) / f"pamela-{os.getpid()}"
        elsewhere.write_bytes(linked.read_bytes() if linked.exists() else b"")  # on another file system
        linked.unlink(missing_ok=True)
        linked.symlink_to(elsewhere)
        with pytest.raises(HubError, match=f"{part} is a link out of the folder"):
            push_ratings(tmp_path / "linked", "me/x", pseudonyms=home, dry_run=True)
        elsewhere.unlink()
        linked.unlink()
    with pytest.raises(HubError, match="is not a prepared ratings folder"):
        push_ratings(tmp_path, "me/x", dry_run=True)
    with pytest.raises(HubError, match=r"no config\.json"):
        push_model(tmp_path, "me/x", dry_run=True)
    model = make_model(tmp_path / "model", siglip_encoder, "./encoder")
    report = report_of(model.config)
    report["meta"]["scorers"]["pamela"]["identity"] = "another"
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(HubError, match="judges another model"):
        push_model(tmp_path / "model", "me/x", report=tmp_path / "report.json", pseudonyms=home, dry_run=True)
    weights = tmp_path / "model" / "model.safetensors"
    weights.rename(tmp_path / "weights")
    weights.symlink_to(tmp_path / "weights")
    with pytest.raises(HubError, match=r"model\.safetensors is a link out of the folder"):
        push_model(tmp_path / "model", "me/x", pseudonyms=home, dry_run=True)
    (tmp_path / "weights").replace(weights)
    result = push_model(tmp_path / "model", "me/x", pseudonyms=home, dry_run=True)
    assert result.commit is None and "config.json" in result.files and "modeling_pamela.py" in result.files
    assert not (tmp_path / "home").exists()  # a dry run writes nothing
