"""A written Space as a process: who is who, whose people are whose, and what a restart leaves."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from app_client import AppProcess, paint_pictures

from pamela_hf.app import space as space_module
from pamela_hf.app.keeping import AnswerFiles
from pamela_hf.app.space import EPHEMERAL, filesystem, settings_from
from pamela_hf.app.store import Answer, Store, StudyAnswer
from pamela_hf.publishing.space import SpaceOptions, write_space

HOST = "me-rate.hf.space"
SPACE = {"SPACE_ID": "me/rate", "SPACE_HOST": HOST, "SYSTEM": "spaces", "GRADIO_SERVER_NAME": "127.0.0.1"}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    pictures = paint_pictures(tmp_path_factory.mktemp("pictures"), 40)
    folder = tmp_path_factory.mktemp("space")
    assert write_space(folder, pictures, "me/rate", SpaceOptions(title="What do you like, <b>Ann</b>?")) == []
    return folder


@pytest.fixture(scope="module")
def provider():
    pytest.importorskip("authlib")
    pytest.importorskip("joserfc")
    from openid_server import OpenIdServer

    server = OpenIdServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def space(written, provider, reward_folder, tmp_path_factory):
    """The Space, with sign-in."""
    home = str(tmp_path_factory.mktemp("home"))
    environment = {**SPACE, **provider.environment(), "PAMELA_MODEL": reward_folder, "PAMELA_HOME": home}
    with AppProcess(space=written, headers={"host": HOST}, **environment) as started:
        yield started


class Visitor:
    """Somebody who signed in, by the whole way through the provider, with what their browser would send."""

    def __init__(self, app: AppProcess, provider, sub: str, name: str):
        self.app, self.id = app, sub
        provider.visitor = (sub, name)
        status, headers, _ = app.ask("GET", "/login/huggingface")
        assert status == 302 and headers["location"].startswith(f"{provider.url}/authorize?")
        assert "httponly" in headers["set-cookie"].lower() and "secure" in headers["set-cookie"].lower()
        try:
            urllib.request.build_opener(_Stop).open(headers["location"])
        except urllib.error.HTTPError as error:
            back = urlsplit(error.headers["location"])
        assert (back.scheme, back.netloc, back.path) == ("https", HOST, "/login/callback")
        cookie = headers["set-cookie"].split(";")[0]
        arriving = {"cookie": cookie, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        status, headers, _ = app.ask("GET", f"{back.path}?{back.query}", headers=arriving)
        assert status in (302, 307) and headers["location"].startswith("/")
        self.cookie = {"cookie": headers["set-cookie"].split(";")[0]}

    def ask(self, method: str, path: str, body: object = None, **query: object):
        status, _, answer = self.app.ask(method, path, body, headers=self.cookie, **query)
        return status, answer

    def rate(self, person: str, count: int = 3) -> list[str]:
        _, found = self.ask("GET", "/api/next", person=person, n=count)
        for number, image in enumerate(found["images"]):
            body = {"person": person, "id": f"{person}-{number}", "image_id": image["id"], "score": 1 + number % 5}
            status, answer = self.ask("POST", "/api/ratings", body)
            assert status == 200 and answer["saved"], answer
        return [image["id"] for image in found["images"]]


class _Stop(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


def test_before_sign_in_only_the_page_answers(space):
    status, headers, page = space.ask("GET", "/")
    assert status == 200 and b"<main" in page and "huggingface.co" in headers["content-security-policy"]
    about = space.get("/api/about")
    assert about["sign_in"] == "/login/huggingface" and about["visitor"] is None
    assert about["title"] == "What do you like, <b>Ann</b>?"
    for method, path in [
        ("GET", "/api/next?person=a"), ("GET", "/api/people"), ("GET", "/api/export?person=a"), ("GET", "/api/prompts"),
        ("DELETE", "/api/person?person=a"), ("POST", "/api/ratings"), ("GET", "/images/0"),
        ("POST", "/api/uploads?batch=12345678"), ("GET", "/api/study/export"),
    ]:  # fmt: skip
        status, _, answer = space.ask(method, path, {} if method == "POST" else None)
        assert status == 401 and "Sign in" in answer["error"], path


def test_the_space_answers_to_its_own_name_alone(space):
    for host in ("127.0.0.1", "localhost", "evil.example", f"evil.{HOST}", f"{HOST}.evil.example", ""):
        assert space.ask("GET", "/", headers={"host": host})[0] in (400, 403), host
    assert space.ask("GET", "/", headers={"host": f"{HOST}:443"})[0] == 200
    assert space.ask("GET", "/api/about", headers={"origin": "https://evil.example"})[0] == 403
    assert space.ask("GET", "/api/about", headers={"origin": f"https://{HOST}"})[0] == 200


def test_visitors_see_and_change_their_own_people_only(space, provider):
    space.wait_ready()
    ann, bob = Visitor(space, provider, "a1", "ann"), Visitor(space, provider, "b2", "bob")
    assert ann.ask("GET", "/api/about")[1]["visitor"] == {"id": "a1", "name": "ann"}
    rated = ann.rate("evening", 6)
    assert ann.ask("GET", "/api/people")[1]["people"][0]["name"] == "evening"
    assert bob.ask("GET", "/api/people")[1]["people"] == []
    # the same name is another person of another visitor
    assert bob.ask("GET", "/api/taste", person="evening")[1]["ratings"] == 0
    assert bob.ask("GET", "/api/export", person="evening")[1] == b"image,score\n"
    for method, path, query in [
        ("GET", "/api/taste", {}), ("GET", "/api/next", {}), ("GET", "/api/export", {}), ("GET", "/api/head", {}),
        ("GET", "/api/ranking", {}), ("DELETE", "/api/person", {}), ("GET", "/api/study/next", {}),
    ]:  # fmt: skip
        status, answer = bob.ask(method, path, person="a1/evening", **query)
        assert status == 404 and "own" in answer["error"], path
    body = {"person": "a1/evening", "id": "x", "image_id": rated[0], "score": 1}
    assert bob.ask("POST", "/api/ratings", body)[0] == 404
    assert bob.ask("POST", "/api/undo", {"person": "a1/evening", "id": "evening-0"})[0] == 404
    assert bob.ask("POST", "/api/prompts", {"person": "a1/evening", "prompt": "a house"})[0] == 404
    bob.rate("bob", 4)
    assert bob.ask("GET", "/api/ranking", person="bob", other="a1/evening")[0] == 404
    status, taste = ann.ask("GET", "/api/taste", person="a1/evening")
    assert status == 200 and taste["ratings"] == 6 and taste["person"] == "evening"
    assert len(ann.ask("GET", "/api/export", person="evening")[1].splitlines()) == 7


def test_what_has_an_id_is_its_visitors_too(space, provider, written):
    space.wait_ready()
    ann, bob = Visitor(space, provider, "a1", "ann"), Visitor(space, provider, "b2", "bob")
    _, run = ann.ask("POST", "/api/prompts", {"prompt": "a house"})
    assert [one["id"] for one in ann.ask("GET", "/api/prompts")[1]["runs"]] == [run["id"]]
    assert bob.ask("GET", "/api/prompts")[1]["runs"] == []
    for method, rest in [("GET", ""), ("POST", "/stop"), ("POST", "/resume"), ("DELETE", ""), ("GET", "/images/0")]:
        assert bob.ask(method, f"/api/prompts/{run['id']}{rest}")[0] == 404
    assert ann.ask("DELETE", f"/api/prompts/{run['id']}")[0] == 200
    picture = next((written / "images").iterdir()).read_bytes()
    for who in (ann, bob):
        status, _ = who.ask("POST", "/api/uploads", picture, batch="one-batch", name=f"of {who.id}")
        assert status == 200
        _, found = who.ask("GET", "/api/uploads/ranking", person=who.id, batch="one-batch")
        assert [item["id"] for item in found["items"]] == [f"of {who.id}"]


def test_a_sign_in_ends_and_a_cookie_cannot_be_made_up(space, provider):
    ann = Visitor(space, provider, "a1", "ann")
    name, _, value = ann.cookie["cookie"].partition("=")
    for forged in (
        f"{name}={value[:-4]}AAAA",
        f"{name}=eyJvYXV0aF9pbmZvIjoge319.x.y",
        "session=",
        f"{name}={value[5:]}",
    ):
        assert space.ask("GET", "/api/people", headers={"cookie": forged})[0] == 401
    assert space.ask("GET", "/api/people", headers={**ann.cookie, "sec-fetch-site": "cross-site"})[0] == 403
    provider.lifetime = 0
    try:
        late = Visitor(space, provider, "a1", "ann")
        assert late.ask("GET", "/api/people")[0] == 401
    finally:
        provider.lifetime = 3600
    status, headers, _ = space.ask("GET", "/logout", headers=ann.cookie)
    assert status in (302, 307)
    left = {"cookie": headers["set-cookie"].split(";")[0]}
    assert space.ask("GET", "/api/people", headers=left)[0] == 401


def rate_one(app: AppProcess, id: str) -> str:
    (image,) = app.get("/api/next", person="ann", n=1)["images"]
    assert app.post("/api/ratings", person="ann", id=id, image_id=image["id"], score=4)["saved"]
    return image["id"]


def test_what_a_restart_leaves(written, reward_folder, tmp_path):
    """Without storage nothing, and the page says so; with a folder that is kept, all of it."""
    common = {**SPACE, "PAMELA_MODEL": reward_folder}
    with AppProcess(space=written, headers={"host": HOST}, PAMELA_HOME=str(tmp_path / "one"), **common) as app:
        assert EPHEMERAL in app.get("/api/about")["notice"]
        rate_one(app, "1")
    with AppProcess(space=written, headers={"host": HOST}, PAMELA_HOME=str(tmp_path / "two"), **common) as app:
        assert app.get("/api/export", person="ann") == b"image,score\n"
    kept = {"PAMELA_RATINGS": str(tmp_path / "bucket"), **common}
    with AppProcess(space=written, headers={"host": HOST}, PAMELA_HOME=str(tmp_path / "three"), **kept) as app:
        assert EPHEMERAL not in app.get("/api/about")["notice"]
        image = rate_one(app, "1")
    with AppProcess(space=written, headers={"host": HOST}, PAMELA_HOME=str(tmp_path / "four"), **kept) as app:
        assert app.get("/api/export", person="ann").decode() == f"image,score\n{image},4\n"
        assert app.get("/api/next", person="ann", n=40)["images"][0]["id"] != image
        erased = app.ask("DELETE", "/api/person", person="ann")[2]
        assert erased["erased"] == 1
    assert list((tmp_path / "bucket" / "answers").iterdir()) == []


def test_answers_come_back_from_a_private_dataset(written, reward_folder, hub_server, tmp_path):
    hub = {**hub_server.environment(tmp_path), **SPACE, "PAMELA_MODEL": reward_folder, "PAMELA_RATINGS": "me/answers"}
    with AppProcess(space=written, headers={"host": HOST}, **{**hub, "PAMELA_HOME": str(tmp_path / "one")}) as app:
        assert "me/answers" in app.get("/api/about")["kept"]
        image = rate_one(app, "1")
    assert hub_server.repos["dataset", "me/answers"].private
    (file,) = [name for name in hub_server.files("me/answers", "dataset") if name.startswith("answers/")]
    before = hub_server.files("me/answers", "dataset")[file]
    with AppProcess(space=written, headers={"host": HOST}, **{**hub, "PAMELA_HOME": str(tmp_path / "two")}) as app:
        assert app.get("/api/export", person="ann").decode() == f"image,score\n{image},4\n"
        rate_one(app, "2")
    after = hub_server.files("me/answers", "dataset")[file]
    assert after.startswith(before) and len(after) > len(before), "lines are only added"
    with AppProcess(space=written, headers={"host": HOST}, **{**hub, "PAMELA_HOME": str(tmp_path / "three")}) as app:
        erased = app.ask("DELETE", "/api/person", person="ann")[2]
        assert erased["erased"] == 2 and "Earlier commits" in erased["kept"]
        assert set(hub_server.files("me/answers", "dataset")) == {"README.md", "pamela_answers.json"}


def test_a_hub_out_of_reach_loses_nothing_that_was_kept(written, reward_folder, hub_server, tmp_path):
    hub = {**hub_server.environment(tmp_path), **SPACE, "PAMELA_MODEL": reward_folder, "PAMELA_RATINGS": "me/reach"}
    with AppProcess(space=written, headers={"host": HOST}, **{**hub, "PAMELA_HOME": str(tmp_path / "one")}) as app:
        rate_one(app, "1")
    before = hub_server.files("me/reach", "dataset")
    offline = {**hub, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty"), "PAMELA_HOME": str(tmp_path / "two")}
    with AppProcess(space=written, headers={"host": HOST}, **offline) as app:
        assert "disk alone" in app.get("/api/about")["notice"]
        rate_one(app, "2")
    assert hub_server.files("me/reach", "dataset") == before


def test_a_public_dataset_is_refused(written, reward_folder, hub_server, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.txt").write_text("a")
    hub_server.add(tmp_path / "there", "me/public", "dataset", private=False)
    hub = {**hub_server.environment(tmp_path), **SPACE, "PAMELA_MODEL": reward_folder, "PAMELA_RATINGS": "me/public"}
    with AppProcess(space=written, headers={"host": HOST}, **hub) as app:
        assert "public" in app.get("/api/about")["notice"]
        rate_one(app, "1")
    assert set(hub_server.files("me/public", "dataset")) == {"a.txt"}


@pytest.fixture
def filled(tmp_path) -> Store:
    with Store(tmp_path / "one.db") as store:
        store.add("ann", Answer("1", "rating", "a.png", score=4.0), Answer("2", "choice", "a.png", "b.png"))
        store.add("Änne 🦊", Answer("1", "like", "a.png", score=1.0))
        store.undo("ann", "2").result()
        store.add_study("ann", StudyAnswer("t", "{}", "left")).result()
        store.allow_repeats("ann", True).result()
        yield store


def everything(store: Store) -> dict:
    return {
        one["name"]: (store.history(one["name"]), store.study_answers_of(one["name"]), one["repeats"])
        for one in store.people()
    }


def test_files_hold_all_that_a_store_does(filled, tmp_path):
    files = AnswerFiles(tmp_path / "files")
    assert files.update(filled) and not files.update(filled)
    with Store(tmp_path / "two.db") as other:
        assert sorted(files.restore(other)) == ["ann", "Änne 🦊"]
        assert everything(other) == everything(filled)
        files.restore(other)  # again: nothing is doubled
        assert everything(other) == everything(filled)


def test_an_erased_person_leaves_the_files_even_if_they_come_back(filled, tmp_path):
    files = AnswerFiles(tmp_path / "files")
    files.update(filled)
    filled.erase("ann").result()
    filled.add("ann", Answer("9", "rating", "c.png", score=1.0))
    files.update(filled)
    text = b"".join(file.read_bytes() for file in (tmp_path / "files").iterdir())
    assert b'"ann"' in text and b"b.png" not in text and b"c.png" in text


def test_a_damaged_line_is_skipped_and_named(filled, tmp_path, caplog):
    files = AnswerFiles(tmp_path / "files")
    files.update(filled)
    for file in (tmp_path / "files").iterdir():
        file.write_bytes(file.read_bytes() + b'{"answer": {"id\n')
    (tmp_path / "files" / "other.jsonl").write_bytes(
        b"[]\n" + json.dumps({"person": "x", "answer": 1}).encode() + b"\n"
    )
    with Store(tmp_path / "two.db") as other:
        assert sorted(files.restore(other)) == ["ann", "Änne 🦊"]
        assert everything(other) == everything(filled)
    assert "damaged" in caplog.text and "other.jsonl is not restored" in caplog.text


@pytest.mark.parametrize(
    ("mounts", "store", "ratings", "keeps"),
    [
        ([], None, None, False),
        (["bucket /data fuse.hf-mount rw 0 0"], None, "/data/pamela", True),
        (["host:/b /data nfs rw 0 0"], None, "/data/pamela", True),
        (["/dev/sdb /data ext4 rw 0 0"], "/data/pamela/answers.db", None, True),
        (["tmpfs /data tmpfs rw 0 0"], None, None, False),
    ],
)
def test_where_answers_go_follows_from_what_is_mounted(monkeypatch, tmp_path, mounts, store, ratings, keeps):
    monkeypatch.setattr(space_module, "_mounts", lambda: mounts)
    monkeypatch.setattr(space_module.os, "access", lambda *args: bool(mounts))
    settings = settings_from({**SPACE, "PAMELA_IMAGES": str(tmp_path)}, {})
    assert settings.ratings == ratings and settings.space.keeps is keeps
    assert store is None or settings.store == store
    assert (EPHEMERAL in settings.space.notice()) is not keeps


def test_settings_of_the_environment_come_first(tmp_path):
    defaults = {"PAMELA_MODEL": "me/one", "PAMELA_IMAGES": str(tmp_path), "PAMELA_TITLE": "one"}
    settings = settings_from({**SPACE, "PAMELA_MODEL": "me/two"}, defaults)
    assert (settings.model, settings.title, settings.images) == ("me/two", "one", str(tmp_path))
    assert settings.space.hosts == (HOST,) and not settings.space.sign_in
    local = settings_from({}, defaults)
    assert local.space is None and local.host == "127.0.0.1"
    with pytest.raises(ValueError, match="PAMELA_MODEL"):
        settings_from({}, {"PAMELA_MODLE": "x"})
    own = settings_from({**SPACE, "PAMELA_STORE": str(Path.cwd() / "answers.db")}, defaults)
    assert not own.space.keeps, "the Space's own folder is emptied"


def test_a_file_system_is_the_one_mounted_there_last():
    lines = ["overlay / overlay rw 0 0", "a /data ext4 rw 0 0", "b /data fuse rw 0 0", "", "x"]
    assert filesystem(Path("/data"), lines) == "fuse" and filesystem(Path("/data/x"), lines) is None
