"""The folder of a prompt run: cut off, killed, altered, or somebody else's."""

import errno
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prompt_world import PROMPT, Answers, World, search

from pamela_hf.prompts.run_folder import RunFolder, TraceError, read_trace
from pamela_hf.prompts.search import STRATEGIES


def run_in(path: Path, world_seed: int = 0, on_evaluate=None, seconds: float = 0.0, **options):
    with RunFolder(path, {"prompt": PROMPT, **options}) as folder:
        world = World(world_seed, folder, seconds=seconds)

        def evaluate(pairs):
            if on_evaluate is not None:
                on_evaluate()
            return world(pairs)

        result = search(evaluate, folder=folder, **options).run()
    return result, world


def test_no_row_is_written_before_its_images_are_on_the_disk(tmp_path, monkeypatch):
    real, order = os.fsync, []

    def noted(fd):
        order.append(os.readlink(f"/proc/self/fd/{fd}").rsplit("/", 1)[-1].split(".")[-1])
        time.sleep(0.003)
        return real(fd)

    monkeypatch.setattr("os.fsync", noted)
    run_in(tmp_path / "run", num_iterations=2, num_candidates=3)
    kinds = {"png": "image", "part": "image", "jsonl": "line", "json": "line"}
    assert [kinds[kind] for kind in order[2:]] == ["image"] + ["line"] + (["line"] + ["image"] * 3 + ["line"]) * 2


def contents(path: Path) -> dict[str, bytes]:
    return {
        p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"
    }


def test_trace_has_the_fields_of_the_contract(tmp_path):
    result, _ = run_in(tmp_path / "run")
    rows = read_trace(tmp_path / "run")
    assert len(rows) == 25 == len((tmp_path / "run" / "trace.jsonl").read_text().splitlines())
    names = ["iteration", "parent", "prompt", "seed", "score", "std", "adherence", "image", "checksum"]
    assert all(list(row) == names for row in rows)
    assert rows[0]["iteration"] == 0 and rows[0]["parent"] is None and rows[0]["prompt"] == PROMPT
    assert all((tmp_path / "run" / row["image"]).is_file() for row in rows)
    assert {row["parent"] for row in rows[1:]} <= {row["prompt"] for row in rows}
    assert rows == result.rows


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_cut_off_anywhere_resumes_to_the_same_trace(tmp_path, strategy, monkeypatch):
    options = {"strategy": strategy, "num_iterations": 3, "num_candidates": 3, "num_seeds": 2}
    run_in(tmp_path / "whole", **options)
    whole = contents(tmp_path / "whole")
    real, calls = os.fsync, []
    monkeypatch.setattr("os.fsync", lambda fd: calls.append(fd) or real(fd))
    run_in(tmp_path / "count", **options)
    steps = len(calls)
    assert steps == 2 + 20 + 3 + 4  # run.json and its folder, images, proposals, steps of the trace
    for stop in range(steps):
        path, count, renders = tmp_path / f"cut{stop}", iter(range(10_000)), 0

        def full(fd, stop=stop, count=count):
            if next(count) == stop:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd)

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run_in(path, **options)
        monkeypatch.setattr("os.fsync", real)
        renders = len(list((path / "images").glob("*.png"))) if (path / "images").exists() else 0
        _, world = run_in(path, **options)
        assert len(world.rendered) == 20 - renders  # what was rendered is not rendered again
        left = {name: data for name, data in contents(path).items() if not name.endswith(".part")}
        assert left == whole, stop


def killed_runs(tmp_path: Path, kills: int, seconds: float) -> None:
    """Forks that are killed at random moments, each resumed until one ends; every trace is the uninterrupted one.

    `seconds`: what an image takes; images of slow ones are written while the next is rendered.
    """
    options = {"strategy": "ucb", "num_iterations": 4, "num_candidates": 4, "seconds": seconds}
    run_in(tmp_path / "whole", **options)
    whole, rng, done, runs = contents(tmp_path / "whole"), np.random.default_rng(0), 0, 0
    rendered = tmp_path / "rendered"
    while done < kills:
        path, runs = tmp_path / f"run{runs}", runs + 1
        rendered.write_bytes(b"")
        own = 0
        while True:
            pid = os.fork()
            if not pid:
                try:
                    os.environ["RENDERED"] = str(rendered)
                    original = RunFolder.save_image

                    def noted(self, *image, original=original):
                        with open(os.environ["RENDERED"], "ab") as file:
                            file.write(b"x")
                        original(self, *image)

                    RunFolder.save_image = noted
                    run_in(path, **options)
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            time.sleep(float(rng.uniform(0.001, 0.08)))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0
                break
            done, own = done + 1, own + 1
        left = {name: data for name, data in contents(path).items() if not name.endswith(".part")}
        assert left == whole
        assert len(rendered.read_bytes()) <= 17 + own  # at most one image a kill is rendered again
    print(f"{done} kills in {runs} runs: all end with the same trace")


@pytest.mark.parametrize("seconds", [0.0, 0.005])
def test_killed_runs_resume_to_the_same_trajectory(tmp_path, seconds):
    killed_runs(tmp_path, 12, seconds)


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [0.0, 0.005])
def test_two_hundred_killed_runs_resume_to_the_same_trajectory(tmp_path, seconds):
    killed_runs(tmp_path, 200, seconds)


def test_an_image_is_written_while_the_next_one_is_rendered_where_that_takes_longer(tmp_path, monkeypatch):
    real, go = Image.Image.save, threading.Event()
    image = Image.new("RGB", (8, 8))
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.save_image(image, "a", 0, render_seconds=9.0)  # how long writing takes is not known yet
        assert folder.load_image("a", 0) is not None
        monkeypatch.setattr(Image.Image, "save", lambda *given, **named: go.wait(9) and real(*given, **named))
        folder.save_image(image, "b", 0, render_seconds=9.0)
        assert folder.load_image("b", 0) is None
        go.set()
        rows = [{"iteration": 0, "parent": None, "prompt": p, "seed": 0, "score": 1.0, "std": 0.1, "adherence": 1.0,
                     "image": folder.image_name(p, 0)} for p in "ab"]  # fmt: skip
        assert len(folder.add_rows(rows)) == 2 and folder.load_image("b", 0) is not None

        def full(*given, **named):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", full)
        folder.save_image(image, "c", 0, render_seconds=9.0)
        with pytest.raises(OSError, match="No space left"):
            folder.add_rows([{**rows[0], "prompt": "c", "image": folder.image_name("c", 0)}])
    assert len(read_trace(tmp_path / "run")) == 2


def test_a_slow_disk_holds_no_image_back(tmp_path, monkeypatch):
    """A kill costs one image, also where what was written takes long to reach the disk."""
    go = threading.Event()
    with RunFolder(tmp_path / "run", {}) as folder:
        monkeypatch.setattr(os, "fsync", lambda descriptor: go.wait(9))
        for k in range(4):
            folder.save_image(Image.new("RGB", (8, 8)), "a", k, render_seconds=9.0)
        assert [folder.load_image("a", k) is not None for k in range(3)] == [True] * 3
        go.set()


def test_a_folder_is_free_again_after_an_interrupt_of_its_closing(tmp_path, monkeypatch):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    folder = RunFolder(tmp_path / "run", {})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ThreadPoolExecutor, "shutdown", interrupted)
        folder.__exit__()
    RunFolder(tmp_path / "run", {}).__exit__()


def test_a_language_model_is_not_asked_again(tmp_path):
    class Once(Answers):
        def propose(self, prompt, history, n, rng):
            if self.asked:
                raise AssertionError("asked again")
            return super().propose(prompt, history, n, rng)

    refiner = Once(["a cottage at night", "a cottage at noon"])
    options = {"num_iterations": 1, "num_candidates": 2}
    for _ in range(2):
        with RunFolder(tmp_path / "run", options) as folder:
            search(World(folder=folder), refiner, folder, **options).run()
    assert len(refiner.asked) == 1


def test_changed_arguments_are_refused_by_name(tmp_path):
    run_in(tmp_path / "run", num_iterations=1, num_candidates=2)
    before = contents(tmp_path / "run")
    with pytest.raises(TraceError, match="num_candidates was 2, now 3"):
        run_in(tmp_path / "run", num_iterations=1, num_candidates=3)
    with pytest.raises(TraceError, match="strategy was None, now 'beam'"):
        run_in(tmp_path / "run", num_iterations=1, num_candidates=2, strategy="beam")
    assert contents(tmp_path / "run") == before


def test_a_second_process_and_a_strange_folder_are_refused(tmp_path):
    with RunFolder(tmp_path / "run", {}), pytest.raises(TraceError, match="another process"):
        RunFolder(tmp_path / "run", {})
    RunFolder(tmp_path / "run", {}).__exit__()  # free again
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"mine")
    with pytest.raises(TraceError, match=r"holds 'cat\.png' but no prompt run"):
        RunFolder(tmp_path / "photos", {})
    with pytest.raises(TraceError, match="is a file"):
        RunFolder(tmp_path / "photos" / "cat.png", {})
    assert sorted(p.name for p in (tmp_path / "photos").iterdir()) in (["cat.png"], [".lock", "cat.png"])


def test_no_altered_line_or_image_passes(tmp_path):
    options = {"num_iterations": 1, "num_candidates": 3}
    run_in(tmp_path / "run", **options)
    trace = tmp_path / "run" / "trace.jsonl"
    whole, rng = trace.read_bytes(), np.random.default_rng(0)
    lines = whole.splitlines(keepends=True)
    changed = [
        b"".join(lines[:1] + lines[2:]),
        b"".join([lines[1], lines[0], *lines[2:]]),
        whole.replace(b"0.5", b"0.6"),
    ]
    for _ in range(40):
        data = bytearray(whole)
        data[int(rng.integers(len(data) - 1))] ^= 1 << int(rng.integers(7))
        changed.append(bytes(data))
    for data in changed:
        trace.write_bytes(data)
        with pytest.raises(TraceError):
            read_trace(tmp_path / "run")
        with pytest.raises(TraceError):
            run_in(tmp_path / "run", **options)
    trace.write_bytes(whole)
    image = tmp_path / "run" / json.loads(lines[2])["image"]
    pixels = image.read_bytes()
    image.write_bytes(pixels[:-20] + b"\0" + pixels[-19:])
    with pytest.raises(TraceError, match="line 3"):
        read_trace(tmp_path / "run")
    image.unlink()
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "run")
    image.write_bytes(pixels)
    trace.write_bytes(whole[:-9])  # a torn last line is what a kill leaves: taken back and done again
    run_in(tmp_path / "run", **options)
    assert trace.read_bytes() == whole
