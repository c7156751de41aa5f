"""`pamela serve`: right scores over a real socket, many at a time, and a clear no to what it does not take."""

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from pamela_hf.heads import UserHead
from pamela_hf.rewards import HeadFolder, PersonalReward, RewardOptions
from pamela_hf.rewards._batching import Batcher, Busy
from pamela_hf.rewards.serving import ScoringService, ServiceLimits, create_app
from pamela_hf.scoring import PamelaScorer

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("mcp.server.mcpserver")

PROMPTS = ["a photo of a cat", "the sea at night", None, "an old red car"]


def as_base64(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture(scope="module")
def scorer(reward_folder) -> PamelaScorer:
    return PamelaScorer.from_pretrained(reward_folder, device="cpu")


@contextmanager
def serving(service, token=None):
    """The application behind a real uvicorn server in a thread; yields its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(create_app(service, token), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def address(scorer):
    with serving(ScoringService(PersonalReward(scorer, "cem"))) as address:
        yield address


def test_a_grid_of_images_and_people(address, scorer, images):
    sent = [as_base64(images[0]), f"data:image/png;base64,{as_base64(images[1])}", *map(as_base64, images[2:])]
    users = ["ann", None, "bob"]
    answer = httpx.post(f"{address}/v1/score", json={"images": sent, "prompts": PROMPTS, "users": users}).json()
    expected = scorer.score(images, PROMPTS, users=users)
    np.testing.assert_allclose(answer["scores"], expected.scores, atol=1e-5)
    np.testing.assert_allclose(answer["std"], expected.std, atol=1e-5)
    assert answer["users"] == users and answer["errors"] == {}
    answer = httpx.post(f"{address}/v1/score", json={"images": sent[:1]}).json()
    assert answer["users"] == ["cem"]
    np.testing.assert_allclose(answer["scores"], [scorer.score(images[:1], user="cem").scores], atol=1e-5)


def test_a_bad_image_is_null_and_said_and_the_others_are_scored(address, scorer, images):
    sent = [as_base64(images[0]), "/etc/passwd", base64.b64encode(b"no image").decode(), "http://example.org/a.png"]
    answer = httpx.post(f"{address}/v1/score", json={"images": sent, "users": ["ann"]}).json()
    assert answer["scores"][0][0] == pytest.approx(scorer.score(images[0], user="ann").scores[0], abs=1e-5)
    assert answer["scores"][1:] == [[None]] * 3 and sorted(answer["errors"]) == ["1", "2", "3"]
    assert "not base64" in answer["errors"]["1"] and "images[2]" in answer["errors"]["2"]
    answer = httpx.post(f"{address}/v1/score", json={"images": ["-"], "users": ["ann"]}).json()
    assert answer["scores"] == [[None]]


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        ({"images": []}, 422, "images must be a list"),
        ({"images": "abc"}, 422, "images must be a list"),
        ({}, 422, "images must be a list"),
        ({"images": ["x"], "users": ["dan"]}, 422, "'dan' is not among"),
        ({"images": ["x"], "users": [3]}, 422, "must be a name"),
        ({"images": ["x"], "prompts": ["a", "b"]}, 422, "2 entries for 1 images"),
        ({"images": ["x"], "prompts": [1]}, 422, "must be a text"),
        ({"images": ["x"], "size": 3}, 422, "'size' is not a field"),
        ({"images": ["x"] * 300}, 422, "at most 256"),
        ([1], 422, "send an object"),
    ],
)
def test_a_wrong_request_is_named(address, sent, status, message):
    answer = httpx.post(f"{address}/v1/score", json=sent)
    assert answer.status_code == status and message in answer.json()["error"]


def test_only_json_from_this_machine_within_bounds(scorer, images):
    service = ScoringService(PersonalReward(scorer), ServiceLimits(max_body_bytes=5000))
    with serving(service) as address:
        url = f"{address}/v1/score"
        assert httpx.post(url, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 422
        assert "no JSON" in httpx.post(url, content=b"{", headers={"Content-Type": "application/json"}).json()["error"]
        answer = httpx.post(url, json={"images": ["x" * 6000]})
        assert answer.status_code == 413 and "at most 5000" in answer.json()["error"]
        for name in ("evil.example", "localhost.evil.example", "evil.example:80"):
            assert httpx.get(f"{address}/health", headers={"Host": name}).status_code == 403
        assert httpx.get(f"{address}/health", headers={"Host": "localhost:9"}).status_code == 200


def test_a_token_is_asked_for_everywhere(scorer):
    with serving(ScoringService(PersonalReward(scorer)), token="secret") as address:
        for path in ("/health", "/metrics", "/v1/users"):
            assert httpx.get(address + path).status_code == 401
            assert httpx.get(address + path, headers={"Authorization": "Bearer wrong"}).status_code == 401
            assert httpx.get(address + path, headers={"Authorization": "Basic not-base64"}).status_code == 401
            assert httpx.get(address + path, headers={"Authorization": "Bearer secret"}).status_code == 200
            assert httpx.get(address + path, auth=("pamela", "secret")).status_code == 200
        assert httpx.post(f"{address}/mcp", json={}).status_code == 401


def test_flow_factory_s_client(address, scorer, images):
    """Requests as its client sends them (my_reward_remote.py at commit a0b2bc5)."""
    unused = {"video": None, "condition_images": None, "condition_videos": None}
    sent = {"prompt": ["a cat"] * 4, "image": [*map(as_base64, images[:3]), "AAAA"], **unused}
    assert httpx.get(f"{address}/health").is_success
    expected = scorer.score(images[:3], "a cat", user="cem").scores
    answer = httpx.post(f"{address}/compute", json=sent).json()
    np.testing.assert_allclose(answer["rewards"], [*expected, 1.0], atol=1e-5)
    assert answer["unusable"] == [3]
    expected = scorer.score(images[:3], "a cat", user="ann").scores
    assert httpx.get(f"{address}/users/ann/health").is_success
    answer = httpx.post(f"{address}/users/ann/compute", json=sent).json()
    np.testing.assert_allclose(answer["rewards"][:3], expected, atol=1e-5)
    answer = httpx.post(f"{address}/compute", json={**sent, "extra": {"user": "ann"}}).json()
    np.testing.assert_allclose(answer["rewards"][:3], expected, atol=1e-5)
    assert httpx.post(f"{address}/users/dan/compute", json=sent).status_code == 422
    assert "no" in httpx.post(f"{address}/compute", json={"prompt": ["a"], "video": [[]]}).json()["error"]


def test_compute_follows_the_reward_s_options(scorer, images):
    options = RewardOptions(personal_only=True, uncertainty_penalty=0.5)
    reward = PersonalReward(scorer, "ann", options)
    with serving(ScoringService(reward)) as address:
        sent = {"prompt": PROMPTS[:2], "image": list(map(as_base64, images[:2]))}
        answer = httpx.post(f"{address}/compute", json=sent).json()
        np.testing.assert_allclose(answer["rewards"], reward(images[:2], PROMPTS[:2]), atol=1e-5)


def test_requests_at_a_time_share_forwards(scorer, images):
    service = ScoringService(PersonalReward(scorer))
    sent = [as_base64(image) for image in images]
    expected = {user: scorer.score(images, "a cat", user=user).scores for user in ("ann", "bob", "cem")}
    with serving(service) as address, httpx.Client() as client, ThreadPoolExecutor(16) as threads:

        def ask(i: int) -> None:
            user = ("ann", "bob", "cem")[i % 3]
            json = {"images": [sent[i % 4]], "prompts": "a cat", "users": [user]}
            answer = client.post(f"{address}/v1/score", json=json, timeout=60).json()
            assert answer["scores"][0][0] == pytest.approx(expected[user][i % 4], abs=1e-4)

        list(threads.map(ask, range(120)))
        text = client.get(f"{address}/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['pamela_requests_total{route="/v1/score",status="200"}'] == "120"
    assert float(lines["pamela_images_total"]) == 120 > float(lines["pamela_forwards_total"])
    assert lines["pamela_request_seconds_count"] == "120" == lines['pamela_request_seconds_bucket{le="+Inf"}']


def test_a_full_queue_says_so(scorer, images):
    service = ScoringService(PersonalReward(scorer), ServiceLimits(max_images=2, max_waiting=2, max_requests=3))
    gate = threading.Event()
    answer_of = service._answer
    service._batcher._function = lambda questions: gate.wait(20) and answer_of(questions)
    sent = {"images": [as_base64(images[0])] * 2, "users": ["ann"]}
    with serving(service) as address, ThreadPoolExecutor(1) as threads:
        first = threads.submit(httpx.post, f"{address}/v1/score", json=sent, timeout=30)
        while service.waiting < 2:
            time.sleep(0.01)
        second = httpx.post(f"{address}/v1/score", json=sent)
        assert second.status_code == 429 and second.headers["retry-after"] == "1"
        assert httpx.get(f"{address}/health").json()["waiting"] == 2
        gate.set()
        assert first.result().status_code == 200
    with pytest.raises(ValueError, match="max_waiting=1"):
        ServiceLimits(max_images=2, max_waiting=1)


def test_an_error_of_the_model_reaches_those_who_asked_and_nobody_else():
    def fail_on_odd(items):
        if any(item % 2 for item in items):
            raise ArithmeticError("odd")
        return items

    batcher = Batcher(fail_on_odd, max_items=1)
    with pytest.raises(ArithmeticError):
        batcher.submit(1).result()
    assert batcher.submit(2).result() == 2 and Batcher(lambda items: items).submit(1, 2).result() == [1, 2]
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(2)
    full = Batcher(lambda items: items, max_waiting=1)
    with pytest.raises(Busy, match="the queue holds 1"):
        full.submit(1, 2)


def test_heads_come_while_it_serves(scorer, images, tmp_path):
    heads = HeadFolder(tmp_path, scorer)
    with serving(ScoringService(PersonalReward(scorer, heads=heads))) as address:
        sent = {"images": [as_base64(images[0])], "users": ["eva"]}
        assert httpx.post(f"{address}/v1/score", json=sent).status_code == 422
        features = torch.randn(6, scorer.config.image_embed_dim, generator=torch.Generator().manual_seed(1)).numpy()
        UserHead.fit(scorer, [(f, 1 + i % 5) for i, f in enumerate(features)], name="eva").save(tmp_path / "eva")
        got = httpx.post(f"{address}/v1/score", json=sent).json()["scores"][0][0]
        assert got == pytest.approx(scorer.score(images[0], user=heads["eva"]).scores[0], abs=1e-5)
        assert httpx.get(f"{address}/v1/users").json() == {"participants": ["ann", "bob", "cem"], "heads": ["eva"]}


def test_assistants_score_rank_and_ask(address, scorer, images):
    """With the MCP package's own client."""
    import anyio
    from mcp import Client

    sent = [as_base64(image) for image in images]

    async def talk():
        async with Client(f"{address}/mcp") as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            scored = await client.call_tool("score_images", {"images": sent, "users": ["ann", None]})
            ranked = await client.call_tool("rank_images", {"images": [*sent, "-"], "user": "bob", "k": 2})
            known = await client.call_tool("describe_taste", {})
            unknown = await client.call_tool("describe_taste", {"user": "dan"})
            return names, scored, ranked, known, unknown

    names, scored, ranked, known, unknown = anyio.run(talk)
    assert names == {"score_images", "rank_images", "describe_taste"}
    expected = scorer.score(images, users=["ann", None]).scores
    np.testing.assert_allclose(scored.structured_content["scores"], expected, atol=1e-5)
    best = np.argsort(-scorer.score(images, user="bob").scores)[:2]
    assert [row["index"] for row in ranked.structured_content["ranking"]] == best.tolist()
    assert list(ranked.structured_content["errors"]) == ["4"]
    assert known.structured_content == {"participants": ["ann", "bob", "cem"], "heads": []}
    assert unknown.is_error


@contextmanager
def command(reward_folder):
    """`pamela serve` in a process of its own, and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pamela_hf.cli", "serve", "--model", reward_folder, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PAMELA_TOKEN": ""})
    try:
        assert process.stdout.readline() == f"Serving http://127.0.0.1:{port}\n"
        yield process, port
    finally:
        process.kill()


@pytest.mark.parametrize(("requests", "most"), [(800, 4), pytest.param(100_000, 12, marks=pytest.mark.slow)])
def test_memory_is_flat(reward_folder, images, requests, most):
    def resident() -> float:
        with open(f"/proc/{process.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    bodies = [{"images": [as_base64(images[i % 4])], "prompts": PROMPTS[i % 4], "users": ["ann"]} for i in range(4)]
    with command(reward_folder) as (process, port), httpx.Client(timeout=60) as client:

        def ask(i: int) -> None:
            assert client.post(f"http://127.0.0.1:{port}/v1/score", json=bodies[i % 4]).status_code == 200

        for size in range(1, 9):  # what a batch of each size takes for good: some 3 MB where products go by oneDNN
            of_size = {**bodies[0], "images": bodies[0]["images"] * size}
            assert client.post(f"http://127.0.0.1:{port}/v1/score", json=of_size).status_code == 200
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(300)))
            before = resident()
            list(threads.map(ask, range(requests)))
            assert resident() - before < most


def test_the_command_serves_and_stops_in_order(reward_folder, images):
    with command(reward_folder) as (process, port):
        sent = {"images": [as_base64(images[0])], "users": ["ann"]}
        assert httpx.post(f"http://127.0.0.1:{port}/v1/score", json=sent, timeout=60).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
