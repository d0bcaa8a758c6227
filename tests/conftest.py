"""Fixtures that every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_environment() -> Iterator[None]:
    """Removes the user's settings of gcfsr from the environment, so that tests do not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("GCFSR_") and name != "GCFSR_SHARED"]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data beside the repository (or GCFSR_SHARED); skips where it does not exist."""
    folder = Path(os.environ.get("GCFSR_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the development data folder {folder.name}/ is not beside the repository")
    return folder


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight smooth 32x32 colour images, made from a seed: enough for a tiny network to train on."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for number in range(8):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="session")
def outside() -> dict[str, str]:
    """The environment for programs that a test starts: one thread each, no Python path, our bytecode left alone."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GCFSR_", "PYTEST"))
    }
    return {**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
