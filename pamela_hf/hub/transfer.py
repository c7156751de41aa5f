"""The one place that pushes to and pulls from the Hub: folders of files, whatever they are for.

A push takes files by an allow-list, scans them, and makes one commit: afterwards the repository is in the old state or
in the new one, whatever the network does meanwhile. A pull names one commit and checks every file against its hash.
"""

import filecmp
import fnmatch
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    get_token,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub import constants as hub_constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ..files.writing import scratch_folder
from .scan import scan_files, scan_text, secret_variables

REPO_TYPES = ("model", "dataset", "space")
# formats that can run code when they are loaded: weights are safetensors or nothing
REFUSED_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
CARD = "README.md"  # for people: no pull needs it
ATTEMPTS = 6
FIRST_WAIT = 1.0  # seconds before the second attempt; each further wait is twice as long
TRANSIENT_STATUS = (408, 412, 425, 429, 500, 502, 503, 504)  # 412: somebody committed since we looked
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# whatever HTTP library this release of huggingface_hub is built on, all its errors share this base
_HTTPError = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")

T = TypeVar("T")


class HubError(RuntimeError):
    """A push, pull or deletion that did not happen; the message says why and what to do, never a token."""


@dataclass
class PushResult:
    """What a push did, or with `dry_run` would do.

    Attributes:
        commit: the commit that holds exactly these files; None for a dry run.
        files: names of the files that make up the push, sorted.
        left_out: names of the folder's files that the allow-list leaves out, sorted.
        sizes: name of each of `files` → bytes.
        private: whether the repository is private; for a dry run, whether a new one would be.
        url: where to look at it; "" for a dry run.
        participants: how many people the files name, by the names they bear there: "released" (public already),
            "pseudonyms", "own names".
    """

    commit: str | None
    files: list[str]
    left_out: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    private: bool = True
    url: str = ""
    participants: dict[str, int] = field(default_factory=dict)


def push_folder(
    folder: str | os.PathLike,
    repo_id: str,
    repo_type: str = "model",
    *,
    allow: Sequence[str],
    private: bool = True,
    message: str = "Upload",
    dry_run: bool = False,
    token: str | None = None,
    private_values: Iterable[str] = (),
    scan: bool = True,
) -> PushResult:
    """Pushes files of a folder as one commit; creates the repository if there is none.

    What matches `allow` is copied to a fresh folder, scanned, and pushed from there, so that what was scanned is what
    is pushed. In the repository the files that match `allow` become these, no more and no fewer; other files there
    stay. A push that changes nothing makes no commit. After a failed request the repository is looked at before
    anything is sent again, and the commit names its parent: no push is made twice.

    Args:
        folder: where the files are; nothing in it is changed.
        repo_id: `owner/name`.
        repo_type: "model", "dataset" or "space"; a new Space runs Gradio.
        allow: patterns of the files that go, such as `("README.md", "config.json", "data/*.parquet")`. `*` stays
            within one folder: nothing in a subfolder goes unless the pattern names that folder. All else in `folder`
            is left out and listed in `PushResult.left_out`.
        private: a new repository is private. An existing public one is refused unless `private=False`.
        message: the commit's message.
        dry_run: collect and scan, but send no request.
        token: access token; default: the one that `huggingface_hub` finds (HF_TOKEN, `hf auth login`).
        private_values: words that no file and no file's name may hold, see [`pamela_hf.hub.scan.scan_files`].
            Files of this very package may: whoever has it has them.
        scan: look for what must not be published; `False` only for a private copy of people's own data, which is full
            of what a scan looks for. Default: True.

    Raises:
        HubError: nothing to push; `scan=False` with `private=False`; a link or a pickle among the files; something in
            them that must not be published; a public repository; a Hub that stays out of reach, refuses, or holds other
            bytes than were sent.
    """
    folder = Path(folder)
    _check_repo(repo_id, repo_type)
    if not (scan or private):
        raise HubError("scan=False goes with private=True only: what everybody can see is scanned first.")
    secret = token or get_token()
    files, left_out = _allowed(folder, allow)
    with scratch_folder("pamela-push") as staged:
        for name in files:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, staged / name)
        words = [*private_values, str(folder.resolve()), str(Path.cwd())]
        if scan and (found := _findings(staged, files, message, _tokens_in_use(secret), words)):
            raise HubError(
                f"Nothing was pushed to {repo_id}: {len(found)} thing(s) must not be published: {'; '.join(found[:8])}."
                " Remove them from these files, or leave the files out."
            )
        sizes = {name: (staged / name).stat().st_size for name in files}
        if dry_run:
            return PushResult(None, files, left_out, sizes, private)
        push = _Push(HfApi(token=token), repo_id, repo_type, staged, files, tuple(allow), private, message)
        commit = _persistently(push.once, f"push to {repo_id}", secret)
    where = f"{'' if repo_type == 'model' else f'{repo_type}s/'}{repo_id}"
    return PushResult(commit, files, left_out, sizes, push.is_private, f"{hub_constants.ENDPOINT}/{where}")


def _findings(folder: Path, files: list[str], message: str, secrets: list[str], words: list[str]) -> list[str]:
    """What in the files and the message must not be published."""
    public = [name for name in files if _is_own_source(folder / name)]
    found = [str(finding) for finding in scan_files(folder, files, secrets=secrets, private=words, public=public)]
    return found + [f"the message: {what}" for what in scan_text(message, secrets=secrets, private=words)]


@dataclass
class _Push:
    """One push, whose `once` may be called again until it succeeds: it always starts from what the remote holds."""

    api: HfApi
    repo_id: str
    repo_type: str
    staged: Path
    files: list[str]
    allow: tuple[str, ...]
    private: bool
    message: str
    is_private: bool = True
    _hashes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def once(self) -> str:
        where = {"repo_id": self.repo_id, "repo_type": self.repo_type}
        try:
            info = self.api.repo_info(**where)
        except RepositoryNotFoundError:
            sdk = {"space_sdk": "gradio"} if self.repo_type == "space" else {}
            self.api.create_repo(**where, **sdk, private=self.private, exist_ok=True)
            info = self.api.repo_info(**where)
        self.is_private = bool(info.private)
        if self.private and not self.is_private:
            raise HubError(
                f"{self.repo_id} is public and this push is private; nothing was pushed. Push publicly "
                "(private=False, --public), choose another repository, or make this one private in its settings."
            )
        changes = self._changes(info.sha)
        if not changes:
            return info.sha
        made = self.api.create_commit(
            **where, operations=changes, commit_message=self.message, parent_commit=info.sha, num_threads=2
        )
        if wrong := self._changes(made.oid):
            names = ", ".join(sorted(change.path_in_repo for change in wrong)[:5])
            raise HubError(
                f"{self.repo_id} at {made.oid} does not hold what was sent: {names}. Push again; if it stays so, "
                "delete the repository."
            )
        return made.oid

    def _changes(self, revision: str) -> list[CommitOperationAdd | CommitOperationDelete]:
        """What turns the repository's files at a commit into the staged ones."""
        files = _remote_files(self.api, self.repo_id, self.repo_type, revision)
        remote = {name: _remote_hash(file) for name, file in files.items()}
        changes: list[CommitOperationAdd | CommitOperationDelete] = []
        for name in self.files:
            if name not in self._hashes:
                self._hashes[name] = _file_hashes(self.staged / name)
            if remote.get(name) not in self._hashes[name]:
                changes.append(CommitOperationAdd(name, str(self.staged / name)))
        stale = [name for name in remote if name not in self.files and _matches(name, self.allow)]
        return changes + [CommitOperationDelete(name) for name in stale]


def pull_folder(
    repo_id: str,
    repo_type: str = "model",
    *,
    revision: str | None = None,
    allow: Sequence[str],
    max_bytes: Mapping[str, int] = {},
    token: str | bool | None = None,
) -> Path:
    """Downloads files of a repository as they are at one commit, and checks each against its hash there.

    Large files (all weights and tables) are checked by their sha256; small texts, of which the Hub knows only git's
    hash, by that. A file that is already in the cache is checked in the same way. Nothing that was downloaded is run.
    Offline (HF_HUB_OFFLINE=1) the cache alone is read; a file's name in it is its hash.

    Args:
        repo_id: `owner/name`.
        repo_type: "model" or "dataset".
        revision: commit (40 digits, which stays what it is), tag or branch; default: the newest commit.
        allow: patterns of the files wanted, as in [`push_folder`]. Pickles and cards (README.md) are never
            downloaded.
        max_bytes: file name → bytes it has at most; a larger one is refused before anything is downloaded.
        token: access token; default: the one that `huggingface_hub` finds; False: none, as a stranger.

    Returns:
        The folder of that commit in the cache of `huggingface_hub`; its name is the commit.

    Raises:
        HubError: no such repository, revision or file, a Hub that stays out of reach, a file name that leads out of
            the folder, a file that is too large or keeps arriving damaged.
    """
    _check_repo(repo_id, repo_type)
    if revision is not None and (not re.fullmatch(r"[\w./-]+", revision) or ".." in revision or revision[0] == "/"):
        raise HubError(f"revision={revision!r} is not a commit, tag or branch. Give one, such as 'main'.")
    if hub_constants.HF_HUB_OFFLINE:
        return _from_cache(repo_id, repo_type, revision, allow)
    api, secret = HfApi(token=token), token if isinstance(token, str) else get_token()

    def once() -> Path:
        commit = api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha
        files = _remote_files(api, repo_id, repo_type, commit)
        remote = {name: _remote_hash(file) for name, file in files.items()}
        names = sorted(name for name in remote if _is_wanted(name, allow))
        if not names:
            raise HubError(f"{repo_id} at {commit} has none of {', '.join(allow)}. Is it the repository you meant?")
        for name in names:
            if files[name].size > (most := max_bytes.get(name, sys.maxsize)):
                raise HubError(
                    f"{name} of {repo_id} has {files[name].size:,} bytes; it may have {most:,} at most. Nothing was "
                    "downloaded. Is it the repository you meant?"
                )
        for name in names:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
                raise HubError(f"{repo_id} holds the file name {name!r}, which leads out of its folder. Don't use it.")
            where = {"repo_id": repo_id, "filename": name, "repo_type": repo_type, "revision": commit, "token": token}
            file = Path(hf_hub_download(**where))
            if remote[name] not in _file_hashes(file):
                file = Path(hf_hub_download(**where, force_download=True))
                if remote[name] not in _file_hashes(file):
                    _forget(file)
                    raise HubError(f"{name} of {repo_id} arrived damaged twice; it is not used. Try again later.")
        folder = file.parents[len(PurePosixPath(name).parts) - 1]
        if revision != commit:  # files were asked for by commit, so the cache does not know yet what a branch means
            named = folder.parent.parent / "refs" / (revision or "main")
            named.parent.mkdir(parents=True, exist_ok=True)
            named.write_text(commit)
        return folder

    return _persistently(once, f"pull from {repo_id}", secret)


def delete_repo(repo_id: str, repo_type: str = "model", token: str | None = None, *, of: Iterable[str]) -> None:
    """Deletes a repository with all its commits, for good, if it is what it is taken for.

    Args:
        repo_id: `owner/name`, as in [`push_folder`].
        repo_type: "model" (the default) or "dataset", as in [`push_folder`].
        token: access token, with the default of [`push_folder`].
        of: names of files that it must hold, all of them, and besides its README.md nothing else.

    Raises:
        HubError: it holds something else, there is no such repository, or the Hub refuses or stays out of reach.
    """
    _check_repo(repo_id, repo_type)
    api, asked, wanted = HfApi(token=token), False, set(of)

    def once() -> None:
        nonlocal asked
        try:
            info = api.repo_info(repo_id, repo_type=repo_type)
        except RepositoryNotFoundError:
            if asked:  # the answer to an earlier request was lost, its effect was not
                return
            raise
        found = _remote_files(api, repo_id, repo_type, info.sha).keys() - {CARD, ".gitattributes"}
        if found != wanted:
            names = ", ".join(sorted(found)[:5]) + (", …" if len(found) > 5 else "")
            raise HubError(
                f"{repo_id} holds {names or 'no files'} instead of {', '.join(sorted(wanted))}; it was not deleted. "
                "Check the name; delete anything else on its page at the Hub."
            )
        asked = True
        api.delete_repo(repo_id, repo_type=repo_type, missing_ok=True)

    _persistently(once, f"delete {repo_id}", token or get_token())


def _check_repo(repo_id: str, repo_type: str) -> None:
    if repo_type not in REPO_TYPES:
        raise HubError(f"repo_type={repo_type!r}; allowed: {', '.join(REPO_TYPES)}.")
    if not _REPO_ID.fullmatch(repo_id) or len(repo_id) > 96 or "--" in repo_id or ".." in repo_id:
        raise HubError(f"repo_id={repo_id!r} must be 'owner/name' of letters, digits, '_', '.' and '-'.")


def _matches(name: str, allow: Iterable[str]) -> bool:
    """Whether one of the patterns fits, folder by folder, so that `*` never reaches into another folder."""
    parts = name.split("/")
    return any(
        len(wanted := pattern.split("/")) == len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted))
        for pattern in allow
    )


def _is_refused(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in REFUSED_SUFFIXES


def _is_wanted(name: str, allow: Iterable[str]) -> bool:
    return _matches(name, allow) and not _is_refused(name) and name != CARD


def _allowed(folder: Path, allow: Sequence[str]) -> tuple[list[str], list[str]]:
    """(files that go, files that are left out), names relative to `folder`, sorted."""
    if isinstance(allow, str):
        raise HubError(f"allow={allow!r} is one text; give a list of patterns, such as ['README.md', '*.safetensors'].")
    if not folder.is_dir():
        raise HubError(f"{folder} is not a folder. Name the folder whose files are to be pushed.")
    names = []
    for parent, folders, inside in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]  # os.walk does not enter these
        names += [(Path(parent) / name).relative_to(folder).as_posix() for name in (*inside, *links)]
    files = sorted(name for name in names if _matches(name, allow))
    if not files:
        raise HubError(f"{folder} holds nothing that may be pushed; allowed: {', '.join(allow)}.")
    check_links(folder, files)
    for name in files:
        if _is_refused(name):
            raise HubError(f"{name}: {PurePosixPath(name).suffix} files can run code when loaded. Use safetensors.")
    return files, sorted(set(names) - set(files))


def check_links(folder: Path, files: Iterable[str]) -> None:
    """Raises HubError where one of `files` of a folder is a link that leads out of it, or no plain file: what lies
    elsewhere is never published along, on whatever file system it is."""
    inside = folder.resolve()
    for name in files:
        if not (folder / name).is_file() or not (folder / name).resolve().is_relative_to(inside):
            raise HubError(f"{folder / name} is a link out of the folder or not a plain file. Put the file itself.")


def _is_own_source(file: Path) -> bool:
    """Whether a file is, byte for byte, one of this package's own."""
    return file.suffix == ".py" and any(
        filecmp.cmp(file, source, shallow=False) for source in Path(__file__).parents[1].rglob(file.name)
    )


def _file_hashes(path: Path) -> tuple[str, str]:
    """(sha256, git's blob id) of a file, in hexadecimal: what the Hub knows of large files and of small ones.

    The Hub client's own check (`HfApi.verify_repo_checksums`) lists the repository once more, checks all that is cached
    of it, neither offline nor file by file, and would not let a damaged file be fetched again; so it is done here.
    """
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            blob.update(chunk)
    return sha256.hexdigest(), blob.hexdigest()


def _remote_files(api: HfApi, repo_id: str, repo_type: str, revision: str) -> dict[str, RepoFile]:
    """Name of each file of a repository at a commit → what the Hub knows of it."""
    entries = api.list_repo_tree(repo_id, repo_type=repo_type, revision=revision, recursive=True)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _remote_hash(file: RepoFile) -> str:
    """sha256 of a large file, git's blob id of any other."""
    return file.lfs.sha256 if file.lfs else file.blob_id


def _from_cache(repo_id: str, repo_type: str, revision: str | None, allow: Sequence[str]) -> Path:
    try:
        where = {"repo_id": repo_id, "repo_type": repo_type, "revision": revision}
        folder = Path(snapshot_download(**where, local_files_only=True))
    except (OSError, ValueError):
        raise HubError(f"{repo_id} is not in the cache and HF_HUB_OFFLINE is set. Unset it, and pull again.") from None
    names = {path: path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()}
    wanted = [path for path, name in names.items() if _is_wanted(name, allow)]
    if not wanted:
        raise HubError(f"The cache of {repo_id} has none of {', '.join(allow)}. Unset HF_HUB_OFFLINE, and pull again.")
    for path in wanted:
        if path.resolve().name not in _file_hashes(path):
            raise HubError(f"{names[path]} of {repo_id} is damaged in the cache. Unset HF_HUB_OFFLINE, and pull again.")
    return folder


def _forget(file: Path) -> None:
    """Removes a damaged file from the cache, so that nobody finds it there."""
    target = file.resolve()
    file.unlink(missing_ok=True)
    target.unlink(missing_ok=True)


def _tokens_in_use(token: str | None) -> list[str]:
    return [value for value in dict.fromkeys([token or "", *secret_variables().values()]) if len(value) >= 8]


def _persistently(once: Callable[[], T], what: str, secret: str | None) -> T:
    """Calls `once` until it succeeds, again only after faults that may pass."""
    if hub_constants.HF_HUB_OFFLINE:
        raise HubError(f"Could not {what}: HF_HUB_OFFLINE is set. Unset it.")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return once()
        except HubError:
            raise
        # ValueError: an answer that is not JSON, as a proxy in between sends it
        except (_HTTPError, json.JSONDecodeError, OSError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            passing = status in TRANSIENT_STATUS if status is not None else True
            if not passing or attempt == ATTEMPTS:
                raise HubError(_explained(what, error, status, attempt, secret)) from None
        time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _explained(what: str, error: Exception, status: int | None, attempts: int, secret: str | None) -> str:
    advice = {
        401: "Log in with 'hf auth login' or set HF_TOKEN.",
        403: "Use a token that may write to this repository.",
        404: "Check the name; a private repository is visible only with a token that may read it.",
    }.get(status, "Try again later: nothing is left half done.")
    text = " ".join(str(error).split())[:500] or "the connection failed."
    for value in _tokens_in_use(secret):
        text = text.replace(value, "[token]")
    return f"Could not {what} after {attempts} attempt(s): {text} {advice}"
