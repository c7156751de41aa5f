"""The folder of a prompt run: what was proposed, rendered and scored, written so that a killed run can go on.

    run.json          the run's arguments; a run is only ever resumed with the same ones
    proposals.jsonl   what the refiner answered, one JSON object a step: a language model need not be asked again
    trace.jsonl       one JSON object for each rendered candidate ([`TRACE_FIELDS`])
    images/           PNG files, each with its prompt and seed in its text
    result.json, report.html

`checksum` is the sha256 over the line before it, the line's other fields and its image file, so that neither a line nor
an image can change, go or come unnoticed.
"""

import hashlib
import io
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..files.images import ImageError, open_image_checked
from ..files.writing import InUseError, claimed

TRACE_FIELDS = ("iteration", "parent", "prompt", "seed", "score", "std", "adherence", "image", "checksum")


class TraceError(ValueError):
    """A run folder that is damaged, in use, or another run's: the message says which and what to do."""


class RunFolder:
    """One prompt run's folder, locked while it is open; use it in a `with` statement.

    Args:
        path: an empty or absent folder, or one that an earlier run with the same `arguments` left.
        arguments: JSON values; all that decides the course of the run.
        note: written into every image's text, such as what pipeline made it.

    Raises:
        TraceError: another process is at work there; it holds something else; its arguments differ (which are named);
            a line or an image is not what was written. WriteError: the disk is full or read-only.
    """

    def __init__(self, path: str | os.PathLike, arguments: Mapping[str, Any], note: str = ""):
        self.path, self.note = Path(path), note
        self._digests: dict[Path, bytes] = {}  # of the images written by this process
        self.images = self.path / "images"
        with ExitStack() as stack:
            try:
                stack.enter_context(claimed(path, arguments, kind="prompt run"))
            except (FileExistsError, InUseError, ValueError) as error:
                raise TraceError(str(error)) from None
            self._open()
            self._claim = stack.pop_all()

    def _open(self) -> None:
        self.images.mkdir(exist_ok=True)
        self._proposals = _Lines(self.path / "proposals.jsonl", lambda row: b"")
        self._trace = _Lines(self.path / "trace.jsonl", self._image_digest)
        self._step = self._row = 0  # how much of both the run that goes on has repeated
        # What the trace builds on has to be on the disk before it, not before the next image is rendered.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._writing: Future[BinaryIO] | None = None
        self._unsynced: list[Future[None]] = []
        self._save_seconds = math.inf  # what the last image took

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._writer.shutdown()
            self._disk.shutdown()
        finally:  # interrupted in turn
            self._claim.close()

    def _sync_later(self, file: BinaryIO) -> None:
        self._unsynced.append(self._disk.submit(_sync, file))

    # -- what the refiner answered -----------------------------------------------------------------------------
    def next_proposals(self) -> list[list[str]] | None:
        """`[prompt, parent]` of the next step as an earlier run recorded them; `None` = it has not got there."""
        if self._step == len(self._proposals.rows):
            return None
        self._step += 1
        return self._proposals.rows[self._step - 1]["proposals"]

    def add_proposals(self, iteration: int, proposals: Sequence[Sequence[str]], filled: int = 0) -> None:
        """`filled`: how many of them the vocabulary wrote in the refiner's place."""
        row = {"iteration": iteration, "proposals": [list(p) for p in proposals], "filled": filled}
        self._proposals.append([row], sync=self._sync_later)
        self._step += 1

    @property
    def filled(self) -> int:
        """How many prompts of the whole run the vocabulary wrote in the refiner's place."""
        return sum(row.get("filled", 0) for row in self._proposals.rows[: self._step])

    # -- rendered candidates -------------------------------------------------------------------------------------
    def next_rows(self, pairs: Sequence[tuple[str, int]]) -> list[dict[str, Any]] | None:
        """The recorded rows of the next step's (prompt, seed) pairs; `None` where an earlier run did not get so far.

        A step that was cut off half-way through its lines is taken back, to be scored as the one batch it is: then the
        resumed run has the very numbers of one that was not interrupted.
        """
        rows = self._trace.rows[self._row : self._row + len(pairs)]
        if [(row["prompt"], row["seed"]) for row in rows] != list(pairs[: len(rows)]):
            raise TraceError(
                f"{self._trace.path} line {self._row + 1} on is not what this run would have rendered. It was written "
                "by another version, or edited: choose another folder."
            )
        if len(rows) < len(pairs):
            self._trace.cut(self._row)
            return None
        self._row += len(rows)
        return rows

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Appends one step's rows (all of [`TRACE_FIELDS`] but the checksum), whose images are saved already."""
        numbers = ("score", "std", "adherence")
        rows = [{k: None if k in numbers and not math.isfinite(v) else v for k, v in row.items()} for row in rows]
        self._row += len(rows)
        waiting, self._unsynced = self._unsynced, []
        for synced in waiting:
            synced.result()
        return self._trace.append(rows)

    def image_name(self, prompt: str, seed: int) -> str:
        """`images/<hash of prompt and seed>.png`, below the run's folder."""
        return f"images/{hashlib.sha256(_json([prompt, seed])).hexdigest()[:20]}.png"

    def load_image(self, prompt: str, seed: int) -> Image.Image | None:
        """The image an earlier run rendered for the pair; `None` if there is none, or not a whole one."""
        path = self.path / self.image_name(prompt, seed)
        if not path.exists():
            return None
        try:
            with Image.open(path, formats=("PNG",)) as file:
                if file.text.get("prompt") != prompt or file.text.get("seed") != str(seed):
                    return None
            return open_image_checked(path)
        except (ImageError, OSError, SyntaxError, ValueError):
            return None

    def save_image(self, image: Image.Image, prompt: str, seed: int, render_seconds: float = 0.0) -> None:
        """Writes the image of the pair, whole or not at all; it reaches the disk in the background.

        Where rendering takes much longer than writing, `render_seconds` an image, the image is written in the
        background, too, while the next one is rendered, one at a time; else a kill might cost more than one image.
        What goes wrong there is raised with the next image, or when the rows are added.
        """
        if self._unsynced and self._unsynced[-1].done():
            self._unsynced[-1].result()
        if self._writing is not None:
            self._writing.result()
        written = self._writing = self._writer.submit(self._write_image, image, prompt, seed)
        self._unsynced.append(self._disk.submit(lambda: _sync(written.result())))
        if render_seconds < 2 * self._save_seconds:
            written.result()

    def _write_image(self, image: Image.Image, prompt: str, seed: int) -> BinaryIO:
        """The open file, to be brought to the disk and closed."""
        start = time.perf_counter()
        text = PngInfo()
        for key, value in (("prompt", prompt), ("seed", str(seed)), ("Source", self.note)):
            text.add_itxt(key, value) if value else None
        path = self.path / self.image_name(prompt, seed)
        part = path.with_suffix(".part")  # in a claimed folder; the disk is waited for later
        # 1024 × 1024 pixels: 76 ms and 1.7 MB; the default takes 196 ms for as much
        image.save(data := io.BytesIO(), "PNG", pnginfo=text, compress_level=1, compress_type=zlib.Z_RLE)
        part.unlink(missing_ok=True)  # a killed run's, or a link
        file = open(part, "xb")
        try:
            file.write(data.getbuffer())
            file.flush()
            os.replace(part, path)
        except BaseException:
            file.close()
            raise
        self._digests[path] = hashlib.sha256(data.getbuffer()).digest()
        self._save_seconds = time.perf_counter() - start
        return file

    def _image_digest(self, row: Mapping[str, Any]) -> bytes:
        if row["image"] != self.image_name(row["prompt"], row["seed"]):
            raise TraceError(f"{self.path / 'trace.jsonl'}: {row['image']!r} is not the image of its prompt and seed.")
        path = self.path / row["image"]
        if path in self._digests:
            return self._digests[path]
        try:
            return hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            raise TraceError(f"{path} cannot be read ({error.strerror}); the trace names it. Restore it.") from None


class _Lines:
    """A file of JSON lines with a chain of checksums; reading it verifies every line."""

    def __init__(self, path: Path, extra: Any):
        self.path, self._extra = path, extra
        self.rows: list[dict[str, Any]] = []
        self._ends: list[int] = []
        data = path.read_bytes() if path.exists() else b""
        whole = data.rfind(b"\n") + 1  # a line without its end was being written when the run was killed
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                row = json.loads(line)
                right = isinstance(row, dict) and row.get("checksum") == self._checksum(row)
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, TraceError):
                    raise
                right = False
            if not right:
                raise TraceError(
                    f"{path} line {number}: the line, its image or one before it is not what was written. "
                    "Restore the folder from a copy, or start in another one."
                )
            self.rows.append(row)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(line) + 1)
        if whole < len(data):
            self.cut(len(self.rows))

    def _checksum(self, row: Mapping[str, Any]) -> str:
        before = self.rows[-1]["checksum"] if self.rows else ""
        fields = {k: v for k, v in row.items() if k != "checksum"}
        return hashlib.sha256(before.encode() + _json(fields) + self._extra(row)).hexdigest()

    def append(
        self, rows: Iterable[Mapping[str, Any]], sync: Callable[[BinaryIO], None] | None = None
    ) -> list[dict[str, Any]]:
        """Adds rows, each with its checksum, in one write; on an error the file is as it was before. `sync` takes the
        file over, to bring it to the disk and close it (default: at once)."""
        start, end, data = len(self.rows), self._ends[-1] if self._ends else 0, b""
        try:
            for row in rows:
                row = {**row, "checksum": self._checksum(row)}
                line = _json(row) + b"\n"
                data += line
                self.rows.append(row)
                self._ends.append(end + len(data))
            file = open(self.path, "ab")
            try:
                file.write(data)
                file.flush()
            except BaseException:
                file.close()
                raise
            (sync or _sync)(file)
        except BaseException:
            self.cut(start)
            raise
        return self.rows[start:]

    def cut(self, count: int) -> None:
        """Keeps the first `count` lines."""
        del self.rows[count:], self._ends[count:]
        if self.path.exists():
            os.truncate(self.path, self._ends[-1] if self._ends else 0)


def _sync(file: BinaryIO) -> None:
    with file:
        os.fsync(file.fileno())


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def read_trace(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The verified rows of a run folder's trace. Raises TraceError naming a line that is not what was written."""
    folder = RunFolder.__new__(RunFolder)
    folder.path, folder._digests = Path(path), {}
    return _Lines(folder.path / "trace.jsonl", folder._image_digest).rows
