"""Images keep their metadata, and what cannot be read or written is an error that names it."""

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
