"""Pushing, pulling and deleting through the real client, against a Hub that fails at each request in turn."""

import base64
import gzip
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hub_clients import ALLOW, ALONE, SERVED, TESTS
from safetensors.numpy import save_file

from pamela_hf.heads.folder import MAX_BYTES as HEAD_FILES
from pamela_hf.hub.scan import scan_files
from pamela_hf.hub.transfer import HubError, push_folder
from pamela_hf.publishing.pseudonyms import Pseudonyms


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model's folder with things beside it that are nobody's business."""
    place = tmp_path / "model"
    (place / "data").mkdir(parents=True)
    (place / "checkpoints").mkdir()
    (place / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (place / "config.json").write_text("{}")
    (place / "data" / "a.json").write_text("[1]")
    (place / "checkpoints" / "README.md").write_text("not this one")
    (place / "metrics.jsonl").write_text("not this one either")
    save_file({"w": np.arange(6, dtype=np.float32)}, place / "model.safetensors")
    return place


def test_a_push_is_one_commit_of_exactly_the_allowed_files(folder, fresh_process, hub_server):
    code = f"""{ALONE}
import json, sys
from pamela_hf.hub.transfer import delete_repo, pull_folder, push_folder
folder, repo, allow = sys.argv[1], "me/one", json.loads(sys.argv[2])
dry = push_folder(folder, repo, allow=allow, dry_run=True)
first = push_folder(folder, repo, allow=allow, message="First")
again = push_folder(folder, repo, allow=allow, message="Again")
(__import__("pathlib").Path(folder) / "data" / "a.json").rename(folder + "/data/b.json")
second = push_folder(folder, repo, allow=allow, message="Second")
old = pull_folder(repo, revision=first.commit, allow=["data/*"])
new = pull_folder(repo, allow=allow)  # without the card
print(json.dumps([vars(dry), vars(first), again.commit, second.commit, sorted(p.name for p in (old / "data").iterdir()),
                  sorted(str(p.relative_to(new)) for p in new.rglob("*") if p.is_file())]))
"""
    dry, first, again, second, old, new = json.loads(fresh_process(code, folder, json.dumps(ALLOW)).splitlines()[-1])
    names = ["README.md", "config.json", "data/a.json", "model.safetensors"]
    assert dry["commit"] is None and dry["files"] == names == first["files"]
    assert dry["left_out"] == ["checkpoints/README.md", "metrics.jsonl"]
    assert first["private"] and first["commit"] == again != second
    assert hub_server.commits("me/one") == 2 and hub_server.repos["model", "me/one"].private
    assert old == ["a.json"] and new == ["config.json", "data/b.json", "model.safetensors"]
    assert sorted(hub_server.files("me/one")) == ["README.md", *new]


PUSH_UNDER_FAULTS = (
    SERVED
    + """
expected = {n: (folder / n).read_bytes() for n in ("README.md", "config.json", "data/a.json", "model.safetensors")}
runs = 0
for kind in json.loads(sys.argv[2]):
    for at in json.loads(sys.argv[3]) or range(1, 100):
        repo = f"me/{kind}-{at}"
        server.arm(at, kind)
        result = hub.push_folder(folder, repo, allow=allow)
        if server.disarm():
            break  # the push made fewer requests than that
        repo_now = server.repos["model", repo]
        assert server.commits(repo) == 1, (kind, at, server.commits(repo))
        assert server.files(repo) == expected and repo_now.head.sha == result.commit and repo_now.private, (kind, at)
        runs += 1
        server.folder.joinpath(repo_now.head.files["model.safetensors"].sha256).unlink()  # so that it is sent again
print(json.dumps([runs, [(r.method, r.path) for r in server.requests[-20:]]]))
"""
)


def test_a_push_is_one_commit_where_it_is_easiest_to_make_two(folder, fresh_process):
    """A sample of PROMISES 14: the commit's own request is cut off after it was carried out, or answers too late."""
    plain = json.loads(fresh_process(PUSH_UNDER_FAULTS, folder, '["500"]', "[99]").splitlines()[-1])
    at = 1 + next(i for i, (_, path) in enumerate(plain[1]) if "/commit/" in path)
    out = fresh_process(PUSH_UNDER_FAULTS, folder, '["cut", "late", "503"]', f"[{at}]")
    assert json.loads(out.splitlines()[-1])[0] == 3


@pytest.mark.faults
def test_a_push_is_one_commit_whatever_fails(folder, fresh_process):
    """PROMISES 14: every request of a push × {500, 503, timeout, cut, an answer that comes too late}."""
    kinds = ["500", "503", "timeout", "cut", "late"]
    runs, _ = json.loads(fresh_process(PUSH_UNDER_FAULTS, folder, json.dumps(kinds), "[]").splitlines()[-1])
    print(f"{runs} failing pushes: one commit each")
    assert runs >= 9 * len(kinds)


CORRUPT_DOWNLOADS = (
    SERVED
    + """
hub.push_folder(folder, "me/source", allow=allow)
n = 0
for kind in ("half", "flip"):
    for at, server.where in json.loads(sys.argv[2]):
        os.environ["HF_HUB_CACHE"] = huggingface_hub.constants.HF_HUB_CACHE = tempfile.mkdtemp()
        server.arm(at, kind, only_files=True)
        try:
            got = hub.pull_folder("me/source", allow=allow)
            assert {str(p.relative_to(got)): p.read_bytes() for p in got.rglob("*") if p.is_file()} \\
                == {n: c for n, c in server.files("me/source").items() if n != "README.md"}, (kind, at)
            n += 1
        except hub.HubError:
            raise AssertionError((kind, at))
        server.disarm()
if n != 2 * len(json.loads(sys.argv[2])):
    raise AssertionError(n)
# a cache that was damaged after the download
broken = got / "config.json"
broken.resolve().write_bytes(b"{ }")
assert (hub.pull_folder("me/source", allow=allow) / "config.json").read_bytes() == b"{}"
# a server that always sends other bytes
file = server.repos["model", "me/source"].head.files["model.safetensors"]
place = server.folder / file.sha256
place.write_bytes(place.read_bytes()[:-1] + b"x")
os.environ["HF_HUB_CACHE"] = huggingface_hub.constants.HF_HUB_CACHE = tempfile.mkdtemp()
try:
    hub.pull_folder("me/source", allow=allow)
    raise AssertionError("accepted")
except hub.HubError as error:
    assert "arrived damaged twice" in str(error), error
assert not list(Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("model.safetensors"))
print(n)
"""
)


def corrupt_downloads(fresh_process, folder: Path, places: list[tuple[int, float]]) -> int:
    return int(fresh_process(CORRUPT_DOWNLOADS, folder, json.dumps(places)).splitlines()[-1])


def test_a_corrupt_download_is_never_used(folder, fresh_process):
    """A sample of PROMISES 15: a file cut short or with a flipped bit, once (repaired) and always (refused)."""
    # each file is asked for twice, its head and itself; the last is the weights
    assert corrupt_downloads(fresh_process, folder, [(2, 0.5), (6, 0.1), (6, 0.99)]) == 6


@pytest.mark.faults
def test_no_corrupt_download_is_ever_used(folder, fresh_process):
    """PROMISES 15: 50 cuts and 50 flips."""
    places = [(2 * (k % 3) + 2, (k + 0.5) / 50) for k in range(50)]
    assert corrupt_downloads(fresh_process, folder, places) == 100
    print("100 downloads, cut or with a flipped bit: none is used")


def test_what_was_pulled_is_there_offline_and_still_checked(folder, fresh_process):
    code = f"""{ALONE}
import json, os, sys
import huggingface_hub
import pamela_hf.hub.transfer as hub
from pathlib import Path
allow = json.loads(sys.argv[2])
commit = hub.push_folder(sys.argv[1], "me/offline", allow=allow).commit
online = hub.pull_folder("me/offline", allow=["config.json", "data/*"])
config = online / "config.json"
huggingface_hub.constants.HF_HUB_OFFLINE = True
assert hub.pull_folder("me/offline", allow=["config.json"]) == online == hub.pull_folder(
    "me/offline", revision=commit, allow=["data/*"])
for call in (
    lambda: hub.pull_folder("me/offline", allow=["README.md"]),
    lambda: hub.pull_folder("me/never", allow=allow),
    lambda: hub.push_folder(sys.argv[1], "me/offline", allow=allow),
    lambda: (config.resolve().write_text("[]"), hub.pull_folder("me/offline", allow=["config.json"])),
):
    try:
        call()
        print("ACCEPTED")
    except hub.HubError as error:
        print(error)
"""
    said = fresh_process(code, folder, json.dumps(ALLOW)).splitlines()
    assert len(said) == 4 and "ACCEPTED" not in said
    assert "has none of README.md" in said[0] and "HF_HUB_OFFLINE" in said[2] and "damaged" in said[3]


def test_deleting_survives_a_lost_answer_and_names_what_is_missing(folder, fresh_process):
    code = (
        SERVED
        + """
for kind in (*FAULTS, "late"):
    for at in (1, 2, 3):
        files = set(hub.push_folder(folder, "me/gone", allow=allow).files) - {"README.md"}
        server.arm(at, kind)
        hub.delete_repo("me/gone", of=files)
        assert not server.repos and not server.disarm(), (kind, at)
try:
    hub.delete_repo("me/gone", of=files)
except hub.HubError as error:
    print(error)
"""
    )
    assert "Could not delete me/gone" in fresh_process(code, folder).splitlines()[-1]


def test_only_a_head_is_deleted_and_no_larger_one_is_downloaded(folder, tmp_path, fresh_process, hub_server):
    head, extra = tmp_path / "head", tmp_path / "extra"
    for place in (head, extra):
        place.mkdir()
        for name in HEAD_FILES:
            (place / name).write_text("{}")
        (place / "README.md").write_text("x" * 1000)
        (place / ".gitattributes").write_text("")
    (extra / "photo.safetensors").write_bytes(b"x")
    for repo, place in (("me/precious", folder), ("me/extra", extra), ("me/head", head)):
        hub_server.add(place, repo)
    (head / "adapter_model.safetensors").write_bytes(bytes(300 << 10))
    hub_server.add(head, "me/large")
    code = f"""{ALONE}
from pamela_hf.heads.folder import MAX_BYTES
from pamela_hf.hub.transfer import HubError, delete_repo, pull_folder
files = ["README.md", *MAX_BYTES]
print(sorted(path.name for path in pull_folder("me/head", allow=files, max_bytes=MAX_BYTES).iterdir()))
for call in (lambda: delete_repo("me/precious", of=MAX_BYTES), lambda: delete_repo("me/extra", of=MAX_BYTES),
             lambda: delete_repo("me/head", of=MAX_BYTES),
             lambda: pull_folder("me/large", allow=files, max_bytes=MAX_BYTES)):
    try:
        print(call())
    except HubError as error:
        print(error)
"""
    before = len(hub_server.requests)
    pulled, precious, more, deleted, large = fresh_process(code).splitlines()
    assert pulled == str(sorted(HEAD_FILES)) and deleted == "None"
    assert "me/precious holds checkpoints/README.md, config.json, data/a.json" in precious and "photo" in more
    assert {"me/precious", "me/extra", "me/large"} == {n for _, n in hub_server.repos if n.split("/")[1] in
                                                       ("precious", "extra", "large", "head")}  # fmt: skip
    assert "307,200 bytes" in large
    assert not [r for r in hub_server.requests[before:] if "me/large/resolve" in r.path or "README" in r.path]


def test_a_public_repository_is_refused_unless_asked_for(folder, fresh_process, hub_server):
    code = f"""{ALONE}
import json, sys
from pamela_hf.hub.transfer import HubError, push_folder
allow = json.loads(sys.argv[2])
push_folder(sys.argv[1], "me/public", allow=allow, private=False)
try:
    push_folder(sys.argv[1], "me/public", allow=["config.json"])
except HubError as error:
    print(error)
"""
    assert "is public and this push is private" in fresh_process(code, folder, json.dumps(ALLOW))
    assert hub_server.commits("me/public") == 1 and not hub_server.repos["model", "me/public"].private


def test_what_must_not_be_published_stops_the_push(folder):
    token = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"
    for name, text, what in [
        ("README.md", f"use {token}", "Hugging Face token"),
        ("data/a.json", json.dumps({"cache": "/home/someone/runs"}), "local path"),
        ("data/a.json", json.dumps({"cache": "/".join(["", "root", "runs"])}), "local path"),
        ("data/a.json", json.dumps({"cache": "/".join(["", "var", "root", "runs"])}), "local path"),
        ("data/a.json", json.dumps({"cache": "C:\\Users\\someone\\runs"}), "local path"),
        ("config.json", json.dumps({"users": ["jo.doe@mail.net"]}), "e-mail address"),
        ("data/a.json", json.dumps(base64.b64encode(b"x" + token.encode()).decode()), "Hugging Face token"),
        ("data/jo.json", "[]", "private value"),
        ("data/a.json", '["Zo\\u00eb"]', "private value"),
        ("data/a.json", '["Zoë"]', "private value"),
    ]:
        before = (folder / name).read_text() if (folder / name).exists() else None
        (folder / name).write_text(text)
        with pytest.raises(HubError, match=what):
            push_folder(folder, "me/x", allow=ALLOW, dry_run=True, private_values=["jo.json", "Zoë"])
        (folder / name).unlink() if before is None else (folder / name).write_text(before)
    with pytest.raises(HubError, match=r"the message: local path"):
        push_folder(folder, "me/x", allow=ALLOW, dry_run=True, message="from /home/someone/x")
    push_folder(folder, "me/x", allow=ALLOW, dry_run=True)
    source = (TESTS.parent / "pamela_hf" / "prompts" / "pipeline_pamela.py").read_bytes()
    (folder / "pipeline_pamela.py").write_bytes(source)
    push_folder(folder, "me/x", allow=["*.py"], dry_run=True, private_values=["simulated_0003"])
    (folder / "pipeline_pamela.py").write_bytes(source + b"#")
    with pytest.raises(HubError, match="private value"):
        push_folder(folder, "me/x", allow=["*.py"], dry_run=True, private_values=["simulated_0003"])


def test_the_scan_looks_into_gzip_parquet_and_safetensors(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    secret = b"canary-7f3a-secret"
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x" * 5000 + secret))
    (tmp_path / "b.json").write_text(json.dumps(base64.b64encode(gzip.compress(secret)).decode()))
    (tmp_path / "c.raw").write_bytes(os.urandom(9 << 20) + secret + os.urandom(100))
    table = pa.table(
        {"who": ["a"] * 5000 + [secret.decode()], "image": [{"bytes": b"1", "path": "/home/jo/x.png"}] * 5001}
    )
    pq.write_table(table, tmp_path / "d.parquet", compression="zstd")
    save_file({"w": np.zeros(3)}, tmp_path / "e.safetensors", metadata={"from": secret.decode()})
    (tmp_path / "f.raw").write_bytes(os.urandom(9 << 20))
    names = sorted(p.name for p in tmp_path.iterdir())
    found = {(f.file, f.what) for f in scan_files(tmp_path, names, secrets=[secret.decode()])}
    assert found == {(n, "access token in use") for n in names[:5]} | {("d.parquet", "local path")}


def test_links_and_pickles_are_refused(folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (folder / "data" / "link.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(HubError, match="link out of the folder"):
        push_folder(folder, "me/x", allow=ALLOW, dry_run=True)
    (folder / "data" / "link.json").unlink()
    (folder / "model.bin").write_bytes(b"x")
    with pytest.raises(HubError, match="can run code"):
        push_folder(folder, "me/x", allow=["*.bin"], dry_run=True)
    for bad in ("one", "a/b/c", "../x", "me/x--y"):
        with pytest.raises(HubError, match="repo_id"):
            push_folder(folder, bad, allow=ALLOW, dry_run=True)
    with pytest.raises(HubError, match="nothing that may be pushed"):
        push_folder(folder, "me/x", allow=["*.txt"], dry_run=True)


def test_a_token_appears_in_no_error_and_no_log(folder, fresh_process):
    """PROMISES 19: a canary token through failing pushes, pulls and deletions, with the client's debug log on."""
    canary = "hf_" + hashlib.sha256(b"canary").hexdigest()[:34]
    code = f"""{ALONE}
import json, os, sys, traceback
import pamela_hf.hub.transfer as hub
hub.ATTEMPTS, hub.FIRST_WAIT = 2, .01
allow = json.loads(sys.argv[2])
for call in (
    lambda: hub.push_folder(sys.argv[1], "me/denied", allow=allow),
    lambda: hub.pull_folder("me/denied", allow=allow),
    lambda: hub.delete_repo("me/denied", of=allow),
    lambda: hub.push_folder(sys.argv[1], "me/denied", allow=allow, message="with " + os.environ["HF_TOKEN"]),
):
    try:
        call()
        print("ACCEPTED")
    except hub.HubError:
        traceback.print_exc()
"""
    out = fresh_process(code, folder, json.dumps(ALLOW), check=False, HF_TOKEN=canary, HF_HUB_VERBOSITY="debug")
    assert out.count("pamela_hf.hub.transfer.HubError: ") == 4 and "ACCEPTED" not in out and canary not in out
    assert base64.b64encode(canary.encode()).decode() not in out


def test_pseudonyms_stay_the_same_and_stay_at_home(tmp_path):
    file = tmp_path / "home" / "pseudonyms.json"
    first = Pseudonyms(file, taken=["user_0002"]).assign(["ann", "bob", "ann"])
    assert set(first.values()) == {"user_0001", "user_0003"}
    assert file.stat().st_mode & 0o077 == 0
    second = Pseudonyms(file).assign(["zoë", "bob", "ann"])
    assert {k: second[k] for k in first} == first and len(set(second.values())) == 3
    assert Pseudonyms(file).assign(["new"], save=False)["new"] not in second.values()
    assert "new" not in json.loads(file.read_text())
    # two pushes at a time
    one, other = Pseudonyms(file), Pseudonyms(file)
    given = one.assign(["eve"]) | other.assign(["flo"])
    assert json.loads(file.read_text()) == second | given and len({*second.values(), *given.values()}) == 5
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda k: Pseudonyms(file).assign([f"rater{k // 2}"]), range(40)))
    kept = json.loads(file.read_text())
    assert all(kept[name] == pseudonym for part in many for name, pseudonym in part.items()) and len(kept) == 25
    file.write_text('{"ann": "user_0001", "bob": "user_0001"}')
    with pytest.raises(ValueError, match="not a mapping"):
        Pseudonyms(file)
