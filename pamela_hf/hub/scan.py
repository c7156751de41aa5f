"""Scan of files that are about to be published: access tokens, keys, local paths, e-mail addresses, private words.

Each file is looked at raw and, one level deep, inside what gzip and base64 hide and inside Parquet's compressed text
columns. It knows nothing of what the files are for.
"""

import base64
import math
import os
import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 4 << 20  # bytes read at a time
OVERLAP = 1024  # bytes two chunks share: the longest finding that is certainly seen whole
MAX_INFLATED = 4 << 20  # bytes looked at inside one gzip stream
GZIP = b"\x1f\x8b\x08"
BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
TEXT_RUN = re.compile(rb"[\t\n\r\x20-\x7e]{32,}")  # what no random bytes are: a header, a comment

# (what it is, a literal that every hit contains, the pattern). The literal is searched first: that is far quicker.
SECRETS: tuple[tuple[str, bytes, re.Pattern[bytes]], ...] = (
    ("Hugging Face token", b"hf_", re.compile(rb"hf_[A-Za-z0-9]{30,}")),
    ("Hugging Face token", b"api_org_", re.compile(rb"\bapi_org_[A-Za-z0-9]{30,}")),
    ("API key", b"sk-", re.compile(rb"\bsk-(?:[a-z]+-)*(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}")),
    ("GitHub token", b"gh", re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{36,}")),
    ("GitHub token", b"github_pat_", re.compile(rb"\bgithub_pat_\w{22,}")),
    ("AWS access key", b"AKIA", re.compile(rb"\bAKIA[0-9A-Z]{16}\b")),
    ("Google API key", b"AIza", re.compile(rb"\bAIza[\w-]{35}")),
    ("Slack token", b"xox", re.compile(rb"\bxox[abeoprs]-[\w-]{10,}")),
    ("private key", b"PRIVATE KEY-----", re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("JSON Web Token", b"eyJ", re.compile(rb"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    ("Bearer token", b"earer ", re.compile(rb"\b[Bb]earer [A-Za-z0-9._~+/-]{20,}")),
)
LOCAL_PATHS = (
    ("local path", b"/home/", re.compile(rb"(?<![\w.])/home/[\w.-]+/[\w.-]")),
    ("local path", b"/Users/", re.compile(rb"(?<![\w.])/Users/[\w.-]+/[\w.-]")),
    ("local path", b"root/", re.compile(rb"(?<![\w.])/(?:var/)?root/[\w.-]")),  # the superuser's, on Linux and macOS
    ("local path", b"/tmp/", re.compile(rb"(?<![\w.])/tmp/[\w.-]+/[\w.-]")),
    ("local path", b"/var/folders/", re.compile(rb"(?<![\w.])/var/folders/[\w.-]")),
    ("local path", b"Users\\", re.compile(rb"\b[A-Za-z]:\\{1,2}Users\\{1,2}[\w.-]")),
)
# an address ends a citation or explains an example; what a text alone holds (never the chance bytes of an image)
EMAIL = re.compile(rb"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,12}\b")
HARMLESS_EMAILS = (b"@example.com", b"@example.org", b"@users.noreply.github.com")
# what a URL may carry beside its address: `user:password@`, and parameters named as credentials are
URL_LOGIN = re.compile(r"(?<=://)[^/?#\s]+@")
URL_CREDENTIAL = re.compile(
    r"([?&;][\w.-]*(?:key|token|secret|passw|pwd|signature|sig|auth|credential)[\w.-]*=)[^&#;\s'\"]+", re.IGNORECASE
)
MASK = "***"
SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|API_?KEY|PASSWORD", re.IGNORECASE)


def secret_variables() -> dict[str, str]:
    """Variables of the environment that hold a credential, by their names."""
    return {name: value for name, value in os.environ.items() if SECRET_VARIABLE.search(name)}


def environment_without_secrets() -> dict[str, str]:
    """The environment for a process that needs no credential: none in it, and the saved access token is not read."""
    secret = secret_variables()
    kept = {name: value for name, value in os.environ.items() if name not in secret}
    return {**kept, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}


def mask_secrets(text: str) -> str:
    """A text for people, such as an error or a command, with `***` for a URL's login or key and any access token."""
    text = URL_CREDENTIAL.sub(rf"\g<1>{MASK}", URL_LOGIN.sub(f"{MASK}@", text))
    data = text.encode("utf-8", "surrogateescape")
    for _, literal, pattern in SECRETS:
        if literal in data:
            data = pattern.sub(MASK.encode(), data)
    return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Finding:
    """Something that must not be published. It says which kind and where; the thing itself is deliberately not kept."""

    file: str
    what: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.what}{f' ({self.where})' if self.where else ''}"


def scan_files(
    folder: Path,
    files: Iterable[str],
    *,
    secrets: Iterable[str] = (),
    private: Iterable[str] = (),
    public: Collection[str] = (),
) -> list[Finding]:
    """What in `files` of `folder` must not be published: one finding for each file and kind.

    Args:
        folder: where the files lie.
        files: their names relative to it.
        secrets: access tokens in use; found anywhere, inside a longer word too.
        private: what is nobody's business (one's own raters' names, image ids); found as whole words. Words of
            fewer than 3 characters are not looked for: they occur by chance. So do longer ones in a large file that is
            no text, such as pictures: there, words shorter than [`shortest_word`] count only within 32 or more
            characters of text.
        public: those of `files` that everybody has already: `private` is not looked for inside them.
    """
    secrets = [s for s in secrets if s]
    scan, scan_public = _Scan(secrets, [p for p in private if len(p) > 2]), _Scan(secrets, [])
    found: dict[tuple[str, str], Finding] = {}
    for name in files:
        for what in scan.text(name.encode()):
            found.setdefault((name, what), Finding(name, what, "in its name"))
        for what, where in (scan_public if name in public else scan).file(folder / name):
            found.setdefault((name, what), Finding(name, what, where))
    return list(found.values())


def scan_text(text: str, *, secrets: Iterable[str] = (), private: Iterable[str] = ()) -> list[str]:
    """What in a text must not be published, by kind; the arguments are those of [`scan_files`]."""
    scan = _Scan([s for s in secrets if s], [p for p in private if len(p) > 2])
    return list(dict.fromkeys(scan.text(text.encode())))


class _Scan:
    def __init__(self, secrets: list[str], private: list[str]):
        self._secrets = [form for secret in secrets for form in _forms(secret)]
        self._words = [form for word in private for form in _forms(word)]

    def file(self, path: Path) -> Iterator[tuple[str, str]]:
        """(what, where) of each finding in a file."""
        is_text = _is_text(path)
        shortest = 0 if is_text else shortest_word(path.stat().st_size, len(self._words))
        with open(path, "rb") as stream:
            tail, position = b"", 0
            while chunk := stream.read(CHUNK):
                piece = tail + chunk
                for what in self.text(piece) if is_text else self.raw(piece, shortest):
                    yield what, f"near byte {position}"
                for run in () if is_text else TEXT_RUN.finditer(piece):
                    for what in self.raw(run[0]):
                        yield what, f"near byte {position}"
                for inner in _inflated(piece):
                    for what in self.text(inner):
                        yield what, "inside gzip"
                position += len(chunk)
                tail = piece[-OVERLAP:]
        if path.suffix == ".parquet":
            for column, value in _parquet_texts(path):
                for what in self.text(value):
                    yield what, f"in column {column}"

    def text(self, data: bytes) -> Iterator[str]:
        """Findings in a text, and in what its runs of base64 stand for."""
        yield from self.raw(data)
        yield from self._emails(data)
        for run in BASE64_RUN.finditer(data):
            coded = run[0].replace(b"-", b"+").replace(b"_", b"/")
            for start in range(4):  # the run may begin with letters that belong to what stands before it
                part = coded[start:]
                decoded = base64.b64decode(part[: len(part) // 4 * 4] + _last_group(part))
                yield from self.raw(decoded)
                for inner in _inflated(decoded):
                    yield from self.raw(inner)

    def raw(self, data: bytes, shortest: int = 0) -> Iterator[str]:
        """Findings in bytes as they are; of private words those of `shortest` bytes or more."""
        for needle in self._secrets:
            if needle in data:
                yield "access token in use"
        for what, literal, pattern in (*SECRETS, *LOCAL_PATHS):
            if literal in data and pattern.search(data):
                yield what
        for needle in self._words:
            if len(needle) < shortest or needle not in data:
                continue
            if re.search(rb"(?<![A-Za-z0-9_])" + re.escape(needle) + rb"(?![A-Za-z0-9_])", data):
                yield "private value"

    @staticmethod
    def _emails(data: bytes) -> Iterator[str]:
        if b"@" in data and any(not hit[0].endswith(HARMLESS_EMAILS) for hit in EMAIL.finditer(data)):
            yield "e-mail address"


def shortest_word(size: int, words: int) -> int:
    """How many bytes a word needs for one of so many `words` to be found among `size` random bytes in less than one of
    a thousand files: 3 in a head, 7 in half a gigabyte of pictures."""
    return math.ceil(math.log(1000 * max(size, 1) * max(words, 1), 256))


def _forms(word: str) -> list[bytes]:
    """A word's bytes, as UTF-8 and as JSON escapes them."""
    escaped = "".join(c if ord(c) < 128 else f"\\u{ord(c):04x}" for c in word)
    return list(dict.fromkeys([word.encode(), escaped.encode()]))


def _last_group(part: bytes) -> bytes:
    """The rest of a base64 run, padded to a group of four; a single letter stands for no byte."""
    rest = part[len(part) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _is_text(path: Path) -> bool:
    """Whether the file begins as UTF-8 text without control characters."""
    with open(path, "rb") as stream:
        head = stream.read(8192)
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a letter cut in two at the end is none of its faults
            return False
    return b"\0" not in head


def _inflated(data: bytes) -> Iterator[bytes]:
    """What the gzip streams that begin in `data` hold, up to `MAX_INFLATED` bytes each."""
    place = data.find(GZIP)
    while place >= 0:
        try:
            inner = zlib.decompressobj(wbits=31).decompress(data[place:], MAX_INFLATED)
        except zlib.error:
            inner = b""
        if inner:
            yield inner
        place = data.find(GZIP, place + 1)


def _parquet_texts(path: Path) -> Iterator[tuple[str, bytes]]:
    """(column, its distinct texts, one a line) of each row group, since Parquet compresses what it stores."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    texts = [
        file.schema.column(i).path
        for i in range(len(file.schema))
        if str(file.schema.column(i).logical_type) == "String"
    ]
    for group in range(file.num_row_groups):
        for column in texts:
            values = file.read_row_group(group, columns=[column]).column(0).combine_chunks()
            while pa.types.is_struct(values.type):
                values = values.field(0)
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                distinct = [value.as_py() for value in pc.unique(values) if value.is_valid]
                yield column, "\n".join(distinct).encode()
