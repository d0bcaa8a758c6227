"""Reads TIFFs with 16 bits per sample, and writes TIFFs with metadata.

Pillow reduces such images to 8 bits, and OpenCV reads planar and white-is-zero ones wrongly without a word. So the
tags are read here, and OpenCV (libtiff) only decompresses: it is given the same bytes under a plain directory.
"""

import struct
import zlib
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # "+" is BigTIFF
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274
SAMPLES, ROWS, STRIP_BYTES, PLANAR, PREDICTOR, TILES, TILE_BYTES = 277, 278, 279, 284, 317, 324, 325
TILE_WIDTH, TILE_HEIGHT, EXTRA_SAMPLES, SAMPLE_FORMAT = 322, 323, 338, 339
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR = 0, 1, 2, 6
ASSOCIATED, UNASSOCIATED = 1, 2  # whether the colours are multiplied with alpha
_LAYOUT = (WIDTH, HEIGHT, COMPRESSION, ROWS, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, 266)  # 266: the order of bits
_OLD_JPEG, _JPEG, _DEFLATE, _HORIZONTAL = 6, 7, 8, 2
_JPEG_END = b"\xff\xd9"
_DEEP_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946})  # that OpenCV has: none, LZW, deflate twice, PackBits
_COMPRESSIONS = _DEEP_COMPRESSIONS | {2, 3, 4, 6, 7, 32771, 34925, 50000}  # that Pillow has: fax, JPEG, LZMA, Zstandard
_NAMES = {7: "JPEG", 34712: "JPEG 2000", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"}


class UnsupportedPixels(ValueError):
    """The pixel type is not supported."""


def read_tags(data: bytes) -> dict[int, Any]:
    """The tags of a TIFF's first image. Raises SyntaxError, OSError or struct.error if it has none."""
    if data.startswith(b"MM\x00+"):
        raise UnsupportedPixels("a big-endian BigTIFF")
    directory = ImageFileDirectory_v2(data[: 16 if data.startswith(b"II+") else 8])
    file = BytesIO(data)
    file.seek(directory.next)
    directory.load(file)
    if WIDTH not in directory or HEIGHT not in directory:
        raise ValueError("its directory names no size")
    return dict(directory)


def sizes(tags: dict[int, Any]) -> list[tuple[int, int]]:
    """Width and height of the image and (0 where it has none) of a tile: what a decoder reserves memory for."""
    return [
        (tags[WIDTH], tags[HEIGHT]),
        *([(tags.get(TILE_WIDTH, 0), tags.get(TILE_HEIGHT, 0))] if TILES in tags else []),
    ]


def check_compression(tags: dict[int, Any]) -> None:
    """Raises UnsupportedPixels where nothing here decompresses the pixels."""
    kind = tags.get(COMPRESSION, 1)
    if kind not in (_DEEP_COMPRESSIONS if is_deep(tags) else _COMPRESSIONS):
        deep = "of 16 bits " if is_deep(tags) else ""
        raise UnsupportedPixels(f"a TIFF {deep}compressed by {_NAMES.get(kind, f'method {kind}')}")


def check_data(data: bytes, tags: dict[int, Any]) -> None:
    """Raises EOFError where pixels are missing that libtiff would leave black: uncompressed ones, or in a JPEG."""
    kind, colours = tags.get(COMPRESSION, 1), tags.get(PHOTOMETRIC)
    parts = _parts(tags)
    if kind == _JPEG and not all(data.rfind(_JPEG_END, start, start + size) > start for start, size in parts):
        raise EOFError("truncated")
    if kind != 1 or colours == YCBCR or not parts:
        return
    there = sum(max(0, min(size, len(data) - start)) for start, size in parts)
    if TILES in tags:
        missing = not all(start for start, _ in parts)  # a sparse file
    else:
        missing = there < tags[WIDTH] * tags[HEIGHT] * sum(_tuple(tags.get(BITS, 1))) // 8
    if missing:
        raise EOFError("truncated")


def old_jpeg_ends_early(data: bytes) -> bool:
    """Whether a TIFF's JPEG of the old kind lacks its end; complete ones may, so missing pixels must be seen too."""
    if not data.startswith(SIGNATURES):
        return False
    tags = read_tags(data)
    first = min((start for start, _ in _parts(tags)), default=0)
    return tags.get(COMPRESSION) == _OLD_JPEG and data.rfind(_JPEG_END, first) < 0


def _parts(tags: dict[int, Any]) -> list[tuple[int, int]]:
    """Start and length of every strip or tile."""
    starts, sizes = (TILES, TILE_BYTES) if TILES in tags else (STRIPS, STRIP_BYTES)
    return list(zip(_tuple(tags.get(starts, ())), _tuple(tags.get(sizes, ())), strict=False))


def is_deep(tags: dict[int, Any]) -> bool:
    """Whether the samples have more than 8 bits."""
    return max(tags.get(BITS, (1,))) > 8


def read_deep(data: bytes, tags: dict[int, Any]) -> np.ndarray:
    """(H, W, 3 or 4) BGR(A) uint16 of a gray or RGB TIFF of 16 bits, not rotated upright; alpha is unassociated.

    Raises:
        UnsupportedPixels: samples of another kind.
        ValueError: damaged data.
    """
    samples, kind, extra = tags.get(SAMPLES, 1), tags.get(PHOTOMETRIC), tags.get(EXTRA_SAMPLES, ())
    colours = 3 if kind == RGB else 1
    if set(tags[BITS]) != {16} or set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
        bits = "/".join(str(bits) for bits in sorted(set(tags[BITS])))
        raise UnsupportedPixels(f"samples of {bits} bits that are not unsigned 16-bit integers")
    if kind not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise UnsupportedPixels("16-bit pixels that are neither gray nor RGB")
    if samples != colours and not (samples == colours + 1 and tuple(extra) in ((ASSOCIATED,), (UNASSOCIATED,))):
        raise UnsupportedPixels(f"{samples} samples per pixel, more than {'RGB' if colours == 3 else 'gray'} and alpha")
    pixels = _decompress(data, tags, samples)
    colour, alpha = pixels[..., :colours], pixels[..., colours:]
    if kind == WHITE_IS_ZERO:
        colour = ~colour
    if extra and extra[0] == ASSOCIATED:
        whole = np.maximum(alpha, 1).astype(np.uint32)
        colour = np.minimum((colour.astype(np.uint32) * 65535 + whole // 2) // whole, 65535).astype(np.uint16)
    return np.dstack([colour[..., ::-1] if colours == 3 else np.repeat(colour, 3, axis=2), alpha])


def write(rgb: np.ndarray, tags: dict[int, Any]) -> bytes:
    """A little-endian TIFF, deflated with horizontal differences.

    Args:
        rgb: (H, W, 3 or 4) uint8 or uint16, RGB with unassociated alpha.
        tags: further ones: profile, resolution, EXIF (a dict of the directory below), ...
    """
    height, width, samples = rgb.shape
    rows = rgb.astype(rgb.dtype.newbyteorder("<"), order="C", copy=True)
    rows[:, 1:] -= rgb[:, :-1]  # modulo 2^bits, as in the predictor's definition
    strip = zlib.compress(rows.tobytes(), 6)
    directory = ImageFileDirectory_v2()
    for tag, value in {
        **tags, WIDTH: width, HEIGHT: height, BITS: (rgb.itemsize * 8,) * samples, COMPRESSION: _DEFLATE,
        PHOTOMETRIC: RGB, STRIPS: 0, SAMPLES: samples, ROWS: height, STRIP_BYTES: len(strip), PLANAR: 1,
        PREDICTOR: _HORIZONTAL, **({EXTRA_SAMPLES: (UNASSOCIATED,)} if samples == 4 else {}),
    }.items():  # fmt: skip
        directory[tag] = value
    file = BytesIO()
    directory.save(file)  # adds to STRIPS where the directory ends
    return file.getvalue() + strip


def _decompress(data: bytes, tags: dict[int, Any], samples: int) -> np.ndarray:
    """(H, W, samples) uint16, as stored."""
    planes = samples if tags.get(PLANAR, 1) == 2 else 1
    together = samples // planes
    if together == 2:
        raise UnsupportedPixels("16-bit gray with alpha")
    where, sizes = (TILES, TILE_BYTES) if TILES in tags else (STRIPS, STRIP_BYTES)
    starts, lengths = _tuple(tags[where]), _tuple(tags[sizes])
    each = len(starts) // planes
    parts = []
    for plane in range(planes):
        span = slice(plane * each, (plane + 1) * each)
        layout = {key: _tuple(tags[key]) for key in _LAYOUT if key in tags}
        kind = BLACK_IS_ZERO if together == 1 else RGB
        layout |= {BITS: (16,) * together, PHOTOMETRIC: (kind,), SAMPLES: (together,), PLANAR: (1,)}
        layout |= {EXTRA_SAMPLES: (UNASSOCIATED,)} if together == 4 else {}
        plain = _with_directory(data, {**layout, where: starts[span], sizes: lengths[span]})
        part = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
        if part is None or part.dtype != np.uint16 or part.size != tags[WIDTH] * tags[HEIGHT] * together:
            raise ValueError("its 16-bit pixels are unreadable")
        part = part.reshape(tags[HEIGHT], tags[WIDTH], together)
        parts.append(part if together == 1 else part[..., [2, 1, 0, 3][:together]])  # OpenCV gives BGR(A)
    return parts[0] if planes == 1 else np.dstack(parts)


def _with_directory(data: bytes, tags: dict[int, tuple[int, ...]]) -> bytes:
    """The same bytes with unchanged strips, as a classic TIFF with only these tags."""
    order = "<" if data.startswith(b"II") else ">"
    start = len(data) + len(data) % 2
    behind = start + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, numbers in sorted(tags.items()):
        body = struct.pack(f"{order}{len(numbers)}L", *numbers)
        at = body if len(body) == 4 else struct.pack(f"{order}L", behind + len(values))
        values += body if len(body) > 4 else b""
        entries += struct.pack(f"{order}HHL", tag, 4, len(numbers)) + at
    header = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}L", start)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values
    return b"".join([header, data[8:], bytes(start - len(data)), directory])


def _tuple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)
