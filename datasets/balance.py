"""Draws images evenly over the luminance of the face, so that rare skin tones are seen as often as common ones."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.degradation.color import luminance
from gcfsr_datasets.image_io import decode_bgr, read_bytes, write_bytes_atomic
from gcfsr_datasets.image_source import ImageSource

BINS = 32
RAREST = 0.1  # densities are raised to this share of the largest, so that no single image fills the batches


def face_luminance(bgr: np.ndarray) -> float:
    """Mean BT.601 luminance, in [0, 1], of the middle third of an aligned face (H, W, 3) BGR uint8."""
    height, width = bgr.shape[:2]
    middle = bgr[height // 3 : height - height // 3, width // 3 : width - width // 3]
    return float(luminance(middle.astype(np.float32)).mean() / 255)


def measure(source: ImageSource, cache: str | None = None) -> np.ndarray:
    """(n,) luminances of all images; one that cannot be decoded counts as the median.

    Args:
        source: the images.
        cache: JSON file of `_keys` -> luminance, read if it exists and written if a name is missing.

    Raises:
        GCFSRError: the cache is not such a file.
    """
    known = _read_cache(cache)
    keys = _keys(source)
    missing = [index for index, key in enumerate(keys) if key not in known]
    for index in missing:
        try:
            known[keys[index]] = face_luminance(decode_bgr(source.read(index), keys[index]))
        except GCFSRError:  # the data set reports, skips and counts it
            known[keys[index]] = None
    if cache is not None and missing:
        write_bytes_atomic(cache, json.dumps(known).encode())
    values = np.array([known[key] for key in keys], np.float64)
    return np.where(np.isnan(values), np.nanmedian(values), values)


def even_weights(values: np.ndarray) -> np.ndarray:
    """(n,) probabilities inverse to the smoothed density of the values in [0, 1]."""
    counts, edges = np.histogram(values, BINS, (0, 1))
    density = gaussian_filter1d(counts.astype(np.float64), 1, mode="constant")
    at_value = density[np.clip(np.searchsorted(edges, values, "right") - 1, 0, BINS - 1)]
    weights = 1 / np.maximum(at_value, RAREST * density.max())
    return weights / weights.sum()


def _keys(source: ImageSource) -> list[str]:
    """The last two parts of each name, so that the cache stays valid when the data set is moved; where several images
    share them, the whole path."""
    short = ["/".join(Path(name).parts[-2:]) for name in source.names]
    count = Counter(short)
    return [key if count[key] == 1 else os.path.abspath(source.path(index)) for index, key in enumerate(short)]


def _read_cache(cache: str | None) -> dict[str, float | None]:
    if cache is None or not Path(cache).exists():
        return {}
    try:
        known = dict(json.loads(read_bytes(cache)))
        valid = all(value is None or 0 <= value <= 1 for value in known.values())
    except (ValueError, TypeError, RecursionError):  # no JSON, no object, a value that is no number
        valid = False
    if not valid:
        raise GCFSRError(f"{cache}: not a cache of luminances; remove it, it will be rewritten")
    return known
