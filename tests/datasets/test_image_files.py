"""Image files that lie, that are of odd forms, and what they carry besides pixels."""

import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import (
    IMAGE_SUFFIXES,
    decode_bgr,
    decode_image,
    deep,
    encode_image,
    read_bytes,
    read_image,
    write_image,
)

RNG = np.random.default_rng(1)
BGR8 = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)
BGR16 = RNG.integers(0, 65536, (24, 40, 3), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(kind: str, image: Image.Image | None = None, **options) -> bytes:
    buffer = BytesIO()
    (image or Image.fromarray(BGR8[..., ::-1])).save(buffer, kind, **options)
    return buffer.getvalue()


# -- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF"])
def test_each_format_is_read(kind: str):
    flat = Image.new("RGB", (40, 24), (200, 30, 90))
    image = decode_image(saved(kind, flat), "a")
    assert image.bgr.shape == (24, 40, 3)
    assert np.abs(image.bgr.astype(int) - (90, 30, 200)).max() <= 6


def test_heic_is_read():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 32), (200, 30, 90))).save(buffer)
    image = decode_image(buffer.getvalue(), "a.heic")
    assert image.bgr.shape == (32, 64, 3)
    assert np.abs(image.bgr.astype(int) - (90, 30, 200)).max() <= 6


def test_heic_without_its_package_names_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(GCFSRError, match=r"a\.heic: .*gcfsr\[heic\]"):
        decode_image(b"\x00\x00\x00\x18ftypheic" + bytes(100), "a.heic")


@pytest.mark.parametrize("kind", ["PPM", "TGA", "PCX", "ICO", "DDS", "SGI", "PDF", "EPS"])
def test_other_formats_are_not_opened(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    path.write_bytes(saved(kind))

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)  # as Pillow starts Ghostscript
    with pytest.raises(GCFSRError, match=r"a\.png: not an image in PNG, JPEG"):
        read_image(path)
    with pytest.raises(GCFSRError, match=r"a\.png: not an image in PNG, JPEG"):
        decode_bgr(path.read_bytes(), "a.png")


# -- limits -----------------------------------------------------------------------------------------------------------


def lying(kind: str) -> bytes:
    """A few bytes whose header promises about 170 megapixels."""
    if kind == "JPEG":
        data = saved("JPEG", Image.new("RGB", (8, 8)))
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">2H", 13000, 13000) + data[at + 4 :]
    if kind == "PNG":
        header = struct.pack(">4s2L5B", b"IHDR", 13000, 13000, 8, 2, 0, 0, 0)
        return saved("PNG")[:12] + header + struct.pack(">L", zlib.crc32(header)) + saved("PNG")[33:]
    if kind == "VP8L":
        size = 12999 | 12999 << 14
        return (
            b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0e\x00\x00\x00\x2f" + size.to_bytes(4, "little") + b"\x07\x10\x11\xfd\x0f"
        )
    if kind == "VP8X":
        side = (12999).to_bytes(3, "little")
        return b"RIFF\x1a\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + bytes(4) + side + side
    if kind == "VP8":
        return b"RIFF\x1a\x00\x00\x00WEBPVP8 \x0a\x00\x00\x00\x10\x00\x00\x9d\x01\x2a" + struct.pack(
            "<2H", 13000, 13000
        )
    if kind == "GIF":
        return b"GIF89a" + struct.pack("<2H", 13000, 13000) + bytes(3) + b"," + bytes(9) + b"\x02\x01\x00\x00;"
    if kind == "BMP":
        data = bytearray(saved("BMP"))
        data[18:26] = struct.pack("<2l", 13000, 13000)
        return bytes(data)
    if kind == "JPEG2000":
        data = bytearray(saved("JPEG2000"))
        at = data.index(b"\xff\x4f\xff\x51")
        data[at + 8 : at + 16] = struct.pack(">2L", 13000, 13000)  # the container still says 40x24
        return bytes(data)
    tiled = {256: 40, 257: 24, 258: 8, 259: 1, 262: 1, 322: 13008, 323: 13008, 324: 8, 325: 9}
    plain = {256: 13000, 257: 13000, 258: 16, 259: 8, 262: 1, 273: 8, 278: 13000, 279: 9}
    tags = {"TIFF": plain, "tiled TIFF": tiled}[kind]
    entries = b"".join(struct.pack("<2HLL", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\x00" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4)


KINDS = ["JPEG", "PNG", "VP8L", "VP8X", "VP8", "GIF", "BMP", "JPEG2000", "TIFF", "tiled TIFF"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_beyond_the_limit_is_refused_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch, recwarn):
    data = lying(kind)

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Image.Image, "convert", decoded)
    monkeypatch.setattr(cv2, "imdecode", decoded)
    for read in (decode_image, decode_bgr):
        with pytest.raises(GCFSRError, match=r"a\.x: .*--max-pixels 169"):
            read(data, "a.x")
    assert not recwarn.list


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is bounded on Linux only")
def test_no_memory_is_reserved_for_a_false_size(tmp_path: Path, outside: dict[str, str]):
    for kind in KINDS:
        (tmp_path / kind).write_bytes(lying(kind))
    program = (
        "import resource, sys; from gcfsr_datasets.image_io import GCFSRError, read_image\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_image(path); print('read', path)\n"
        "    except GCFSRError as error: print(error)\n"
    )
    paths = [str(tmp_path / kind) for kind in KINDS]
    done = subprocess.run([sys.executable, "-c", program, *paths], env=outside, capture_output=True, text=True)
    assert done.stderr == ""
    assert [("--max-pixels" in line) for line in done.stdout.splitlines()] == [True] * len(KINDS)


def test_the_limit_is_the_callers_and_pillows_own_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    write_image(path, BGR8)
    with pytest.raises(GCFSRError, match=r"40x24 is 0\.0 megapixels.*--max-pixels 960"):
        read_image(path, 959)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # above twice of it Pillow raises
    assert read_image(path, 960).bgr.shape == (24, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_devices_and_pipes_are_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in ("/dev/zero", str(tmp_path / "pipe.png"), str(tmp_path)):
        answer: list[BaseException] = []

        def attempt(path: str = path, answer: list[BaseException] = answer) -> None:
            try:
                read_image(path)
            except GCFSRError as error:
                answer.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        thread.join(60)
        assert len(answer) == 1
        assert str(answer[0]).startswith(path)


def test_a_file_larger_than_any_such_image_is_not_read(tmp_path: Path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(1 << 20)
    with pytest.raises(GCFSRError, match="over 1000 bytes"):
        read_bytes(tmp_path / "a.png", 1000)


# -- pixels -----------------------------------------------------------------------------------------------------------

FORMS = {
    "chunky": {},
    "planar": {"planarconfig": "separate"},
    "deflated": {"compression": "zlib", "predictor": 2, "rowsperstrip": 5},
    "planar strips": {"planarconfig": "separate", "compression": "zlib", "rowsperstrip": 5},
    "tiles": {"tile": (16, 16)},
    "planar tiles": {"planarconfig": "separate", "tile": (16, 16)},
    "big": {"bigtiff": True},
    "big planar": {"bigtiff": True, "planarconfig": "separate"},
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("samples", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_as_tifffile_wrote_it(order: str, form: str, samples: int, dtype: type):
    tifffile = pytest.importorskip("tifffile")
    planar = "separate" in FORMS[form].values()
    if samples == 1 and planar:
        pytest.skip("one plane is not told apart")
    rgb = RNG.integers(0, np.iinfo(dtype).max + 1, (24, 40, samples), dtype=dtype)
    stored = rgb.transpose(2, 0, 1) if planar else rgb[..., 0] if samples == 1 else rgb
    if order == ">" and "bigtiff" in FORMS[form]:
        pytest.skip("see the test of what is named")
    buffer = BytesIO()
    options = {"photometric": "rgb" if samples > 1 else "minisblack", **FORMS[form]}
    extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    tifffile.imwrite(buffer, stored, byteorder=order, **extra, **options)
    image = decode_image(buffer.getvalue(), "a.tif")
    assert image.bgr.dtype == dtype
    np.testing.assert_array_equal(image.bgr, np.repeat(rgb, 3, axis=2) if samples == 1 else rgb[..., 2::-1])
    if samples == 4:
        np.testing.assert_array_equal(image.alpha, rgb[..., 3])
    if dtype == np.uint16:
        np.testing.assert_array_equal(decode_bgr(buffer.getvalue(), "a"), np.rint(image.bgr / 257).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero(dtype: type):
    tifffile = pytest.importorskip("tifffile")
    gray = RNG.integers(0, np.iinfo(dtype).max + 1, (24, 40), dtype=dtype)
    buffer = BytesIO()
    tifffile.imwrite(buffer, gray, photometric="miniswhite")
    expected = np.repeat((np.iinfo(dtype).max - gray)[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_image(buffer.getvalue(), "a.tif").bgr, expected)


def test_colours_multiplied_with_alpha_are_divided_again():
    tifffile = pytest.importorskip("tifffile")
    alpha = RNG.integers(20000, 65536, (24, 40), dtype=np.uint16)
    rgb = RNG.integers(0, 65536, (24, 40, 3), dtype=np.uint16)
    stored = np.rint(rgb * (alpha[..., None] / 65535)).astype(np.uint16)
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.dstack([stored, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    image = decode_image(buffer.getvalue(), "a.tif")
    np.testing.assert_array_equal(image.alpha, alpha)
    assert np.abs(image.bgr[..., ::-1].astype(int) - rgb).max() <= 2  # half a step, over 20000/65535


@pytest.mark.parametrize(
    ("pixels", "options", "words"),
    [
        (np.dstack([BGR16, BGR16[..., :1]]), {"photometric": "separated"}, "neither gray nor RGB"),
        (BGR16, {"photometric": "cielab"}, "neither gray nor RGB"),
        (BGR16.astype(np.int16), {"photometric": "rgb"}, "not unsigned"),
        (BGR16.astype(np.float32), {"photometric": "rgb"}, "32 bits"),
        (BGR16.astype(np.uint32), {"photometric": "rgb"}, "32 bits"),
        (BGR16, {"photometric": "rgb", "bigtiff": True, "byteorder": ">"}, "big-endian BigTIFF"),
        (np.dstack([BGR16, BGR16[..., :2]]), {"photometric": "rgb", "extrasamples": ["unassalpha", 0]}, "5 samples"),
    ],
)
def test_tiff_of_another_kind_is_named(pixels: np.ndarray, options: dict, words: str, capfd):
    tifffile = pytest.importorskip("tifffile")
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite(buffer, pixels, **options)
    with pytest.raises(GCFSRError, match=rf"a\.tif: .*{words}.*convert it"):
        decode_image(buffer.getvalue(), "a.tif")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("dtype", "method", "words"),
    [
        (np.uint8, 50001, "compressed by WebP"),
        (np.uint8, 34712, "compressed by JPEG 2000"),
        (np.uint8, 60000, "compressed by method 60000"),
        (np.uint16, 34925, "16 bits compressed by LZMA"),
        (np.uint16, 50000, "16 bits compressed by Zstandard"),
        (np.uint16, 7, "16 bits compressed by JPEG"),
    ],
)
def test_a_compression_that_nothing_here_reads_is_named(dtype: type, method: int, words: str, capfd):
    tifffile = pytest.importorskip("tifffile")
    buffer = BytesIO()
    tifffile.imwrite(buffer, BGR8.astype(dtype), photometric="rgb")
    entry = struct.pack("<HHLH", 259, 3, 1, 1)
    assert buffer.getvalue().count(entry) == 1
    data = buffer.getvalue().replace(entry, struct.pack("<HHLH", 259, 3, 1, method))
    for decode in (decode_image, decode_bgr):
        with pytest.raises(GCFSRError, match=rf"a\.tif: cannot read a TIFF .*{words}; convert it"):
            decode(data, "a.tif")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["8-bit TIFF", "16-bit TIFF", "16-bit PNG"])
def test_damaged_pixels_are_one_line_and_libraries_print_nothing(kind: str, capfd):
    bgr = BGR8 if kind.startswith("8") else BGR16
    data = bytearray(encode_image(bgr, suffix=f".{kind[-4:].strip().lower()}".replace("tiff", "tif")))
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    with pytest.raises(GCFSRError, match=r"a: cannot be decoded \(.*; the file is damaged"):
        decode_image(bytes(data), "a")
    assert capfd.readouterr().err == ""
    os.write(2, b"shown again")
    assert capfd.readouterr().err == "shown again"


def test_a_closed_standard_error_does_not_matter():
    code = "import os, sys; from gcfsr_datasets.image_io import decode_image; os.close(2); " + (
        "print(decode_image(sys.stdin.buffer.read(), 'a').bgr.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=saved("PNG"), capture_output=True, check=True)
    assert done.stdout == b"(24, 40, 3)\n"


def png_of(ihdr: tuple[int, ...], rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these bytes: IHDR, further chunks, and compressed rows, each with its filter before it."""
    parts = [(b"IHDR", struct.pack(">LLBBBBB", *ihdr)), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunk = (struct.pack(">L", len(b)) + k + b + struct.pack(">L", zlib.crc32(k + b)) for k, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk)


def interlaced(gray: np.ndarray) -> bytes:
    """The rows of the seven passes of an interlaced PNG: the pixels that the standard's 8x8 pattern numbers 1 to 7."""
    pattern = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
    number = np.array([[int(letter) for letter in row] for row in pattern])
    number = np.tile(number, (gray.shape[0] // 8 + 1, gray.shape[1] // 8 + 1))[: gray.shape[0], : gray.shape[1]]
    rows = b""
    for part in range(1, 8):
        for pixels, where in zip(gray, number, strict=True):
            rows += b"\0" + pixels[where == part].tobytes() if (where == part).any() else b""
    return rows


@pytest.mark.parametrize(("height", "width"), [(24, 40), (13, 9), (5, 3), (1, 1), (2, 17)])
@pytest.mark.parametrize("passes", [0, 1])
def test_a_png_whose_rows_are_missing_is_damaged(height: int, width: int, passes: int):
    gray = RNG.integers(1, 256, (height, width), dtype=np.uint8)
    gray[-1] = 0  # black as where data are missing
    rows = interlaced(gray) if passes else b"".join(b"\0" + row.tobytes() for row in gray)
    whole = png_of((width, height, 8, 0, 0, 0, passes), rows)
    np.testing.assert_array_equal(decode_image(whole, "a").bgr[..., 0], gray)
    np.testing.assert_array_equal(decode_bgr(whole, "a")[..., 0], gray)
    for cut in (rows[:-1], rows[: len(rows) // 2]):
        damaged = png_of((width, height, 8, 0, 0, 0, passes), cut)
        for decode in (decode_image, decode_bgr):
            with pytest.raises(GCFSRError, match="a: cannot be decoded"):
                decode(damaged, "a")


def test_a_jpeg_that_was_cut_and_closed_is_reported():
    image = Image.fromarray(BGR8).resize((96, 80))
    data = saved("JPEG", image)
    assert decode_image(data, "a").notes == ()
    cut = decode_image(data[: len(data) * 2 // 3] + b"\xff\xd9", "a")
    (note,) = cut.notes
    rows = int(note.split()[2])
    assert (cut.bgr[-rows:] == 128).all()
    assert (cut.bgr[-rows - 1] != 128).any()
    assert note.endswith("rows are plain gray, as where a file is cut off")


def test_the_transparent_gray_of_a_16_bit_png():
    gray = (RNG.integers(0, 3, (24, 40)) * 1000).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in gray)
    header = (40, 24, 16, 0, 0, 0, 0)
    image = decode_image(png_of(header, rows, (b"tRNS", struct.pack(">H", 1000))), "a")
    np.testing.assert_array_equal(image.alpha, np.where(gray == 1000, 0, 65535))
    np.testing.assert_array_equal(image.bgr, np.repeat(gray[..., None], 3, axis=2))
    assert decode_image(png_of(header, rows), "a").alpha is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_16_bit_tiff(orientation: int):
    tifffile = pytest.importorskip("tifffile")
    buffers = BytesIO(), BytesIO()
    turned = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(buffers[0], BGR16, photometric="rgb", extratags=turned)
    tifffile.imwrite(buffers[1], (BGR16 >> 8).astype(np.uint8), photometric="rgb", extratags=turned)
    whole, plain = (decode_image(buffer.getvalue(), "a.tif").bgr for buffer in buffers)
    np.testing.assert_array_equal(whole >> 8, plain)  # whose way Pillow knows
    assert whole.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))


# -- more than 8 bits in AVIF, HEIC and JPEG 2000 ----------------------------------------------------------------------

RAMP = np.linspace(0, 1, 64 * 96).reshape(64, 96)
UNIT = np.dstack([RAMP, RAMP[::-1], np.tile(np.linspace(0, 1, 96), (64, 1))])  # BGR


def encoded(suffix: str, unit: np.ndarray, bits: int, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, np.rint(unit * (2**bits - 1)).astype(np.uint16), options)
    assert done
    return data.tobytes()


def jpeg_2000(values: np.ndarray, bits: int = 16) -> bytes:
    """Lossless. OpenCV writes 16 bits only; fewer are had by moving the level shift and correcting the headers."""
    moved = values + np.uint16(2**15 - 2 ** (bits - 1))
    data = bytearray(cv2.imencode(".jp2", moved, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes())
    start, channels = data.find(b"\xff\x4f\xff\x51"), 1 if values.ndim == 2 else values.shape[2]
    for place in (data.find(b"ihdr") + 14, *range(start + 42, start + 42 + 3 * channels, 3)):
        assert data[place] == 15
        data[place] = bits - 1
    return bytes(data)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("alpha", [False, True])
def test_avif_of_more_than_8_bits(bits: int, alpha: bool):
    unit = np.dstack([UNIT, RAMP.T.reshape(64, 96)]) if alpha else UNIT
    try:
        data = encoded(".avif", unit, bits, cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100)
    except (cv2.error, AttributeError):
        pytest.skip("this OpenCV has no AVIF")
    image = decode_image(data, "a.avif")
    assert (image.bgr.dtype, image.notes) == (np.uint16, ())
    assert np.abs(image.bgr / 65535 - UNIT).max() < 1 / 2**bits  # with 8 bits it would be 1/510
    if alpha:
        assert image.alpha is not None
        assert np.abs(image.alpha / 65535 - unit[..., 3]).max() < 1 / 2**bits


def test_avif_is_turned_by_us_and_not_by_opencv():
    """OpenCV, which decodes the deep ones, and Pillow agree on the pixels as stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved("AVIF", exif=exif.tobytes(), quality=100)
    pixels = deep._decode_opencv(data)
    if pixels is None:
        pytest.skip("this OpenCV has no AVIF")
    assert pixels.shape == (24, 40, 3)
    np.testing.assert_array_equal(np.rot90(pixels, -1), decode_image(data, "a.avif").bgr)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("shape", [(64, 96), (64, 96, 3), (64, 96, 4)])
def test_jpeg_2000_of_more_than_8_bits(bits: int, shape: tuple[int, ...]):
    values = np.random.default_rng(bits).integers(0, 2**bits, shape).astype(np.uint16)
    image = decode_image(jpeg_2000(values, bits), "a.jp2")
    wanted = np.rint(values * (65535 / (2**bits - 1))).astype(np.uint16)
    np.testing.assert_array_equal(image.bgr, np.dstack([wanted] * 3) if len(shape) == 2 else wanted[..., :3])
    assert (image.alpha is not None) == (shape[2:] == (4,))
    if image.alpha is not None:
        np.testing.assert_array_equal(image.alpha, wanted[..., 3])


def test_heic_of_10_bits():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = BytesIO()
    gray = np.dstack([RAMP] * 3)  # whose values do not depend on how chroma is sub-sampled
    pillow_heif.from_bytes("RGB;16", (96, 64), np.rint(gray * 65535).astype(np.uint16).tobytes()).save(
        buffer, quality=-1
    )
    image = decode_image(buffer.getvalue(), "a.heic")
    assert (image.bgr.dtype, image.bgr.min(), image.bgr.max(), image.notes) == (np.uint16, 0, 65535, ())
    assert np.abs(image.bgr / 65535 - gray).max() < 1 / 1023  # with 8 bits it would be 1/510


def test_avif_that_this_opencv_does_not_read_is_read_at_8_bits_and_reported(monkeypatch: pytest.MonkeyPatch):
    try:
        data = encoded(".avif", UNIT, 10, cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100)
    except (cv2.error, AttributeError):
        pytest.skip("this OpenCV has no AVIF")
    monkeypatch.setattr(deep, "_decode_opencv", lambda data: None)
    image = decode_image(data, "a.avif")
    assert (image.bgr.dtype, image.notes) == (np.uint8, ("its 10 bits a channel are read as 8",))
    assert np.abs(image.bgr / 255 - UNIT).max() < 1 / 128


def test_deep_jpeg_2000_is_never_left_to_pillow(monkeypatch: pytest.MonkeyPatch):
    """Whose rounding to 8 bits turns white into black."""
    monkeypatch.setattr(deep, "_decode_opencv", lambda data: None)
    with pytest.raises(GCFSRError, match=r"a\.jp2: cannot read JPEG 2000 of 12 bits"):
        decode_image(jpeg_2000(np.full((64, 96, 3), 4095, np.uint16), 12), "a.jp2")


def test_a_truncated_deep_jpeg_2000_is_named():
    data = jpeg_2000(np.random.default_rng(0).integers(0, 65536, (64, 96, 3)).astype(np.uint16))
    with pytest.raises(GCFSRError, match=r"a\.jp2: cannot be decoded"):
        decode_image(data[: len(data) * 2 // 3], "a.jp2")


def test_warnings_are_hidden_only_while_an_image_is_decoded():
    before = list(warnings.filters)
    threads = [threading.Thread(target=decode_image, args=(saved("PNG"), "a.png")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    assert not [entry for entry in before if "PIL" in str(entry[3])]


def test_an_unusable_cmyk_profile_is_reported_and_dropped():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image = decode_image(saved("JPEG", cmyk, icc_profile=SRGB, quality=100), "a.jpg")  # a profile of another space
    assert image.notes == ("its colour profile cannot be used for CMYK, so the colours are converted without it",)
    assert image.bgr[0, 0, 2] > 200
    assert image.bgr[0, 0, :2].max() < 60
    assert image.icc is None


# -- metadata ---------------------------------------------------------------------------------------------------------


def photograph(kind: str, orientation: int = 6) -> bytes:
    """With a date, a camera, a place, an orientation, a preview-free EXIF, XMP, a resolution and (JPEG) IPTC."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132], exif[0x0112] = "Maker", "Model Ü", "2001:02:03 04:05:06", orientation
    exif[0x8769] = {0x9003: "2001:02:03 04:05:06", 0x829A: 0.125, 0xA002: 40, 0xA003: 24}
    exif[0x8825] = {1: "N", 2: (51.0, 30.0, 0.0), 3: "W", 4: (0.0, 7.0, 0.0)}
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="%d" dc:title="T"/></x:xmpmeta>' % orientation
    if kind == "TIFF":
        exif[700] = xmp
    more = {"extra": b"\xff\xed\x00\x26Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x00\x00\x0a\x1c\x02\x05\x00\x05Title"}
    return saved(
        kind, exif=exif.tobytes(), xmp=xmp, dpi=(300, 300), icc_profile=SRGB, **(more if kind == "JPEG" else {})
    )


@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif", "deep .tif", "deep .png"])
@pytest.mark.parametrize("source", ["JPEG", "TIFF", "WEBP"])
def test_metadata_is_kept(tmp_path: Path, source: str, target: str):
    image = decode_image(photograph(source), "a")
    assert image.bgr.shape == (40, 24, 3)
    assert image.notes == ()
    path = tmp_path / f"a{target.split()[-1]}"
    bgr = image.bgr.astype(np.uint16) * 257 if "deep" in target else image.bgr
    write_image(path, np.repeat(bgr, 2, axis=1), None, image.icc, metadata=image.metadata)
    again = read_image(path)
    assert again.bgr.shape == (40, 48, 3)  # upright once, not turned again
    assert again.metadata.xmp == image.metadata.xmp
    assert b'Orientation="1"' in again.metadata.xmp
    assert again.icc == SRGB
    if source != "WEBP" and target != ".webp":  # which hold no resolution
        assert again.metadata.dpi == pytest.approx((300, 300), rel=1e-3)
    if "deep" in target and target.endswith("tif"):
        return  # not opened by Pillow as RGB of 8 bits; its directory is the same as that of .tif
    with Image.open(path) as opened:  # an independent reader
        exif = opened.getexif()
        assert exif.get(0x0112, 1) == 1
        assert (exif[0x010F], exif[0x0132]) == ("Maker", "2001:02:03 04:05:06")
        details, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        assert (details[0x9003], float(details[0x829A])) == ("2001:02:03 04:05:06", 0.125)
        assert (details[0xA002], details[0xA003]) == (48, 40)
        assert [float(part) for part in place[2]] == [51, 30, 0]
        assert opened.info["icc_profile"] == SRGB


@pytest.mark.parametrize("target", [".jpg", ".tif"])
def test_iptc_is_kept(target: str):
    image = decode_image(photograph("JPEG"), "a.jpg")
    data = encode_image(image.bgr, suffix=target, metadata=image.metadata)
    assert image.metadata.iptc == b"\x1c\x02\x05\x00\x05Title"
    assert decode_image(data, "b").metadata.iptc == image.metadata.iptc
    from PIL import IptcImagePlugin

    with Image.open(BytesIO(data)) as opened:
        assert IptcImagePlugin.getiptcinfo(opened) == {(2, 5): b"Title"}


def test_the_place_can_be_left_out():
    metadata = decode_image(photograph("JPEG"), "a.jpg").metadata.without_place()
    data = encode_image(BGR8, suffix=".jpg", metadata=metadata)
    with Image.open(BytesIO(data)) as opened:
        exif = opened.getexif()
        assert exif[0x0132] == "2001:02:03 04:05:06"
        assert not exif.get_ifd(0x8825)
    assert metadata.xmp is not None  # it names no place


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damaged_metadata_is_reported_and_does_not_fail(kind: str):
    whole = photograph(kind, 1)
    expected = decode_image(whole, "a").bgr
    at = whole.index(b"2001:02:03")
    for start in range(max(0, at - 200), at + 100, 7):
        data = whole[:start] + bytes(RNG.integers(0, 256, 4, dtype=np.uint8)) + whole[start + 4 :]
        try:
            image = decode_image(data, "a")
        except GCFSRError:  # the bytes were the image's own
            continue
        encode_image(expected, suffix=".jpg", metadata=image.metadata)


def test_too_large_for_the_format_is_one_line():
    with pytest.raises(GCFSRError, match=r"a\.webp: 20000x1 cannot be written"):
        encode_image(np.zeros((1, 20000, 3), np.uint8), suffix=".webp", name="a.webp")
    with pytest.raises(GCFSRError, match=r"a\.jpg: 70000x1 cannot be written"):
        encode_image(np.zeros((1, 70000, 3), np.uint8), suffix=".jpg", name="a.jpg")


def test_every_suffix_that_folders_take_is_a_format_that_is_read():
    for suffix in IMAGE_SUFFIXES:
        assert Image.registered_extensions().get(suffix, "HEIF") in (
            "PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "HEIF",
        )  # fmt: skip
