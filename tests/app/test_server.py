"""The app over HTTP, as a process: the endpoints of contract 8, who is refused, what survives a kill."""

import csv
import http.client
import io
import json
import random
import time
import zipfile

import pytest
from app_client import AppProcess, paint_pictures
from photo_tools import add_stars
from PIL import Image

from pamela_hf.photos.library import read_library
from pamela_hf.photos.xmp import read_packet
from pamela_hf.study.csv import read_choices

PERSON = "Änne 🦊 عائشة"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return paint_pictures(tmp_path_factory.mktemp("pictures"), 40)


@pytest.fixture(scope="module")
def app(pictures, reward_folder, tmp_path_factory):
    store = tmp_path_factory.mktemp("store") / "taste.db"
    with AppProcess("--images", pictures, "--model", reward_folder, "--store", store) as started:
        started.wait_ready()
        yield started


def liking(app, image: dict) -> int:
    """A simulated person who likes red pictures: 1 to 5."""
    _, _, data = app.ask("GET", image["url"])
    red, green, blue = Image.open(io.BytesIO(data)).resize((1, 1)).getpixel((0, 0))
    return min(5, max(1, 3 + round((red - (green + blue) / 2) / 45)))


def is_noise(data: bytes) -> bool:
    """Grey in every pixel."""
    return len(set(Image.open(io.BytesIO(data)).resize((1, 1)).getpixel((0, 0)))) == 1


def rate(app, person: str, count: int) -> dict[str, int]:
    given = {}
    for number in range(count):
        (image,) = app.get("/api/next", person=person, n=1)["images"]
        given[image["id"]] = liking(app, image)
        body = {"person": person, "id": f"{person}-{number}", "image_id": image["id"], "score": given[image["id"]]}
        assert app.post("/api/ratings", **body)["saved"] is True
    return given


def test_a_visit_from_the_first_picture_to_erasing(app):
    found = app.get("/api/next", person=PERSON, n=9)
    assert len({image["id"] for image in found["images"]}) == 9 and found["enough"] is False and found["message"]
    given = rate(app, PERSON, 20)
    assert len(given) == 20, "a rated picture came again, without consent"
    taste = app.get("/api/taste", person=PERSON)
    assert taste["ratings"] == 20 and taste["person"] == PERSON
    assert -1 <= taste["held_out"]["ci_low"] <= taste["held_out"]["srocc"] <= taste["held_out"]["ci_high"] <= 1
    assert {"likes_more", "most", "least", "contradictions", "predicted", "message"} <= set(taste)
    seen = {image["id"] for image in taste["most"] + taste["least"]}
    assert seen and not seen & set(given), "most and least liked are of the unseen"
    scores = [image["score"] for image in taste["most"]]
    assert scores == sorted(scores, reverse=True) and len(taste["predicted"]) == 20

    rows = list(csv.DictReader(io.StringIO(app.get("/api/export", person=PERSON).decode())))
    assert {row["image"]: float(row["score"]) for row in rows} == given
    status, headers, data = app.ask("GET", "/api/head", person=PERSON)
    names = set(zipfile.ZipFile(io.BytesIO(data)).namelist())
    assert status == 200 and names == {"adapter_config.json", "adapter_model.safetensors", "README.md", "head.json"}
    assert "zip" in headers["content-type"]

    erased = app.ask("DELETE", "/api/person", person=PERSON)[2]
    assert erased["erased"] == 20 and "downloaded" in erased["kept"]
    assert app.get("/api/taste", person=PERSON)["ratings"] == 0
    assert app.get("/api/export", person=PERSON) == b"image,score\n"
    assert app.ask("GET", "/api/head", person=PERSON)[0] == 409


def test_an_answer_sent_twice_is_stored_once_and_another_under_its_id_refused(app):
    a, b = app.get("/api/next", person="twice", n=2)["images"]
    rating = {"person": "twice", "id": "one", "image_id": a["id"], "score": 4}
    choice = {"person": "twice", "id": "two", "preferred_id": a["id"], "other_id": b["id"]}
    for _ in range(3):
        assert app.post("/api/ratings", **rating)["saved"] and app.post("/api/choices", **choice)["saved"]
    taste = app.get("/api/taste", person="twice")
    assert (taste["ratings"], taste["choices"]) == (1, 1)
    status, _, answer = app.ask("POST", "/api/ratings", {**rating, "score": 2})
    assert status == 409 and answer["saved"] is False


def test_a_picture_is_shown_at_screen_size_and_copied_as_it_is(app, pictures):
    (image,) = app.get("/api/next", person="copies", n=1)["images"]
    assert app.ask("GET", image["url"])[1]["content-type"] == "image/jpeg"
    status, headers, data = app.ask("GET", image["url"], original=1)
    assert status == 200 and data == (pictures / image["id"]).read_bytes()
    assert headers["content-disposition"].startswith("attachment") and headers["x-content-type-options"] == "nosniff"
    assert app.ask("GET", "/images/" + "0" * 24, original=1)[0] == 404


def test_undo_skip_picks_and_change(app):
    person = "undo"
    first, second, *nine = app.get("/api/next", person=person, n=11)["images"]
    app.post("/api/ratings", person=person, id="a", image_id=first["id"], score=5)
    assert app.post("/api/undo", person=person, id="a") == {"undone": 1, "answers": 0}
    assert app.get("/api/next", person=person, n=1)["images"][0]["id"] == first["id"], "it comes back"
    app.post("/api/skips", person=person, id="b", image_id=first["id"])
    assert app.get("/api/next", person=person, n=1)["images"][0]["id"] == second["id"]
    ids = [image["id"] for image in nine]
    app.post("/api/picks", person=person, id="c", shown=ids, liked=ids[:3])
    assert app.get("/api/taste", person=person)["likes"] == 9
    assert app.post("/api/undo", person=person, id="c")["undone"] == 9
    app.post("/api/ratings", person=person, id="d", image_id=second["id"], score=1)
    app.post("/api/ratings", person=person, id="e", image_id=second["id"], score=4, replaces=True)
    assert app.get("/api/export", person=person).decode() == f"image,score\n{second['id']},4\n"


@pytest.mark.parametrize(
    ("path", "change", "status"),
    [
        ("/api/ratings", {"score": 6}, 422), ("/api/ratings", {"score": "many"}, 422),
        ("/api/ratings", {"image_id": "../../etc/passwd"}, 404), ("/api/ratings", {"person": ""}, 422),
        ("/api/ratings", {"person": "x" * 500}, 422), ("/api/ratings", {"id": ""}, 422),
        ("/api/choices", {"preferred_id": "a", "other_id": "b"}, 404),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_and_says_why(app, path, change, status):
    image = app.get("/api/next", person="nobody", n=1)["images"][0]["id"]
    body = {"person": "nobody", "id": "x", "image_id": image, "score": 3, **change}
    got, _, answer = app.ask("POST", path, body)
    assert got == status and answer["saved"] is False and len(answer["error"]) > 10
    assert all(one["name"] != "nobody" for one in app.get("/api/people")["people"])


def test_dropped_pictures_are_ranked_and_near_duplicates_found(app, pictures):
    rate(app, "ranker", 12)
    files = sorted(pictures.glob("*.png"))[:5]
    for file in [*files, files[0]]:
        status, _, answer = app.ask("POST", "/api/uploads", file.read_bytes(), batch="batch-0001", name=file.name)
        assert status == 200, answer
    assert app.ask("POST", "/api/uploads", b"GIF89a no picture", batch="batch-0001", name="x.gif")[0] == 422
    found = app.get("/api/uploads/ranking", person="ranker", batch="batch-0001")
    assert [item["id"] for item in found["items"]] == [file.name for file in [*files, files[0]]]
    assert found["groups"][0] == found["groups"][5]
    one = found["strengths"].index(1.0)
    assert found["scores"][0][0][one] == pytest.approx(found["scores"][5][0][one], abs=0.02)
    whole = app.get("/api/ranking", person="ranker")
    by_id = {item["id"]: scores[0][one] for item, scores in zip(whole["items"], whole["scores"])}
    assert by_id[files[1].name] == pytest.approx(found["scores"][1][0][one], abs=0.02), "one picture, one score"
    rate(app, "partner", 8)
    mixed = app.get("/api/ranking", person="ranker", other="partner")
    assert len(mixed["weights"]) == 5 and len(mixed["scores"][0]) == 5


def test_importing_what_was_exported(app):
    given = rate(app, "from", 5)
    table = app.get("/api/export", person="from") + b"unknown.png,3\n" + f"{next(iter(given))},77\n".encode()
    for new in (5, 0):
        status, _, answer = app.ask("POST", "/api/import", table, person="to")
        assert status == 200 and answer["ratings"] == 5 and answer["set_aside_count"] == 2, answer
        assert (answer["new"], answer["known"], answer["answers"]) == (new, 5 - new, 5)
    assert sorted(app.get("/api/export", person="to").splitlines()) == sorted(
        app.get("/api/export", person="from").splitlines()
    )
    rows = app.get("/api/export", person="from", format="rows")
    assert {row["image_id"]: row["original_score"] for row in rows} == given
    for number, shape in enumerate(("rows", "argilla", "label-studio")):
        _, _, data = app.ask("GET", "/api/export", person="from", format=shape)
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        answer = app.ask("POST", "/api/import", data, person=f"to {number}")[2]
        assert answer["new"] == 5 and answer["set_aside_count"] == 0, (shape, answer)
    assert app.ask("GET", "/api/export", person="from", format="nothing")[0] == 422
    assert app.ask("POST", "/api/import", b"a;b\n1;3\n", person="to")[0] == 422
    origins = app.get("/api/taste", person="to")["origins"]
    assert origins == [{"origin": "table", "answers": 5}]


def test_a_file_of_several_people_asks_whose_it_is(app):
    ids = [image["id"] for image in app.get("/api/next", person="several", n=2)["images"]]
    table = f"image,score,rater\n{ids[0]},80,x\n{ids[1]},20,y\n".encode()
    answer = app.ask("POST", "/api/import", table, person="several", low=0, high=100)[2]
    assert answer == {"saved": False, "participants": {"x": 1, "y": 1}}
    answer = app.ask("POST", "/api/import", table, person="several", low=0, high=100, participant="y")[2]
    assert answer["new"] == 1 and app.get("/api/export", person="several").decode() == f"image,score\n{ids[1]},2\n"
    assert app.ask("POST", "/api/import", table, person="several", low=3, high=3, participant="y")[0] == 422


def test_stars_in_and_out(reward_folder, tmp_path):
    photos = paint_pictures(tmp_path / "photos", 12)
    for number in range(1, 7):
        add_stars(photos / f"{number:03d}.png", 1 + number % 5)
    with AppProcess("--images", photos, "--model", reward_folder, "--store", tmp_path / "taste.db") as app:
        app.wait_ready()
        image = "001.png"
        app.post("/api/ratings", person="ann", id="a", image_id=image, score=5)
        app.post("/api/ratings", person="ann", id="b", image_id="007.png", score=1)
        first, second = (app.post("/api/stars/read", person="ann") for _ in range(2))
        assert (first["new"], first["known"], first["own"]) == (5, 0, 1), "what was rated here stays"
        assert (second["new"], second["known"], second["own"]) == (0, 5, 1)
        assert app.get("/api/taste", person="ann")["origins"] == [{"origin": "stars", "answers": 5}]
        done = app.post("/api/stars/write", person="ann")
        assert (done["written"], done["kept"], done["set_aside"]) == (6, 6, [])
        library = {photo.name: photo for photo in read_library(photos, progress=False).photos}
        assert [library[f"{i:03d}.png"].stars.rating for i in range(1, 8)] == [2, 3, 4, 5, 1, 2, None]
        assert read_packet((photos / "007.png.xmp").read_bytes()).rating == 1, "rated here: that rating"
        assert app.post("/api/stars/read", person="ann")["new"] == 0, "its own stars are nobody's opinion"


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.faults)])
def test_no_hostile_path_is_served(app, count, pictures):
    (pictures.parent / "secret.txt").write_text("SECRET-CANARY")
    rng = random.Random(0)
    parts = ".. . %2e%2e %2f %5c / // etc/passwd secret.txt %00 file= images api gradio_api pages static C: ~ 000.png"
    parts = [*parts.split(), "proc/self/environ", "upload", "proxy=http://x", "..%5C..%5Cetc"]
    starts = "/ /images/ /pages/ /gradio_api/file= /gradio_api/ /api/ /static/ /assets/ /file=".split()
    for _ in range(count):
        path = rng.choice(starts) + "/".join(rng.choice(parts) for _ in range(rng.randint(1, 6)))
        status, _, body = app.ask("GET", path)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert status in (400, 401, 403, 404, 405, 422), (path, status)
        assert b"SECRET-CANARY" not in content and b"root:" not in content
    print(f"{count} hostile paths: none is served")


@pytest.mark.parametrize(
    "path", ["/theme.css", "/docs", "/openapi.json", "/gradio_api/upload", "/login", "/monitoring"]
)
def test_routes_of_gradio_that_the_app_does_not_need_are_closed(app, path):
    assert app.ask("GET", path)[0] == 404


def test_other_sites_and_other_names_are_refused(app):
    assert app.ask("GET", "/api/people", headers={"origin": "https://evil.example"})[0] == 403
    assert app.ask("GET", "/api/people", headers={"origin": "null"})[0] == 403
    assert app.ask("GET", "/api/people", headers={"host": "evil.example"})[0] == 403
    assert (
        app.ask("GET", "/api/people", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})[0] == 403
    )
    own = {"origin": f"http://127.0.0.1:{app.port}", "sec-fetch-site": "same-origin"}
    assert app.ask("GET", "/api/people", headers=own)[0] == 200
    foreign = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    status, headers, _ = app.ask("OPTIONS", "/api/ratings", headers=foreign)
    assert status >= 400 or "access-control-allow-origin" not in headers


def test_every_answer_carries_a_policy_without_inline_script(app):
    for path in ("/", "/pages/main.js", "/api/about", "/nothing"):
        _, headers, _ = app.ask("GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, path
        assert headers["x-content-type-options"] == "nosniff"
    page = app.get("/").decode()
    assert "<script>" not in page and "style=" not in page and "http://" not in page and "https://" not in page


def test_bodies_are_bounded(app):
    for path, megabytes in (("/api/ratings", 2), ("/api/uploads?batch=batch-0002&name=x.png", 65)):
        connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=20)
        connection.putrequest("POST", path)
        connection.putheader("content-length", str(megabytes << 20))
        connection.endheaders()  # refused before the body is sent
        assert connection.getresponse().status == 413
        connection.close()


def test_beyond_loopback_a_token_is_asked_for(pictures, reward_folder, tmp_path):
    with AppProcess(
        "--images", pictures, "--model", reward_folder, "--store", tmp_path / "t.db", "--host", "0.0.0.0"
    ) as app:
        token = app.url.split("token=")[1]
        assert len(token) >= 20
        assert app.ask("GET", "/api/about")[0] == 401 and app.ask("GET", "/")[0] == 401
        assert app.ask("GET", "/api/about", token="wrong")[0] == 401
        assert app.ask("GET", "/api/about", headers={"authorization": f"Bearer {token}"})[0] == 200
        assert app.ask("GET", "/api/about", headers={"cookie": f"pamela_token={token}"})[0] == 200
        assert app.ask("GET", "/api/people", token=token)[2]["people"] == []
        (image,) = app.get("/api/next", person="x", n=1, token=token)["images"]
        known = {"authorization": f"Bearer {token}"}
        assert app.ask("GET", image["url"], headers=known, original=1)[0] == 403, "its owner alone copies files"
        for path in ("/api/stars/read", "/api/stars/write"):
            assert app.ask("POST", path, {"person": "x"}, token=token)[0] == 403
        assert app.ask("GET", "/api/about", token=token, headers={"host": "evil.example"})[0] == 403


def test_killed_and_started_again_it_has_every_acknowledged_answer(pictures, reward_folder, tmp_path):
    arguments = ("--images", pictures, "--model", reward_folder, "--store", tmp_path / "taste.db")
    app = AppProcess(*arguments)
    given = rate(app, "ann", 7)
    app.kill()
    with AppProcess(*arguments, port=app.port) as again:
        rows = csv.DictReader(io.StringIO(again.get("/api/export", person="ann").decode()))
        assert {row["image"]: float(row["score"]) for row in rows} == given
        (last, score) = list(given.items())[-1]
        again.post("/api/ratings", person="ann", id="ann-6", image_id=last, score=score)  # a retry after the kill
        assert again.get("/api/taste", person="ann")["ratings"] == 7
        assert not {image["id"] for image in again.get("/api/next", person="ann", n=20)["images"]} & set(given)


def test_prompt_runs_and_a_blind_study_of_their_pictures(app, tmp_path):
    rate(app, "self", 8)
    rate(app, "other", 8)
    ids = {}
    for person in ("self", "other", None):
        ids[person] = app.post("/api/prompts", person=person, prompt="a photo of a <b>cat</b>")["id"]
    end = time.monotonic() + 180
    while any(app.get(f"/api/prompts/{id}")["state"] in ("waiting", "running") for id in ids.values()):
        assert time.monotonic() < end
        time.sleep(0.3)
    run = app.get(f"/api/prompts/{ids['self']}")
    assert run["state"] == "done", run["problem"]
    assert app.ask("GET", f"/api/prompts/{run['id']}/images/0")[1]["content-type"] == "image/jpeg"
    assert app.ask("GET", f"/api/prompts/{run['id']}/images/9999")[0] == 404
    while trial := app.get("/api/study/next", person="self")["trial"]:
        assert set(trial) == {"id", "prompt", "left", "right"}, "nothing tells the sides apart"
        left = app.ask("GET", trial["left"], person="self")[2]
        choice = "right" if is_noise(left) else "left"  # looks, so passes the attention checks
        assert app.post("/api/study/answers", person="self", id=trial["id"], choice=choice)["saved"]
    text = app.get("/api/study/export")
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    conditions = {row["left"] for row in rows} | {row["right"] for row in rows}
    assert "check" not in conditions and "none" in conditions and len(conditions) > 1
    assert len(rows) > len({row["pair"] for row in rows}), "some pairs come twice"
    (tmp_path / "study.csv").write_bytes(text)
    assert len(read_choices(tmp_path / "study.csv").choice) == len(rows)


def test_without_a_model_it_starts_from_a_blank_base(pictures, siglip_encoder, tmp_path):
    arguments = ("--images", pictures, "--encoder", siglip_encoder, "--store", tmp_path / "taste.db")
    with AppProcess(*arguments) as app:
        about = app.wait_ready()
        assert about["blank"] is True and about["scale"] == [1, 2, 3, 4, 5]
        rate(app, "ann", 14)
        taste = app.get("/api/taste", person="ann")
        assert taste["held_out"]["srocc"] is not None and "everyone" not in taste["held_out"]
        assert taste["most"] and taste["more_than_others"] == [], "a blank base knows no others"
        assert len(app.get("/api/ranking", person="ann")["items"]) == 40
        status, _, data = app.ask("GET", "/api/head", person="ann")
        assert status == 200 and zipfile.is_zipfile(io.BytesIO(data))
        run = app.post("/api/prompts", person="ann", prompt="a photo of a cat")["id"]
        end = time.monotonic() + 120
        while app.get(f"/api/prompts/{run}")["state"] in ("waiting", "running") and time.monotonic() < end:
            time.sleep(0.3)
        assert app.get(f"/api/prompts/{run}")["state"] == "done", app.get(f"/api/prompts/{run}")["problem"]
    with AppProcess(*arguments) as again:  # from the cache of features
        again.wait_ready()
        assert again.get("/api/taste", person="ann")["ratings"] == 14
