"""The metadata of image files: EXIF, XMP, IPTC and the resolution, in a form that any format can store."""

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, TypeVar

from PIL import ExifTags, Image

from gcfsr_datasets.image_io import tiff

# Tags of a photograph's first directory that describe it; the others describe how the file stores its pixels.
_DESCRIPTIVE = (
    0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D,
    0x9C9E, 0x9C9F,
)  # fmt: skip
_XMP, _IPTC, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _ICC = 700, 33723, 282, 283, 296, 34675
_EXIF, _GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
_WIDTH, _HEIGHT = 0xA002, 0xA003  # of the image, in the EXIF directory
_MOST_DPI = 100_000.0
MOST_BYTES = 65_000  # of one block: the size of a segment in a JPEG
# the exceptions of Pillow's parsers on damaged metadata
FAULTS = (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
          ZeroDivisionError, RecursionError, struct.error, MemoryError)  # fmt: skip
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image that is stored upright.

    Attributes:
        exif: a TIFF directory of the descriptive tags with the EXIF and GPS ones; neither orientation nor preview.
        xmp: an XMP packet; its orientation says upright.
        iptc: IPTC-IIM records.
        dpi: resolution in dots per inch, horizontal and vertical.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None

    def without_place(self) -> "Metadata":
        """The same without the location: no GPS directory, and no XMP that mentions one."""
        exif = None if self.exif is None else _rebuilt(_load(self.exif), place=False)
        return replace(self, exif=exif, xmp=None if self.xmp and b"GPS" in self.xmp else self.xmp)

    def exif_of_size(self, width: int, height: int) -> bytes | None:
        """The EXIF of an image of this size in pixels, as a TIFF directory."""
        if self.exif is None:
            return None
        exif = _load(self.exif)
        directory = exif.get_ifd(_EXIF)
        directory.update({tag: value for tag, value in ((_WIDTH, width), (_HEIGHT, height)) if tag in directory})
        return _rebuilt(exif)


NO_METADATA = Metadata()


def read(data: bytes, image: Image.Image | None) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata of a file, and notes on parts that were dropped because they are damaged or too long.

    Args:
        data: the file's bytes.
        image: the same file opened by Pillow; None for a TIFF that Pillow does not open.
    """
    lost: list[str] = []

    def attempt(what: str, find: Callable[[], _Found | None]) -> _Found | None:
        try:
            found = find()  # Pillow skips single damaged entries
        except FAULTS:
            lost.append(f"its {what} is damaged and dropped")
            return None
        if isinstance(found, bytes) and len(found) > MOST_BYTES:
            lost.append(f"its {what} is longer than {MOST_BYTES} bytes and dropped")
            return None
        return found or None

    if data.startswith(tiff.SIGNATURES):
        tags = tiff.read_tags(data)
        exif = attempt("EXIF", lambda: _rebuilt(_of_tiff(data)))
        xmp = attempt("XMP", lambda: _upright(_bytes(tags.get(_XMP))))
        iptc = attempt("IPTC", lambda: _bytes(tags.get(_IPTC)))
        return Metadata(exif, xmp, iptc, attempt("resolution", lambda: _resolution(tags))), tuple(lost)
    if image is None:
        return NO_METADATA, ()
    info = image.info
    exif = attempt("EXIF", lambda: _rebuilt(image.getexif()))
    xmp = attempt("XMP", lambda: _upright(_bytes(info.get("xmp") or info.get("XML:com.adobe.xmp"))))
    iptc = attempt("IPTC", lambda: _bytes(info.get("photoshop", {}).get(0x0404)))
    return Metadata(exif, xmp, iptc, attempt("resolution", lambda: _plausible(info.get("dpi")))), tuple(lost)


def tiff_profile(tags: dict[int, Any]) -> bytes | None:
    """The colour profile of a TIFF."""
    return _bytes(tags.get(_ICC)) or None


def tiff_tags(metadata: Metadata, icc: bytes | None, width: int, height: int) -> dict[int, Any]:
    """The tags that carry metadata and profile in a TIFF of this size."""
    exif = metadata.exif_of_size(width, height)
    tags: dict[int, Any] = {}
    if exif is not None:
        found = _load(exif)
        tags |= {tag: found[tag] for tag in found if tag not in (_EXIF, _GPS)}
        tags |= {int(tag): directory for tag in (_EXIF, _GPS) if (directory := found.get_ifd(tag))}
    tags |= {tag: value for tag, value in ((_XMP, metadata.xmp), (_IPTC, metadata.iptc), (_ICC, icc)) if value}
    if metadata.dpi is not None:
        tags |= {_X_RESOLUTION: metadata.dpi[0], _Y_RESOLUTION: metadata.dpi[1], _RESOLUTION_UNIT: 2}
    return tags


def photoshop_segment(iptc: bytes) -> bytes:
    """IPTC records as in a JPEG: segment APP13 with one of Photoshop's blocks."""
    body = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + struct.pack(">L", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


def xmp_segment(xmp: bytes) -> bytes:
    """An XMP packet as in a JPEG: segment APP1."""
    body = b"http://ns.adobe.com/xap/1.0/\x00" + xmp
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def _load(exif: bytes) -> Image.Exif:
    found = Image.Exif()
    found.load(exif)
    return found


def _of_tiff(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    if data[2:4] in (b"*\x00", b"\x00*"):  # Pillow does not follow the directories of a BigTIFF
        exif.load_from_fp(BytesIO(data))
    return exif


def _rebuilt(exif: Image.Exif, place: bool = True) -> bytes | None:
    """A directory of the descriptive tags and the EXIF and (unless not `place`) GPS directories; None if empty."""
    kept = Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in exif and not str(exif[tag]).startswith('{"shape"'):  # tifffile's note on how pixels are stored
            kept[tag] = exif[tag]
    for tag in (_EXIF, _GPS) if place else (_EXIF,):
        directory = dict(exif.get_ifd(tag)) if tag in exif else {}
        if (interop := directory.pop(ExifTags.IFD.Interop, None)) is not None and not isinstance(interop, dict):
            interop = exif.get_ifd(ExifTags.IFD.Interop)
        if interop:
            directory[ExifTags.IFD.Interop] = interop
        if directory:
            kept[int(tag)] = directory
    return kept.tobytes().removeprefix(b"Exif\x00\x00") if len(kept) else None


def _bytes(value: Any) -> bytes | None:
    """IPTC in a TIFF is often declared as whole numbers."""
    if isinstance(value, tuple):
        return struct.pack(f"<{len(value)}L", *value)
    return value.encode() if isinstance(value, str) else value


def _upright(xmp: bytes | None) -> bytes | None:
    return None if xmp is None else re.sub(rb"(tiff:Orientation(?:=[\"']|>))\d", rb"\g<1>1", xmp)


def _resolution(tags: dict[int, Any]) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(tags.get(_RESOLUTION_UNIT, 2))
    if unit is None or _X_RESOLUTION not in tags:
        return None
    across = float(tags[_X_RESOLUTION]) * unit
    return _plausible((across, float(tags.get(_Y_RESOLUTION, tags[_X_RESOLUTION])) * unit))


def _plausible(dpi: Any) -> tuple[float, float] | None:
    if dpi is None:
        return None
    across, down = (float(value) for value in dpi)
    return (across, down) if all(math.isfinite(v) and 1 < v < _MOST_DPI for v in (across, down)) else None
