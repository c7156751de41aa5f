"""Image files: what is accepted becomes upright RGB, what isn't is named; near-duplicates are found."""

import io

import numpy as np
import pytest
from pictures import encoded, huge_png, picture
from PIL import Image
from processes import peak_of

from pamela_hf.files.images import ImageError, open_image_checked, upright_rgb, verify_image
from pamela_hf.ratings.near_duplicates import difference_hash, near_duplicate_groups


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_formats_from_bytes_path_and_stream(tmp_path, format):
    data = encoded(picture(), format)
    path = tmp_path / "x.img"
    path.write_bytes(data)
    for source in (data, path, str(path), io.BytesIO(data)):
        image = open_image_checked(source)
        assert image.mode == "RGB" and image.size == (48, 40)
    assert verify_image(io.BytesIO(data), "x") == data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_give_the_same_picture(orientation):
    upright = picture()
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(upright if undo is None else upright.transpose(undo), exif=exif)
    opened = Image.open(io.BytesIO(data))
    for image in (open_image_checked(data), upright_rgb(opened), upright_rgb(opened.convert("RGBA"))):
        assert np.array_equal(np.asarray(image), np.asarray(upright))
        assert np.array_equal(np.asarray(upright_rgb(image)), np.asarray(upright))  # not turned twice


def test_every_mode_becomes_rgb():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cases = {
        "L": Image.fromarray(grey),
        "1": Image.fromarray(grey).convert("1"),
        "LA": Image.fromarray(grey).convert("LA"),
        "P": picture().convert("P"),
        "RGBA": picture().convert("RGBA"),
    }
    for mode, image in cases.items():
        assert image.mode == mode
        assert open_image_checked(encoded(image)).mode == "RGB"
    assert open_image_checked(encoded(picture().convert("CMYK"), "JPEG")).mode == "RGB"
    deep = Image.fromarray((grey.astype(np.uint16) << 8) + 7)
    assert np.array_equal(np.asarray(open_image_checked(encoded(deep)))[..., 0], grey)


def test_transparency_lies_on_white():
    assert open_image_checked(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([9, 9, 9])
    assert open_image_checked(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_every_truncation_is_named(format):
    options = {"progressive": True} if format == "JPEG" else {}
    data = encoded(picture(size=(160, 120)), format, **options)
    for length in np.linspace(0, len(data) - 1, 140).astype(int):
        for check in (open_image_checked, lambda source, name: verify_image(io.BytesIO(source), name)):
            with pytest.raises(ImageError, match=r"cut\.img: "):
                check(data[:length], "cut.img")
    print(f"140 truncations of a {format}: named")


def test_a_thumbnail_does_not_hide_a_truncation():
    thumbnail = encoded(picture(size=(16, 16)), "JPEG")
    data = encoded(picture(size=(160, 120)), "JPEG", exif=b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail)
    assert open_image_checked(data).size == (160, 120)
    with pytest.raises(ImageError):
        open_image_checked(data[:-2])


def test_other_formats_and_missing_files_are_refused(tmp_path):
    for data in (
        encoded(picture(), "EPS"),
        encoded(picture(), "ICO"),
        encoded(picture(), "PDF"),
        b"<svg/>",
        b"",
        b"%PDF-1.4",
        b"\x89PNG\r\n\x1a\n",
    ):
        with pytest.raises(ImageError, match=r"x\.png: "):
            open_image_checked(data, "x.png")
    with pytest.raises(ImageError, match=r"none\.png: cannot be opened"):
        open_image_checked(tmp_path / "none.png")


def test_limit_of_64_megapixels():
    assert open_image_checked(huge_png(8000, 10)).size == (8000, 10)
    for width, height in ((8001, 8000), (20_000, 20_000)):
        with pytest.raises(ImageError, match=r"big\.png: .* at most 64 megapixels"):
            open_image_checked(huge_png(width, height, rows=10), "big.png")


@pytest.mark.faults
def test_a_400_megapixel_png_costs_no_memory(tmp_path):
    (tmp_path / "bomb.png").write_bytes(huge_png(20_000, 20_000))
    code = """
import sys
from pamela_hf.files.images import ImageError, open_image_checked
before, refused = peak(), 0
try:
    open_image_checked(sys.argv[1])
except ImageError:
    refused = 1
print(refused, peak() - before)
"""
    refused, megabytes = peak_of(code, tmp_path / "bomb.png")
    print(f"1 PNG of 400 megapixels: refused at {megabytes:.1f} MB")
    assert refused and megabytes < 50


def test_copies_hash_alike_and_others_do_not():
    pictures = [picture(seed, (320, 240)) for seed in range(30)]
    hashes = {f"{k}": difference_hash(image) for k, image in enumerate(pictures)}
    for k, image in enumerate(pictures):
        hashes[f"{k} small"] = difference_hash(image.resize((150, 110)))
        hashes[f"{k} jpeg"] = difference_hash(open_image_checked(encoded(image, "JPEG", quality=60)))
    groups = near_duplicate_groups(hashes, hashes=hashes)
    assert len(set(groups.values())) == 30
    assert all(groups[f"{k}"] == groups[f"{k} small"] == groups[f"{k} jpeg"] == k for k in range(30))


@pytest.mark.parametrize("cells", [1, 60, 1 << 22])
def test_groups_are_those_of_all_pairs_however_many_are_compared_at_a_time(cells, monkeypatch):
    from scipy.sparse.csgraph import connected_components

    from pamela_hf.ratings import near_duplicates

    monkeypatch.setattr(near_duplicates, "MAX_CELLS", cells)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (40, 64))
    for one in range(0, 40, 5):  # a chain: each differs from the one before in 3 bits
        bits[one + 1] = bits[one]
        bits[one + 1, :3] ^= 1
        bits[one + 2] = bits[one + 1]
        bits[one + 2, 3:6] ^= 1
    rows = rng.normal(size=(40, 6))
    rows[7], rows[23], rows[39] = rows[0], rows[1], rows[2]
    hashes = {f"{i}": int("".join(map(str, one)), 2) for i, one in enumerate(bits) if i != 3}
    near = (bits[:, None] != bits).sum(2) <= 4
    near[3] = near[:, 3] = False
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    near |= unit @ unit.T >= 0.98
    _, expected = connected_components(near, directed=False)
    groups = near_duplicate_groups([f"{i}" for i in range(40)], hashes=hashes, embeddings=rows, min_cosine=0.98)
    found = np.array(list(groups.values()))
    assert len(set(found)) < 40 - 16 + 1
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)


def test_groups_by_embedding_are_chains_and_zero_rows_match_nothing():
    angles = np.deg2rad([0, 8, 16, 90])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows = np.concatenate([rows, np.zeros((2, 2)), [[np.nan, 1]]])
    groups = near_duplicate_groups("abcdxyz", embeddings=rows, min_cosine=0.985)
    assert groups == {"a": 0, "b": 0, "c": 0, "d": 1, "x": 2, "y": 3, "z": 4}
    with pytest.raises(ValueError, match="7 rows for 2 image_ids"):
        near_duplicate_groups("ab", embeddings=rows)
    assert near_duplicate_groups("ab") == {"a": 0, "b": 1}
