"""Shared by the figures: loading faces and networks, settings of the dial, and saving."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import make_folder
from gcfsr_datasets.degradation import to_uint8
from gcfsr_datasets.degradation.photograph import Wear, wear_out
from gcfsr_datasets.image_io import write_bytes_atomic, write_image
from gcfsr_inference.evaluation.conditions import Condition
from gcfsr_inference.evaluation.inputs import degrade, to_size
from gcfsr_inference.evaluation.workspace import by_stem, read_bgr

Image = NDArray[np.uint8]  # (S, S, 3) BGR


def load_net(name: str | None, device: str = "cpu") -> Any:
    """A generator by path or name (None: the bundled one), in eval mode.

    Raises:
        GCFSRError: the file does not exist or has another network's weights.
    """
    from gcfsr_arch import load_generator
    from gcfsr_inference.restore.weights import resolve_checkpoint

    return load_generator(resolve_checkpoint(name), device=device)


def load_faces(paths: Sequence[str], size: int, limit: int | None = None) -> dict[str, Image]:
    """Aligned square faces by name, resized to (size, size); folders are searched.

    Raises:
        GCFSRError: a path is missing, not an image, not square or too small.
    """
    files: dict[str, Path] = {}
    for text in paths:
        path = Path(text)
        files.update(by_stem(path) if path.is_dir() else {path.stem: path})
    chosen = list(files.items())[:limit]
    return {name: to_size(read_bgr(path), size, path.name) for name, path in chosen}


def make_low(gt: Image, factor: float, wear: Wear | None = None) -> Image:
    """The LR image of a factor, worn where `wear` is given, uint8."""
    low = degrade(gt, Condition(factor, factor), 0, "")
    return low if wear is None else to_uint8(wear_out(low.astype(np.float32) / 255, wear, np.random.default_rng(0)))


def doubling(low: float, high: float) -> list[float]:
    """low, 2 low, 4 low, ... up to high, which is always the last."""
    steps = [low * 2**k for k in range(32) if low * 2**k < high * (1 - 1e-9)]
    return [*steps, high]


def in_octaves(low: float, high: float, count: int) -> list[float]:
    """`count` factors from low to high, evenly spaced in octaves."""
    return [
        float(f"{value:.9g}") for value in np.geomspace(low, high, count)
    ]  # rounded, so that equal factors compare equal


def parse_numbers(text: str, option: str) -> list[float]:
    """Parses "4,8,24.5".

    Raises:
        GCFSRError: an entry is not a positive number.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise GCFSRError(f"{option} {text}: not a list of numbers, such as 4,8,24.5") from error
    if not all(0 < number < float("inf") for number in numbers):
        raise GCFSRError(f"{option} {text}: must be positive")
    return numbers


def check_range(net: Any, factors: Sequence[float], option: str) -> None:
    """Checks factors against the network's range.

    Raises:
        GCFSRError: the network is blind, or a factor is out of its range.
    """
    if net.blind:
        raise GCFSRError(f"{option}: the checkpoint is blind; it has no dial")
    for factor in factors:
        if not net.min_factor - 1e-9 <= factor <= net.max_factor + 1e-9:
            raise GCFSRError(
                f"{option} {factor:g}: the checkpoint's factors are {net.min_factor:g} to {net.max_factor:g}"
            )


def save_image(path: Path, image: Image) -> Path:
    """Writes an image."""
    make_folder(path.parent, "--out")
    write_image(path, image)
    return path


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(path: Path, figure: Any, dpi: int = 120) -> Path:
    """Writes a matplotlib figure as PNG, atomically."""
    make_folder(path.parent, "--out")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    write_bytes_atomic(path, buffer.getvalue())
    return path
