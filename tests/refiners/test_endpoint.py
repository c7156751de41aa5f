"""The endpoint refiner against a server on the loopback that speaks, or garbles, the OpenAI protocol."""

import gzip
import json
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from processes import peak_of

from pamela_hf.refiners import Trial
from pamela_hf.refiners.endpoint import Refiner

PROMPT = "a cottage by the sea"
HISTORY = [Trial(PROMPT, None, 0, 3.0, 0.5)]
TOKEN = "hf_canary_0123456789"


@pytest.fixture
def server(monkeypatch):
    """`server.replies`: what to answer, the last one for ever: a text, a status, or a whole body."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("REFINER_API_KEY", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            made.path = self.path
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.requests.append((body, {key.lower(): value for key, value in self.headers.items()}))
            reply = made.replies[min(len(made.requests), len(made.replies)) - 1]
            if callable(reply):
                reply = reply(body)
            if isinstance(reply, int):
                status, data = reply, {"error": "no"}
            elif isinstance(reply, str):
                message = {"role": "assistant", "content": reply}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
                base = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": ""}
                status, data = 200, {**base, "choices": [choice], "usage": usage}
            else:
                status, data = 200, reply
            raw = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.replies, made.requests = [], []
    made.url = f"http://127.0.0.1:{made.server_port}/v1"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def propose(server, n=2, **options):
    refiner = Refiner("m", server.url, **{"wait": 0.0, **options})
    return refiner.propose(PROMPT, HISTORY, n, np.random.default_rng(0))


def variants(*texts: str) -> str:
    return json.dumps({"variants": list(texts)})


def test_structured_answers(server):
    server.replies = [variants("a cottage at night", "a cottage at noon")]
    assert propose(server) == ["a cottage at night", "a cottage at noon"]
    ((body, headers),) = server.requests
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["variants"] and body["model"] == "m"
    assert PROMPT in body["messages"][1]["content"]
    assert TOKEN not in json.dumps([body, headers])  # the Hub's token is not this server's business


def test_a_servers_own_key(server, monkeypatch):
    server.replies = [variants("a cottage at night")]
    monkeypatch.setenv("REFINER_API_KEY", "mine")
    propose(server, n=1)
    assert server.requests[0][1]["authorization"] == "Bearer mine"


def test_a_server_that_knows_no_schema_is_asked_in_plain_words(server):
    server.replies = [lambda body: 400 if "response_format" in body else "1. a cottage at night\n2. a cottage at noon"]
    assert propose(server) == ["a cottage at night", "a cottage at noon"]
    assert len(server.requests) == 2


def test_failures_are_retried_and_then_told(server, caplog):
    server.replies = [503, 429, variants("a cottage at night", "a cottage at noon")]
    assert len(propose(server)) == 2 and len(server.requests) == 3
    server.requests.clear()
    server.replies = [500]
    assert propose(server) == [] and len(server.requests) == 4
    assert "failed with status 500" in caplog.text and TOKEN not in caplog.text


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_an_error_that_says_what_to_check(server, status):
    server.replies = [status]
    with pytest.raises(ConnectionError, match=f"status {status}. Check --refiner-model") as raised:
        propose(server)
    assert TOKEN not in str(raised.value) and len(server.requests) == 1


@pytest.mark.parametrize(
    "reply",
    ["", "[]", "I am sorry, I cannot do that.", b"not json", b"", {"choices": []},
     {}, {"choices": [{}]}, [], "\x00\x07",
     {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]},
     b"[" * 200_000, b'{"choices": ' * 50_000],
    ids=range(13),
)  # fmt: skip
def test_garbage_is_no_variant_and_no_error(server, reply):
    server.replies = [reply]
    assert propose(server, retries=1) == []


def test_a_server_that_is_not_there(caplog, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    refiner = Refiner("m", "http://127.0.0.1:9/v1", retries=1, wait=0.0, timeout=2)
    assert refiner.propose(PROMPT, HISTORY, 2, np.random.default_rng(0)) == []
    assert "no usable answer" in caplog.text or "did not answer" in caplog.text
    assert "127.0.0.1:9" in refiner.identity
    assert Refiner("m", "http://ann:secret@127.0.0.1:9/v1").identity == "endpoint m http://127.0.0.1:9/v1"
    keyed = Refiner("m", "http://127.0.0.1:9/v1?api_key=secret").identity
    assert keyed == "endpoint m http://127.0.0.1:9/v1?api_key=***"


def test_a_server_that_drips_bytes_is_left_behind(caplog):
    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):  # the client goes at the end of the tests
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(60):
                time.sleep(0.1)
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        refiner = Refiner("m", f"http://127.0.0.1:{listening.getsockname()[1]}/v1", retries=0, timeout=0.5)
        start = time.monotonic()
        assert refiner.propose(PROMPT, HISTORY, 2, np.random.default_rng(0)) == []
        assert time.monotonic() - start < 3 and "did not answer within 0.5 s" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "notaurl",
        "",
        "127.0.0.1:8000/v1",
        "ftp://host/v1",
        "http://",
        "http://host:port/v1",
        "http://[::1",
        "http://a b",
    ],
)
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(ValueError, match=r"--refiner-url\) is not a server's address; expected one such as http"):
        Refiner("m", url)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/proxy"])
def test_offline_the_hub_is_shut_and_a_server_of_ones_own_is_not(server, monkeypatch, path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    server.replies, server.url = [variants("a cottage at night")], server.url.removesuffix("/v1") + path
    assert propose(server, n=1) == ["a cottage at night"]
    assert server.path == ("/proxy/v1" if path == "/proxy" else "/v1") + "/chat/completions"
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE=1 shuts Inference Providers off"):
        Refiner().propose(PROMPT, HISTORY, 1, np.random.default_rng(0))


def test_inference_providers_without_a_token_are_no_passing_trouble(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ConnectionError, match="need an access token"):
        Refiner().propose(PROMPT, HISTORY, 1, np.random.default_rng(0))


def raw_server(head: bytes, body, parts: int):
    """A server that answers the first request with `head` and then up to `parts` times `body`; returns its address and
    a list that gets the number of bytes it could send before the connection was closed."""
    listener, sent = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(head)
            count = 0
            try:
                for _ in range(parts):
                    connection.sendall(body)
                    count += len(body)
            finally:
                sent.append(count)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1", sent


def test_a_compressed_answer_is_not_unpacked(caplog):
    """300 KB that would become 300 MB."""
    bomb = gzip.compress(bytes(300 << 20), 9)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    url, _ = raw_server(head, bomb, 1)
    code = """
import numpy as np, sys
import huggingface_hub.constants
from pamela_hf.refiners.endpoint import Refiner
refiner = Refiner(base_url=sys.argv[1], model="m", retries=0, timeout=20)
before = peak()
print(len(refiner.propose("a cat", [], 2, np.random.default_rng(0))), peak() - before)
"""
    found, megabytes = peak_of(code, url)
    print(f"an answer of {len(bomb) >> 10} KB cost {megabytes:.0f} MB")
    assert found == 0 and megabytes < 50


def test_an_endless_answer_is_cut_off(caplog):
    url, sent = raw_server(b"HTTP/1.1 200 OK\r\n\r\n", b" " * (1 << 16), 1000)
    refiner = Refiner(base_url=url, model="m", retries=0, timeout=20)
    assert refiner.propose(PROMPT, HISTORY, 2, np.random.default_rng(0)) == []
    assert "more than 4 MiB" in caplog.text
    deadline = time.monotonic() + 10
    while not sent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent and sent[0] < 40 << 20  # the connection was closed, not read on in the background
