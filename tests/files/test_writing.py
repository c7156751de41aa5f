"""The one way to write: whole or not at all, whatever fails, whoever else writes, whenever it is killed."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from safetensors.numpy import save_file

from pamela_hf.files import writing
from pamela_hf.files.writing import (
    InUseError,
    WriteError,
    adding_files,
    claimed,
    locked,
    recover,
    replacing_file,
    replacing_folder,
    write_bytes,
    write_json,
    write_text,
)

SOURCE = Path(writing.__file__).parent


def folder_of(path, content):
    with replacing_folder(path, overwrite=True) as staged:
        (staged / "inside").mkdir()
        for k in range(3):
            (staged / "inside" / f"{k}.txt").write_text(content)


def read_folder(path):
    return {file.read_text() for file in sorted(Path(path).rglob("*.txt"))}, len(list(Path(path).rglob("*.txt")))


# -- files ---------------------------------------------------------------------------------------------------------
def test_files_are_written_with_the_umask_s_permissions_and_nothing_is_left(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "new" / "a.txt", "ä\n")
        write_bytes(tmp_path / "new" / "b", b"\0\r\n")
        write_json(tmp_path / "new" / "c.json", {"ü": [1, None]}, mode=0o600)
        save_file({"x": np.zeros(3)}, tmp_path / "elsewhere")
        with replacing_file(tmp_path / "new" / "d.safetensors") as staged:
            save_file({"x": np.zeros(3)}, staged)
            assert staged.suffix == ".safetensors" and stat.S_IMODE(staged.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    files = {file.name: file for file in (tmp_path / "new").iterdir()}
    assert sorted(files) == ["a.txt", "b", "c.json", "d.safetensors"]
    assert [stat.S_IMODE(files[name].stat().st_mode) for name in sorted(files)] == [0o640, 0o640, 0o600, 0o640]
    assert files["a.txt"].read_bytes() == "ä\n".encode() and files["b"].read_bytes() == b"\0\r\n"
    assert files["c.json"].read_text(encoding="utf-8") == '{\n "ü": [\n  1,\n  null\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "nan.json", float("nan"))
    assert not (tmp_path / "nan.json").exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path, error):
    write_text(tmp_path / "file", "old")
    folder_of(tmp_path / "folder", "old")
    with pytest.raises(error), replacing_file(tmp_path / "file") as staged:
        staged.write_text("new")
        raise error
    with pytest.raises(error), replacing_folder(tmp_path / "folder", overwrite=True) as staged:
        (staged / "a.txt").write_text("new")
        raise error
    assert (tmp_path / "file").read_text() == "old" and read_folder(tmp_path / "folder") == ({"old"}, 3)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_file_and_its_folder_reach_the_disk_before_and_after_it_takes_its_place(tmp_path, monkeypatch):
    order, real, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    monkeypatch.setattr(os, "replace", lambda *given: (order.append("replace"), replace(*given))[1])
    write_text(tmp_path / "a", "x")
    assert order[0].endswith("/a") and order[1:] == ["replace", str(tmp_path)]


def patched_mkdir() -> bool:
    """Whether pathlib asks the `os.mkdir` that a test has put there: Python 3.10's keeps the one it found."""
    return sys.version_info >= (3, 11)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("call", ["fsync", "rename", "replace", "mkdir"])
def test_whichever_call_fails_the_old_or_the_new_is_there_whole(tmp_path, monkeypatch, call, exchange):
    def write(content):
        folder_of(tmp_path / "folder", content)
        write_text(tmp_path / "file", content)

    write("old")
    nth, failed = 0, True
    while failed:
        nth, seen, failed = nth + 1, 0, False
        real = getattr(os, call)

        def failing(*given, real=real, nth=nth, **named):
            nonlocal seen, failed
            seen += 1
            if seen == nth:
                failed = True
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*given, **named)

        with monkeypatch.context() as patch:
            if not exchange:
                patch.setattr(writing, "_exchange", lambda a, b: False)
            patch.setattr(os, call, failing)
            try:
                write("new")  # of a folder that is there anyway it doesn't matter that it could not be made
                assert not failed or call == "mkdir"
            except WriteError as error:
                assert failed and error.errno == errno.ENOSPC
        assert read_folder(tmp_path / "folder") in (({"old"}, 3), ({"new"}, 3))
        assert (tmp_path / "file").read_text() in ("old", "new")
        assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
        write("old")
    least = {"fsync": 8, "rename": 1 if exchange else 3, "replace": 1, "mkdir": 4 if patched_mkdir() else 0}
    assert nth > least[call]


# -- folders -------------------------------------------------------------------------------------------------------
def test_a_folder_is_not_replaced_unasked_and_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "file").write_text("mine")
    for name, why in [("elsewhere", "not an empty folder"), ("link", "is a link"), ("file", "is a file")]:
        with pytest.raises(FileExistsError, match=why), replacing_folder(tmp_path / name):
            pass
    (tmp_path / "to_file").symlink_to("file")
    write_text(tmp_path / "to_file", "new")
    assert not (tmp_path / "to_file").is_symlink() and (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    folder_of(tmp_path / "empty", "new")
    assert read_folder(tmp_path / "empty") == ({"new"}, 3)
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "empty", "file", "link", "to_file"]


def test_files_added_to_a_folder_leave_the_others_and_the_last_comes_last(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "log").write_text("kept")
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(Path(b).name), replace(a, b))[1])
    with adding_files(tmp_path / "model", last="config.json") as staged:
        (staged / "config.json").write_text("{}")
        (staged / "part").mkdir()
        (staged / "part" / "config.json").write_text("{}")
        (staged / "weights").write_text("1")
        assert sorted(os.listdir(tmp_path / "model"))[1:] == ["log"]
    assert moved == ["config.json", "weights", "config.json"]
    assert sorted(os.listdir(tmp_path / "model")) == ["config.json", "log", "part", "weights"]


# -- several writers, and killed ones ------------------------------------------------------------------------------
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_many_write_and_read_at_a_time(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(writing, "_exchange", lambda a, b: False)
    for content in "abcd":
        folder_of(tmp_path / "folder", content)
        write_text(tmp_path / "file", content * 1000)

    def write(content):
        for _ in range(25):
            folder_of(tmp_path / "folder", content)
            write_text(tmp_path / "file", content * 1000)
            text = (tmp_path / "file").read_text()
            assert len(text) == 1000 and len(set(text)) == 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    contents, count = read_folder(tmp_path / "folder")
    assert len(contents) == 1 and count == 3 and sorted(os.listdir(tmp_path)) == ["file", "folder"]


def kill_while_writing(tmp_path, kills, exchange):
    """SIGKILLs a process that writes a file and a folder, at random points; how often it left something staged."""
    rng, part_way, compared = np.random.default_rng(0), 0, 0
    folder_of(tmp_path / "folder", "0")
    write_text(tmp_path / "file", "0" * 5000)
    for _ in range(kills):
        child = os.fork()
        if not child:
            try:
                if not exchange:
                    writing._exchange = lambda a, b: False
                for k in range(1, 10_000):
                    folder_of(tmp_path / "folder", str(k % 10))
                    write_text(tmp_path / "file", str(k % 10) * 5000)
            finally:
                os._exit(0)
        time.sleep(float(rng.uniform(0.001, 0.02)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        part_way += len(os.listdir(tmp_path)) > 2
        recover(tmp_path / "folder")
        contents, count = read_folder(tmp_path / "folder")
        text = (tmp_path / "file").read_text()
        assert len(contents) == 1 and count == 3 and len(set(text)) == 1 and len(text) == 5000
        compared += 1
        if rng.random() < 0.3:  # the next writer clears up
            write_text(tmp_path / "file", "0" * 5000)
            assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    folder_of(tmp_path / "folder", "end")
    write_text(tmp_path / "file", "end")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"] and compared == kills
    print(f"{kills} kills, {part_way} in mid-write: file and folder were whole each time")
    return part_way


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.faults)])
def test_killed_while_writing(tmp_path, kills, exchange):
    assert kill_while_writing(tmp_path, kills, exchange) > kills / 10


def test_what_a_living_process_is_writing_is_not_touched(tmp_path):
    code = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])  # the file alone: the package takes seconds to import
from writing import replacing_file, replacing_folder
with replacing_file(sys.argv[1] + "/a") as file, replacing_folder(sys.argv[1] + "/b") as folder:
    file.write_text("its"); (folder / "c.txt").write_text("its")
    print("ready", flush=True); sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, tmp_path, SOURCE]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    for name in (".a.part-notours", ".a.part-notours8"):  # a name of another form; one that no writer of ours made
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    write_text(tmp_path / "a", "ours")
    folder_of(tmp_path / "b", "ours")
    recover(tmp_path / "b")
    assert len(os.listdir(tmp_path)) == 6 and (tmp_path / "a").read_text() == "ours"
    assert read_folder(tmp_path / "b") == ({"ours"}, 3)
    for file in sorted((tmp_path / "b").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    child.communicate(b"\n")
    assert child.returncode == 0 and (tmp_path / "a").read_text() == "its" and read_folder(tmp_path / "b")[1] == 1
    assert sorted(os.listdir(tmp_path)) == [".a.part-notours", ".a.part-notours8", "a", "b"]


def test_a_folder_moved_aside_by_a_killed_writer_goes_back(tmp_path):
    folder_of(tmp_path / "b", "old")
    staging = tmp_path / ".b.part-abcdefgh"
    (staging / writing._OLD).mkdir(parents=True)
    (staging / writing._LOCK).touch()
    (tmp_path / "b").rename(staging / writing._OLD / "b")
    with pytest.raises(FileExistsError, match="not an empty folder"), replacing_folder(tmp_path / "b"):
        pass  # it is there again, and not to be replaced
    assert read_folder(tmp_path / "b") == ({"old"}, 3) and os.listdir(tmp_path) == ["b"]


def test_a_scratch_folder_is_private_and_a_killed_process_s_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(writing.tempfile, "tempdir", str(tmp_path))
    child = os.fork()
    if not child:
        with writing.scratch_folder("pamela-test") as folder:
            (folder / "copy").write_text("private")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(left := os.listdir(tmp_path)) == 1 and stat.S_IMODE((tmp_path / left[0]).stat().st_mode) == 0o700
    with writing.scratch_folder("pamela-test") as folder:
        assert os.listdir(tmp_path) == [folder.parent.name] != left and os.listdir(folder) == []
    assert os.listdir(tmp_path) == []


# -- a full disk ---------------------------------------------------------------------------------------------------
def test_a_full_disk_is_one_clear_line(tmp_path):
    """On a real file system of 1 MB, in a name space of its own; else by the limit on the size of files."""
    code = """
import errno, os, sys
from pathlib import Path
import numpy as np, torch
from safetensors.numpy import save_file
sys.path.insert(0, sys.argv[2])  # the file alone: the package takes seconds to import
from writing import WriteError, replacing_file, replacing_folder, write_bytes
out, big, many = Path(sys.argv[1]), bytes(3 << 20), np.zeros(3 << 20, np.uint8)
write_bytes(out / "kept", b"old")
writers = [
    lambda: write_bytes(out / "kept", big),
    lambda: write_with(lambda staged: save_file({"x": many}, staged)),
    lambda: write_with(lambda staged: torch.save({"x": torch.from_numpy(many)}, staged)),
]
def write_with(save):
    with replacing_folder(out / "folder") as folder, replacing_file(folder / "kept") as staged:
        save(staged)
for writer in writers:
    try:
        writer()
    except WriteError as error:
        print(error.errno == errno.ENOSPC, str(error).count("\\n"), str(error), str(error.__cause__)[:40])
print(sorted(os.listdir(out)), (out / "kept").read_bytes())
"""
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs "{small}" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("mounting in a name space of one's own is not allowed here")
    done = subprocess.run([*command, sys.executable, "-c", code, small, SOURCE], capture_output=True, text=True)
    *lines, last = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout + done.stderr
    for line, name in zip(lines, ["kept", "folder", "folder"]):
        assert line.startswith(f"True 0 {small}: {name} could not be written: No space left on device. Whatever was")
        assert "choose a folder on another disk" in line
    assert last == "['kept'] b'old'"


@pytest.mark.skipif(not patched_mkdir(), reason="pathlib keeps the os.mkdir that it found")
def test_a_folder_of_somebody_else_s_is_one_clear_line(tmp_path, monkeypatch):
    def refused(*given, **named):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".a.part-abcdefgh"))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refused)
        with pytest.raises(WriteError, match=r"a could not be written: Permission denied.*may write to"):
            write_text(tmp_path / "a", "x")
    with pytest.raises(PermissionError, match="another"), replacing_file(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", "/another/image.png")  # nothing of this writing


# -- locks and claims ----------------------------------------------------------------------------------------------
def test_a_lock_keeps_changes_apart_and_is_private(tmp_path, monkeypatch):
    file = tmp_path / "count"
    file.write_text("0")

    def add():
        for _ in range(20):
            with locked(file):
                write_text(file, str(int(file.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() == "80"
    lock = tmp_path / ".count.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    with FileLock(lock), pytest.raises(InUseError, match="another process is at work"), locked(file, timeout=0):
        pass
    monkeypatch.setenv("PAMELA_HOME", str(tmp_path / "home"))
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with locked(shared / "count"), pytest.raises(InUseError), locked(shared / "count", timeout=0):
        pass
    assert os.listdir(shared) == [] and len(os.listdir(tmp_path / "home" / "locks")) == 1


@pytest.mark.parametrize("note", ["run.json", "training_config.yaml"])
def test_a_claim_is_one_run_s(tmp_path, note):
    out, run = tmp_path / "out", {"seed": 1, "parts": ("a", "b")}
    with claimed(out, run, note=note, resume=False) as resumed:
        assert not resumed and (out / note).is_file()
        with pytest.raises(InUseError, match="another process is at work there"), claimed(out, run, note=note):
            pass
    with claimed(out, run, note=note, resume=True) as resumed:
        assert resumed
    with pytest.raises(FileExistsError, match="--resume"), claimed(out, run, note=note, resume=False):
        pass
    with pytest.raises(ValueError, match="seed was 1, now 2"), claimed(out, {**run, "seed": 2}, note=note):
        pass
    (out / note).write_text("[")
    with pytest.raises(ValueError, match="damaged"), claimed(out, run, note=note):
        pass
    assert sorted(os.listdir(out)) == [".lock", note]


def test_a_claim_of_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"holds 'cat\.png' but no prompt run"):
        with claimed(tmp_path / "photos", {}, kind="prompt run"):
            pass
    with claimed(tmp_path / "photos", {}, refuse=("*.json",)):
        pass
    with pytest.raises(FileExistsError, match="is a file"), claimed(tmp_path / "photos" / "cat.png", {}):
        pass
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "images").symlink_to(tmp_path / "photos")
    with pytest.raises(FileExistsError, match="link, 'images'"), claimed(tmp_path / "run", {}):
        pass
    with claimed(tmp_path / "grid"):  # locked, with no note
        assert os.listdir(tmp_path / "grid") == [".lock"]
    assert json.loads((tmp_path / "photos" / "run.json").read_text()) == {}
