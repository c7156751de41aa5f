"""What is answered before PyTorch and Gradio are imported, and what waits for them."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from pamela_hf.app.base import BaseSource
from pamela_hf.app.door import Door


def application(*routes: tuple[str, str]) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for method, path in routes:
        app.add_api_route(path, lambda: "here", methods=[method])
    return app


def test_what_is_first_answers_while_the_second_is_built():
    go, loaded = threading.Event(), []
    second = application(("GET", "/api/later"), ("DELETE", "/api/both"), ("POST", "/"))

    def build() -> FastAPI:
        assert go.wait(60)
        return second

    first = application(("GET", "/"), ("GET", "/images/{token}"), ("POST", "/api/both"))
    with TestClient(Door(first, build, lambda: loaded.append(True))) as client, ThreadPoolExecutor(1) as pool:
        later = pool.submit(client.get, "/api/later")
        for method, path, status in (("GET", "/", 200), ("GET", "/images/x", 200), ("POST", "/api/both", 200)):
            assert client.request(method, path).status_code == status
        assert client.post("/").status_code == 405, "a page is the first one's alone"
        assert not later.done() and not loaded
        go.set()
        assert later.result(60).status_code == 200 and loaded == [True]
        assert client.delete("/api/both").status_code == 200


def test_a_second_that_cannot_be_built_says_why():
    def build() -> FastAPI:
        raise ValueError("no such thing")

    with TestClient(Door(application(("GET", "/")), build, lambda: None)) as client:
        answer = client.get("/api/later")
        assert answer.status_code == 503 and "no such thing" in answer.json()["error"]
        assert client.get("/").status_code == 200


def test_the_scale_is_known_before_the_model_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"rating_scales": {"a": [0, 50, 100]}, "default_scale": "a"}))
    cache = tmp_path / "e.safetensors"
    assert BaseSource(str(tmp_path), None, cache).levels == [0, 50, 100]
    assert BaseSource(None, None, cache).levels == [1, 2, 3, 4, 5]
    assert BaseSource("owner/on-the-hub", None, cache).levels is None


def test_what_comes_first_imports_nothing_heavy(tmp_path):
    code = """
import sys
from pathlib import Path
sys.argv, sys.orig_argv = ["-m"], ["python", "-m", "pamela_hf.cli"]
from pamela_hf.app import routes, server
from pamela_hf.app.routes import answers, people, pictures
print([name for name in ("torch", "transformers", "gradio", "scipy", "pandas") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300
    )
    assert done.stdout.strip() == "[]", done.stderr
