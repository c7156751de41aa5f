"""One XMP packet, read as hostile and changed byte by byte."""

import time

import pytest
from photo_tools import exiftool, exiv2, needs_exiftool, needs_exiv2, tags

from pamela_hf.photos.xmp import MAX_BYTES, XmpError, read_packet, stars_of_percent, write_packet

HEAD = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
TAIL = "</rdf:RDF></x:xmpmeta>"
XMP = 'xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
DIGIKAM = 'xmlns:digiKam="http://www.digikam.org/ns/1.0/"'
DARKTABLE = 'xmlns:darktable="http://darktable.sf.net/"'
DM = 'xmlns:xmpDM="http://ns.adobe.com/xmp/1.0/DynamicMedia/"'
VALUES = {"score": "4.12", "std": "0.61"}


def packet(description: str) -> bytes:
    return (HEAD + description + TAIL).encode()


@pytest.mark.parametrize("rating", [-1, 0, 1, 5])
def test_a_rating_is_read_as_attribute_and_as_element(rating):
    attribute = packet(f'<rdf:Description rdf:about="" {XMP} xmp:Rating="{rating}"/>')
    element = packet(f'<rdf:Description rdf:about="" {XMP}><xmp:Rating>{rating}</xmp:Rating></rdf:Description>')
    other_prefix = packet(f'<rdf:Description xmlns:a="http://ns.adobe.com/xap/1.0/" a:Rating="{rating}"/>')
    for data in (attribute, element, other_prefix, "\ufeff".encode() + attribute, attribute + b"\n   \0\0"):
        assert read_packet(data).rating == rating
    assert read_packet(attribute.decode().encode("utf-16")).rating == rating


def test_the_prefix_alone_means_nothing_and_neither_does_a_nested_rating():
    assert read_packet(packet('<rdf:Description xmlns:xmp="http://example.org/" xmp:Rating="3"/>')).rating is None
    nested = f'<rdf:Description {XMP} {DARKTABLE}><darktable:history><rdf:Seq><rdf:li><rdf:Description xmp:Rating="5"/>'
    nested += "</rdf:li></rdf:Seq></darktable:history></rdf:Description>"
    assert read_packet(packet(nested)).rating is None


def test_flags_labels_and_windows_ratings():
    microsoft = 'xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"'
    assert read_packet(packet(f'<rdf:Description {microsoft} MicrosoftPhoto:Rating="75"/>')).percent == 4
    assert read_packet(packet(f'<rdf:Description {XMP} xmp:Label="Green"/>')).label == "Green"
    assert [read_packet(packet(f'<rdf:Description {DIGIKAM} digiKam:PickLabel="{n}"/>')).pick for n in range(4)] == [
        None, -1, 0, 1,
    ]  # fmt: skip
    assert read_packet(packet(f'<rdf:Description {DM} xmpDM:pick="-1"/>')).pick == -1
    colours = "<darktable:colorlabels><rdf:Seq><rdf:li>2</rdf:li><rdf:li>0</rdf:li></rdf:Seq></darktable:colorlabels>"
    assert read_packet(packet(f"<rdf:Description {DARKTABLE}>{colours}</rdf:Description>")).label == "Green"


def test_percent_follows_windows_ranges():
    assert [stars_of_percent(p) for p in (0, 1, 12, 13, 25, 37, 38, 50, 63, 75, 87, 88, 99)] == [
        0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5,
    ]  # fmt: skip
    with pytest.raises(XmpError, match="100"):
        stars_of_percent(100)


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(12))
    + b"]><x>&m;</x>"
)
EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x>&a;</x>'


@pytest.mark.parametrize(
    "data",
    [BOMB, EXTERNAL, b"", b"<x", b"\x00\x01\x02", b"<x>" * 100_000, packet(f'<rdf:Description {XMP} xmp:Rating="6"/>'),
     packet(f'<rdf:Description {XMP} xmp:Rating="nan"/>'), packet(f'<rdf:Description {XMP} xmp:Rating="five"/>'),
     b" " * (MAX_BYTES + 1)],
)  # fmt: skip
def test_hostile_and_broken_packets_are_errors_at_once(data):
    started = time.perf_counter()
    with pytest.raises(XmpError):
        read_packet(data)
    assert time.perf_counter() - started < 2


def test_writing_changes_nothing_else():
    for before in (
        packet(f"<rdf:Description rdf:about='' {XMP}\n  xmp:Rating='3' xmp:Label=\"a > b\"/><!-- kept -->"),
        packet(f"<rdf:Description rdf:about='' {XMP}>\n <xmp:Rating>3</xmp:Rating>\n</rdf:Description>"),
        packet('<rdf:Description rdf:about=""></rdf:Description>') + b"\n\n  ",
    ):
        after = write_packet(before, VALUES)
        added = b' xmlns:pamela="urn:pamela-hf:taste:1.0/" pamela:score="4.12" pamela:std="0.61"'
        assert added in after and after.replace(added, b"") == before
        assert read_packet(after).rating == read_packet(before).rating
        assert write_packet(after, VALUES) == after
        assert b"pamela:score" not in write_packet(after, {})


def test_a_rating_is_replaced_where_it_stands_in_either_form():
    for before in (
        packet(f'<rdf:Description {XMP} xmp:Rating="0" xmp:Label="Red"/>'),
        packet(f"<rdf:Description {XMP} xmp:Label='Red'><xmp:Rating>0</xmp:Rating></rdf:Description>"),
        packet(f"<rdf:Description {XMP} xmp:Label='Red'><xmp:Rating/></rdf:Description>"),
        packet("<rdf:Description xmlns:xmp='urn:else' xmp:Label='Red'/>"),
    ):
        after = write_packet(before, {**VALUES, "stars": "4"}, rating=4)
        found = read_packet(after)
        assert (found.rating, found.stars, found.score) == (4, 4, 4.12)
        assert b"Red" in after and read_packet(after).label == read_packet(before).label


def test_what_cannot_be_changed_safely_is_left_alone():
    with pytest.raises(XmpError, match="UTF-16"):
        write_packet(packet(f'<rdf:Description {XMP} xmp:Rating="3"/>').decode().encode("utf-16"), VALUES)
    with pytest.raises(XmpError, match="rdf:Description"):
        write_packet(b"<x/>", VALUES)


@needs_exiftool
def test_exiftool_reads_what_we_wrote_and_we_what_it_wrote(tmp_path):
    sidecar = tmp_path / "a.xmp"
    exiftool("-XMP-xmp:Rating=2", "-XMP-dc:Subject=sea", "-XMP-xmp:Label=Blue", sidecar)
    before = sidecar.read_bytes()
    assert (read_packet(before).rating, read_packet(before).label) == (2, "Blue")
    sidecar.write_bytes(write_packet(before, {**VALUES, "stars": "4"}, rating=4))
    found = tags(sidecar)
    assert found["XMP-xmp:Rating"] == 4 and found["XMP-pamela:Score"] == 4.12 and found["XMP-dc:Subject"] == "sea"
    exiftool("-overwrite_original", "-XMP-xmp:Rating=5", sidecar)  # the person disagrees
    again = read_packet(sidecar.read_bytes())
    assert (again.rating, again.stars, again.score) == (5, 4, 4.12)


@needs_exiv2
def test_exiv2_reads_what_we_wrote_and_we_what_it_wrote(tmp_path):
    sidecar = tmp_path / "a.xmp"
    sidecar.write_bytes(write_packet(None, {**VALUES, "stars": "4"}, rating=4))
    printed = exiv2("-PX", sidecar)
    assert "Xmp.xmp.Rating" in printed and "Xmp.pamela.score" in printed and "4.12" in printed
    exiv2("-Mset Xmp.xmp.Rating 1", sidecar)
    found = read_packet(sidecar.read_bytes())
    assert (found.rating, found.stars, found.std) == (1, 4, 0.61)
    assert read_packet(write_packet(sidecar.read_bytes(), VALUES)).rating == 1
