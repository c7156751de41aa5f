"""A Hub on loopback, good enough for the real clients: repositories with commits, large files, ranges, faults.

Clients read HF_ENDPOINT when huggingface_hub is imported, so they run in processes of their own (the fixture
`fresh_process`), or import it after this module has set the environment (`HubServer.environment`).
"""

import base64
import hashlib
import json
import re
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "LocalServerTokenOfTests" + "0" * 14
LARGE = (".parquet", ".safetensors", ".bin", ".png", ".jpg", ".arrow", ".zip", ".gguf")
FAULTS = ("500", "503", "timeout", "cut")
_API = re.compile(r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/([a-z-]+)(?:/([^/]+))?(?:/(.*))?)?")
_FILE = (
    re.compile(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)/resolve/([^/]+)/(.*)"),
    re.compile(r"/api/resolve-cache/(model|dataset|space)s/([^/]+/[^/]+)/([^/]+)/(.*)"),
)
_BATCH = re.compile(r"/(?:(dataset|space)s/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")


@dataclass
class File:
    """A file at a commit: its bytes lie in the server's folder under their sha256."""

    sha256: str
    blob_id: str
    size: int
    is_large: bool


@dataclass
class Commit:
    sha: str
    title: str
    files: dict[str, File]


@dataclass
class Repo:
    private: bool
    commits: list[Commit]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str | None) -> Commit | None:
        if revision in (None, "main", "HEAD", "refs/heads/main"):
            return self.head
        return next((commit for commit in self.commits if commit.sha == revision), None)


@dataclass
class Request:
    """One request that was answered: `sent` counts the body's bytes."""

    method: str
    path: str
    token: str | None
    sent: int = 0


class HubServer:
    """The server; it answers from when it is made until :meth:`close`.

    Faults: ``arm(at, kind)`` makes the `at`-th request from now (from 1) fail once. "500" and "503" are sent instead
    of doing anything; "timeout" does nothing and hangs; "late" hangs and then does it after all; "cut" does it and
    closes the connection without an answer; "half" sends half of the body; "flip" changes a byte of it. With
    `only_files` only downloads of files count.

    Attributes:
        url: what HF_ENDPOINT must be.
        repos: (type, id) → repository.
        requests: every request so far.
        hang: seconds that "timeout" and "late" keep a client waiting.
        where: how far into a body "half" and "flip" strike, 0 to 1.
    """

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="hub-server-"))
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []
        self.hang = 2.0
        self.where = 0.5
        self._fault: tuple[int, str, bool] | None = None
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, home: Path) -> dict[str, str]:
        """What a client's process needs to find this server and nothing else; its caches go to `home`."""
        return {
            "HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "PAMELA_HOME": str(home / "pamela"), "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "TOKENIZERS_PARALLELISM": "false",
        }  # fmt: skip

    # -- what tests look at ----------------------------------------------------------------------------------------
    def commits(self, repo_id: str, repo_type: str = "model") -> int:
        """Commits of a repository beyond the empty one it is created with; 0 if there is none."""
        repo = self.repos.get((repo_type, repo_id))
        return len(repo.commits) - 1 if repo else 0

    def files(self, repo_id: str, repo_type: str = "model") -> dict[str, bytes]:
        """The newest files of a repository, without the .gitattributes that every new one has."""
        files = self.repos[repo_type, repo_id].head.files
        return {name: self.read(file) for name, file in files.items() if name != ".gitattributes"}

    def add(self, folder: Path, repo_id: str, repo_type: str = "model", private: bool = False) -> str:
        """Puts all files of a folder into a repository as one commit, without a client; returns the commit."""
        self.create(repo_type, repo_id, private)
        repo = self.repos[repo_type, repo_id]
        names = {p: p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()}
        files = {name: self.store(path.read_bytes(), name.endswith(LARGE)) for path, name in names.items()}
        repo.commits.append(Commit(_sha1(f"{repo.head.sha} {sorted(files)}"), "added", {**repo.head.files, **files}))
        return repo.head.sha

    def read(self, file: File) -> bytes:
        return (self.folder / file.sha256).read_bytes()

    def arm(self, at: int, kind: str, *, only_files: bool = False) -> None:
        with self._lock:
            self._fault = (at, kind, only_files)

    def disarm(self) -> bool:
        """Whether a fault was still waiting for its turn."""
        with self._lock:
            waiting, self._fault = self._fault is not None, None
        return waiting

    # -- what the handler uses -------------------------------------------------------------------------------------
    def take_fault(self, path: str) -> str | None:
        with self._lock:
            if self._fault is None or (self._fault[2] and not any(pattern.fullmatch(path) for pattern in _FILE)):
                return None
            at, kind, only_files = self._fault
            self._fault = (at - 1, kind, only_files) if at > 1 else None
            return kind if at == 1 else None

    def store(self, content: bytes, is_large: bool) -> File:
        sha256 = hashlib.sha256(content).hexdigest()
        place = self.folder / sha256
        if not place.exists():
            part = place.with_suffix(f".{threading.get_ident()}")
            part.write_bytes(content)
            part.replace(place)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        return File(sha256, _blob_id(pointer if is_large else content), len(content), is_large)

    def create(self, repo_type: str, repo_id: str, private: bool) -> bool:
        """Makes a repository; False if there was one."""
        with self._lock:
            if (repo_type, repo_id) in self.repos:
                return False
            attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE)
            files = {".gitattributes": self.store(attributes.encode(), False)}
            first = Commit(_sha1(f"{repo_type} {repo_id} {time.time_ns()}"), "initial commit", files)
            self.repos[repo_type, repo_id] = Repo(private, [first])
            return True


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Cut(Exception):
    """The connection is closed without a word more."""


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    # -- answers ---------------------------------------------------------------------------------------------------
    def send(self, status: int, body: object = b"", **headers: object) -> None:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content_Type", "application/json")
        if self.fault == "cut":
            raise _Cut
        if self.fault == "flip" and body:
            place = int(len(body) * self.hub.where)
            body = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        self.request_log.sent = len(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            if self.fault == "half":
                self.wfile.write(body[: int(len(body) * self.hub.where)])
                raise _Cut
            self.wfile.write(body)

    def fail(self, status: int, code: str, message: str) -> None:
        self.send(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        body = self._body()
        header = self.headers.get("Authorization") or ""
        token = header.removeprefix("Bearer ") if header.startswith("Bearer ") else None
        self.request_log = Request(self.command, path, token)
        self.hub.requests.append(self.request_log)
        self.fault = self.hub.take_fault(path)
        try:
            if self.fault in ("500", "503"):
                status = int(self.fault)
                self.fault = None
                return self.send(status, b"<html>something went wrong</html>")
            if self.fault in ("timeout", "late"):
                time.sleep(self.hub.hang)
                if self.fault == "timeout":
                    raise _Cut
                self.fault = "cut"
            if token not in (None, TOKEN):
                return self.fail(401, "InvalidToken", "Invalid credentials in Authorization header")
            self._route(path, parse_qs(url.query), body, token is not None)
        except _Cut:
            self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = handle_request

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    # -- routes ----------------------------------------------------------------------------------------------------
    def _route(self, path: str, query: dict, body: bytes, known: bool) -> None:
        if path == "/api/whoami-v2":
            if not known:
                return self.fail(401, "", "Invalid username or password.")
            access = {"role": "write", "displayName": "tests"}
            auth = {"type": "access_token", "accessToken": access}
            return self.send(200, {"type": "user", "name": "me", "orgs": [], "auth": auth})
        if path == "/api/validate-yaml":
            return self.send(200, {"errors": [], "warnings": []})
        if path in ("/api/repos/create", "/api/repos/delete"):
            return self._create_or_delete(path, json.loads(body), known)
        if path.startswith("/_large/"):
            return self._store_large(path.removeprefix("/_large/"), body)
        if match := _BATCH.fullmatch(path):
            objects = json.loads(body)["objects"]
            return self.send(200, {"transfer": "basic", "objects": [self._upload_action(item) for item in objects]})
        if match := next((m for pattern in _FILE if (m := pattern.fullmatch(path))), None):
            return self._file(match[1] or "model", match[2], match[3], match[4], known)
        if match := _API.fullmatch(path):
            return self._repo(*match.groups(), query, body, known)
        self.fail(404, "NotImplemented", f"hub_server has no {self.command} {path}")

    def _find(self, repo_type: str, repo_id: str, known: bool) -> Repo | None:
        """The repository, if this client may see it; otherwise the answer has been sent."""
        repo = self.hub.repos.get((repo_type, repo_id))
        if repo is None or (repo.private and not known):
            self.fail(404 if known else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _create_or_delete(self, path: str, asked: dict, known: bool) -> None:
        if not known:
            return self.fail(401, "", "You must be logged in.")
        repo_type = asked.get("type") or "model"
        repo_id = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if path.endswith("delete"):
            there = self.hub.repos.pop((repo_type, repo_id), None)
            return self.send(200, {}) if there else self.fail(404, "RepoNotFound", "Repository not found")
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        made = self.hub.create(repo_type, repo_id, private)
        prefix = "" if repo_type == "model" else f"{repo_type}s/"
        answer = {"url": f"{self.hub.url}/{prefix}{repo_id}", "name": repo_id, "id": repo_id}
        self.send(200 if made else 409, answer if made else {**answer, "error": "You already created this repo"})

    def _upload_action(self, item: dict) -> dict:
        answer = {"oid": item["oid"], "size": item["size"]}
        if not (self.hub.folder / item["oid"]).exists():
            answer["actions"] = {"upload": {"href": f"{self.hub.url}/_large/{item['oid']}"}}
        return answer

    def _store_large(self, sha256: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != sha256:
            return self.fail(400, "", "The content does not have the announced sha256.")
        self.hub.store(body, True)
        self.send(200)

    def _repo(self, repo_type, repo_id, action, revision, rest, query, body, known) -> None:
        repo = self._find(repo_type, repo_id, known)
        if repo is None:
            return None
        if action in ("commit", "preupload") and not known:
            return self.fail(401, "", "You must be logged in.")
        if action == "commit":
            return self._commit(repo, repo_id, body)
        if action == "commits":
            history = [{"id": c.sha, "title": c.title, "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"}
                       for c in reversed(repo.commits)]  # fmt: skip
            return self.send(200, history)
        if action == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head.sha}
            return self.send(200, {"branches": [main], "converts": [], "tags": []})
        commit = repo.at(revision)
        if commit is None:
            return self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if action == "preupload":
            return self.send(200, {"files": [self._upload_mode(commit, f) for f in json.loads(body)["files"]]})
        if action == "tree":
            return self._tree(commit, rest, query)
        if action == "paths-info":
            asked = json.loads(body) if body[:1] == b"{" else parse_qs(body.decode())
            return self.send(200, [e for path in asked["paths"] for e in self._entries(commit, path.strip("/"))])
        if action not in (None, "revision"):
            return self.fail(404, "NotImplemented", f"hub_server has no {action}")
        siblings = [{"rfilename": n, "size": f.size, "blobId": f.blob_id} for n, f in sorted(commit.files.items())]
        self.send(200, {
            "_id": "0", "id": repo_id, "modelId": repo_id, "author": repo_id.split("/")[0], "sha": commit.sha,
            "private": repo.private, "disabled": False, "gated": False, "tags": [], "downloads": 0, "likes": 0,
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z", "siblings": siblings,
        })  # fmt: skip

    def _upload_mode(self, commit: Commit, asked: dict) -> dict:
        there = commit.files.get(asked["path"])
        oid = None if there is None else there.sha256 if there.is_large else there.blob_id
        mode = "lfs" if asked["path"].endswith(LARGE) else "regular"
        return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _commit(self, repo: Repo, repo_id: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        with repo.lock:
            if header.get("parentCommit") not in (None, repo.head.sha):
                return self.fail(412, "", "A commit has happened since. Please refresh and try again.")
            files = dict(repo.head.files)
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = self.hub.store(base64.b64decode(value["content"]), False)
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.store((self.hub.folder / value["oid"]).read_bytes(), True)
                elif line["key"] == "deletedFile":
                    if files.pop(value["path"], None) is None:
                        return self.fail(404, "EntryNotFound", "A file with this name doesn't exist")
                elif line["key"] == "deletedFolder":
                    files = {n: f for n, f in files.items() if not n.startswith(value["path"].rstrip("/") + "/")}
            sha = _sha1(repo.head.sha + json.dumps({n: f.blob_id for n, f in files.items()}, sort_keys=True))
            repo.commits.append(Commit(sha, header["summary"], files))
        url = f"{self.hub.url}/{repo_id}/commit/{sha}"
        self.send(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def _entries(self, commit: Commit, path: str) -> list[dict]:
        """What a path names at a commit: its file, or its folder, or nothing."""
        if (file := commit.files.get(path)) is None:
            inside = any(name.startswith(path + "/") for name in commit.files)
            return [{"type": "directory", "oid": _sha1(path), "size": 0, "path": path}] if inside else []
        entry = {"type": "file", "oid": file.blob_id, "size": file.size, "path": path}
        if file.is_large:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
        return [entry]

    def _tree(self, commit: Commit, folder: str | None, query: dict) -> None:
        prefix = folder.rstrip("/") + "/" if folder else ""
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        paths = set()
        for name in commit.files:
            if name.startswith(prefix):
                parts = name[len(prefix) :].split("/")
                depths = range(1, len(parts) + 1) if recursive else [1]
                paths |= {prefix + "/".join(parts[:depth]) for depth in depths}
        if folder and not paths:
            return self.fail(404, "EntryNotFound", f"{folder} does not exist")
        self.send(200, [entry for path in sorted(paths) for entry in self._entries(commit, path)])

    def _file(self, repo_type: str, repo_id: str, revision: str, name: str, known: bool) -> None:
        repo = self._find(repo_type, repo_id, known)
        if repo is None:
            return None
        commit = repo.at(revision)
        if commit is None:
            return self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if name not in commit.files:
            message = "Entry not found"
            return self.send(404, b"", X_Error_Code="EntryNotFound", X_Error_Message=message, X_Repo_Commit=commit.sha)
        file = commit.files[name]
        tag = file.sha256 if file.is_large else file.blob_id
        headers = {"X_Repo_Commit": commit.sha, "ETag": f'"{tag}"', "Accept_Ranges": "bytes"}
        if file.is_large:
            headers |= {"X_Linked_Etag": f'"{tag}"', "X_Linked_Size": file.size}
        content, status = self.hub.read(file), 200
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked and self.command == "GET":
            first = int(asked[1]) if asked[1] else max(0, file.size - int(asked[2]))
            last = min(int(asked[2]), file.size - 1) if asked[1] and asked[2] else file.size - 1
            if first >= file.size:
                return self.send(416, b"", Content_Range=f"bytes */{file.size}")
            headers["Content_Range"] = f"bytes {first}-{last}/{file.size}"
            content, status = content[first : last + 1], 206
        self.send(status, content, **headers)
