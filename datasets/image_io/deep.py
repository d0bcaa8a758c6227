"""Images of more than 8 bits a channel in the formats that Pillow reads at 8: AVIF, HEIC and JPEG 2000.

OpenCV decodes AVIF and JPEG 2000 at their own depth, pillow-heif HEIC.
"""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from gcfsr_datasets.image_io.tiff import UnsupportedPixels

CODESTREAM = b"\xff\x4f\xff\x51"  # how JPEG 2000 starts inside its container
JPEG_2000 = (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")  # the file format, and its codestream alone
_END = b"\xff\xd9"
_AV1_CONFIG, _AV1_BITS = b"av1C", {0x40: 10, 0x60: 12}  # AV1 codec configuration record; high_bitdepth and twelve_bit
_COMPONENTS, _FIRST_COMPONENT = 40, 42  # places in a codestream: their number, and three bytes for each


def bits_of(data: bytes, image: Image.Image) -> int:
    """Bits a channel by the header of an AVIF, HEIC or JPEG 2000 image; 8 for other formats and for what is damaged."""
    if image.format == "AVIF":
        flags = data.find(_AV1_CONFIG) + len(_AV1_CONFIG) + 2
        return _AV1_BITS.get(data[flags] & 0x60, 8) if len(_AV1_CONFIG) + 2 <= flags < len(data) else 8
    if image.format == "HEIF":
        return int(image.info.get("bit_depth") or 8)
    if image.format == "JPEG2000":
        start = data.find(CODESTREAM)
        count = int.from_bytes(data[start + _COMPONENTS : start + _FIRST_COMPONENT], "big")
        sizes = data[start + _FIRST_COMPONENT : start + _FIRST_COMPONENT + 3 * count : 3]
        return max(((size & 0x7F) + 1 for size in sizes), default=8) if start >= 0 else 8
    return 8


def ends_early(data: bytes) -> bool:
    """Whether a JPEG 2000 is cut off; decoders fill the rest and call it a success."""
    return data.rfind(_END) < len(data) // 2


def decode(data: bytes, image: Image.Image, bits: int) -> np.ndarray | None:
    """Pixels of 9 to 16 bits, brought to the whole range of 16: black is 0, white 65535.

    Args:
        data: the file.
        image: opened by Pillow, not decoded.
        bits: of `bits_of`.

    Returns:
        (H, W, 3 | 4) BGR(A) uint16, as stored (HEIC: upright); None where Pillow's 8 bits have to do (AVIF).

    Raises:
        UnsupportedPixels: a JPEG 2000 that OpenCV does not read; Pillow would turn its white into black.
        EOFError: a truncated JPEG 2000.
    """
    jpeg_2000, top = image.format == "JPEG2000", (1 << bits) - 1
    if jpeg_2000 and ends_early(data):
        raise EOFError("truncated")
    pixels = _decode_heif(data, bits) if image.format == "HEIF" else _decode_opencv(data)
    if pixels is None or pixels.dtype != np.uint16 or bits > 16 or pixels.max(initial=0) > top:
        if jpeg_2000:
            raise UnsupportedPixels(f"JPEG 2000 of {bits} bits a channel in this form")
        return None
    if bits < 16:
        pixels = _stretched(pixels, top)
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels


def _stretched(pixels: np.ndarray, top: int) -> np.ndarray:
    """0 to `top` -> 0 to 65535, rounded: by a table, which takes no wider copy of the image."""
    table = np.rint(np.arange(top + 1) * (65535 / top)).astype(np.uint16)
    return table[pixels]


def _decode_opencv(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # of sub-sampled or signed components, for example
        return None


def _decode_heif(data: bytes, bits: int) -> np.ndarray:
    from pillow_heif import open_heif

    pixels = np.asarray(open_heif(BytesIO(data), convert_hdr_to_8bit=False, bgr_mode=True))
    return pixels >> (16 - bits)  # it shifts them up to 16 bits
