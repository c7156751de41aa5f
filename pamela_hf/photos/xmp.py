"""One XMP packet: what it says of a photo's rating, and how to change that and nothing else.

A packet is RDF in XML (ISO 16684-1). A simple property is an attribute of a top-level `rdf:Description` or an element
in it; both forms mean the same (7.4, 7.9.2.2). Read here:

- `xmp:Rating`, −1 (rejected), 0 (unrated) or up to 5 (XMP Specification Part 1, 8.4 "XMP namespace"; written by
  Lightroom's and Bridge's "Save Metadata to File", digiKam, darktable, Immich: docs.immich.app/features/xmp-sidecars).
- `MicrosoftPhoto:Rating`, 1 … 99, Windows' `System.Rating`: learn.microsoft.com/windows/win32/properties/
  props-system-rating gives the range of each star.
- `xmp:Label`, a colour's name or whatever a program calls it; `darktable:colorlabels`, a sequence of 0 red, 1 yellow,
  2 green, 3 blue, 4 purple (darktable, `src/common/exif.cc` and `colorlabels.h`).
- `digiKam:PickLabel`: 1 rejected, 2 pending, 3 accepted (digiKam, `digikam_globals.h`); `xmpDM:pick`: −1, 0, 1, as
  Lightroom Classic writes its flags since 13.2.
- our own `pamela:score`, `pamela:std`, `pamela:stars`.

Sidecars come from anywhere, so they are read as hostile: no DOCTYPE, hence no entities; at most [`MAX_BYTES`].
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_BYTES = 8 << 20  # darktable's sidecars with masks reach hundreds of kilobytes
MAX_DEPTH = 64

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMP = "http://ns.adobe.com/xap/1.0/"
MICROSOFT = ("http://ns.microsoft.com/photo/1.0/", "http://ns.microsoft.com/photo/1.0")
DIGIKAM = "http://www.digikam.org/ns/1.0/"
DARKTABLE = "http://darktable.sf.net/"
DYNAMIC_MEDIA = "http://ns.adobe.com/xmp/1.0/DynamicMedia/"
PAMELA = "urn:pamela-hf:taste:1.0/"

_DARKTABLE_COLOURS = ("Red", "Yellow", "Green", "Blue", "Purple")
_PERCENT_STARS = ((1, 12), (13, 37), (38, 62), (63, 87), (88, 99))  # System.Rating's range of each star


class XmpError(ValueError):
    """A packet that cannot be used; the message says why."""


@dataclass(frozen=True)
class Packet:
    """What a packet says; None: it says nothing of that.

    Attributes:
        rating: −1 (rejected) … 5 stars; 0 = unrated.
        percent: Windows' rating as stars, 0 … 5.
        pick: 1 picked, 0 neither, −1 rejected.
        label: name of the colour label.
        score: the score that `pamela taste` wrote there.
        std: the standard deviation that `pamela taste` wrote there.
        stars: the stars that `pamela taste` wrote there, 0 … 5.
    """

    rating: float | None = None
    percent: int | None = None
    pick: int | None = None
    label: str | None = None
    score: float | None = None
    std: float | None = None
    stars: int | None = None


@dataclass
class _Property:
    """Where a simple property stands: byte offset of its element or of the start tag it is in; of the closing tag."""

    value: str
    start: int
    end: int = -1
    attribute: str | None = None  # its name with prefix, as written
    inside: bool = False  # a list's items, not one value


@dataclass
class _Document:
    """`properties`: (namespace, name) → all places. `descriptions`: start offset, in-scope prefixes (prefix → uri)."""

    properties: dict[tuple[str, str], list[_Property]] = field(default_factory=dict)
    descriptions: list[tuple[int, dict[str, str]]] = field(default_factory=list)


_WANTED = {
    (XMP, "Rating"), (XMP, "Label"), *((uri, "Rating") for uri in MICROSOFT), (DIGIKAM, "PickLabel"),
    (DARKTABLE, "colorlabels"), (DYNAMIC_MEDIA, "pick"),
    (PAMELA, "score"), (PAMELA, "std"), (PAMELA, "stars"),
}  # fmt: skip


def read_packet(data: bytes) -> Packet:
    """What a packet says.

    Args:
        data: a sidecar's or an embedded packet's bytes.

    Raises:
        XmpError: no well-formed XML, a DOCTYPE, more than [`MAX_BYTES`], or a rating that is none.
    """
    found = _parse(data).properties
    value = {key: places[0].value.strip() for key, places in found.items()}
    rating = _number(value.get((XMP, "Rating")), "xmp:Rating", -1, 5)
    percents = (_number(value.get((uri, "Rating")), "MicrosoftPhoto:Rating", 0, 99) for uri in MICROSOFT)
    percent = next((one for one in percents if one is not None), None)
    label = value.get((XMP, "Label")) or _darktable_colour(value.get((DARKTABLE, "colorlabels")))
    stars = _number(value.get((PAMELA, "stars")), "pamela:stars", 0, 5)
    return Packet(
        rating=rating,
        percent=None if percent is None else stars_of_percent(int(percent)),
        pick=_pick(value),
        label=label or None,
        score=_number(value.get((PAMELA, "score")), "pamela:score"),
        std=_number(value.get((PAMELA, "std")), "pamela:std"),
        stars=None if stars is None else int(stars),
    )


def stars_of_percent(percent: int) -> int:
    """Stars 0 … 5 of Windows' rating 0 … 99. Raises XmpError for another number."""
    if percent == 0:
        return 0
    for stars, (low, high) in enumerate(_PERCENT_STARS, 1):
        if low <= percent <= high:
            return stars
    raise XmpError(f"the rating {percent} % is not between 0 and 99")


def write_packet(data: bytes | None, values: Mapping[str, str], rating: int | None = None) -> bytes:
    """The packet with our own properties, and the rating if one is given; all other bytes stay as they are.

    Args:
        data: the sidecar as it is; None: there is none yet.
        values: `score`, `std`, `stars` → text; those of an earlier run are replaced, and removed where missing here.
        rating: `xmp:Rating` to write over an older one, or None to leave it.

    Returns:
        The bytes to write.

    Raises:
        XmpError: `data` is unusable, or is not UTF-8.
    """
    ours = {(PAMELA, name): text for name, text in values.items()}
    if rating is not None:
        ours[(XMP, "Rating")] = str(rating)
    if data is None or not data.strip(b"\0 \t\r\n"):
        return _new_packet(ours)
    if _is_utf_16(data):
        raise XmpError("it is UTF-16; convert it to UTF-8 first")
    before = _parse(data)
    if not before.descriptions:
        raise XmpError("it has no rdf:Description to write into")
    replaced = {(PAMELA, name) for name in ("score", "std", "stars")} | set(ours)
    if _values(before, replaced) == {name: [text] for name, text in ours.items()}:
        return data
    written = _insert(_without(data, before, replaced), ours)
    _check_only(before, _parse(written), replaced, ours)
    return written


def _without(data: bytes, document: _Document, names: set[tuple[str, str]]) -> bytes:
    """The bytes without these properties."""
    cuts = []
    for name in names:
        for place in document.properties.get(name, []):
            if place.attribute is None:
                start = place.start
                while start and data[start - 1 : start] in (b" ", b"\t", b"\n", b"\r"):
                    start -= 1
                end = _tag_end(data, place.start)
                if data[end - 1 : end] != b"/":
                    end = _tag_end(data, place.end)
                cuts.append((start, end + 1))
                continue
            tag_end = _tag_end(data, place.start)
            pattern = rb"\s+" + re.escape(place.attribute.encode()) + rb"\s*=\s*(\"[^\"]*\"|'[^']*')"
            match = re.search(pattern, data[place.start : tag_end])
            if match:
                cuts.append((place.start + match.start(), place.start + match.end()))
    for start, end in sorted(cuts, reverse=True):
        data = data[:start] + data[end:]
    return data


def _insert(data: bytes, ours: Mapping[tuple[str, str], str]) -> bytes:
    """The bytes with these properties as attributes of the first top-level description."""
    start, prefixes = _parse(data).descriptions[0]
    prefixes = dict(prefixes)
    added = ""
    for (uri, name), text in ours.items():
        prefix = next((known for known, bound in prefixes.items() if bound == uri and known), None)
        if prefix is None:
            wanted = "pamela" if uri == PAMELA else "xmp"
            prefix = next(p for p in (wanted, *(f"{wanted}{i}" for i in range(1, 99))) if p not in prefixes)
            prefixes[prefix] = uri
            added += f' xmlns:{prefix}="{uri}"'
        added += f' {prefix}:{name}="{text}"'
    end = _tag_end(data, start)
    if data[end - 1 : end] == b"/":
        end -= 1
    while data[end - 1 : end].isspace():
        end -= 1
    return data[:end] + added.encode() + data[end:]


def _check_only(
    before: _Document, after: _Document, replaced: set[tuple[str, str]], ours: Mapping[tuple[str, str], str]
) -> None:
    """Raises XmpError unless nothing but `replaced` differs: a file of somebody else's is at stake."""

    others = (set(before.properties) | set(after.properties)) - replaced
    wanted = {name: [text] for name, text in ours.items()}
    if _values(before, others) != _values(after, others) or _values(after, replaced) != wanted:
        raise XmpError("it is written in a way that cannot be changed safely")


def _values(document: _Document, names: set[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    return {name: [place.value for place in document.properties[name]] for name in names & set(document.properties)}


def _new_packet(ours: Mapping[tuple[str, str], str]) -> bytes:
    empty = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{RDF}">\n'
        '  <rdf:Description rdf:about=""/>\n'
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="w"?>\n'
    ).encode()
    return _insert(empty, ours)


def _tag_end(data: bytes, start: int) -> int:
    """Offset of the `>` of the tag that begins at `start`; one inside quotes is text."""
    quote = 0
    for place in range(start, len(data)):
        byte = data[place]
        if quote:
            quote = 0 if byte == quote else quote
        elif byte in b"\"'":
            quote = byte
        elif byte == 0x3E:
            return place
    raise XmpError("a tag has no end")


class _Reader:
    """Expat's handlers: keeps the simple properties of top-level descriptions, and where they stand."""

    def __init__(self, parser: expat.XMLParserType):
        self.parser = parser
        self.document = _Document()
        self.stack: list[str] = []
        self.prefixes: list[tuple[str, str]] = []
        self.current: _Property | None = None
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text
        parser.StartNamespaceDeclHandler = lambda prefix, uri: self.prefixes.append((prefix or "", uri or ""))
        parser.EndNamespaceDeclHandler = self.forget
        parser.StartDoctypeDeclHandler = self.refuse
        parser.EntityDeclHandler = self.refuse

    def refuse(self, *_: object) -> None:
        raise XmpError("it has a DOCTYPE, which no XMP has")

    def forget(self, prefix: str | None) -> None:
        last = max(i for i, (known, _) in enumerate(self.prefixes) if known == (prefix or ""))
        del self.prefixes[last]

    def top(self) -> bool:
        """Whether a top-level description is open and nothing in it."""
        return self.stack[-1:] == [f"{RDF} Description"] and self.stack[-2:-1] == [f"{RDF} RDF"]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        uri, local, _ = _split(name)
        if self.current is not None:
            self.current.inside = True
            if (uri, local) == (RDF, "li"):
                self.current.value += " "
        elif self.top():
            if (uri, local) in _WANTED:
                self.current = _Property(attributes.get(f"{RDF} value rdf", ""), self.parser.CurrentByteIndex)
                self.document.properties.setdefault((uri, local), []).append(self.current)
        self.stack.append(f"{uri} {local}")
        if len(self.stack) > MAX_DEPTH:
            raise XmpError(f"it is nested more than {MAX_DEPTH} deep")
        if self.top():
            at = self.parser.CurrentByteIndex
            self.document.descriptions.append((at, dict(self.prefixes)))
            for key, value in attributes.items():
                uri, local, prefix = _split(key)
                if (uri, local) in _WANTED:
                    place = _Property(value, at, attribute=f"{prefix}:{local}" if prefix else local)
                    self.document.properties.setdefault((uri, local), []).append(place)

    def text(self, data: str) -> None:
        if self.current is not None:
            self.current.value += data

    def end(self, name: str) -> None:
        self.stack.pop()
        if self.current is not None and self.top():
            self.current.end = self.parser.CurrentByteIndex
            self.current = None


def _parse(data: bytes) -> _Document:
    if len(data) > MAX_BYTES:
        raise XmpError(f"it is larger than {MAX_BYTES >> 20} MB")
    if not _is_utf_16(data):
        data = data.rstrip(b"\0 \t\r\n")  # padding of packets inside pictures
    if not data.strip():
        raise XmpError("it is empty")
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.namespace_prefixes = True
    parser.buffer_text = True
    reader = _Reader(parser)
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise XmpError(f"no well-formed XML ({error})") from None
    return reader.document


def _is_utf_16(data: bytes) -> bool:
    return data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]


def _split(name: str) -> tuple[str, str, str]:
    """Namespace, local name and prefix of expat's triplet."""
    parts = name.split(" ")
    if len(parts) == 1:
        return "", parts[0], ""
    return parts[0], parts[1], parts[2] if len(parts) > 2 else ""


def _number(text: str | None, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    if text is None or text == "":
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:  # NaN is outside, too
        raise XmpError(f"{name} is {text[:40]!r}, which is not a number from {low:g} to {high:g}")
    return number


def _darktable_colour(text: str | None) -> str | None:
    first = (text or "").split()[:1]
    if first and first[0].isdecimal() and int(first[0]) < len(_DARKTABLE_COLOURS):
        return _DARKTABLE_COLOURS[int(first[0])]
    return None


def _pick(value: Mapping[tuple[str, str], str]) -> int | None:
    flag = value.get((DYNAMIC_MEDIA, "pick"))
    if flag in ("-1", "0", "1"):
        return int(flag)
    return {"1": -1, "2": 0, "3": 1}.get(value.get((DIGIKAM, "PickLabel"), ""))
