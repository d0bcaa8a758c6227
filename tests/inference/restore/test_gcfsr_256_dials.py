"""The dials of gcfsr-256 on portraits that no training has seen (works of the US Government, public domain)."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_datasets.degradation import to_uint8
from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph
from gcfsr_datasets.resize import resize
from gcfsr_inference import Restorer
from gcfsr_inference.restore.weights import DEFAULT_NAME
from gcfsr_measure.degradations import blocking, edge_sharpness, flat_area, residual_noise, strong_edges

SIDE, FACTOR = 256, 4
FACES = sorted((Path(__file__).parents[2] / "data" / "faces").glob("*.jpg"))

WEAR = {"clean": Wear(), "blur": Wear(sigma=(1.2, 1.2)), "noise": Wear(noise=12 / 255), "jpeg": Wear(quality=50)}


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load(DEFAULT_NAME)


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """(256, 256, 3) BGR uint8."""
    return [to_uint8(resize(cv2.imread(str(path)).astype(np.float32) / 255, (SIDE, SIDE))) for path in FACES]


def degraded(face: np.ndarray, name: str) -> np.ndarray:
    draw = Photograph(wear=WEAR[name])
    return to_uint8(apply_photograph(face.astype(np.float32) / 255, FACTOR, draw, np.random.default_rng(0)))


def left(result: np.ndarray, face: np.ndarray, name: str) -> float:
    """How much of a degradation a result shows."""
    if name == "noise":
        return residual_noise(result, face, flat_area(face))
    if name == "blur":
        return -edge_sharpness(result, face, strong_edges(face))
    small = resize(result.astype(np.float32) / 255, (SIDE // FACTOR, SIDE // FACTOR))
    return blocking(to_uint8(small))


@pytest.mark.parametrize("name", ["blur", "noise", "jpeg"])
def test_raising_a_dial_removes_its_degradation(restorer: Restorer, faces: list[np.ndarray], name: str) -> None:
    for face in faces:
        given = degraded(face, name)
        none = {"factor": FACTOR / restorer.max_factor, "blur": 0.0, "noise": 0.0, "jpeg": 0.0}
        found = [left(restorer.restore(given, s={**none, name: s}), face, name) for s in (0.0, 0.5, 1.0)]
        assert found[0] > max(found[1:])
        # from half of its range on the noise is nearly gone, and what flat skin still shows is detail as well
        assert found[2] < found[1] + (0.02 * found[0] if name == "noise" else 0.0)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_factors_auto_is_within_an_octave(restorer: Restorer, faces: list[np.ndarray], factor: int) -> None:
    grain, worn = Wear(noise=10 / 255, gray_noise=True), Wear(noise=6 / 255, quality=60)
    for wear in (Wear(), worn, grain, Wear(sigma=(0.6, 0.6))):
        for face in faces:
            draw = Photograph(7.0, (0.3, 0.6), "area", "bicubic", 1.0, wear)
            given = to_uint8(apply_photograph(face.astype(np.float32) / 255, factor, draw, np.random.default_rng(0)))
            assert factor / 2 <= restorer.estimate_factor(given) <= factor * 2


def test_what_is_read_grows_with_the_noise(restorer: Restorer, faces: list[np.ndarray]) -> None:
    for face in faces:
        given = [degraded(face, name) for name in ("clean", "noise")]
        clean, noisy = (restorer.backend.estimate(restorer.encode(image)).mean[0, 2].item() for image in given)
        assert noisy > clean + 0.1
