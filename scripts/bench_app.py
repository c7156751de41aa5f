"""The app under load, with simulated people: `python scripts/bench_app.py --images FOLDER --model DIR`.

Everything goes through the real HTTP endpoints of an app started for it. People and pictures are simulated where the
folder is the demo's world; no figure says anything about real people. Beside each stands the CPU time that the app took
for it, which other programs on the machine change less than they change seconds.

writers    32 writers at once: answers a second, and how long one takes (99 % quantile).
people     20 people at once, 100 answers each, heads refitted meanwhile: key to next picture, none lost.
taste      after 30 answers, does the app's ranking of unseen pictures agree with a person's true liking better than
           after 30 answers about random pictures? 20 simulated people, with an interval.
start      seconds to the first picture, and memory, with features cached.
many       the same of a folder of 50,000 pictures, made for it with features by chance (--many says how many).
"""

import argparse
import csv
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr

from pamela_hf.app.pictures import PictureFolder
from pamela_hf.folder_cache import EncoderSource, embed_files
from pamela_hf.simulation.raters import simulated_participants
from pamela_hf.simulation.world import world_images

APP = Path(__file__).with_name("app.py")


class Client:
    """One connection to the app, kept open as a browser does."""

    def __init__(self, port: int):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body: object = None, **query: object) -> object:
        path = quote(path) + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, {"content-type": "application/json"} if data else {})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:200]!r}")
        return json.loads(content) if "json" in answer.headers["content-type"] else content

    def rate(self, person: str, image_id: str, score: float) -> None:
        body = {"person": person, "id": uuid.uuid4().hex, "image_id": image_id, "score": float(score)}
        if self.ask("POST", "/api/ratings", body)["saved"] is not True:
            raise RuntimeError("not saved")


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
        client = Client(port)
        first = client.ask("GET", "/api/next", person="first", n=1)["images"][0]
        client.ask("GET", first["url"])
        self.first_picture, self.first_cpu = time.perf_counter() - self.started, self.cpu()
        while not (about := client.ask("GET", "/api/about"))["ready"]:
            if about["problem"]:
                self.close()
                raise RuntimeError(about["problem"])
            time.sleep(0.2)
        self.ready = time.perf_counter() - self.started

    def cpu(self) -> float:
        """Seconds of CPU that the process took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def started_in(self) -> str:
        return (
            f"first picture {self.first_picture:.1f} s ({self.first_cpu:.1f} s of CPU), base ready {self.ready:.1f} s, "
            f"memory {self.memory():.0f} MB"
        )

    def memory(self) -> float:
        """MB of the process, at its peak."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def at_once(count: int, work: Callable[[int], list[float]]) -> tuple[np.ndarray, float]:
    """Runs `work(0)` … `work(count - 1)` in threads; all their seconds, and how long it took together."""
    found: list[list[float]] = [[] for _ in range(count)]

    def one(number: int) -> None:
        found[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.concatenate(found), time.perf_counter() - start


def bench_writers(app: RunningApp, writers: int = 32, each: int = 100) -> str:
    ids = [image["id"] for image in Client(app.port).ask("GET", "/api/next", person="w", n=50)["images"]]

    def work(number: int) -> list[float]:
        client, seconds = Client(app.port), []
        for k in range(each):
            start = time.perf_counter()
            client.rate(f"writer {number}", ids[k % len(ids)], 1 + k % 5)
            seconds.append(time.perf_counter() - start)
        return seconds

    before = app.cpu()
    seconds, total = at_once(writers, work)
    cpu = 1000 * (app.cpu() - before) / (writers * each)
    rows = sum(count_ratings(app, f"writer {number}") for number in range(writers))
    p50, p99 = 1000 * np.quantile(seconds, [0.5, 0.99])
    figures = f"{writers * each / total:.0f} answers/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms, {cpu:.2f} ms of CPU each"
    return f"writers: {figures}, stored {rows} of {writers * each}"


def count_ratings(app: RunningApp, person: str) -> int:
    return len(list(csv.DictReader(io.StringIO(Client(app.port).ask("GET", "/api/export", person=person).decode()))))


def bench_people(app: RunningApp, people: int = 20, each: int = 100, think: float = 0.5) -> str:
    """Key to next picture: the answer is stored, and the next pictures are asked for as the page does."""

    def work(number: int) -> list[float]:
        client, seconds, rng = Client(app.port), [], np.random.default_rng(number)
        for _ in range(each):
            time.sleep(think * rng.random() * 2)
            start = time.perf_counter()
            image = client.ask("GET", "/api/next", person=f"person {number}", n=1)["images"][0]
            client.ask("GET", image["url"])
            client.rate(f"person {number}", image["id"], int(rng.integers(1, 6)))
            seconds.append(time.perf_counter() - start)
        return seconds

    before = app.cpu()
    seconds, total = at_once(people, work)
    share = (app.cpu() - before) / total
    rows = sum(count_ratings(app, f"person {number}") for number in range(people))
    p50, p99 = 1000 * np.quantile(seconds, [0.5, 0.99])
    return (
        f"people: {people} at once with {1000 * think:.0f} ms of thought, {each} answers each: next picture, its bytes "
        f"and the answer stored: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {share:.2f} cores; "
        f"{rows} of {people * each} stored"
    )


def bench_taste(app: RunningApp, world: Path, people: int = 20, answers: int = 30) -> str:
    """Both orders ask the same number of questions; the app's ranking is judged on pictures neither asked about."""
    by_id = {Path(image.path).name: image for image in world_images(world)}
    raters = simulated_participants(people, seed=77)
    agreement = {"suggested": [], "random": []}
    for number, rater in enumerate(raters):
        client, rng = Client(app.port), np.random.default_rng(number)
        order = list(rng.permutation(sorted(by_id)))
        scores, asked = {}, set()
        for way in agreement:
            name = f"{way} {number}"
            for k in range(answers):
                image = (
                    order[k] if way == "random" else client.ask("GET", "/api/next", person=name, n=1)["images"][0]["id"]
                )
                asked.add(image)
                client.rate(name, image, rater.rate(by_id[image].prompt, by_id[image].seed))
                if way == "suggested" and k > 0:
                    client.ask("GET", "/api/head", person=name)  # waits for the fit, as a slower person would
            found = client.ask("GET", "/api/ranking", person=name)
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
    return (
        f"taste: SROCC with the true liking of unseen pictures after {answers} answers ({people} simulated people): "
        f"{means}; difference {gain.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    )


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

    def prepare_images(self, images: list[Image.Image]) -> np.ndarray:
        return np.asarray(images[0].resize((4, 4)))

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


def bench_many(place: Path, count: int, encoder: str, port: int) -> str:
    store = place / "many.db"
    images = make_many(place / "many", count, encoder, store)
    app = RunningApp(images, None, store, port, encoder)
    try:
        return f"many: {count:,} pictures: {app.started_in()}"
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
    parser.add_argument("--only", default="start,writers,people,taste,many", help="which of them, with commas")
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
            print(f"start: {app.started_in()}", flush=True)
        if "writers" in chosen:
            print(bench_writers(app), flush=True)
        if "people" in chosen:
            print(bench_people(app), flush=True)
        if "taste" in chosen and args.world:
            print(bench_taste(app, args.world), flush=True)
        print(f"memory: {app.memory():.0f} MB at its peak")
    finally:
        app.close()


if __name__ == "__main__":
    main()
