"""The app under load, with simulated people: `python scripts/bench_app.py --images FOLDER --model DIR`.

Everything goes through the real HTTP endpoints of an app started for it. People and pictures are simulated where the
folder is the demo's world; no figure says anything about real people. Beside each stands the CPU time that the app took
for it, which other programs on the machine change less than they change seconds.

writers    32 writers at once: answers a second, and how long one takes (99 % quantile).
people     20 people at once, 100 answers each, heads refitted meanwhile: key to next picture, none lost.
browser    the page itself in Chromium (or CHROMIUM): key to the next picture on the screen, 95 % quantile.
taste      after 30 answers, does the app's ranking of unseen pictures agree with a person's true liking better than
           after 30 answers about random pictures? Simulated people, with an interval.
start      seconds to the first picture, and memory, with features cached.
many       the same of a folder of 50,000 pictures, made for it with features by chance (--many says how many).
"""

import argparse
import asyncio
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr

from pamela_hf.app.learner import EVERY
from pamela_hf.app.pictures import PictureFolder
from pamela_hf.folder_cache import EncoderSource, embed_files
from pamela_hf.simulation.raters import simulated_participants
from pamela_hf.simulation.world import world_images

APP = Path(__file__).with_name("app.py")
# the limits: answers a second and ms of one (p99) of many writers; ms from key to next picture of many people (p99) and
# of one in a browser (p95); seconds to the first picture, and MB
ANSWERS, ANSWERED, NEXT, PAINTED, FIRST, MEMORY = 500, 500, 300, 100, 3.0, 1000
# from the key to the first frame that has another picture, in ms
WATCH = """() => { window.painted = new Promise(done => {
  const picture = () => document.querySelector(".canvas img"), before = picture().src;
  addEventListener("keydown", () => {
    const start = performance.now();
    const look = () => picture() && picture().src !== before && picture().complete
      ? done(performance.now() - start) : requestAnimationFrame(look);
    look();
  }, { capture: true, once: true });
}); }"""


class Connection(asyncio.Protocol):
    """One connection to the app, kept open as a browser does; it costs little beside the app, which is measured."""

    def __init__(self) -> None:
        self._got = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r")[0]):
            self._got = b""
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the app closed the connection"))

    async def ask(self, method: str, path: str, body: object = None, **query: object) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        address = quote(path) + (f"?{urlencode(query)}" if query else "")
        head = f"{method} {address} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(data)}\r\n"
        if self._transport.is_closing():
            raise ConnectionError("the app closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(f"{head}content-type: application/json\r\n\r\n".encode() + data)
        status, content = await self._answer
        if status == 503:  # a machine so busy that a fit takes longer than the app waits for it
            await asyncio.sleep(0.2)
            return await self.ask(method, path, body, **query)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {content[:200]!r}")
        return content

    async def get(self, path: str, **query: object) -> Any:
        return json.loads(await self.ask("GET", path, **query))

    async def rate(self, person: str, image_id: str, score: float) -> None:
        body = {"person": person, "id": uuid.uuid4().hex, "image_id": image_id, "score": float(score)}
        if json.loads(await self.ask("POST", "/api/ratings", body))["saved"] is not True:
            raise RuntimeError("not saved")

    async def count(self, person: str) -> int:
        """How many of a person's ratings are stored."""
        return len(list(csv.DictReader(io.StringIO((await self.ask("GET", "/api/export", person=person)).decode()))))


@dataclass(frozen=True)
class Line:
    """One line of figures: each as it is to be printed, with whether its limit holds (`None`: it has none)."""

    name: str
    figures: list[tuple[str, bool | None]]

    def __str__(self) -> str:
        mark = {True: " [holds]", False: " [DOES NOT HOLD]", None: ""}
        return f"{self.name}: " + "; ".join(f"{text}{mark[holds]}" for text, holds in self.figures)


class RunningApp:
    """The app as a process, ready to be asked."""

    def __init__(self, images: str, model: str | None, store: Path, port: int, encoder: str | None = None):
        command = [sys.executable, str(APP), "--images", images, "--store", str(store), "--port", str(port)]
        command += ["--model", model] if model else []
        command += ["--encoder", encoder] if encoder else []
        self.port, self.started = port, time.perf_counter()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if line.startswith("Open "):
                break
        asyncio.run(self._until_ready())

    async def _until_ready(self) -> None:
        client = await Connection.open(self.port)
        (first,) = (await client.get("/api/next", person="first", n=1))["images"]
        await client.ask("GET", first["url"])
        self.first_picture, self.first_cpu = time.perf_counter() - self.started, self.cpu()
        while not (about := await client.get("/api/about"))["ready"]:
            if about["problem"]:
                self.close()
                raise RuntimeError(about["problem"])
            await asyncio.sleep(0.2)
        self.ready = time.perf_counter() - self.started

    def cpu(self) -> float:
        """Seconds of CPU that the process took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def started_in(self, name: str) -> Line:
        first = f"first picture {self.first_picture:.2f} s after the start, of <= {FIRST:g} s"
        memory = f"memory {self.memory():.0f} MB, of <= {MEMORY} MB"
        return Line(name, [
            (f"{first} ({self.first_cpu:.2f} s of CPU)", self.first_picture <= FIRST),
            (f"base ready {self.ready:.1f} s", None), (memory, self.memory() <= MEMORY),
        ])  # fmt: skip

    def memory(self) -> float:
        """MB of the process, at its peak."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


async def at_once(port: int, count: int, work: Callable[[Connection, int], Any]) -> tuple[np.ndarray, float]:
    """Runs `work(connection, 0)` … `work(connection, count - 1)`; all their seconds, and how long it took together."""
    connections = [await Connection.open(port) for _ in range(count)]
    start = time.perf_counter()
    found = await asyncio.gather(*(work(connection, number) for number, connection in enumerate(connections)))
    return np.concatenate(found), time.perf_counter() - start


async def bench_writers(app: RunningApp, writers: int = 32, each: int = 200) -> Line:
    client = await Connection.open(app.port)
    ids = [image["id"] for image in (await client.get("/api/next", person="w", n=50))["images"]]

    async def work(connection: Connection, number: int) -> list[float]:
        seconds = []
        for k in range(each):
            start = time.perf_counter()
            await connection.rate(f"writer {number}", ids[k % len(ids)], 1 + k % 5)
            seconds.append(time.perf_counter() - start)
        return seconds

    before, own = app.cpu(), time.process_time()
    seconds, total = await at_once(app.port, writers, work)
    cpu, own = (1000 * one / (writers * each) for one in (app.cpu() - before, time.process_time() - own))
    client = await Connection.open(app.port)  # the app closes idle ones
    rows = sum([await client.count(f"writer {number}") for number in range(writers)])
    rate, slow = writers * each / total, 1000 * np.quantile(seconds, 0.99)
    return Line("writers", [
        (f"{rate:.0f} answers/s of {writers} writers, of >= {ANSWERS}", rate >= ANSWERS),
        (f"p50 {1000 * np.median(seconds):.0f} ms, p99 {slow:.0f} ms, of <= {ANSWERED} ms", slow <= ANSWERED),
        (f"{rows} of {writers * each} stored", rows == writers * each),
        (f"CPU each: app {cpu:.2f} ms, this client {own:.2f} ms", None),
    ])  # fmt: skip


async def bench_people(app: RunningApp, people: int = 20, each: int = 100, think: float = 0.5) -> Line:
    """Key to next picture: the answer is stored, and the next pictures are asked for as the page does."""

    async def work(connection: Connection, number: int) -> list[float]:
        seconds, rng, person = [], np.random.default_rng(number), f"person {number}"
        (image,) = (await connection.get("/api/next", person=person, n=1))["images"]
        for _ in range(each):
            await asyncio.sleep(think * rng.random() * 2)
            start = time.perf_counter()
            await connection.rate(person, image["id"], int(rng.integers(1, 6)))
            (image,) = (await connection.get("/api/next", person=person, n=1))["images"]
            await connection.ask("GET", image["url"])
            seconds.append(time.perf_counter() - start)
        return seconds

    before = app.cpu()
    seconds, total = await at_once(app.port, people, work)
    share = (app.cpu() - before) / total
    client = await Connection.open(app.port)
    rows = sum([await client.count(f"person {number}") for number in range(people)])
    fitted = [(await client.get("/api/next", person=f"person {number}"))["known"] for number in range(people)]
    slow = 1000 * np.quantile(seconds, 0.99)
    what = f"{people} at once, {each} answers each, {1000 * think:.0f} ms of thought; key to next picture"
    return Line("people", [
        (f"{what}: p50 {1000 * np.median(seconds):.0f} ms, p99 {slow:.0f} ms, of <= {NEXT} ms", slow <= NEXT),
        (f"{rows} of {people * each} stored", rows == people * each),
        (f"{people - fitted.count(None)} people's heads have a held-out figure by then; {share:.2f} cores", None),
    ])  # fmt: skip


def bench_browser(app: RunningApp, answers: int = 60) -> Line:
    """One person who answers as soon as a picture is there."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{app.port}/pages/icon.svg")
        page.evaluate("localStorage.setItem('pamela.person', 'browser')")
        page.goto(f"http://127.0.0.1:{app.port}/#/rate")
        page.locator(".canvas img").first.wait_for()
        taken = []
        for number in range(answers):
            page.evaluate(WATCH)
            page.keyboard.press(str(1 + number % 5))
            taken.append(page.evaluate("() => window.painted"))
        browser.close()
    median, slow = np.quantile(taken, [0.5, 0.95])
    figure = f"key to next picture on the screen, {answers} answers: p50 {median:.0f} ms, p95 {slow:.0f} ms"
    return Line("browser", [(f"{figure}, of <= {PAINTED} ms", bool(slow <= PAINTED))])


async def bench_taste(app: RunningApp, world: Path, people: int, seed: int, answers: int = 30) -> Line:
    """Both orders ask the same number of questions; the app's ranking is judged on pictures neither asked about."""
    by_id = {Path(image.path).name: image for image in world_images(world)}
    client, agreement = await Connection.open(app.port), {"suggested": [], "random": []}
    for number, rater in enumerate(simulated_participants(people, seed=77 + seed)):
        order = list(np.random.default_rng(number).permutation(sorted(by_id)))
        scores, asked = {}, set()
        for way in agreement:
            name = f"{way} {number}"
            for k in range(answers):
                if way == "suggested":
                    (image,) = (await client.get("/api/next", person=name, n=1))["images"]
                image = order[k] if way == "random" else image["id"]
                asked.add(image)
                await client.rate(name, image, rater.rate(by_id[image].prompt, by_id[image].seed))
                if way == "suggested" and k % EVERY == EVERY - 1:  # waits for the fit, as a slower person would
                    await client.ask("GET", "/api/head", person=name)
            found = await client.get("/api/ranking", person=name)
            one = found["strengths"].index(1.0)
            scores[way] = {item["id"]: row[0][one] for item, row in zip(found["items"], found["scores"])}
        unseen = [image for image in by_id if image not in asked and all(image in scores[way] for way in agreement)]
        truth = [rater.true_liking(by_id[image].prompt, by_id[image].seed) for image in unseen]
        for way in agreement:
            agreement[way].append(spearmanr(truth, [scores[way][image] for image in unseen]).statistic)
    gain = np.subtract(agreement["suggested"], agreement["random"])
    draws = np.random.default_rng(0).choice(gain, (10_000, len(gain))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    means = ", ".join(f"{way} {np.mean(values):.3f}" for way, values in agreement.items())
    what = f"SROCC with the true liking of unseen pictures after {answers} answers of {people} simulated people"
    return Line("taste", [
        (f"{what}: {means}", None),
        (f"difference {gain.mean():+.3f} [{low:+.3f}, {high:+.3f}], of > 0", bool(low > 0)),
    ])  # fmt: skip


@dataclass
class ByChance:
    """Stands in for an encoder, under its name: features by chance."""

    of: EncoderSource

    @property
    def stamp(self) -> str:
        return self.of.stamp

    @property
    def made_by(self) -> dict[str, str | None]:
        return {"backbone": None, "revision": None, "preprocessing": None}

    @property
    def encoder(self) -> "ByChance":
        return self

    def reduced_side(self) -> int:
        return 8

    def prepare_image(self, image: np.ndarray, name: str) -> np.ndarray:
        return image[:1, :1]

    def encode_prepared(self, prepared: list[np.ndarray]) -> torch.Tensor:
        return torch.randn(len(prepared), 768)


def make_many(place: Path, count: int, encoder: str, store: Path) -> str:
    """A folder of small pictures whose features are cached beside `store`, as after an earlier start."""
    rng = np.random.default_rng(0)
    for number in range(count):
        file = place / f"{number // 500:03d}" / f"IMG_{number:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
    files = {picture.id: picture.path for picture in PictureFolder(place).pictures}
    cache = store.with_suffix(".embeddings.safetensors")
    embed_files(files, cache, ByChance(EncoderSource(encoder)), batch_size=256, progress=False)
    return str(place)


def bench_many(place: Path, count: int, encoder: str, port: int) -> Line:
    store = place / "many.db"
    images = make_many(place / "many", count, encoder, store)
    app = RunningApp(images, None, store, port, encoder)
    try:
        return app.started_in(f"many ({count:,} pictures)")
    finally:
        app.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, metavar="FOLDER")
    parser.add_argument("--model", metavar="DIR")
    parser.add_argument("--world", type=Path, metavar="DIR", help="the demo's ratings folder; adds `taste`")
    parser.add_argument("--port", type=int, default=7890)
    parser.add_argument("--encoder", metavar="ID", help="folder of an encoder; adds `many`")
    parser.add_argument("--many", type=int, default=50_000, metavar="N", help="pictures of `many`")
    parser.add_argument("--people", type=int, default=20, help="simulated people of `taste` (20)")
    parser.add_argument("--seed", type=int, default=0, help="of its people (0)")
    parser.add_argument("--only", default="start,browser,writers,people,taste,many", help="which of them, with commas")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = args.only.split(",")
    with tempfile.TemporaryDirectory() as place:
        if set(chosen) - {"many"}:
            bench_folder(args, chosen, Path(place) / "bench.db")
        if "many" in chosen and args.encoder:
            print(bench_many(Path(place), args.many, args.encoder, args.port), flush=True)


def bench_folder(args: argparse.Namespace, chosen: list[str], store: Path) -> None:
    """Figures of the app on `--images`."""
    app = RunningApp(args.images, args.model, store, args.port, args.encoder)
    try:
        if "start" in chosen:
            app.close()
            app = RunningApp(args.images, args.model, store, args.port, args.encoder)  # features are cached now
            print(app.started_in("start"), flush=True)
        if "browser" in chosen:
            print(bench_browser(app), flush=True)
        if "writers" in chosen:
            print(asyncio.run(bench_writers(app)), flush=True)
        if "people" in chosen:
            print(asyncio.run(bench_people(app)), flush=True)
        if "taste" in chosen and args.world:
            print(asyncio.run(bench_taste(app, args.world, args.people, args.seed)), flush=True)
        print(f"memory: {app.memory():.0f} MB at its peak")
    finally:
        app.close()


if __name__ == "__main__":
    main()
