"""The app as a process, and a client of its JSON endpoints: what the app's tests share."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent


def paint_pictures(folder: Path, count: int, size: int = 48) -> Path:
    """Pictures that differ in colour, shape and noise, one of them in a subfolder with a name of many scripts."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.clip(rng.integers(0, 256, 3) + rng.normal(0, 10 + 4 * (number % 9), (size, size, 3)), 0, 255)
        pixels[: (number * 5) % size, : (number * 3) % size] = rng.integers(0, 256, 3)
        name = f"{number:03d}.png" if number else "été & <b>größe 🌞.png"
        place = folder / "sub folder" if not number else folder
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(place / name)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other."""

    def redirect_request(self, *args: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class AppProcess:
    """`scripts/app.py` as a process of its own, from its first line to its end.

    `headers` are sent with every request. `space`: the written folder of a Space, whose `app.py` is started instead.
    """

    def __init__(
        self,
        *arguments: object,
        port: int | None = None,
        headers: dict | None = None,
        space: Path | None = None,
        **environment: str,
    ):
        self.port, self.headers = port or free_port(), headers or {}
        script = [str(ROOT / "scripts" / "app.py"), *map(str, arguments), "--port", str(self.port)]
        command = [sys.executable, *(["app.py"] if space else script)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
        if space:
            env["GRADIO_SERVER_PORT"] = str(self.port)
            env.pop("PYTHONPATH")  # the Space's own copy of the package
        self.process = subprocess.Popen(
            command, env=env, cwd=space, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.log: list[str] = []
        for line in self.process.stdout:
            self.log.append(line)
            if line.startswith("Open "):
                self.url = line.split()[1].rstrip("/")
                return
        raise AssertionError(f"the app ended: {''.join(self.log)[-3000:]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> "AppProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- its endpoints -------------------------------------------------------------------------------------------
    def ask(self, method: str, path: str, body: object = None, headers: dict | None = None, **query: object):
        """Status, headers and body, JSON read where it is JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}" + (f"?{urlencode(query)}" if query else "")
        kind = {"content-type": "application/json"} if data is not None else {}
        request = urllib.request.Request(url, data=data, method=method, headers=kind | self.headers | (headers or {}))
        try:
            with _OPENER.open(request, timeout=120) as answer:
                status, heads, content = answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            status, heads, content = error.code, dict(error.headers), error.read()
        heads = {name.lower(): value for name, value in heads.items()}
        return status, heads, json.loads(content) if "json" in heads.get("content-type", "") else content

    def get(self, path: str, **query: object):
        status, _, body = self.ask("GET", path, **query)
        assert status == 200, (path, status, body)
        return body

    def post(self, path: str, **body: object):
        status, _, answer = self.ask("POST", path, body)
        assert status == 200, (path, status, answer)
        return answer

    def wait_ready(self, seconds: float = 300) -> dict:
        """Until the base is loaded and every picture has its features."""
        end = time.monotonic() + seconds
        while not (about := self.get("/api/about"))["ready"]:
            assert about["problem"] is None and time.monotonic() < end, about
            time.sleep(0.1)
        return about
