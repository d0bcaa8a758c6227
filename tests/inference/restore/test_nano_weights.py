"""The shipped checkpoints: what they are, and what they do to a face that they were not trained on."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from skimage import data
from skimage.metrics import structural_similarity

from gcfsr_arch import GCFSR, load_generator
from gcfsr_inference.restore.weights import bundled, licence_of, resolve_checkpoint

LANDMARKS = np.float32([[200, 102], [247, 103], [220, 125], [199, 143], [240, 144]])  # of the astronaut, found by YuNet
TEMPLATE = np.float32([[48, 59.5], [80, 59.5], [63.5, 78.5], [49, 93], [77, 93]])  # FFHQ's layout at 128 pixels
LARGEST_FILE = 12e6


@pytest.fixture(scope="module")
def astronaut_face() -> np.ndarray:
    """(128, 128, 3) RGB in [0, 1], aligned."""
    matrix, _ = cv2.estimateAffinePartial2D(LANDMARKS, TEMPLATE, method=cv2.LMEDS)
    face = cv2.warpAffine(data.astronaut(), matrix, (128, 128), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    return face.astype(np.float64) / 255


@pytest.fixture(scope="module")
def nano() -> GCFSR:
    return load_generator(resolve_checkpoint("gcfsr-nano"))


def enlarged(face: np.ndarray, factor: int) -> np.ndarray:
    """Down and up by BasicSR's bicubic, the small image as a file holds it."""
    from basicsr.utils.matlab_functions import imresize

    small = np.round(np.clip(imresize(face, 1 / factor), 0, 1) * 255) / 255
    return np.clip(imresize(small, factor), 0, 1)


def restored(net: GCFSR, image: np.ndarray, s: float | None) -> np.ndarray:
    x = torch.from_numpy(image * 2 - 1).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        y = net(x, s, noise="fixed")
    return (y[0].permute(1, 2, 0).double().numpy().clip(-1, 1) + 1) / 2


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(a - b).mean()))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(a, b, channel_axis=2, data_range=1)


def fine_energy(image: np.ndarray) -> float:
    """Energy above a blur of 1.5 pixels, of the luminance."""
    gray = image @ np.array([0.299, 0.587, 0.114])
    return float(np.square(gray - cv2.GaussianBlur(gray, (0, 0), 1.5)).mean())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gcfsr-256", (256, 1.25, 32, False)),
        ("gcfsr-nano", (128, 2, 16, False)),
    ],
)
def test_a_bundled_file_is_small_half_precision_and_says_what_it_is(name: str, kind: tuple) -> None:
    path = bundled()[name]
    assert path.stat().st_size <= LARGEST_FILE
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        full = {key for key in file.keys() if file.get_tensor(key).dtype != torch.float16}  # noqa: SIM118 (no mapping)
    moments = {"mean", "square", "seen"}  # of the estimator; halved, their variances would be lost
    assert all(key.startswith("estimator.") and key.rpartition(".")[2] in moments for key in full), full
    assert "non-commercial" in metadata["licence"]
    assert "generators" in metadata["training_data"]
    net = load_generator(path)
    assert (net.out_size, net.min_factor, net.max_factor, net.blind) == kind


def test_the_licence_is_beside_the_weights() -> None:
    for path in bundled().values():
        assert "non-commercial" in str(licence_of(path))
        assert "never use a result to identify" in str(licence_of(path))


@pytest.mark.parametrize(("factor", "gain", "likeness"), [(4, 0.2, 0.02), (8, 1.0, 0.08), (16, 0.8, 0.07)])
def test_nano_is_closer_to_the_ground_truth_than_bicubic(
    nano: GCFSR, astronaut_face: np.ndarray, factor: int, gain: float, likeness: float
) -> None:
    x = enlarged(astronaut_face, factor)
    y = restored(nano, x, factor / 16)
    assert psnr(y, astronaut_face) > psnr(x, astronaut_face) + gain
    assert ssim(y, astronaut_face) > ssim(x, astronaut_face) + likeness
    assert fine_energy(y) > 5 * fine_energy(x)


@pytest.mark.parametrize("factor", [4, 8])
def test_turning_the_dial_adds_detail_and_keeps_the_input(nano: GCFSR, astronaut_face: np.ndarray, factor: int) -> None:
    x = enlarged(astronaut_face, factor)
    results = [restored(nano, x, s) for s in np.linspace(1 / 8, 1, 9)]
    steps = np.diff([fine_energy(image) for image in results])
    assert (steps > 0).all()
    assert steps.max() <= 3 * steps.mean()
    for image in results:
        assert psnr(enlarged(image, factor), x) > 30


def test_the_model_card_names_every_bundled_file(root: Path) -> None:
    card = (root / "docs" / "model-card.md").read_text(encoding="utf-8")
    for name in bundled():
        assert f"`{name}`" in card
