"""Which part of an aligned crop lies inside its photograph; the rest is padding."""

from pathlib import Path

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import read_bytes


class ValidAreas:
    """The photograph's corners in each crop, by the stem of its file's name: a copy as PNG has the corners of its JPEG.

    An image that is not listed is all valid.
    """

    def __init__(self, corners: dict[str, np.ndarray]):
        self.corners = corners

    @classmethod
    def read(cls, path: str) -> "ValidAreas":
        """Reads a table: a header, then per line a file name, a tab, and the four corners x y x y ... in order around
        the quadrilateral, as shares of the side.

        Raises:
            GCFSRError: no such file, or a line of another form.
        """
        try:
            rows = [line.split("\t") for line in read_bytes(path).decode().splitlines()[1:] if line]
            corners = {Path(name).stem: np.array(numbers.split(), np.float64).reshape(4, 2) for name, numbers in rows}
            finite = all(np.abs(value).max() < 1e3 for value in corners.values())
        except (UnicodeDecodeError, ValueError) as error:
            raise GCFSRError(f"{path}: not a table of corners ({error}); write name, tab, x y x y x y x y") from error
        if not finite:
            raise GCFSRError(f"{path}: a corner is not a finite share of the side; correct it")
        return cls(corners)

    def mask(self, name: str, side: int) -> np.ndarray:
        """(side, side) uint8: 255 inside the photograph, 0 on padding."""
        corners = self.corners.get(Path(name).stem)
        if corners is None:
            return np.full((side, side), 255, np.uint8)
        center = (np.arange(side) + 0.5) / side
        edges = np.roll(corners, -1, axis=0) - corners
        sides = [  # of each edge, the side on which a pixel's center lies
            dx * (center[:, None] - y) - dy * (center[None, :] - x)
            for (x, y), (dx, dy) in zip(corners, edges, strict=True)
        ]
        inside = np.all(np.array(sides) >= 0, axis=0) | np.all(np.array(sides) <= 0, axis=0)
        return inside.astype(np.uint8) * 255
