"""Who keeps their id when ratings or a model are pushed: whoever is in the public dataset they were read from."""

import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from pushes import CLI, assert_absent
from releases import rating, small_splits, write_release

from pamela_hf.hub.transfer import HubError
from pamela_hf.publishing import repositories
from pamela_hf.publishing.pseudonyms import Pseudonyms
from pamela_hf.publishing.released import Released, answer_hash, released_participants, released_users
from pamela_hf.publishing.repositories import push_model, push_ratings
from pamela_hf.ratings.builder import load_ratings
from pamela_hf.ratings.preparation import prepare
from pamela_hf.ratings.table import Release

OWN = ["canary-ann", "canary-bob"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def own_release(folder: Path) -> Path:
    """One's own raters in files that are called as the release's are."""
    rows = [rating(person, image, (image + k) % 5 + 1) for k, person in enumerate(OWN) for image in range(1, 6)]
    return write_release(folder, {"train": rows})


def claiming(card: Path, **release) -> None:
    """Makes a prepared folder's card say that its ratings are a release's."""
    head = yaml.safe_load(card.read_text().split("---")[1])
    head["rating_release"] = {"license": "cc-by-4.0", "url": "https://x", "citation": "x", **release}
    card.write_text(f"---\n{yaml.safe_dump(head)}---\ntext")


def people_of(files: dict[str, bytes]) -> set[str]:
    tables = [pq.read_table(io.BytesIO(c)) for n, c in files.items() if n.startswith("ratings/")]
    return {person for table in tables for person in table["participant_id"].to_pylist()}


def pushed(folder: Path, tmp_path: Path, monkeypatch, **options):
    """(result, files) of a push of ratings, taken where it would leave for the Hub."""
    taken, real = {}, repositories.push_folder

    def push(staged, *args, **kwargs):
        taken.update({p.relative_to(staged).as_posix(): p.read_bytes() for p in Path(staged).rglob("*") if p.is_file()})
        return real(staged, *args, **kwargs)

    monkeypatch.setattr(repositories, "push_folder", push)
    home = Pseudonyms(tmp_path / "home" / "pseudonyms.json")
    return push_ratings(folder, "me/x", dry_run=True, pseudonyms=home, **options), taken


def test_neither_file_names_nor_a_card_make_ones_own_raters_released(tmp_path, monkeypatch):
    """With HF_HUB_OFFLINE: that a release cannot be looked up releases nobody."""
    prepare(own_release(tmp_path / "own"), tmp_path / "prepared")
    cards = [
        {}, {"dataset": "bethgelab/PAMELA"}, {"dataset": "bethgelab/PAMELA", "revision": "main"},
        {"dataset": "bethgelab/PAMELA", "revision": COMMIT},
    ]  # fmt: skip
    for number, claim in enumerate(cards):
        if number:
            claiming(tmp_path / "prepared" / "README.md", **claim)
        result, files = pushed(tmp_path / "prepared", tmp_path, monkeypatch)
        assert result.participants == {"released": 0, "pseudonyms": 2, "own names": 0}
        assert people_of(files) == {"user_0001", "user_0002"}
        assert_absent(OWN, {n: c for n, c in files.items() if not n.startswith("images/")})
        card = files["README.md"].decode()
        assert "license: unknown" in card and "rating_release" not in card and "cc-by" not in card
    result, files = pushed(tmp_path / "prepared", tmp_path, monkeypatch, keep_ids=True, license="cc-by-4.0")
    assert result.participants == {"released": 0, "pseudonyms": 0, "own names": 2} and people_of(files) == set(OWN)
    assert "rating_release" in files["README.md"].decode()  # whoever keeps ids under its licence vouches for it
    _, files = pushed(tmp_path / "prepared", tmp_path, monkeypatch, keep_ids=True)
    assert "license: unknown" in files["README.md"].decode()


def test_where_a_release_cannot_be_looked_up_nothing_is_pushed(tmp_path, trained_folder):
    prepare(own_release(tmp_path / "own"), tmp_path / "prepared")
    claiming(tmp_path / "prepared" / "README.md", dataset="bethgelab/PAMELA", revision=COMMIT)
    home = Pseudonyms(tmp_path / "home" / "pseudonyms.json")
    with pytest.raises(HubError, match="who is public by bethgelab/PAMELA could not be found out"):
        push_ratings(tmp_path / "prepared", "me/x", pseudonyms=home)
    model = Path(shutil.copytree(trained_folder, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    release = {"license": "cc-by-4.0", "url": "https://x", "citation": "x"}
    config["releases"] = {"": {**release, "dataset": "bethgelab/PAMELA", "revision": COMMIT}}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(HubError, match="who is public by bethgelab/PAMELA could not be found out"):
        push_model(model, "me/x", pseudonyms=home)
    result = push_model(model, "me/x", pseudonyms=home, dry_run=True)
    assert result.participants == {"released": 0, "pseudonyms": len(config["users"]), "own names": 0}


def test_the_same_name_is_not_yet_the_same_person(tmp_path):
    data = load_ratings(write_release(tmp_path / "release", small_splits()))
    table = data.splits["train"]
    everything = frozenset(
        answer_hash(p, i, s) for t in data.splits.values()
        for p, i, s in zip(t.participant_id.astype(str), t.image_id.astype(str), t.score)
    )  # fmt: skip
    release = Released(frozenset({"p1", "p2", "p3"}), everything)
    assert released_participants(data, release) == {"p1", "p2", "p3"}
    data.splits["train"] = table.assign(score=table.score.where(table.participant_id != "p2", 6 - table.score))
    assert released_participants(data, release) == {"p1", "p3"}
    assert released_users(["mine/p1", "pamela/p1", "pamela2/p1", "pamela/q"], {"pamela/": release}) == {"pamela/p1"}
    assert released_users(["p1", "q"], {"": release}) == {"p1"} and released_users(["p1"], {}) == set()
    assert Release("l", "u", "c").known() == {"license": "l", "url": "u", "citation": "c"}


READS = """
import json, sys
from pathlib import Path
from pamela_hf.ratings.preparation import prepare
for repo, out in json.loads(sys.argv[1]):
    prepare(repo, out)
    print(json.dumps(Path(out, "README.md").read_text().split("---")[1]))
"""


def test_participants_of_a_public_dataset_keep_their_ids_and_nobody_else(tmp_path, fresh_process, hub_server):
    """Read from the Hub, prepared, a stranger added under an id of the release, pushed: by the command line."""
    prepare(write_release(tmp_path / "release", small_splits()), tmp_path / "prepared")
    commit = hub_server.add(tmp_path / "prepared", "them/release", "dataset", private=False)
    hub_server.add(tmp_path / "prepared", "me/private", "dataset", private=True)
    reads = [["them/release", str(tmp_path / "read")], ["me/private", str(tmp_path / "secret")]]
    lines = fresh_process(READS, json.dumps(reads)).splitlines()
    card, secret = (yaml.safe_load(json.loads(line)) for line in lines if line.startswith('"'))
    assert (card["rating_release"]["dataset"], card["rating_release"]["revision"]) == ("them/release", commit)
    assert "revision" not in secret.get("rating_release", {})  # readable with a token is not public
    file = tmp_path / "read" / "ratings" / "train-00000-of-00001.parquet"
    mixed = Path(shutil.copytree(tmp_path / "read", tmp_path / "mixed")) / "ratings" / file.name
    table = pq.read_table(file)
    changed = table.to_pandas()
    changed.loc[changed.participant_id == "p2", "score"] = 6 - changed.score
    import pyarrow as pa

    pq.write_table(pa.Table.from_pandas(changed, table.schema, preserve_index=False), mixed)
    said = fresh_process(CLI, json.dumps([
        ["ratings", str(tmp_path / "read"), "me/copy"], ["ratings", str(tmp_path / "mixed"), "me/mixed"],
        ["ratings", str(tmp_path / "secret"), "me/secret"],
    ]))  # fmt: skip
    assert said.count("3 participants: 3 released, 0 under pseudonyms, 0 under their own names") == 1
    assert said.count("3 participants: 2 released, 1 under pseudonyms, 0 under their own names") == 1
    assert said.count("3 participants: 0 released, 3 under pseudonyms, 0 under their own names") == 1
    copy, mixed = (hub_server.files(f"me/{name}", "dataset") for name in ("copy", "mixed"))
    assert people_of(copy) == {"p1", "p2", "p3"} and people_of(mixed) == {"p1", "p3", "user_0001"}
    assert "license: cc-by-4.0" in copy["README.md"].decode() and "license: unknown" in mixed["README.md"].decode()
    rows = pq.read_table(io.BytesIO(mixed["ratings/train-00000-of-00001.parquet"])).to_pandas()
    assert rows.gender.isna().eq(rows.participant_id == "user_0001").all()
