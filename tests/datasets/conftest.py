"""BasicSR's functions as the independent reference, and small folders of faces."""

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

import gcfsr_autoload


@pytest.fixture(scope="session")
def matlab() -> ModuleType:
    """`basicsr.utils.matlab_functions`; skips where BasicSR is not installed."""
    gcfsr_autoload.install()
    return pytest.importorskip("basicsr.utils.matlab_functions")


@pytest.fixture(scope="session")
def degradations() -> ModuleType:
    """`basicsr.data.degradations`; skips where BasicSR is not installed."""
    gcfsr_autoload.install()
    return pytest.importorskip("basicsr.data.degradations")


@pytest.fixture(scope="session")
def face() -> np.ndarray:
    """The astronaut's face, (128, 128, 3) BGR uint8."""
    return cv2.resize(astronaut()[10:210, 120:320, ::-1], (128, 128), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def gt(face: np.ndarray) -> np.ndarray:
    """The same as a ground truth: (128, 128, 3) BGR float32 in [0, 1]."""
    return face.astype(np.float32) / 255


@pytest.fixture
def folder(tmp_path: Path, face: np.ndarray) -> Path:
    """Eight different PNGs of 32x32."""
    root = tmp_path / "faces"
    root.mkdir()
    small = cv2.resize(face, (32, 32), interpolation=cv2.INTER_AREA)
    for number in range(8):
        small[0, 0] = number
        cv2.imwrite(str(root / f"{number}.png"), small)
    return root
