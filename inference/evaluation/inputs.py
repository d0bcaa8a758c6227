"""Makes the degraded inputs from a seed and saves them as 8-bit PNG, so that every method gets the same ones."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.dataset_options import PhotographDraws, read_block
from gcfsr_datasets.degradation import degrade_blind, resized, small_size, to_uint8
from gcfsr_datasets.degradation.blind_parameters import BlindRanges, draw_blind
from gcfsr_datasets.degradation.conditions import conditions_of
from gcfsr_datasets.degradation.photograph import apply_photograph
from gcfsr_datasets.resize import resize
from gcfsr_inference.evaluation.conditions import CELEBA_TEST, Condition
from gcfsr_inference.evaluation.workspace import Workspace, read_bgr, save_png


def image_seed(seed: int, name: str) -> int:
    """The seed of one image. It depends on the name only, not on the other images or their order."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little")


def to_size(image: NDArray[np.uint8], size: int, name: str) -> NDArray[np.uint8]:
    """The ground truth at another size, by our bicubic.

    Raises:
        GCFSRError: the image is not square, or smaller than `size` (a ground truth is never upscaled).
    """
    height, width = image.shape[:2]
    if height != width:
        raise GCFSRError(f"{name}: is {width}x{height}; --out-size needs square images")
    if height < size:
        raise GCFSRError(f"{name}: is {width}x{height}, smaller than --out-size {size}; a ground truth is not enlarged")
    return resized(image, size)


Ranges = BlindRanges | PhotographDraws  # of the blind degradation: GFPGAN's, or that of photographs
RANGES: dict[str, type[Ranges]] = {
    "BlindFaceDegradationDataset": BlindRanges, "PhotographDegradationDataset": PhotographDraws,
}  # fmt: skip


def read_blind_ranges(path: str | Path) -> Ranges:
    """The ranges of the degradation with which an option file trains, of its first data set of `RANGES`.

    Raises:
        GCFSRError: the file does not exist or is not valid YAML, it has no such data set, or a range is invalid.
    """
    from gcfsr_arch.training.options import read_options

    content, _ = read_options(Path(path))
    sets = content.get("datasets")
    blocks = [block for block in sets.values() if isinstance(block, dict)] if isinstance(sets, dict) else []
    found = [block for block in blocks if block.get("type") in RANGES]
    if not found:
        raise GCFSRError(f"{path}: has no data set of type {' or '.join(RANGES)}")
    cls = RANGES[found[0]["type"]]
    known = {spec.name for spec in fields(cls)}
    return read_block(cls, {key: value for key, value in found[0].items() if key in known}, str(path))


def true_conditions(condition: Condition, side: int, seed: int, name: str, ranges: Ranges) -> dict[str, float]:
    """What made an input: the factor, at least 1, and by name the other `CONDITIONS` on the scale of the ranges.

    Args:
        condition: of the evaluation.
        side: of the ground truth in pixels.
        seed, name: of `image_seed`.
        ranges: of the blind degradation.
    """
    if condition.factor is not None:
        return {**dict.fromkeys(CONDITIONS, 0.0), "factor": condition.factor}
    rng, drawn = np.random.default_rng(image_seed(seed, name)), None
    if isinstance(ranges, BlindRanges):
        drawn = draw_blind(rng, ranges)
        factor = max(drawn.downsample, 1.0)
    else:
        factor, photograph = ranges.draw(rng, side)
        drawn = photograph.wear
    return {**dict(zip(CONDITIONS, conditions_of(1, 1, drawn, ranges).tolist(), strict=True)), "factor": factor}


def degrade(
    gt: NDArray[np.uint8], condition: Condition, seed: int, name: str, blind: Ranges = CELEBA_TEST
) -> NDArray[np.uint8]:
    """One input. (H, W, 3) BGR uint8 -> (H / factor, W / factor, 3), or (H, W, 3) for the blind degradation.

    The small image is rounded to 8 bits, as an image file is.
    """
    image = gt.astype(np.float32) / 255
    if condition.factor is None:
        rng = np.random.default_rng(image_seed(seed, name))
        if isinstance(blind, BlindRanges):
            return to_uint8(degrade_blind(image, rng, blind))
        if image.shape[0] != image.shape[1]:
            raise GCFSRError(f"{name}: is {gt.shape[1]}x{gt.shape[0]}; a photograph of a face is made of a square one")
        return to_uint8(apply_photograph(image, *blind.draw(rng, len(image)), rng))
    height, width = (small_size(side, condition.factor) for side in gt.shape[:2])
    return to_uint8(resize(image, (height, width)))


@dataclass(frozen=True)
class Preparation:
    """One ground truth image to resize and degrade."""

    name: str
    path: Path
    size: int | None
    conditions: tuple[Condition, ...]
    seed: int
    root: Path
    blind: Ranges
    max_pixels: int


def prepare(item: Preparation) -> str | None:
    """Writes the files that are missing. Returns why a ground truth cannot be used, or None.

    Raises:
        GCFSRError: a file cannot be written, which is no fault of the ground truth.
    """
    space = Workspace(item.root)
    lows = {condition: space.low(condition.input_key, item.name) for condition in item.conditions}
    wanted = [*lows.values(), *([space.gt(item.name)] if item.size else [])]
    if all(path.exists() for path in wanted):
        return None
    try:
        gt = read_bgr(item.path, item.max_pixels)
        if item.size:
            gt = to_size(gt, item.size, item.path.name)
        images = {path: degrade(gt, condition, item.seed, item.name, item.blind) for condition, path in lows.items()}
    except GCFSRError as error:
        return str(error)
    if item.size:
        save_png(space.gt(item.name), gt)
    for path, image in images.items():
        save_png(path, image)
    return None
