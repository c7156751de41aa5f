"""The one way to write: a file or a folder that is there whole or not at all, a lock, and the claim of a run's folder.

What is written stands first in a private folder beside its target, `.TARGET.part-XXXXXXXX`, which its writer holds
locked; then it is brought to the disk (fsync) and moved into place in one step. Whoever reads sees the old or the new
one. After a kill or a power cut the next writer of the same target knows by the free lock that its writer is dead:
it puts back what had been moved aside and removes the rest. What a living process is writing is never touched, and a
link is never followed: not in place of what is staged, and not in place of the target, which is replaced itself.

Locks are `filelock`'s (`flock` on Unix), so that a kill frees them. On NFS they hold between machines where the server
supports locks (NFSv4 does); on a file system without locks `filelock` falls back to lock files that name their process,
and two machines that write one target at a time are then not kept apart. Lock files can be opened by their owner alone,
and never lie in a folder that everybody may write to: nobody else can hold them.
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

_LOCK, _OLD = ".staging.lock", ".staging.old"  # inside a staging folder, beside what is staged
_NEXT_STEP = {
    errno.ENOSPC: "Free some space there, or choose a folder on another disk, then repeat the command.",
    errno.EDQUOT: "Remove something of yours there, or choose a folder on another disk, then repeat the command.",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or choose a folder on another disk.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.EACCES: "Choose a folder that you may write to, or ask its owner.",
    errno.EPERM: "Choose a folder that you may write to, or ask its owner.",
}


class WriteError(OSError):
    """A file or folder that could not be written: the message names its folder, the reason and the next step.

    Attributes:
        errno: the system's error number, such as `errno.ENOSPC`.
    """

    def __str__(self) -> str:
        return str(self.strerror)


class InUseError(RuntimeError):
    """Another process works on the same file or folder: the message names it and the next step."""


# -- files ---------------------------------------------------------------------------------------------------------
@contextmanager
def replacing_file(path: str | os.PathLike, *, mode: int = 0o644) -> Iterator[Path]:
    """A staged file to write, which takes the place of `path` when the `with` block ends without an error.

    The staged file has the target's name (and so its suffix), in a private folder beside it. After an error, Ctrl-C
    included, it is removed and `path` is what it was.

    Args:
        path: the file to write. Missing parent folders are made.
        mode: permissions, of which the process's umask takes away (default 0644).

    Yields:
        The staged file, empty; write it by any means.

    Raises:
        WriteError: the disk is full or read-only, the folder belongs to somebody else, …
    """
    target = _absolute(path)
    with _staging(target) as staging:
        staged = staging / target.name
        os.close(os.open(staged, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        permissions = staged.stat().st_mode & 0o777
        yield staged
        staged.chmod(permissions)  # some libraries make a file of their own
        _sync(staged)
        os.replace(staged, target)
        _sync(target.parent)


def write_bytes(path: str | os.PathLike, data: bytes, *, mode: int = 0o644) -> None:
    """Writes a file whole or not at all; see [`replacing_file`]."""
    with replacing_file(path, mode=mode) as staged:
        staged.write_bytes(data)


def write_text(path: str | os.PathLike, text: str, *, mode: int = 0o644) -> None:
    """Writes a text file in UTF-8, lines ending as in `text`, whole or not at all; see [`replacing_file`]."""
    write_bytes(path, text.encode("utf-8"), mode=mode)


def write_json(path: str | os.PathLike, value: Any, *, mode: int = 0o644) -> None:
    """Writes strict JSON, indented by 1, whole or not at all; see [`replacing_file`].

    Raises:
        ValueError: `value` holds NaN or an infinity, which JSON cannot.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", mode=mode)


# -- folders -------------------------------------------------------------------------------------------------------
@contextmanager
def replacing_folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """A staged folder to fill, which takes the place of `path` when the `with` block ends without an error.

    A folder that is replaced is exchanged with the new one in one step where the system can (Linux), else moved aside
    first; killed in between, the next writer or [`recover`] puts it back. Of several who write at a time the last wins.

    Args:
        path: the folder to write. Missing parent folders are made.
        overwrite: replace a folder that holds something. Whether that may be replaced is for the caller to check.

    Yields:
        The staged folder, empty.

    Raises:
        FileExistsError: `path` is a file or a link, or (without `overwrite`) a folder that holds something.
        WriteError: as [`replacing_file`].
    """
    target = _absolute(path)
    with _staging(target) as staging:
        _check_target(target, overwrite)
        staged = staging / target.name
        staged.mkdir()
        yield staged
        _sync_tree(staged)
        _move_into_place(staged, target, overwrite)
        _sync(target.parent)


@contextmanager
def adding_files(folder: str | os.PathLike, *, last: str) -> Iterator[Path]:
    """A staged folder whose files, each whole, go into `folder` when the `with` block ends; other files there stay.

    Args:
        folder: where the files go.
        last: name of the file that goes last and without which the others count for nothing, such as "config.json".

    Yields:
        The staged folder, empty; it may be given subfolders.

    Raises:
        WriteError: as [`replacing_file`].
    """
    target = _absolute(folder)
    with _staging(target / last) as staging:
        staged = staging / "files"
        staged.mkdir()
        yield staged
        files = _sync_tree(staged)
        for file in sorted(files, key=lambda file: file == staged / last):
            place = target / file.relative_to(staged)
            place.parent.mkdir(parents=True, exist_ok=True)
            if file == staged / last:
                for parent in {target / other.relative_to(staged).parent for other in files}:
                    _sync(parent)
            os.replace(file, place)
        _sync(target)


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A private folder among the system's temporary ones, removed at the end; what killed processes left of the same
    purpose is removed by the next one.

    Args:
        purpose: what it is for, part of its name, such as "pamela-push".

    Yields:
        The folder, empty.
    """
    with _staging(_absolute(tempfile.gettempdir()) / purpose) as staging:
        folder = staging / purpose
        folder.mkdir()
        yield folder


def recover(path: str | os.PathLike) -> bool:
    """Clears up after writers of `path` that were killed: what was moved aside goes back, unfinished ones go.

    Every writer does it first; a reader that finds nothing at `path` may try it.

    Returns:
        Whether a living process is writing `path` just now.
    """
    target, living = _absolute(path), False
    if not target.parent.is_dir():
        return False
    name = re.compile(re.escape(_staging_prefix(target)) + r"\w{8}")
    with os.scandir(target.parent) as entries:
        found = [Path(e.path) for e in entries if name.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    for staging in found:
        try:
            if os.name == "posix" and staging.lstat().st_uid != os.getuid():
                continue
            if not (staging / _LOCK).exists() and any(staging.iterdir()):
                continue  # somebody else's: ours holds its lock before anything else
            lock = _lock(staging / _LOCK)
            lock.acquire()
        except Timeout:
            living = True
            continue
        except OSError:  # its writer has removed it just now, or is another user
            continue
        try:  # under the lock: a new one that is not locked yet looks like a dead one's, and its writer then turns away
            _remove_staging(staging, target)
        finally:
            lock.release()
            if os.name == "nt":  # where no open file can be removed
                shutil.rmtree(staging, ignore_errors=True)
    return living


def _recover_all(folder: Path) -> None:
    """[`recover`] for every target in a folder: a run that goes on need not write again what its killed one wrote."""
    stagings = [re.fullmatch(r"\.(.+)\.part-\w{8}", entry.name) for entry in folder.iterdir()]
    for name in {match[1] for match in stagings if match}:
        recover(folder / name)


# -- locks ---------------------------------------------------------------------------------------------------------
def pamela_home() -> Path:
    """The user's own folder for what this package keeps on a machine: `$PAMELA_HOME`, or `~/.local/share/pamela_hf`."""
    return Path(os.environ.get("PAMELA_HOME") or Path.home() / ".local" / "share" / "pamela_hf")


@contextmanager
def locked(path: str | os.PathLike, *, timeout: float = -1) -> Iterator[None]:
    """Keeps others who lock `path` (processes and threads) waiting while the `with` block runs; for a file that is
    read, changed and written again.

    The lock file is `.NAME.lock` beside `path`, or, in a folder that everybody may write to, one in the user's own
    [`pamela_home`].

    Args:
        path: what is locked; it need not exist.
        timeout: seconds to wait for another one; below 0 without end (default).

    Raises:
        InUseError: still locked after `timeout` seconds.
        WriteError: the lock file cannot be made.
    """
    target = _absolute(path)
    with _explaining(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.with_name(f".{target.name}.lock")
        if os.name == "posix" and target.parent.stat().st_mode & 0o002:
            folder = pamela_home() / "locks"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = folder / f"{hashlib.sha256(os.fsencode(os.path.realpath(target))).hexdigest()[:32]}.lock"
        lock = _lock(file, timeout)
        try:
            lock.acquire()
        except Timeout:
            raise InUseError(f"{target}: another process is at work on it. Wait for it, then try again.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claimed(
    folder: str | os.PathLike,
    run: Mapping[str, Any] | None = None,
    *,
    kind: str = "run",
    note: str = "run.json",
    resume: bool | None = None,
    refuse: tuple[str, ...] = ("*",),
) -> Iterator[bool]:
    """Makes a folder one run's own while the `with` block runs: nobody else works there, and it is only ever gone on
    with by the same run.

    Args:
        folder: made if it does not exist.
        run: JSON values: all that makes the run what it is. They are kept in `note` and compared when the run goes on.
            `None` for work whose parts each say what they are: then the folder is locked and no note is written.
        kind: what the run is called in messages, such as "prompt run".
        note: name of the note's file, `.json` or `.yaml`.
        resume: whether a run that is there may be gone on with (True), may not (False), or is without being asked
            (None).
        refuse: patterns of names that, where there is no note, show that the folder holds something else. Hidden names
            never do.

    Yields:
        Whether a run was there already.

    Raises:
        InUseError: another process works there.
        FileExistsError: the folder holds something else, or a run that `resume=False` does not go on with, or a link,
            which would lead writes elsewhere; or it is a file.
        ValueError: it holds another run; the message names what differs. Or its note is damaged.
        WriteError: as [`replacing_file`].
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give a folder.")
    with _explaining(folder / note):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder / ".lock")
        try:
            lock.acquire()
        except Timeout:
            raise InUseError(
                f"{folder}: another process is at work there. Wait for it, or choose another folder."
            ) from None
    try:
        _recover_all(folder)
        for entry in sorted(folder.iterdir()):
            if entry.is_symlink():
                raise FileExistsError(
                    f"{folder} holds a link, {entry.name!r}, which would lead what is written elsewhere. Put the file "
                    "or folder itself there, or choose another folder."
                )
        yield run is not None and _note_down(folder, run, kind, note, resume, refuse)
    finally:
        lock.release()


def _note_down(folder: Path, run: Mapping, kind: str, note: str, resume: bool | None, refuse: tuple[str, ...]) -> bool:
    file = folder / note
    as_yaml = file.suffix == ".yaml"
    run = json.loads(json.dumps(dict(run)))  # as it will be read
    if not file.exists():
        for name in sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")):
            if any(fnmatchcase(name, pattern) for pattern in refuse):
                raise FileExistsError(f"{folder} holds {name!r} but no {kind}. Choose a new or empty folder.")
        write_text(file, yaml.safe_dump(run, sort_keys=False)) if as_yaml else write_json(file, run)
        return False
    if resume is False:
        raise FileExistsError(f"{folder} holds a {kind}. Go on with it by --resume, or choose another folder.")
    try:
        text = file.read_text(encoding="utf-8")
        before = yaml.safe_load(text) if as_yaml else json.loads(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        before = None
    if not isinstance(before, dict):
        raise ValueError(f"{file} is damaged: it does not say what {kind} this was. Choose another folder.")
    if changed := sorted(key for key in {*before, *run} if before.get(key) != run.get(key)):
        what = "; ".join(f"{key} was {_short(before.get(key))}, now {_short(run.get(key))}" for key in changed)
        raise ValueError(
            f"{folder} holds another {kind}: {what}. Repeat the old values to go on with it (they are in {file}), or "
            "choose another folder."
        )
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


# -- staging -------------------------------------------------------------------------------------------------------
@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """The private folder in which `target` is staged, locked as long as its writer lives, removed at the end."""
    with _explaining(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
    staging, lock = None, None
    try:  # from before the folder is made: Ctrl-C may come at any point
        with _explaining(target):
            while True:
                staging = target.parent / f"{_staging_prefix(target)}{secrets.token_hex(4)}"
                staging.mkdir(mode=0o700)
                lock = _lock(staging / _LOCK)
                try:
                    lock.acquire()
                    staging.chmod(0o700)  # filelock makes a folder anew that has just gone
                    break
                except (Timeout, FileNotFoundError, FileExistsError):
                    continue  # another writer took it for a dead one's before it was locked, and removes it
        with _explaining(target):  # while what was written of it still takes its space
            yield staging
    finally:
        if lock is not None:
            lock.release()
        if staging is not None:
            _remove_staging(staging, target)


def _staging_prefix(target: Path) -> str:
    """Of a name that a file system takes (255 bytes) however long the target's is."""
    return f".{os.fsencode(target.name)[:120].decode(errors='ignore')}.part-"


def _remove_staging(staging: Path, target: Path) -> None:
    old = staging / _OLD / target.name
    if os.path.lexists(old) and not os.path.lexists(target):
        try:
            os.rename(old, target)
        except OSError:
            return  # it stays where it is: the next writer tries again
    with suppress(OSError):
        for entry in list(staging.iterdir()):  # the lock, by which it is known as ours, last
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _LOCK:
                entry.unlink()
    shutil.rmtree(staging, ignore_errors=True)


def _lock(file: Path, timeout: float = 0) -> FileLock:
    return FileLock(file, timeout=timeout, mode=0o600, thread_local=False)


def _absolute(path: str | os.PathLike) -> Path:
    target = Path(os.path.abspath(path))
    if not target.name:
        raise ValueError(f"path={str(path)!r} has no name. Give a file or folder.")
    return target


def _check_target(target: Path, overwrite: bool) -> None:
    try:
        mode = target.lstat().st_mode  # looked at once: another writer may move it between two looks
        full = stat.S_ISDIR(mode) and not overwrite and any(target.iterdir())
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        what = "a link, which is never followed" if stat.S_ISLNK(mode) else "a file"
        raise FileExistsError(f"{target} is {what}. Choose another folder.")
    if full:
        raise FileExistsError(f"{target} exists and is not an empty folder. Choose another folder, or remove it first.")


def _move_into_place(staged: Path, target: Path, overwrite: bool) -> None:
    while True:
        try:
            if os.name == "nt" and target.is_dir():
                target.rmdir()
            return os.rename(staged, target)  # where nothing stands, or an empty folder
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _check_target(target, overwrite)
        if _exchange(staged, target):
            return
        old = staged.parent / _OLD / target.name
        shutil.rmtree(old, ignore_errors=True)
        old.parent.mkdir(exist_ok=True)
        try:
            os.rename(target, old)
        except FileNotFoundError:
            pass  # another writer is moving it just now; it may be back at the next try


def _exchange(a: Path, b: Path) -> bool:
    """Swaps two folders in one step where the system can (renameat2 of Linux); whether it did."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    current_folder, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <fcntl.h> and <linux/fs.h>
    return renameat2(current_folder, os.fsencode(a), current_folder, os.fsencode(b), exchange) == 0


def _sync(path: Path) -> None:
    """Brings a file's content, or a folder's list of names, to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except PermissionError:
        if path.is_dir():  # Windows opens no folder
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot
            raise
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> list[Path]:
    """Brings a folder and all in it to the disk; returns its files, sorted."""
    files = []
    for parent, _, names in os.walk(folder, topdown=False):
        for name in sorted(names):
            if not (file := Path(parent) / name).is_symlink():
                _sync(file)
                files.append(file)
        _sync(Path(parent))
    return sorted(files)


@contextmanager
def _explaining(target: Path) -> Iterator[None]:
    """Turns an error of the disk while `target` is written into a [`WriteError`]; any other goes on as it is."""
    try:
        yield
    except Exception as error:
        code = _disk_error(error, target)
        if code not in _NEXT_STEP:
            raise
        raise WriteError(
            code,
            f"{target.parent}: {target.name} could not be written: {os.strerror(code)}. Whatever was there before is "
            f"unchanged. {_NEXT_STEP[code]}",
        ) from error


def _disk_error(error: Exception, target: Path) -> int | None:
    """The system's number of an error in writing `target`, or None if the error is another one."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.filename is None:
            return error.errno
        file = _absolute(os.fsdecode(error.filename))
        ours = target.is_relative_to(file) or file.name == ".lock"
        return error.errno if ours or str(file).startswith(str(target.with_name(f".{target.name[:100]}"))) else None
    if found := re.search(r"\b(?:os error|errno) (\d+)", str(error), re.IGNORECASE):  # libraries not in Python
        return int(found[1])
    # torch says which of its lines failed, not why
    full = type(error) is RuntimeError and shutil.disk_usage(target.parent).free < 1 << 20
    return errno.ENOSPC if full else None
