"""Reads and writes images without losing alpha, 16 bits, colour profile, metadata or EXIF orientation.

Pillow reads the headers and all 8-bit pixels; OpenCV and pillow-heif read deeper ones, which Pillow would reduce, and
OpenCV decodes for training, where it is faster. Arrays are BGR, as in OpenCV and BasicSR. Only `FORMATS` are opened,
and the size in the header is checked against a limit in pixels before an image is decoded.
"""

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_arch.files import check_size, read_bytes
from gcfsr_arch.files import write_atomic as write_bytes_atomic
from gcfsr_datasets.image_io import deep, png, tiff
from gcfsr_datasets.image_io import metadata as meta
from gcfsr_datasets.image_io.metadata import NO_METADATA, Metadata

# Pillow's names; nothing else is opened
FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "TIFF",
    "BMP",
    "GIF",
    "JPEG2000",
    "AVIF",
    "HEIF",
)
WRITTEN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp"})
IMAGE_SUFFIXES = WRITTEN_SUFFIXES | {".gif", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif"}
WITH_ALPHA = frozenset({".png", ".tif", ".tiff", ".webp"})  # formats that `write_image` writes with an alpha channel
DEEP = frozenset({".png", ".tif", ".tiff"})  # formats that `write_image` writes with 16 bits
MAX_PIXELS = 100_000_000  # of one image
MAX_FACE_PIXELS = 4096 * 4096  # of one aligned face
DECODE_FAULTS = (*meta.FAULTS, EOFError, zlib.error, cv2.error, ImageCms.PyCMSError)
_MOST_BYTES_PER_PIXEL, _MOST_BYTES_BESIDE = 8, 1 << 26  # RGBA of 16 bits, uncompressed, and profile and metadata
ADVICE = "raise the limit (--max-pixels) or make the image smaller"
_MISSING = 128  # where a JPEG has no data
_ORIENTATION = 0x0112  # EXIF tag
_ENDS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND"))  # how JPEG and PNG start and end
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_PILLOW = threading.Lock()  # held while Pillow's limit, which is global, is lifted


@dataclass(frozen=True)
class ImageData:
    """The contents of an image file, upright.

    Attributes:
        bgr: (H, W, 3) uint8, or uint16 (all of its range) where a channel has more than 8 bits; gray and palette images
            are expanded, CMYK is converted to sRGB.
        alpha: (H, W) of the same dtype, or None.
        icc: the RGB colour profile, or None; pixels are not converted to sRGB, so write it back.
        metadata: EXIF, XMP, IPTC and resolution.
        notes: what could not be read (further frames, bits beyond 8, an unusable profile, damaged EXIF).
    """

    bgr: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    metadata: Metadata = NO_METADATA
    notes: tuple[str, ...] = ()


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> ImageData:
    """Reads an image of one of `FORMATS`.

    Raises:
        GCFSRError: the file is missing, empty, truncated, not an image, over `max_pixels`, or of an unsupported
            pixel type (float).
    """
    return decode_image(read_file(path, max_pixels), os.fspath(path), max_pixels)


def read_file(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of an image file. Raises GCFSRError as `read_bytes`, and if it is larger than any such image."""
    return read_bytes(path, _most_bytes(max_pixels), ADVICE)


def read_stream(stream: BinaryIO, name: str, max_pixels: int = MAX_PIXELS) -> bytes:
    """An image's bytes from a pipe. Raises GCFSRError if there are none, or more than such an image can have."""
    data = BytesIO()
    while block := stream.read(1 << 20):
        data.write(block)
        check_size(data.tell(), name, _most_bytes(max_pixels), ADVICE)
    if not data.tell():
        raise GCFSRError(f"{name}: received no data; pipe an image into it")
    return data.getvalue()


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> ImageData:
    """`read_image` for bytes; `name` is used in error messages."""
    with _decoding(name), _opened(data, name, max_pixels) as image, _QUIET:
        return _decode(data, image)


def size_of(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height as in the header (not rotated upright). Raises GCFSRError as `decode_image`."""
    with _decoding(name), _opened(data, name, max_pixels) as image:
        return tiff.sizes(tiff.read_tags(data))[0] if image is None else image.size


def decode_bgr(data: bytes, name: str) -> np.ndarray:
    """Decodes fast, for training: (H, W, 3) BGR uint8, upright, alpha and depth beyond 8 bits dropped.

    Raises:
        GCFSRError: the bytes are empty, truncated, not an image, or above 4096x4096.
    """
    size_of(data, name, MAX_FACE_PIXELS)
    # OpenCV 4 fills the missing part of a truncated JPEG with gray and reports success
    if any(data.startswith(start) and data.rfind(end, len(data) // 2) < 0 for start, end in _ENDS):
        raise GCFSRError(f"{name}: cannot be decoded (truncated); the file is damaged, download or copy it again")
    if not data.startswith(tiff.SIGNATURES):  # OpenCV decodes some TIFFs incorrectly
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is not None:
            with _decoding(name):
                _check_end(data, image)
            return image
    bgr = decode_image(data, name, MAX_FACE_PIXELS).bgr
    return bgr if bgr.dtype == np.uint8 else ((bgr + np.uint32(128)) // 257).astype(np.uint8)


def write_image(
    path: str | os.PathLike,
    bgr: np.ndarray,
    alpha: np.ndarray | None = None,
    icc: bytes | None = None,
    quality: int = 95,
    metadata: Metadata = NO_METADATA,
) -> None:
    """Writes an image atomically; the suffix determines the format.

    Args:
        path: ends in one of `WRITTEN_SUFFIXES`; its folder exists.
        bgr: (H, W, 3) uint8 or uint16.
        alpha: (H, W) of the same dtype.
        icc: colour profile to embed.
        quality: of JPEG and WebP, 1 to 100.
        metadata: to embed; IPTC is kept in JPEG and TIFF, the resolution also in PNG, nothing in BMP.

    Raises:
        GCFSRError: the format cannot keep the alpha, the 16 bits or the profile, or the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    write_bytes_atomic(path, encode_image(bgr, alpha, icc, suffix, quality, os.fspath(path), metadata))


def encode_image(
    bgr: np.ndarray,
    alpha: np.ndarray | None = None,
    icc: bytes | None = None,
    suffix: str = ".png",
    quality: int = 95,
    name: str = "image",
    metadata: Metadata = NO_METADATA,
) -> bytes:
    """`write_image` into bytes; `name` is used in error messages."""
    check_form(suffix, bgr.dtype == np.uint16, alpha is not None, icc is not None, name)
    try:
        return _encode(bgr, alpha, icc, suffix, quality, metadata)
    except DECODE_FAULTS as error:  # for example sides larger than the format allows
        height, width = bgr.shape[:2]
        raise GCFSRError(f"{name}: {width}x{height} cannot be written as {suffix} ({error}); write .png") from error


def check_form(suffix: str, deep: bool, alpha: bool, icc: bool, name: str) -> None:
    """Raises GCFSRError if the format of a suffix cannot store the image's 16 bits, alpha or profile."""
    if suffix not in WRITTEN_SUFFIXES:
        raise GCFSRError(f"{name}: unknown suffix {suffix!r}; use one of {', '.join(sorted(WRITTEN_SUFFIXES))}")
    if alpha and suffix not in WITH_ALPHA:
        raise GCFSRError(f"{name}: {suffix} has no alpha channel; write .png, .tiff or .webp")
    if deep and suffix not in DEEP:
        raise GCFSRError(f"{name}: {suffix} has no 16 bits; write .png or .tiff")
    if icc and suffix == ".bmp":
        raise GCFSRError(f"{name}: the colour profile cannot be kept in {suffix}; write .png")


def list_images(folder: str | os.PathLike, recursive: bool = False) -> list[Path]:
    """The images of a folder by suffix, sorted, without hidden ones.

    Raises:
        GCFSRError: the folder does not exist, is not a folder, cannot be read, or has no images.
    """
    paths = [path for path in list_files(folder, recursive) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise GCFSRError(f"{folder}: no images in this folder; expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def list_files(folder: str | os.PathLike, recursive: bool = False) -> list[Path]:
    """The files of a folder, sorted, without hidden ones. Raises GCFSRError if it cannot be read."""
    root = Path(folder)
    if not root.is_dir():
        raise GCFSRError(f"{folder}: {'not a folder' if root.exists() else 'no such folder'}; check the path")
    try:
        found = sorted(root.rglob("*") if recursive else root.iterdir())
    except OSError as error:
        raise GCFSRError(f"{folder}: {error.strerror or error}; check its permissions") from error
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


class _WhileAnyThread:
    """A context of the whole process, entered by the first thread that is inside and left by the last one."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self.make, self.lock, self.inside, self.context = make, threading.Lock(), 0, make()

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.context = self.make()
                self.context.__enter__()
            self.inside += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.context.__exit__(None, None, None)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Hides Pillow's warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Hides what OpenCV, libpng and libtiff print about a damaged file, which the error says in one line."""
    try:
        own = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)
        os.close(nowhere)


_SILENCE, _QUIET = _WhileAnyThread(_no_warnings), _WhileAnyThread(_no_standard_error)


def _most_bytes(max_pixels: int) -> int:
    """An upper bound of the size in bytes of a file with so many pixels."""
    return max_pixels * _MOST_BYTES_PER_PIXEL + _MOST_BYTES_BESIDE


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Converts the exceptions of decoders into a GCFSRError that names the file, and hides Pillow's warnings."""
    try:
        with _SILENCE:
            yield
    except GCFSRError:
        raise
    except UnidentifiedImageError as error:
        known = "PNG, JPEG, WebP, TIFF, BMP, GIF, JPEG 2000, AVIF or HEIC"
        raise GCFSRError(f"{name}: not an image in {known}; remove it or convert it to PNG") from error
    except tiff.UnsupportedPixels as error:
        raise GCFSRError(f"{name}: cannot read {error}; convert it to RGB of 8 or 16 bits") from error
    except DECODE_FAULTS as error:
        raise GCFSRError(
            f"{name}: cannot be decoded ({first_line(error)}); the file is damaged, download or copy it again"
        ) from error


@contextmanager
def _opened(data: bytes, name: str, max_pixels: int) -> Iterator[Image.Image | None]:
    """The image before any pixel is decoded, its size checked; None for a TIFF that Pillow does not support."""
    for width, height in _declared_sizes(data):
        _check_size(width, height, name, max_pixels)
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        _register_heif(name)
    Image.init()
    with _PILLOW:
        own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # replaced by our own limit
        try:
            image = Image.open(BytesIO(data), formats=[kind for kind in FORMATS if kind in Image.OPEN])
        except UnidentifiedImageError:
            if not data.startswith(tiff.SIGNATURES):
                raise
            image = None
        finally:
            Image.MAX_IMAGE_PIXELS = own
    if image is None:
        yield None
        return
    with image:
        _check_size(*image.size, name, max_pixels)
        yield image


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height <= max_pixels:
        return
    size = f"{name}: {width}x{height} is {width * height / 1e6:.1f} megapixels, and the limit is {max_pixels / 1e6:.1f}"
    raise GCFSRError(f"{size}; raise it (--max-pixels {width * height}) or make the image smaller")


def _declared_sizes(data: bytes) -> list[tuple[int, int]]:
    """Sizes for which a decoder would reserve memory on opening, or that Pillow does not check."""
    if data.startswith(tiff.SIGNATURES):
        return tiff.sizes(tiff.read_tags(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        kind, body = data[12:16], data[20:30].ljust(10, b"\0")
        if kind == b"VP8X":
            return [(1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))]
        if kind == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            return [(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))]
        return [(int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF)]
    if data[4:8] == b"jP  " or data.startswith(deep.CODESTREAM):
        start = data.find(deep.CODESTREAM)
        right, lower, left, upper = struct.unpack(">4L", data[start + 8 : start + 24]) if start >= 0 else (0,) * 4
        return [(right - left, lower - upper)]
    return []


def _register_heif(name: str) -> None:
    if "HEIF" in Image.OPEN:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise GCFSRError(f"{name}: HEIC needs another package: pip install 'gcfsr[heic]'") from error
    register_heif_opener(thumbnails=False)


def _decode(data: bytes, image: Image.Image | None) -> ImageData:
    if data.startswith(tiff.SIGNATURES):
        tags = tiff.read_tags(data)
        tiff.check_compression(tags)
        tiff.check_data(data, tags)
    frames = 1 if image is None else getattr(image, "n_frames", 1)
    notes = (f"only the first of its {frames} frames is read",) if frames > 1 else ()
    metadata, lost = meta.read(data, image)
    orientation = _orientation(data, image)
    pixels = _decode_deep(data)
    if pixels is None and image is not None and (bits := deep.bits_of(data, image)) > 8:
        pixels = deep.decode(data, image, bits)
        notes += () if pixels is not None else (f"its {bits} bits a channel are read as 8",)
    # Pillow turns a TIFF upright while it decodes it, and pillow-heif does as it opens
    upright = image is not None and (image.format == "HEIF" or (pixels is None and image.format == "TIFF"))
    if image is None:
        if pixels is None:
            raise tiff.UnsupportedPixels("a TIFF with such tags")
        icc = meta.tiff_profile(tiff.read_tags(data))
    else:
        icc = image.info.get("icc_profile")
    if pixels is None and image is not None:
        pixels, remark = _decode_8bit(image, icc)
        notes += (*remark, *_gray_end(image, pixels))
    assert pixels is not None
    _check_end(data, pixels)
    pixels = pixels if upright else _upright(pixels, orientation)
    converted = image is not None and image.mode == "CMYK"
    if icc is not None and (converted or icc[16:20] != b"RGB "):  # it does not describe the returned pixels
        icc = None
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    return ImageData(np.ascontiguousarray(pixels[..., :3]), alpha, icc, metadata, (*notes, *lost))


def _decode_deep(data: bytes) -> np.ndarray | None:
    """(H, W, 3 | 4) BGR(A) uint16 of a 16-bit PNG or TIFF, not rotated upright; else None."""
    if data.startswith(tiff.SIGNATURES):
        tags = tiff.read_tags(data)
        return tiff.read_deep(data, tags) if tiff.is_deep(tags) else None
    if not (data.startswith(png.SIGNATURE) and data[24:25] == b"\x10"):
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("its 16-bit pixels are unreadable")
    clear = png.transparent_gray(data)  # OpenCV makes it opaque
    if clear is None:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels
    gray = pixels if pixels.ndim == 2 else pixels[..., 0]
    return np.dstack([gray, gray, gray, np.where(gray == clear, 0, 65535).astype(np.uint16)])


def _decode_8bit(image: Image.Image, icc: bytes | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """(H, W, 3 | 4) BGR(A) uint8, and a remark on the colours."""
    if image.mode in ("F", "I", "I;16", "I;16B", "I;16L", "LAB"):
        raise tiff.UnsupportedPixels(f"pixels of type {image.mode}")
    remark = ()
    if image.mode == "CMYK" and icc is not None:
        try:
            srgb = ImageCms.createProfile("sRGB")
            rgb = ImageCms.profileToProfile(image, BytesIO(icc), srgb, outputMode="RGB")
            return np.asarray(rgb)[..., ::-1], ()
        except ImageCms.PyCMSError:
            image.load()  # raises if the file, not the profile, is damaged
            remark = ("its colour profile cannot be used for CMYK, so the colours are converted without it",)
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if has_alpha:
        return np.asarray(image.convert("RGBA"))[..., [2, 1, 0, 3]], remark
    return np.asarray(image.convert("RGB"))[..., ::-1], remark


def _check_end(data: bytes, pixels: np.ndarray) -> None:
    """Raises EOFError where a PNG, JPEG 2000 or TIFF has no data for its last pixels, which decoders fill."""
    if data.startswith(png.SIGNATURE) and not pixels[-1].any() and png.ends_early(data):
        raise EOFError("truncated")
    if data.startswith(deep.JPEG_2000) and deep.ends_early(data):
        raise EOFError("truncated")
    if (pixels[-1, -1] == _MISSING).all() and tiff.old_jpeg_ends_early(data):
        raise EOFError("truncated")


def _gray_end(image: Image.Image, pixels: np.ndarray) -> tuple[str, ...]:
    """A remark where the last rows of a JPEG are what libjpeg puts in place of data that are missing."""
    jpeg = image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "tiff_jpeg")  # of a TIFF
    if not jpeg or (pixels[-1] != _MISSING).any():
        return ()
    rows = next((row for row in range(len(pixels)) if (pixels[-1 - row] != _MISSING).any()), len(pixels))
    return (f"its last {rows} rows are plain gray, as where a file is cut off",)


def _orientation(data: bytes, image: Image.Image | None) -> int:
    try:
        if data.startswith(tiff.SIGNATURES):
            return tiff.read_tags(data).get(tiff.ORIENTATION, 1)
        return 1 if image is None else image.getexif().get(_ORIENTATION, 1)
    except meta.FAULTS:  # a damaged EXIF block has no orientation
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation: 2 and 4 mirror, 3 rotates, 5 to 8 also transpose."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _encode(
    bgr: np.ndarray, alpha: np.ndarray | None, icc: bytes | None, suffix: str, quality: int, metadata: Metadata
) -> bytes:
    height, width = bgr.shape[:2]
    pixels = bgr if alpha is None else np.dstack([bgr, alpha])
    if suffix in (".png", ".bmp"):
        encoded = cv2.imencode(suffix, pixels)[1].tobytes()
        return encoded if suffix == ".bmp" else _with_chunks(encoded, icc, metadata, width, height)
    rgb = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
    if suffix in (".tif", ".tiff"):
        return tiff.write(rgb, meta.tiff_tags(metadata, icc, width, height))
    exif = metadata.exif_of_size(width, height)
    options = {"icc_profile": icc, "quality": quality, "exif": b"" if exif is None else b"Exif\x00\x00" + exif}
    buffer = BytesIO()
    if suffix == ".webp":
        Image.fromarray(rgb).save(buffer, "WEBP", xmp=metadata.xmp or b"", **options)
    else:
        segments = b"" if metadata.xmp is None else meta.xmp_segment(metadata.xmp)
        segments += b"" if metadata.iptc is None else meta.photoshop_segment(metadata.iptc)
        Image.fromarray(rgb).save(buffer, "JPEG", dpi=metadata.dpi or (0, 0), extra=segments, **options)
    return buffer.getvalue()


def _with_chunks(png: bytes, icc: bytes | None, metadata: Metadata, width: int, height: int) -> bytes:
    """Inserts profile and metadata after the header (33 bytes: signature and IHDR) of a PNG."""
    exif = metadata.exif_of_size(width, height)
    chunks = [] if icc is None else [b"iCCPICC profile\x00\x00" + zlib.compress(icc)]
    if metadata.dpi is not None:
        chunks.append(struct.pack(">4s2LB", b"pHYs", *(round(dots / 0.0254) for dots in metadata.dpi), 1))
    chunks += [] if exif is None else [b"eXIf" + exif]
    chunks += [] if metadata.xmp is None else [b"iTXtXML:com.adobe.xmp" + bytes(5) + metadata.xmp]
    return b"".join([png[:33], *(_chunk(body) for body in chunks), png[33:]])


def _chunk(body: bytes) -> bytes:
    return struct.pack(">L", len(body) - 4) + body + struct.pack(">L", zlib.crc32(body))
