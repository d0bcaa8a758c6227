"""What the decoders of PNG do not report: rows that are missing, and the transparent gray of 16 bits."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type: gray, RGB, palette, gray and alpha, RGBA
# x and y of the first pixel and the steps between pixels, of each pass of an interlaced image (Adam7)
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 1 << 20


def ends_early(data: bytes) -> bool:
    """Whether a PNG's compressed data are too short for its size; decoders leave the missing rows black."""
    width, height, depth, colours, _, _, interlaced = struct.unpack(">LLBBBBB", data[16:29])
    bits, needed = depth * _SAMPLES.get(colours, 1), 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(width - left, 0) // across), -(-max(height - top, 0) // down)
        needed += rows * (1 + -(-columns * bits // 8)) if columns else 0  # a byte for each row's filter
    inflate, found = zlib.decompressobj(), 0
    for kind, body in _chunks(data):
        while kind == b"IDAT" and body and found < needed:
            found += len(inflate.decompress(body, _BLOCK))
            body = inflate.unconsumed_tail
    return found < needed


def transparent_gray(data: bytes) -> int | None:
    """The gray that a PNG of colour type 0 declares transparent, as stored; None where there is none."""
    body = next((body for kind, body in _chunks(data) if kind in (b"tRNS", b"IDAT")), b"")
    return int.from_bytes(body, "big") if data[25:26] == b"\0" and len(body) == 2 else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length
