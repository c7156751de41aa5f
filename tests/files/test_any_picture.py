"""The same picture in every form it comes in; what is read beyond PNG, JPEG and WebP; what is refused, by name."""

import base64
import http.server
import io
import socket
import sys
import threading
import unicodedata
from itertools import islice

import numpy as np
import pytest
import torch
from pictures import dng, encoded, huge_png, picture
from PIL import Image, ImageCms

from pamela_hf.files import downloads
from pamela_hf.files import images as images_module
from pamela_hf.files.images import ImageError, each_image, open_image, open_image_checked, verify_image

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def same(opened: Image.Image) -> bool:
    return opened.mode == "RGB" and np.array_equal(np.asarray(opened), PIXELS)


def test_one_picture_in_every_form(tmp_path):
    data, path = encoded(Image.fromarray(PIXELS)), tmp_path / "my photo.png"
    path.write_bytes(data)
    with open(path, "rb") as stream:
        assert same(open_image(stream))
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    for form in (path, str(path), path.as_uri(), data, bytearray(data), memoryview(data), io.BytesIO(data), url,
                 {"bytes": data, "path": None}, {"path": str(path)}, Image.open(path),
                 Image.fromarray(PIXELS)):  # fmt: skip
        assert same(open_image(form)), form
    floats = PIXELS / 255
    first = PIXELS.transpose(2, 0, 1)
    tensor = torch.from_numpy(PIXELS.copy())
    arrays = [PIXELS, first, PIXELS[None], first[None], floats, floats.astype(np.float32)[None], first / 255]
    half, brain = floats.astype(np.float16), torch.from_numpy(floats).bfloat16()
    tensors = [tensor, tensor.permute(2, 0, 1), torch.from_numpy(half)[None], torch.from_numpy(floats).requires_grad_()]
    for form in (*arrays, half, brain, *tensors):
        assert same(open_image(form)), (form.shape, form.dtype)
    grey = PIXELS[..., 0]
    expected = np.asarray(open_image(Image.fromarray(grey)))
    for form in (grey, grey[..., None], grey[None], grey[None, ..., None], torch.from_numpy(grey / 255)):
        assert np.array_equal(np.asarray(open_image(form)), expected)
    alpha = np.concatenate([PIXELS, np.full((24, 40, 1), 128, np.uint8)], 2)
    expected = np.asarray(open_image(Image.fromarray(alpha)))
    for form in (alpha, alpha.transpose(2, 0, 1), alpha / 255, torch.from_numpy(alpha)[None]):
        assert np.array_equal(np.asarray(open_image(form)), expected)


def test_a_batch_splits_and_a_generator_is_read_as_needed():
    batch = np.stack([PIXELS, 255 - PIXELS])
    for form in (batch, batch.transpose(0, 3, 1, 2), torch.from_numpy(batch / 255), [PIXELS, 255 - PIXELS]):
        opened = [open_image(image) for image in each_image(form)]
        assert len(opened) == 2 and same(opened[0]) and not same(opened[1])
    assert len(list(each_image([batch, "a.png", PIXELS]))) == 4
    assert list(each_image(np.array(["a.png", "b.png"]))) == ["a.png", "b.png"]
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield PIXELS

    assert len(list(islice(each_image(endless()), 5))) == 5 == len(taken)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 9, 3), np.uint8), r"shape \(3, 9, 3\) can be read as channels first and as channels last"),
        (np.zeros((1, 9, 3), np.uint8), r"shape \(1, 9, 3\) can be read"),
        (torch.zeros(2, 9, 9), r"shape \(2, 9, 9\); expected .*\(B, H, W, 1\)"),
        (np.zeros((9, 9, 7), np.uint8), r"shape \(9, 9, 7\)"),
        (np.zeros((2, 9, 9, 3), np.uint8), r"shape \(2, 9, 9, 3\)"),
        (np.full((9, 9, 3), 255.0), "dtype float64 has values from 255 to 255; floats go from 0 to 1"),
        (np.full((9, 9, 3), np.nan), "values from nan to nan"),
        (torch.full((9, 9, 3), -0.5), "values from -0.5 to -0.5"),
        (torch.zeros(9, 9, 3, dtype=torch.int64), "dtype torch.int64; expected uint8"),
        (Image.fromarray(np.full((4, 4), 1e6, np.float32)), "mode F with values from 1e"),
        (Image.fromarray(np.full((4, 4), 70_000, np.int32)), "mode I with values from 70000"),
        (7, "a value of type int is not a picture"),
        (b"", "an empty file"),
        ("data:image/png;base64,AAA", "its base64 is broken"),
        ("data:image/png;base64,AAAA", "data URL: not an image"),
        ("file://elsewhere/a.png", "on another machine"),
        (io.StringIO("text"), "image stream: damaged image"),
    ],
)  # fmt: skip
def test_what_is_not_a_picture_is_named(image, message):
    with pytest.raises(ImageError, match=message):
        open_image(image)


def test_a_closed_image_and_a_closed_stream_are_called_closed(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture()))
    with Image.open(path) as image:
        pass
    image.close()
    stream = open(path, "rb")
    stream.close()
    for closed in (image, stream):
        with pytest.raises(ImageError, match="is closed"):
            open_image(closed)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "JPEG2000", "PPM", "PCX", "QOI", "SGI", "DDS", "TGA"])
def test_what_pillow_decodes_is_read(tmp_path, format):
    path = tmp_path / f"a.{format.lower()}"
    image = Image.fromarray(PIXELS)
    path.write_bytes(encoded(image.quantize() if format == "GIF" else image, format))
    opened = open_image(path)
    assert same(opened) or (format == "GIF" and opened.size == (40, 24))
    with open(path, "rb") as stream:
        assert verify_image(stream, str(path)) == path.read_bytes()


def test_jpegs_by_any_name_multi_pictures_and_avif(tmp_path):
    smooth = picture()
    jpeg = encoded(smooth, "JPEG")
    (tmp_path / "a.jfif").write_bytes(jpeg)
    by_jpeg = np.asarray(open_image(jpeg))
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.jfif")), by_jpeg)
    mpo = encoded(smooth, "MPO", save_all=True, append_images=[picture(1)])
    assert np.array_equal(np.asarray(open_image(mpo)), by_jpeg)
    avif = np.asarray(open_image(encoded(smooth, "AVIF", quality=95)))
    assert np.abs(avif.astype(int) - np.asarray(smooth)).mean() < 4


def test_heic_upright_and_named_where_its_package_is_missing(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    smooth = picture(size=(320, 240))
    exif = Image.Exif()
    exif[0x0112] = 6
    heif.register_heif_opener()
    turned = encoded(smooth.transpose(Image.Transpose.ROTATE_90), "HEIF", exif=exif.tobytes(), quality=95)
    for data in (encoded(smooth, "HEIF", quality=95), turned):
        opened = np.asarray(open_image(data))
        assert opened.shape == (240, 320, 3) and np.abs(opened.astype(int) - np.asarray(smooth)).mean() < 6
    assert Image.open(io.BytesIO(verify_image(io.BytesIO(turned), "a.heic"))).format == "PNG"
    with pytest.raises(ImageError, match=r"cut\.heic: damaged image"):
        open_image_checked(turned[: len(turned) // 2], "cut.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"a\.heic: HEIC .*pip install 'pamela_hf\[photos\]'"):
        open_image_checked(turned, "a.heic")


def test_a_raw_file_that_is_none_is_named(tmp_path, monkeypatch):
    pytest.importorskip("rawpy")
    (tmp_path / "a.NEF").write_bytes(b"II*\0" + bytes(500))
    with pytest.raises(ImageError, match=r"a\.NEF: damaged or unknown raw file"):
        open_image(tmp_path / "a.NEF")
    (tmp_path / "b.raw").write_bytes(encoded(Image.fromarray(PIXELS)))  # a PNG, whatever it is called
    assert same(open_image(tmp_path / "b.raw"))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageError, match=r"a\.NEF: Camera raw .*pip install 'pamela_hf\[photos\]'"):
        open_image(tmp_path / "a.NEF")


def test_deep_grey_is_scaled_and_cmyk_follows_its_profile():
    for value, dtype, expected in [
        (0.5, np.float32, 128),
        (128, np.float32, 128),
        (200, np.int32, 200),
        (200 << 8, np.int32, 200),
        (200 << 8, np.uint16, 200),
    ]:
        assert open_image(Image.fromarray(np.full((4, 4), value, dtype))).getpixel((0, 0)) == (expected,) * 3
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert open_image(encoded(cmyk, "TIFF")).getpixel((0, 0)) == (255, 0, 0)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert open_image(encoded(cmyk, "TIFF", icc_profile=srgb)).getpixel((0, 0)) == (255, 0, 0)  # not a CMYK profile


def test_a_panorama_is_decoded_smaller_where_the_format_can(monkeypatch):
    monkeypatch.setattr(images_module, "MAX_PIXELS", 50_000)
    smooth = picture(size=(800, 240))
    for format in ("JPEG", "JPEG2000"):
        opened = open_image(encoded(smooth, format))
        assert opened.size == (400, 120)
        expected = np.asarray(smooth.reduce(2)).astype(int)
        assert np.abs(np.asarray(opened) - expected).mean() < 4
    for format in ("PNG", "TIFF", "BMP", "GIF", "WEBP"):
        with pytest.raises(ImageError, match=r"big\.x: 800 × 240 pixels; at most"):
            open_image_checked(encoded(smooth, format), "big.x")
    assert open_image(smooth).size == (400, 120)  # made in memory
    with pytest.raises(ImageError, match="at most"):
        open_image_checked(encoded(picture(size=(3200, 3200)), "JPEG"), "huge.jpg")


def test_a_large_jpeg_is_read_and_a_larger_png_is_not():
    assert open_image(encoded(Image.new("L", (20_000, 9_200), 77), "JPEG")).size == (10_000, 4_600)
    with pytest.raises(ImageError, match=r"a\.png: .*megapixels"):
        open_image_checked(huge_png(20_000, 20_000, rows=10), "a.png")


def test_a_name_in_another_unicode_form_or_with_backslashes_is_found(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    (tmp_path / "deep").mkdir()
    for written, on_disk in ((composed, decomposed), (decomposed, composed)):
        (tmp_path / on_disk).write_bytes(encoded(Image.fromarray(PIXELS)))
        assert same(open_image(tmp_path / written))
        (tmp_path / on_disk).unlink()
    (tmp_path / "deep" / "a.png").write_bytes(encoded(Image.fromarray(PIXELS)))
    assert same(open_image(f"{tmp_path}/deep\\a.png"))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for name, message in {"gone.png": "a link to a file that does not exist", "deep": "a folder"}.items():
        with pytest.raises(ImageError, match=message):
            open_image(tmp_path / name)


@pytest.fixture
def server():
    data = encoded(Image.fromarray(PIXELS))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            kind = self.path.partition("?")[0]
            if kind == "/moved":
                self.send_response(302)
                self.send_header("Location", "/a.png")
                self.end_headers()
                return
            if kind.startswith("/elsewhere-"):
                self.send_response(302)
                port = self.server.server_port
                self.send_header("Location", f"{kind.partition('-')[2]}://rebinding.example:{port}/a.png")
                self.end_headers()
                return
            if kind == "/file":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
                return
            self.send_response(404 if kind == "/none" else 200)
            if kind == "/big":
                self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            try:
                self.wfile.write(data)
                if kind == "/endless":
                    while True:
                        self.wfile.write(bytes(1 << 16))
            except OSError:
                pass

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_an_address_is_read_within_bounds(server, monkeypatch):
    assert same(open_image(f"{server}/a.png")) and same(open_image(f"{server}/moved", private_redirects=True))
    monkeypatch.setattr(images_module, "MAX_FILE_BYTES", 1 << 20)
    for path, message in {
        "/moved": "redirects to the private address .*/a.png",
        "/file": "not allowed",
        "/none": "answers 404",
        "/big": "1,099,511,627,776 bytes; at most 1,048,576",
        "/endless": "more than 1,048,576 bytes",
    }.items():
        with pytest.raises(ImageError, match=message):
            open_image(server + path)
    with pytest.raises(ImageError) as refused:
        open_image(server.replace("//", "//ann:SECRET@") + "/none?token=SECRET")
    assert "SECRET" not in str(refused.value)
    with pytest.raises(ImageError, match="cannot be downloaded"):
        open_image("http://127.0.0.1:9/a.png")


def test_a_name_that_changes_its_address_leads_to_no_private_one(server, monkeypatch):
    """A redirect to a name that is public when it is checked and private afterwards: it is looked up once."""
    real, asked, connected = socket.getaddrinfo, [], []
    port = int(server.rpartition(":")[2])

    def lookup(host, *more, **how):
        if host != "rebinding.example":
            return real(host, *more, **how)
        asked.append(host)
        address = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(address, *more, **how):
        connected.append(address[0])
        if address[0] == "127.0.0.1" and len(connected) == 1:  # the server that redirects
            return plain(address, *more, **how)
        raise OSError("not reached in a test")

    plain = socket.create_connection
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setenv("no_proxy", "*")
    for scheme in ("http", "https"):
        asked.clear(), connected.clear()
        with pytest.raises(ImageError, match="cannot be downloaded"):
            open_image(f"{server}/elsewhere-{scheme}")
        assert asked == ["rebinding.example"] and connected == ["127.0.0.1", "93.184.215.14"]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1"])
def test_private_addresses_are_known_in_every_form(address):
    assert not downloads._is_public(address) and downloads._is_public("93.184.215.14")


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (3, 180), (6, -90), (8, 90)])
def test_a_raw_files_preview_is_read_upright(tmp_path, orientation, turned):
    """With LibRaw itself, from a DNG whose preview a camera would have stored as its sensor saw it."""
    pytest.importorskip("rawpy")
    preview = picture(size=(96, 64))
    (tmp_path / "a.dng").write_bytes(dng(preview, orientation))
    opened, expected = open_image(tmp_path / "a.dng"), preview.rotate(turned, expand=True)
    assert opened.size == expected.size
    difference = np.asarray(opened, np.int16) - np.asarray(expected.convert("RGB"), np.int16)
    assert np.abs(difference).mean() < 6  # what JPEG loses
    for cut in (40, 2000):
        (tmp_path / "cut.dng").write_bytes(dng(preview, orientation)[:cut])
        with pytest.raises(ImageError, match=r"cut\.dng: "):
            open_image(tmp_path / "cut.dng")
