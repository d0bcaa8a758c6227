"""Images keep their metadata, and what cannot be read or written is an error that names it."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import (
    decode_bgr,
    decode_image,
    list_images,
    read_image,
    write_bytes_atomic,
    write_image,
)

RNG = np.random.default_rng(0)
BGR8 = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
BGR16 = RNG.integers(0, 65536, (12, 20, 3), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
@pytest.mark.parametrize("deep", [False, True])
def test_lossless_round_trip(tmp_path: Path, suffix: str, deep: bool):
    bgr = BGR16 if deep else BGR8
    alpha = None if suffix == ".bmp" else bgr[..., 0]
    if deep and suffix == ".bmp":
        pytest.skip("BMP has no 16 bits")
    path = tmp_path / f"Łódź 顔 #1{suffix}"
    write_image(path, bgr, alpha)
    image = read_image(path)
    assert image.bgr.dtype == bgr.dtype
    np.testing.assert_array_equal(image.bgr, bgr)
    if alpha is not None:
        np.testing.assert_array_equal(image.alpha, alpha)


@pytest.mark.parametrize(
    ("suffix", "bgr"), [(".png", BGR8), (".png", BGR16), (".jpg", BGR8), (".webp", BGR8), (".tif", BGR8)]
)
def test_profile_is_kept(tmp_path: Path, suffix: str, bgr: np.ndarray):
    path = tmp_path / f"a{suffix}"
    write_image(path, bgr, icc=SRGB)
    assert read_image(path).icc == SRGB
    if bgr.dtype == np.uint8:  # an independent reader agrees
        assert Image.open(path).info["icc_profile"] == SRGB


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_orientation_is_obeyed(tmp_path: Path, orientation: int, kind: str):
    corners = np.full((64, 96, 3), 255, np.uint8)
    corners[:32, :32] = 0  # dark: upper left of the image as it is stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners).save(tmp_path / "a", kind, exif=exif)
    upright = read_image(tmp_path / "a").bgr
    dark = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[orientation]
    assert upright.shape == ((64, 96, 3) if orientation < 5 else (96, 64, 3))
    assert upright[dark].max() < 60
    assert sum(upright[y, x].mean() > 200 for y in (0, -1) for x in (0, -1)) == 3
    if kind == "JPEG":
        np.testing.assert_array_equal(decode_bgr((tmp_path / "a").read_bytes(), "a").shape, upright.shape)


def test_orientation_of_a_16_bit_png(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    body = b"eXIf" + exif.tobytes()[6:]
    png = cv2.imencode(".png", BGR16)[1].tobytes()
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(png[:33] + chunk + png[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").bgr, np.rot90(BGR16, -1))


def test_gray_palette_and_animation(tmp_path: Path):
    gray = BGR8[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png").bgr, np.dstack([gray] * 3))
    cv2.imwrite(str(tmp_path / "gray16.png"), BGR16[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "gray16.png").bgr, np.dstack([BGR16[..., 0]] * 3))

    palette = Image.fromarray(BGR8 // 128 * 255).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=0)
    image = read_image(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB"))[..., ::-1]
    np.testing.assert_array_equal(image.bgr, expected)
    np.testing.assert_array_equal(image.alpha, np.where(np.asarray(palette) == 0, 0, 255))

    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    image = read_image(tmp_path / "a.webp")
    assert image.notes == ("only the first of its 2 frames is read",)
    assert image.bgr[0, 0].tolist() == [0, 0, 255]


def test_cmyk_becomes_rgb(tmp_path: Path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    image = read_image(tmp_path / "a.jpg")
    assert image.bgr[0, 0, 2] > 200  # red
    assert image.bgr[0, 0, :2].max() < 60
    assert image.icc is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, share: float):
    path = tmp_path / f"cut{suffix}"
    write_image(path, RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(data)
    with pytest.raises(GCFSRError, match=f"cut{suffix}: .*;"):
        read_image(path)
    with pytest.raises(GCFSRError, match=f"cut{suffix}: .*;"):
        decode_bgr(data, path.name)


@pytest.mark.parametrize(("form", "options"), [("TIFF", {}), ("TIFF", {"compression": "raw"}), ("JPEG2000", {})])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_missing_rows_are_not_read_as_black(form: str, options: dict[str, str], mode: str):
    top, kind = (65536, np.uint16) if mode == "I;16" else (256, np.uint8)
    pixels = RNG.integers(0, top, (64, 48, 3) if mode == "RGB" else (64, 48), kind)
    file = BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    whole = file.getvalue()
    assert decode_image(whole, "a").bgr.shape == (64, 48, 3)
    for share in (0.4, 0.7, 0.9):
        with pytest.raises(GCFSRError, match="a: cannot"):
            decode_image(whole[: int(len(whole) * share)], "a")


def _tiff_of_jpegs(parts: list[bytes], method: int = 7, tile: int = 0, rows: int = 64) -> bytes:
    """A TIFF of 48x64 pixels, its directory first, whose tiles or strips of `rows` are these JPEG streams of 4:4:4."""
    starts, counts = (324, 325) if tile else (273, 279)
    lengths, shape = tuple(len(part) for part in parts), {322: (tile,), 323: (tile,)} if tile else {278: (rows,)}
    tags = {256: (48,), 257: (64,), 258: (8, 8, 8), 259: (method,), 262: (6,), 277: (3,), 530: (1, 1), **shape}
    tags |= {starts: (0,) * len(parts), counts: lengths} | ({513: (0,), 514: lengths} if method == 6 else {})
    behind = 8 + 2 + 12 * len(tags) + 4
    first = behind + sum(4 * len(numbers) for numbers in tags.values() if len(numbers) > 1)
    tags[starts] = tuple(first + sum(lengths[:part]) for part in range(len(parts)))
    tags |= {513: tags[starts]} if method == 6 else {}
    entries = values = b""
    for tag, numbers in sorted(tags.items()):
        body = struct.pack(f"<{len(numbers)}L", *numbers)
        entries += struct.pack("<HHL", tag, 4, len(numbers))
        entries += body if len(body) == 4 else struct.pack("<L", behind + len(values))
        values += body if len(body) > 4 else b""
    return struct.pack("<2sHLH", b"II", 42, 8, len(tags)) + entries + bytes(4) + values + b"".join(parts)


def _jpegs(rows: int, columns: int) -> list[bytes]:
    smooth = np.outer(np.linspace(20, 230, 64), np.linspace(0.5, 1, 48)).astype(np.uint8)[..., None].repeat(3, 2)
    files = []
    for top in range(0, 64, rows):
        for left in range(0, 48, columns):
            files.append(BytesIO())
            part = smooth[top : top + rows, left : left + columns]
            Image.fromarray(part).save(files[-1], "JPEG", quality=95, subsampling=0)
    return [file.getvalue() for file in files]


@pytest.mark.parametrize(
    ("shape", "options"),
    [((64, 48), {}), ((16, 48), {"rows": 16}), ((16, 16), {"tile": 16}), ((64, 48), {"method": 6})],
)
def test_a_jpeg_in_a_tiff_that_is_cut_off_is_not_read_as_black(shape: tuple[int, int], options: dict):
    parts = _jpegs(*shape)
    whole = decode_image(_tiff_of_jpegs(parts, **options), "a")
    apart = [cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR) for part in parts]
    across = 48 // shape[1]
    expected = np.vstack([np.hstack(apart[at : at + across]) for at in range(0, len(apart), across)])
    assert not whole.notes
    assert np.abs(whole.bgr.astype(int) - expected).max() <= 2
    for place in {0, len(parts) // 2, len(parts) - 1}:  # the directory names what there is
        for share in (0.0, 0.5, 0.9):
            cut = [part[: int(len(part) * share)] if at == place else part for at, part in enumerate(parts)]
            with pytest.raises(GCFSRError, match="a: cannot be decoded"):
                decode_image(_tiff_of_jpegs(cut, **options), "a")
    data = _tiff_of_jpegs(parts, **options)
    for missing in (
        len(parts[-1]) // 10,
        len(parts[-1]) // 4,
        sum(map(len, parts)) // 2,
        sum(map(len, parts)) - 1,
    ):  # or the file ends
        with pytest.raises(GCFSRError, match="a: cannot be decoded"):
            decode_image(data[:-missing], "a")


def test_a_jpeg_in_a_tiff_that_was_cut_and_closed_is_reported():
    (part,) = _jpegs(64, 48)
    image = decode_image(_tiff_of_jpegs([part[: int(len(part) * 0.9)] + b"\xff\xd9"]), "a")
    assert (image.bgr[-1] == 128).all()
    assert any("rows are plain gray" in note for note in image.notes)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tile_of_a_tiff_without_data_is_not_read_as_black(compression: str | None):
    tifffile = pytest.importorskip("tifffile")
    file = BytesIO()
    tifffile.imwrite(
        file, RNG.integers(1, 256, (64, 48, 3), np.uint8), photometric="rgb", tile=(16, 16), compression=compression
    )
    data = file.getvalue()
    assert decode_image(data, "a").bgr.shape == (64, 48, 3)
    starts = tifffile.TiffFile(BytesIO(data)).pages[0].dataoffsets
    order = struct.pack(f"<{len(starts)}L", *starts)
    assert data.count(order) == 1
    sparse = data.replace(order, order[:20] + bytes(4) + order[24:])
    with pytest.raises(GCFSRError, match="a: cannot be decoded"):
        decode_image(sparse, "a")


def test_other_files_are_named(tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(GCFSRError, match=r"text\.png: not an image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(GCFSRError, match=r"none\.png: No such file"):
        read_image(tmp_path / "none.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(GCFSRError, match=r"float\.tiff: .*32 bits"):
        read_image(tmp_path / "float.tiff")


@pytest.mark.parametrize(
    ("suffix", "arguments", "words"),
    [
        (".jpg", {"bgr": BGR8, "alpha": BGR8[..., 0]}, "no alpha"),
        (".webp", {"bgr": BGR16}, "no 16 bits"),
        (".bmp", {"bgr": BGR8, "icc": SRGB}, "colour profile"),
        (".gif", {"bgr": BGR8}, "unknown suffix"),
    ],
)
def test_nothing_is_lost_silently(tmp_path: Path, suffix: str, arguments: dict, words: str):
    with pytest.raises(GCFSRError, match=words):
        write_image(tmp_path / f"a{suffix}", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "a.bin"
    write_bytes_atomic(target, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for fails, outcome in ((full, pytest.raises(GCFSRError, match=r"a\.bin: .*No space left")),
                        (interrupted, pytest.raises(KeyboardInterrupt))):  # fmt: skip
        monkeypatch.setattr("os.fsync", fails)
        with outcome:
            write_bytes_atomic(target, b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
        assert target.read_bytes() == b"old"
    with pytest.raises(GCFSRError, match="cannot be written"):
        write_bytes_atomic(tmp_path / "missing" / "a.bin", b"new")


def test_list_images(tmp_path: Path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "note.txt", "sub/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [path.name for path in list_images(tmp_path, recursive=True)] == ["a.jpg", "b.PNG", "c.webp"]
    (tmp_path / "empty").mkdir()
    for folder, words in (("empty", "no images"), ("none", "no such folder"), ("a.jpg", "not a folder")):
        with pytest.raises(GCFSRError, match=words):
            list_images(tmp_path / folder)


def test_damaged_exif_does_not_matter():
    buffer = BytesIO()
    Image.fromarray(BGR8).save(buffer, "JPEG", exif=b"Exif\x00\x00garbage!")
    from gcfsr_datasets.image_io import decode_image

    assert decode_image(buffer.getvalue(), "a.jpg").bgr.shape == BGR8.shape
