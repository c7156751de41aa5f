"""The one place that pushes to and pulls from the Hub: folders of files, whatever they are for.

A push takes files by an allow-list, scans them, and makes one commit: afterwards the repository is in the old state or
in the new one, whatever the network does meanwhile. A pull names one commit and checks every file against its hash.
"""

import fnmatch
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, hf_hub_download
from huggingface_hub import constants as hub_constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from .hub_scan import scan_files

REPO_TYPES = ("model", "dataset")
# each can run code when it is loaded; weights are safetensors or nothing
REFUSED_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
ATTEMPTS = 6
FIRST_WAIT = 1.0  # seconds before the second attempt, twice as long before each further one
TRANSIENT_STATUS = (408, 412, 425, 429, 500, 502, 503, 504)  # 412: somebody committed since we looked
# whatever HTTP library this version of huggingface_hub is built on, its errors share this base
_HTTPError = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")


class HubError(RuntimeError):
    """A push, pull or deletion that did not happen; the message says why and what to do, never a token."""


@dataclass
class PushResult:
    """What a push did, or with `dry_run` would do.

    Attributes:
        commit: the commit the repository is at; None for a dry run.
        files: names of the files that make up the push, sorted.
        left_out: names of files in the folder that the allow-list leaves out, sorted.
        sizes: name of each of `files` → bytes.
        url: where to look at it; "" for a dry run.
        private: whether the repository is private; what was asked for if this is a dry run.
    """

    commit: str | None
    files: list[str]
    left_out: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    url: str = ""
    private: bool = True


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
) -> PushResult:
    """Pushes files of a folder as one commit; creates the repository if there is none.

    What matches `allow` is copied to a fresh folder, scanned, and pushed from there, so that what was scanned is what
    is pushed. In the repository the files that match `allow` become these, no more and no fewer; its other files stay.
    A push that changes nothing makes no commit. After a failed request the repository is looked at again before
    anything is repeated, and the commit names its parent, so that no push is ever made twice.

    Args:
        folder: where the files are; nothing in it is changed.
        repo_id: `owner/name`.
        repo_type: "model" or "dataset".
        allow: patterns of the files that go, such as `("README.md", "config.json", "data/*.parquet")`. A `*` stays
            within one folder, so nothing in a subfolder goes unless its folder is named. All else in `folder` is left
            out and listed in `PushResult.left_out`.
        private: a new repository is private. An existing public one is refused unless `private=False`.
        message: the commit's message.
        dry_run: look, copy and scan, but send no request.
        token: access token; default: that of `huggingface_hub`.
        private_values: words that no file may hold (see :func:`pamela_hf.hub_scan.scan_files`).

    Raises:
        HubError: nothing to push, a link or a pickle among the files, something in them that must not be published,
            a public repository, or a Hub that stays out of reach or keeps other bytes than were sent.
    """
    folder = Path(folder)
    _check_repo(repo_id, repo_type)
    if not folder.is_dir():
        raise HubError(f"{folder} is no folder. Name the folder whose files are to be pushed.")
    files, left_out = _allowed(folder, allow)
    if not files:
        raise HubError(f"{folder} holds nothing that may be pushed; allowed: {', '.join(allow)}.")
    secret = token or get_token()
    with tempfile.TemporaryDirectory(prefix="pamela-push-") as staging:
        staged = Path(staging)
        for name in files:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, staged / name, follow_symlinks=False)
        words = [repo_id.replace("/", " "), *_shown(message)]
        found = scan_files(staged, files, secrets=_secrets(secret), private=private_values)
        if found:
            raise HubError(
                f"Nothing was pushed: {len(found)} thing(s) must not be published. "
                + "; ".join(map(str, found[:8]))
                + ". Remove them from the files, or leave these files out."
            )
        del words
        sizes = {name: (staged / name).stat().st_size for name in files}
        if dry_run:
            return PushResult(None, files, left_out, sizes, private=private)
        push = _Push(HfApi(token=token), repo_id, repo_type, staged, files, allow, private, message)
        commit, is_private = _redacted(secret, push.run)
    prefix = "" if repo_type == "model" else "datasets/"
    url = f"{hub_constants.ENDPOINT}/{prefix}{repo_id}"
    return PushResult(commit, files, left_out, sizes, url, is_private)
