"""Search for faces over several scales and in tiles, so that neither very small nor very large ones are missed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from gcfsr_inference.photo.detect.detection import Detection, Detector

COARSEST = 640  # long side of the smallest level in pixels: a face that fills the image is found there
TILE = 1280  # side of a tile in pixels: bounds the memory for any image size
OVERLAP = 256  # of neighbouring tiles; a face larger than this is found one level further up
SMALLEST = 16  # pixels a face needs at some level to be found
BEST = (32.0, 320.0)  # face sizes in a level's pixels whose landmarks are the most exact


def search(image: np.ndarray, detector: Detector, min_face: float = 20.0) -> list[Detection]:
    """Finds faces from `min_face` pixels up to the image's own size.

    The image is searched at a long side of 640 pixels and at each doubling up to its own size, in tiles of 1280 with
    overlap; levels in which the smallest wanted face is larger than needed are left out. Detections are merged by
    non-maximum suppression, also where one face lies inside another, and what looks like a face at one scale only is
    dropped.

    Args:
        image: (H, W, 3) BGR, uint8 or uint16.
        detector: from `build_detector`.
        min_face: least longer side of a face's box in the image's pixels.

    Returns:
        Detections in the image's pixels, from left to right.
    """
    if not detector.searches_scales:
        return detector.detect(image)
    scales = levels(image.shape[0], image.shape[1], min_face)
    found = [
        (detection, scale)
        for scale in scales
        for detection in _search_level(image, detector, scale)
        if detection.size >= min_face
    ]
    faces, at = [detection for detection, _ in found], np.array([scale for _, scale in found])
    kept = suppress(faces, [_rank(detection, scale) for detection, scale in found])
    faces = [faces[index] for index in kept if _confirmed(faces[index], faces, at, scales)]
    return sorted(faces, key=lambda face: (face.box[0], face.box[1]))


def levels(height: int, width: int, min_face: float) -> list[float]:
    """Scales to search, coarsest first: doublings from a long side of 640 to the finest that `min_face` asks for.

    An image smaller than that is also enlarged (at most four times), since a detector needs about 16 pixels of face.
    """
    coarsest = COARSEST / max(height, width)
    if coarsest >= 1:
        return [1.0, min(coarsest, 4.0)] if coarsest > 1.25 else [1.0]
    finest = min(1.0, max(coarsest, 2 * SMALLEST / max(min_face, 1e-6)))
    scales = [coarsest]
    while scales[-1] * 2 < finest:
        scales.append(scales[-1] * 2)
    return [*scales, finest] if finest > scales[-1] * 1.2 else scales


def suppress(
    found: Sequence[Detection], ranks: Sequence[float], overlap: float = 0.4, inside: float = 0.7
) -> list[int]:
    """Non-maximum suppression. Indices of the detections to keep, best rank first.

    A detection falls to a better one when their boxes overlap by more than `overlap` (intersection over union) or when
    more than `inside` of the smaller box lies in the other.
    """
    if not found:
        return []
    boxes = np.stack([face.box for face in found]).astype(np.float64)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    order = np.argsort(-np.asarray(ranks), kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        corner = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        common = np.maximum(corner, 0).prod(axis=1)
        union = areas[best] + areas[rest] - common
        smaller = np.minimum(areas[best], areas[rest])
        order = rest[(common <= overlap * union) & (common <= inside * smaller)]
    return kept


def _confirmed(face: Detection, found: Sequence[Detection], at: np.ndarray, scales: Sequence[float]) -> bool:
    """Whether at least half of the levels at which a face of this size is seen best do show it.

    A pattern that looks like a face at one scale only is none; a small face has few such levels, often one.
    """
    expected = [scale for scale in scales if BEST[0] <= face.size * scale <= BEST[1]]
    boxes = np.stack([other.box for other in found])
    corner = np.minimum(face.box[2:], boxes[:, 2:]) - np.maximum(face.box[:2], boxes[:, :2])
    common = np.maximum(corner, 0).prod(axis=1)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    same = common > 0.3 * (areas + (face.box[2:] - face.box[:2]).prod() - common)
    return 2 * len(set(at[same]) & set(expected)) >= len(expected)


def _rank(detection: Detection, scale: float) -> float:
    """The score, lowered by the octaves by which the face's size at this level leaves the detector's best range."""
    size = max(detection.size * scale, 1.0)
    octaves = max(np.log2(BEST[0] / size), np.log2(size / BEST[1]), 0.0)
    return detection.score - 0.05 * float(octaves)


def _search_level(image: np.ndarray, detector: Detector, scale: float) -> Iterator[Detection]:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    for left, top, right, bottom in tiles(height, width):
        crop = _level_tile(image, (height, width), (left, top, right, bottom))
        for face in detector.detect(crop):
            cut = (
                (left > 0 and face.box[0] < 2)
                or (top > 0 and face.box[1] < 2)
                or (right < width and face.box[2] > crop.shape[1] - 2)
                or (bottom < height and face.box[3] > crop.shape[0] - 2)
            )
            if not cut:
                ratio, corner = np.array([image.shape[1] / width, image.shape[0] / height]), np.array([left, top])
                box = ((face.box.reshape(2, 2) + corner) * ratio).reshape(4)
                yield replace(face, box=box, landmarks=(face.landmarks + corner) * ratio)


def tiles(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right, bottom of the overlapping tiles that cover a level."""
    for top in _starts(height):
        for left in _starts(width):
            yield left, top, min(left + TILE, width), min(top + TILE, height)


def _starts(length: int) -> list[int]:
    if length <= TILE:
        return [0]
    count = -(-(length - OVERLAP) // (TILE - OVERLAP))
    return [round(index * (length - TILE) / (count - 1)) for index in range(count)]


def _level_tile(image: np.ndarray, size: tuple[int, int], tile: tuple[int, int, int, int]) -> np.ndarray:
    """One tile of the image scaled to `size` (height, width), as uint8; only the tile's own pixels are computed."""
    height, width = size
    left, top, right, bottom = tile
    if (height, width) == image.shape[:2]:
        return _to_uint8(image[top:bottom, left:right])
    rows = slice(top * image.shape[0] // height, -(-bottom * image.shape[0] // height))
    columns = slice(left * image.shape[1] // width, -(-right * image.shape[1] // width))
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    return _to_uint8(cv2.resize(image[rows, columns], (right - left, bottom - top), interpolation=method))


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image) if image.dtype == np.uint8 else cv2.convertScaleAbs(image, alpha=255 / 65535)
