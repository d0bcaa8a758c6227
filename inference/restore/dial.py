"""The dial: what `--factor`, `--s` and `-w` mean for a checkpoint, and strengths that vary by place or level."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from numbers import Integral
from typing import Any, Protocol, SupportsFloat

import numpy as np

from gcfsr_arch.errors import GCFSRError

TORCH_SEED = 2**63 - 1  # the largest that torch takes
MAX_SEED = TORCH_SEED - 2**32  # "random" noise adds 32 bits of the image's own
DIALS = {"deblur": "blur", "denoise": "noise", "dejpeg": "jpeg"}  # option of `gcfsr restore`: condition


class Range(Protocol):
    """What the dial needs to know of a network."""

    min_factor: float
    max_factor: float


def as_number(name: str, value: Any) -> float:
    """A number of Python or numpy as a float.

    Raises:
        GCFSRError: it is none; text is none either.
    """
    with suppress(TypeError, OverflowError):
        if isinstance(value, SupportsFloat):
            return float(value)
    raise GCFSRError(f"{name} {str(value)!r:.60}: pass a number")


def strength_of_factor(factor: float, network: Range) -> float:
    """s = factor / max_factor.

    Raises:
        GCFSRError: the factor is not a number or is outside the range that the network was trained on.
    """
    factor, low, high = as_number("--factor", factor), network.min_factor, network.max_factor
    if not math.isfinite(factor) or not low <= factor <= high:
        raise GCFSRError(f"--factor {factor:g}: this checkpoint serves factors {low:g} to {high:g} (or 'auto')")
    return factor / high


def strength_of_fidelity(w: float, network: Range) -> float:
    """CodeFormer's w in [0, 1] (1 = faithful): s = 1 - w, stretched over the checkpoint's own range of s.

    w = 1 is the lowest strength the network knows (min_factor / max_factor), w = 0 is s = 1.
    """
    if not math.isfinite(w) or not 0 <= w <= 1:
        raise GCFSRError(f"-w {w:g}: the fidelity must be in [0, 1] (1 = faithful, 0 = most is generated)")
    lowest = network.min_factor / network.max_factor
    return lowest + (1 - w) * (1 - lowest)


def check_seed(seed: int, largest: int = MAX_SEED) -> int:
    """The seed itself, if torch takes it and what is added to it for each image."""
    if not isinstance(seed, Integral) or not 0 <= seed <= largest:
        raise GCFSRError(f"--seed {seed!s:.60}: a whole number from 0 to {largest}")
    return int(seed)


def check_count(name: str, count: int, least: int) -> None:
    """Raises GCFSRError unless count is a whole number, at least `least`."""
    if not isinstance(count, Integral) or count < least:
        raise GCFSRError(f"{name} {count!s:.60}: a whole number, at least {least}")


def check_strength(s: float) -> float:
    """s itself, if it is a number in [0, 1]."""
    s = as_number("--s", s)
    if not math.isfinite(s) or not 0 <= s <= 1:
        raise GCFSRError(f"--s {s:g}: the strength must be in [0, 1]; it is factor / max_factor")
    return s


def check_strengths(s: Any) -> np.ndarray:
    """A strength, one per level, or a map, as float32 of that shape.

    Raises:
        GCFSRError: there is none, or they are not numbers in [0, 1].
    """
    try:
        strengths = np.asarray(s, np.float32)
        least, most = strengths.min(), strengths.max()  # NaN if one of them is
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: a tensor that requires a gradient
        raise GCFSRError(f"--s {str(s)!r:.60}: pass numbers in [0, 1]") from None
    check_strength(least)
    check_strength(most)
    return strengths


def check_blend(blend: float) -> float:
    """blend itself, if it is a number in [0, 1]."""
    return _share("blend", blend, "0 is the input, 1 the result")


def check_agreement(agreement: float) -> float:
    """agreement itself, if it is a number in [0, 1]."""
    return _share("agreement", agreement, "0 leaves the network's result")


def _share(option: str, value: float, meaning: str) -> float:
    value = as_number(f"--{option}", value)
    if not 0 <= value <= 1:
        raise GCFSRError(f"--{option} {value:g}: must be in [0, 1]; {meaning}")
    return value


def clip_factor(factor: float, network: Range) -> float:
    """The nearest factor that the network serves."""
    return min(max(factor, network.min_factor), network.max_factor)


def parse_factor(factor: float | str, s: Any = None) -> float | str:
    """'auto' or a number, as `--factor` takes it.

    Raises:
        GCFSRError: it is neither, or a number beside a strength `s` that sets the factor's dial too.
    """
    if str(factor).strip().lower() == "auto":
        return "auto"
    own = s.get("factor") if isinstance(s, Mapping) else s
    if own is not None and not isinstance(own, str):
        raise GCFSRError("pass s or factor, not both")
    try:
        return float(factor)
    except (TypeError, ValueError, OverflowError):
        raise GCFSRError(f"--factor {str(factor)!r:.60}: pass a number or 'auto'") from None


def parse_dial(option: str, text: str | None) -> float | str | None:
    """'auto' or a number in [0, 1], as `--denoise` takes it; None where it was not given."""
    if text is None or str(text).strip().lower() == "auto":
        return None if text is None else "auto"
    try:
        return check_strength(float(text))
    except (ValueError, GCFSRError):
        raise GCFSRError(f"{option} {text}: a number in [0, 1] or 'auto'") from None


def parse_levels(text: str, sizes: Sequence[int]) -> list[float]:
    """`--s-levels a,b,c`: one strength per level, from 16 pixels up.

    Raises:
        GCFSRError: another count than the network's levels, or a value outside [0, 1].
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise GCFSRError(f"--s-levels {text!r}: numbers in [0, 1] separated by commas") from None
    if len(values) != len(sizes):
        names = ", ".join(str(size) for size in sizes)
        raise GCFSRError(f"--s-levels {text!r}: {len(values)} values, the checkpoint has {len(sizes)} levels ({names})")
    return [check_strength(value) for value in values]


def strength_map(mask: np.ndarray, shape: tuple[int, int], low: float, high: float, name: str) -> np.ndarray:
    """A mask's brightness as strength: black is `low`, white is `high`.

    Args:
        mask: (H, W) or (H, W, C) uint8 or uint16; the same size as its image.
        shape: (H, W) of that image.
        low, high: strengths in [0, 1].
        name: the file, for messages.

    Returns:
        (H, W) float32 in [low, high].

    Raises:
        GCFSRError: the mask and the image differ in size.
    """
    if mask.shape[:2] != tuple(shape):
        raise GCFSRError(
            f"{name}: the mask is {mask.shape[1]}x{mask.shape[0]}, the image {shape[1]}x{shape[0]}; make them equal"
        )
    gray = mask.astype(np.float32) if mask.ndim == 2 else mask[..., :3].mean(axis=2, dtype=np.float32)
    return low + gray * np.float32((high - low) / np.iinfo(mask.dtype).max)
