"""Reading and writing pictures without losing what they carry: alpha, 16 bits, ICC profile, EXIF orientation.

Pillow reads the headers and all 8-bit pixels; OpenCV reads 16-bit pixels, which Pillow would reduce, and decodes for
training, where speed is what counts. Arrays are BGR, as OpenCV and BasicSR have them.
"""

import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import write_atomic as write_bytes_atomic

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
WITH_ALPHA = frozenset({".png", ".tif", ".tiff", ".webp"})  # formats that `write_image` gives an alpha channel
DEEP = frozenset({".png", ".tif", ".tiff"})  # formats that `write_image` gives 16 bits
DECODE_FAULTS = (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, struct.error, cv2.error, MemoryError)
_ORIENTATION = 0x0112  # EXIF tag
_ENDS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND"))  # how JPEG and PNG start and end
_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\x00", b"MM\x00*")


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    Attributes:
        bgr: (H, W, 3) uint8 or uint16; gray and palette pictures are expanded, CMYK is converted to sRGB.
        alpha: (H, W) of the same dtype, or None.
        icc: the RGB colour profile, or None; pixels are not converted to sRGB, so write it back.
        note: what was left out (the other frames of an animation), or None.
    """

    bgr: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    note: str | None = None


def read_bytes(path: str | os.PathLike) -> bytes:
    """The file's bytes. Raises GCFSRError naming the file when it is missing, unreadable or empty."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise GCFSRError(f"{path}: {error.strerror or error}; check the path") from error
    if not data:
        raise GCFSRError(f"{path}: the file is empty; remove it or fetch it again")
    return data


def read_image(path: str | os.PathLike) -> Picture:
    """Reads PNG, JPEG, WebP, TIFF, BMP or whatever else Pillow knows.

    Raises:
        GCFSRError: the file is missing, empty, truncated, no picture, or of a pixel type that cannot be shown (float).
    """
    return decode_image(read_bytes(path), os.fspath(path))


def decode_image(data: bytes, name: str) -> Picture:
    """`read_image` for bytes; `name` stands in the errors."""
    try:
        with warnings.catch_warnings(), Image.open(BytesIO(data)) as image:
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata do not concern the pixels
            return _decode(data, image)
    except Image.DecompressionBombError as error:
        raise GCFSRError(f"{name}: {error}; reduce the picture first") from error
    except UnidentifiedImageError as error:
        raise GCFSRError(f"{name}: not a picture of a known format; remove it or convert it to PNG") from error
    except DECODE_FAULTS as error:
        raise GCFSRError(f"{name}: cannot be decoded ({error}); the file is damaged, fetch it again") from error


def decode_bgr(data: bytes, name: str) -> np.ndarray:
    """The fast way for training: (H, W, 3) BGR uint8, upright, alpha and depth beyond 8 bits dropped.

    Raises:
        GCFSRError: the bytes are empty, truncated or no picture.
    """
    # OpenCV 4 fills the missing part of a truncated JPEG with gray and calls it a success
    whole = all(not data.startswith(start) or data.rfind(end, len(data) // 2) >= 0 for start, end in _ENDS)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data and whole else None
    if image is None:
        decode_image(data, name)  # has the better words for what is wrong
        raise GCFSRError(f"{name}: cannot be decoded (truncated); the file is damaged, fetch it again")
    return image


def write_image(
    path: str | os.PathLike,
    bgr: np.ndarray,
    alpha: np.ndarray | None = None,
    icc: bytes | None = None,
    quality: int = 95,
) -> None:
    """Writes a picture whole or not at all; the suffix decides the format.

    Args:
        path: ends in one of `IMAGE_SUFFIXES`; its folder exists.
        bgr: (H, W, 3) uint8 or uint16.
        alpha: (H, W) of the same dtype.
        icc: colour profile to embed.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        GCFSRError: the format cannot keep the alpha, the 16 bits or the profile, or the file cannot be written.
    """
    write_bytes_atomic(path, encode_image(bgr, alpha, icc, Path(path).suffix.lower(), quality, os.fspath(path)))


def encode_image(
    bgr: np.ndarray,
    alpha: np.ndarray | None = None,
    icc: bytes | None = None,
    suffix: str = ".png",
    quality: int = 95,
    name: str = "picture",
) -> bytes:
    """`write_image` into bytes; `name` stands in the errors."""
    deep = bgr.dtype == np.uint16
    if suffix not in IMAGE_SUFFIXES:
        raise GCFSRError(f"{name}: unknown suffix {suffix!r}; use one of {', '.join(sorted(IMAGE_SUFFIXES))}")
    if alpha is not None and suffix not in WITH_ALPHA:
        raise GCFSRError(f"{name}: {suffix} has no alpha channel; write .png, .tiff or .webp")
    if deep and suffix not in DEEP:
        raise GCFSRError(f"{name}: {suffix} has no 16 bits; write .png or .tiff")
    if icc is not None and (suffix == ".bmp" or (deep and suffix != ".png")):
        raise GCFSRError(f"{name}: the colour profile cannot be kept in this form of {suffix}; write .png")
    pixels = bgr if alpha is None else np.dstack([bgr, alpha])
    if suffix in (".png", ".bmp") or deep:
        encoded = cv2.imencode(suffix, pixels)[1].tobytes()
        return encoded if icc is None else _with_icc_chunk(encoded, icc)
    channels = [2, 1, 0] if alpha is None else [2, 1, 0, 3]
    buffer = BytesIO()
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(suffix, "TIFF")
    options = {} if kind == "TIFF" else {"quality": quality}
    Image.fromarray(np.ascontiguousarray(pixels[..., channels])).save(buffer, kind, icc_profile=icc, **options)
    return buffer.getvalue()


def list_images(folder: str | os.PathLike, recursive: bool = False) -> list[Path]:
    """The pictures of a folder by suffix, sorted, hidden ones left out.

    Raises:
        GCFSRError: the folder is missing, no folder, or holds no picture.
    """
    root = Path(folder)
    if not root.is_dir():
        raise GCFSRError(f"{folder}: {'not a folder' if root.exists() else 'no such folder'}; check the path")
    found = root.rglob("*") if recursive else root.iterdir()
    paths = sorted(
        path
        for path in found
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise GCFSRError(f"{folder}: no pictures in this folder; expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def _decode(data: bytes, image: Image.Image) -> Picture:
    kind, icc, frames = image.format, image.info.get("icc_profile"), getattr(image, "n_frames", 1)
    note = f"the first of {frames} frames" if frames > 1 else None
    deep = _decode_deep(data)
    pixels = _decode_8bit(image, icc) if deep is None else deep
    if kind != "TIFF":  # Pillow and OpenCV both turn a TIFF upright while they decode it
        pixels = _upright(pixels, _orientation(image))
    if icc is not None and icc[16:20] != b"RGB ":  # a gray or CMYK profile does not describe what is returned
        icc = None
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, icc, note)


def _decode_deep(data: bytes) -> np.ndarray | None:
    """(H, W, 3 | 4) BGR(A) uint16 of a 16-bit PNG or TIFF, else None."""
    if not (data.startswith(_PNG) and data[24] == 16) and not data.startswith(_TIFF):
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None and data.startswith(_PNG):
        raise ValueError("its 16-bit pixels are unreadable")
    if pixels is None or pixels.dtype != np.uint16:
        return None  # Pillow's turn
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels


def _decode_8bit(image: Image.Image, icc: bytes | None) -> np.ndarray:
    """(H, W, 3 | 4) BGR(A) uint8."""
    if image.mode in ("F", "I", "I;16", "I;16B", "I;16L", "LAB"):
        raise ValueError(f"pixels of type {image.mode} are not supported")
    if image.mode == "CMYK" and icc is not None:
        srgb = ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(image, BytesIO(icc), srgb, outputMode="RGB"))[..., ::-1]
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if has_alpha:
        return np.asarray(image.convert("RGBA"))[..., [2, 1, 0, 3]]
    return np.asarray(image.convert("RGB"))[..., ::-1]


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except DECODE_FAULTS:  # a damaged EXIF block says nothing about the orientation
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation: 2 and 4 mirror, 3 turns, 5 to 8 transpose as well."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _with_icc_chunk(png: bytes, icc: bytes) -> bytes:
    """Puts an iCCP chunk behind the header (33 bytes: signature and IHDR) of a PNG."""
    body = b"iCCPICC profile\x00\x00" + zlib.compress(icc)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]
