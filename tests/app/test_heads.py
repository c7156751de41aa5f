"""A person's head along: by name from the store, for assistants, on the Hub and off it again."""

import base64
import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from app_client import AppProcess, paint_pictures

from pamela_hf.app.base import features_file
from pamela_hf.app.heads import StoreHeads, blank_scorer, store_file, store_head
from pamela_hf.app.store import Answer, Store
from pamela_hf.cli import main
from pamela_hf.embeddings import load_embeddings
from pamela_hf.heads.head import UserHead
from pamela_hf.scoring import PamelaScorer

PERSON = "Änne 🦊"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return paint_pictures(tmp_path_factory.mktemp("pictures"), 30)


@pytest.fixture(scope="module")
def rated(pictures, reward_folder, tmp_path_factory):
    """A store in which two people have rated, made by the app."""
    store = tmp_path_factory.mktemp("store") / "taste.db"
    with AppProcess("--images", pictures, "--model", reward_folder, "--store", store) as app:
        app.wait_ready()
        for person, likes_first in ((PERSON, True), ("bea", False)):
            found = app.get("/api/next", person=person, n=12)["images"]
            for number, image in enumerate(sorted(found, key=lambda image: image["id"])):
                score = 5 if (number < 6) == likes_first else 1
                app.post("/api/ratings", person=person, id=str(number), image_id=image["id"], score=score)
        app.post("/api/skips", person="only skips", id="1", image_id=found[0]["id"])
    return store


@pytest.fixture(scope="module")
def scorer(reward_folder):
    return PamelaScorer.from_pretrained(reward_folder, device="cpu")


def read(file) -> dict[str, float]:
    with open(file, newline="") as lines:
        return {row["image"]: float(row["score"]) for row in csv.DictReader(lines)}


def test_a_person_of_the_app_is_scored_for_by_name(rated, pictures, reward_folder, scorer, tmp_path, capsys):
    common = ["score", "--model", reward_folder, "--images", str(pictures)]
    for name in (PERSON, "bea"):
        main([*common, "--store", str(rated), "--user", name, "--output", str(tmp_path / "named.csv")])
        head = store_head(rated, name, scorer)
        head.save(tmp_path / "head")
        main([*common, "--head", str(tmp_path / "head"), "--output", str(tmp_path / "head.csv")])
        assert read(tmp_path / "named.csv") == pytest.approx(read(tmp_path / "head.csv"), abs=1e-4)
    main([*common, "--output", str(tmp_path / "everyone.csv")])
    assert read(tmp_path / "named.csv") != pytest.approx(read(tmp_path / "everyone.csv"), abs=1e-2)
    capsys.readouterr()
    for arguments, words in [
        (["--user", "nobody"], f"'nobody' has rated nothing in {rated}; there are the answers of: {PERSON}, bea"),
        (["--user", "only skips"], "has rated nothing"), ([], "say which one: --user NAME"),
    ]:  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main([*common, "--store", str(rated), "--output", str(tmp_path / "x.csv"), *arguments])
        assert words in str(end.value)


def test_without_a_model_the_base_is_the_apps_blank_one(rated, pictures, tmp_path):
    with pytest.raises(SystemExit, match="--model"):
        main(["score", "--images", str(pictures), "--output", str(tmp_path / "x.csv")])
    with pytest.raises(ValueError, match="of a folder"):
        blank_scorer(rated)
    place = tmp_path / "hub.db"
    place.write_bytes(rated.read_bytes())
    replace(load_embeddings(features_file(rated)), backbone="some/encoder").save(features_file(place))
    scorer = blank_scorer(place)
    head = store_head(place, PERSON, scorer)
    heads = StoreHeads.open(place, scorer)
    given = {answer.image_id: answer.score for answer in heads.store.answers(PERSON)}
    heads.store.close()
    rows = [heads.embeddings.image_ids.index(image) for image in given]
    features = torch.from_numpy(heads.embeddings.image_embeds[rows])
    assert scorer.config.blank and scorer.config.backbone == "some/encoder"
    found = scorer.score(image_embeds=features, user=head).scores
    liked = np.array(list(given.values())) == 5
    assert found[liked].mean() > found[~liked].mean()


def test_prompts_are_written_for_a_person_of_the_app(rated, reward_folder, tmp_path, capsys):
    main([
        "optimize-prompt", "--pipeline", "procedural", "--reward", reward_folder, "--store", str(rated),
        "--user", "bea", "--prompt", "a cottage", "--output", str(tmp_path / "run"), "num_iterations=1",
        "num_candidates=1", "num_seeds=1", "adherence_floor=0", "height=32", "width=32",
    ])  # fmt: skip
    assert "bea: predicted rating" in capsys.readouterr().out
    assert (tmp_path / "run" / "trace.jsonl").is_file()


def test_ratings_of_the_app_are_stars_of_the_library(pictures, rated, reward_folder, tmp_path, capsys):
    common = ["taste", str(pictures), "--name", "bea", "--model", reward_folder, "--quiet"]
    with pytest.raises(SystemExit, match="has stars"):
        main([*common, "--output", str(tmp_path / "without")])
    main([*common, "--output", str(tmp_path / "with"), "--store", str(rated)])
    with Store(rated) as store:
        given = {answer.image_id: answer.score for answer in store.answers("bea")}
    with open(tmp_path / "with" / "ranking.csv", newline="") as lines:
        stars = {row["image"]: row["stars"] for row in csv.DictReader(lines) if row["stars"]}
    assert {image: float(value) for image, value in stars.items()} == given


def test_a_store_is_found_by_the_folder_of_its_pictures(rated, pictures, scorer, tmp_path, monkeypatch):
    monkeypatch.setenv("PAMELA_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="prints where it keeps answers"):
        store_file(pictures)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        store_file(tmp_path / "no.db")
    with Store(tmp_path / "bare.db") as store:
        store.add("ann", Answer("1", "rating", "a.png", score=4.0))
    with pytest.raises(FileNotFoundError, match="Start `pamela app`"):
        store_head(tmp_path / "bare.db", "ann", scorer)


def test_heads_follow_the_answers(rated, scorer, tmp_path):
    place = tmp_path / "copy.db"
    place.write_bytes(rated.read_bytes())
    features_file(place).write_bytes(features_file(rated).read_bytes())
    heads = StoreHeads.open(place, scorer)
    assert sorted(heads) == sorted([PERSON, "bea"]) and len(heads) == 2 and "only skips" not in heads
    before = heads["bea"]
    assert heads["bea"] is before, "nothing new, nothing fitted"
    image = heads.embeddings.image_ids[0]
    heads.store.add("bea", Answer("new", "rating", image, score=5.0))
    assert heads["bea"] is not before and heads["bea"].about["ratings"] == before.about["ratings"] + 1
    heads.store.erase("bea").result()
    with pytest.raises(KeyError):
        heads["bea"]
    heads.store.close()


def call(app: AppProcess, tool: str, headers: dict | None = None, **arguments: object):
    """One call of a tool, as MCP's streamable HTTP transport sends it."""
    params = {"name": tool, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    return app.ask("POST", "/mcp", body, headers=accept | (headers or {}))


def test_assistants_ask_for_people_of_the_app(pictures, reward_folder, scorer, tmp_path):
    pytest.importorskip("mcp.server.mcpserver")
    with AppProcess("--images", pictures, "--model", reward_folder, "--store", tmp_path / "a.db") as app:
        app.wait_ready()
        for number, image in enumerate(app.get("/api/next", person=PERSON, n=8)["images"]):
            app.post("/api/ratings", person=PERSON, id=str(number), image_id=image["id"], score=1 + number % 5)
        status, _, answer = call(app, "describe_taste")
        assert status == 200, answer
        assert answer["result"]["structuredContent"] == {"participants": ["ann", "bob", "cem"], "heads": [PERSON]}
        answer = call(app, "describe_taste", user=PERSON)[2]
        assert answer["result"]["structuredContent"]["ratings"] == 8
        files = sorted(pictures.glob("*.png"))[:3]
        images = [base64.b64encode(file.read_bytes()).decode() for file in files]
        answer = call(app, "score_images", images=images, users=[PERSON, None])[2]
        found = answer["result"]["structuredContent"]["scores"]
        head = store_head(tmp_path / "a.db", PERSON, scorer)
        expected = scorer.score([str(file) for file in files], users=[head, None]).scores
        assert [list(row) for row in found] == [pytest.approx(list(row), abs=1e-3) for row in expected]
        answer = call(app, "rank_images", images=images, user="nobody")[2]
        assert answer["result"]["isError"]
        assert call(app, "describe_taste", {"host": "evil.example"})[0] == 403
        assert call(app, "describe_taste", {"origin": "https://evil.example"})[0] == 403
    with AppProcess("--images", pictures, "--store", tmp_path / "a.db", "--host", "0.0.0.0") as app:
        assert call(app, "describe_taste")[0] == 401
        token = app.url.split("token=")[1]
        assert call(app, "describe_taste", {"authorization": f"Bearer {token}"})[0] == 200


def test_a_head_is_pushed_private_and_deleted_with_its_person(pictures, reward_folder, hub_server, tmp_path):
    environment = hub_server.environment(tmp_path)
    store = tmp_path / "hub.db"
    with AppProcess("--images", pictures, "--model", reward_folder, "--store", store, **environment) as app:
        app.wait_ready()
        for person in ("ann of the app", "bea"):
            for number, image in enumerate(app.get("/api/next", person=person, n=6)["images"]):
                app.post("/api/ratings", person=person, id=str(number), image_id=image["id"], score=1 + number % 5)
            for repo in ("one", "two"):
                done = app.post("/api/head/push", person=person, repo=f"me/{person.split()[0]}-{repo}")
                assert done["private"] is True
        assert hub_server.repos["model", "me/ann-one"].private
        names = set(hub_server.files("me/ann-one"))
        assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors", "head.json"}
        assert app.get("/api/head/push", person="bea") == {"repos": ["me/bea-one", "me/bea-two"]}
        # only what was pushed from here, and only one's own
        assert app.ask("DELETE", "/api/head/push", person="bea", repo="me/ann-one")[0] == 404
        assert app.ask("DELETE", "/api/head/push", person="bea", repo="me/bea-one")[2] == {"deleted": "me/bea-one"}
        assert ("model", "me/bea-one") not in hub_server.repos
        # somebody put another file there: not deleted, and said
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "other.txt").write_text("x")
        hub_server.add(tmp_path / "more", "me/ann-two")
        erased = app.ask("DELETE", "/api/person", person="ann of the app", pushed="true")[2]
        assert erased["erased"] == 6 and erased["deleted_heads"] == ["me/ann-one"]
        assert erased["kept_heads"] == ["me/ann-two"] and "me/ann-two" in erased["kept"]
        assert ("model", "me/ann-one") not in hub_server.repos and ("model", "me/ann-two") in hub_server.repos
        # unasked, the head stays, and that is said
        erased = app.ask("DELETE", "/api/person", person="bea")[2]
        assert erased["kept_heads"] == ["me/bea-two"] and "me/bea-two" in erased["kept"]
        assert ("model", "me/bea-two") in hub_server.repos
    with Store(store) as left:
        assert left.people() == [] and b"me/bea" not in store.read_bytes()


def test_heads_of_a_store_are_plain_heads(rated, scorer, tmp_path):
    head = store_head(rated, PERSON, scorer)
    head.save(tmp_path / "head")
    about = json.loads((tmp_path / "head" / "head.json").read_text())
    assert UserHead.load(tmp_path / "head", scorer).name == "me" and about["about"]["ratings"] == 12
