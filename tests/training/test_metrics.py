"""Metrics against independent implementations, and validation that survives them."""

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy import linalg
from torch.utils.data import DataLoader
from torchvision.models import alexnet, squeezenet1_1, vgg16

pytest.importorskip("basicsr")

from gcfsr_arch import GCFSRError
from gcfsr_arch.training import metrics, validation


def faces(seed: int = 0, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Two similar BGR pictures."""
    rng = np.random.default_rng(seed)
    a = cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
    b = np.clip(a + rng.normal(0, 20, a.shape), 0, 255).astype(np.uint8)
    return a, b


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    ("net", "build"),
    [("alex", alexnet), ("squeeze", squeezenet1_1), pytest.param("vgg", vgg16, marks=pytest.mark.slow)],
)
def test_lpips_is_the_authors(net: str, build: Any, tmp_path: Path) -> None:
    """Random backbones with the true heads that the `lpips` package carries."""
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    reference = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    theirs = [m for m in reference.net.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.device("meta"):
        backbone = build(weights=None).features
    backbone.to_empty(device="cpu")
    for mine, other in zip((m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)), theirs, strict=False):
        mine.load_state_dict(other.state_dict())
    torch.save({f"features.{k}": v for k, v in backbone.state_dict().items()}, tmp_path / "backbone.pth")
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    a, b = faces()
    found = metrics.calculate_lpips(a, b, str(tmp_path / "backbone.pth"), str(heads), net)
    tensors = [metrics.rgb_tensor(x) for x in (a, b)]
    with torch.no_grad():
        assert found == pytest.approx(reference(*tensors).item(), rel=1e-4)
    assert metrics.calculate_lpips(a, a, str(tmp_path / "backbone.pth"), str(heads), net) == pytest.approx(0, abs=1e-7)


def test_wrong_lpips_weights_are_named(squeezenet: str) -> None:
    with pytest.raises(GCFSRError, match="is no alex state dict"):
        metrics.LPIPS("alex", squeezenet, squeezenet)
    with pytest.raises(GCFSRError, match="does not hold the 7 heads of squeeze"):
        metrics.LPIPS("squeeze", squeezenet, squeezenet)
    with pytest.raises(GCFSRError, match="net 'res' is not one of"):
        metrics.LPIPS("res", squeezenet, squeezenet)


def test_frechet_distance_is_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 6)), rng.normal(0.5, 1.5, size=(150, 6)) @ rng.normal(size=(6, 6))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(cov_a @ cov_b).real
    wanted = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert metrics.frechet_distance(a, b) == pytest.approx(wanted, rel=1e-6)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    few = rng.normal(size=(3, 20))  # fewer pictures than features: singular covariances
    assert np.isfinite(metrics.frechet_distance(few, few + 1))
    with pytest.raises(metrics.NotDefined):
        metrics.frechet_distance(a[:1], b)


def test_feature_metrics_order_pictures(squeezenet: str) -> None:
    a, b = faces()
    assert metrics.calculate_feature_distance(a, a, squeezenet) == 0
    assert metrics.calculate_feature_distance(a, b, squeezenet) > 0
    pairs = np.stack([metrics.calculate_feature_frechet(*faces(i), squeezenet) for i in range(4)])
    assert pairs.shape == (4, 1024)
    assert metrics.calculate_feature_frechet.reduce(pairs) > 0


def test_the_arcface_crop_meets_its_template() -> None:
    """The five points of an FFHQ-aligned face land within three pixels of ArcFace's template."""
    points = np.float64([[96, 119], [160, 120], [127, 157], [98, 186], [154, 186]]) / 256
    template = np.float64([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]])
    left, top, side = metrics.ARCFACE_BOX
    assert np.abs((points - (left, top)) / side * 112 - template).max() < 3


def test_identity(shared: Path) -> None:
    weights = str(shared / "weights" / "MobileFaceNet.onnx")
    files = sorted((shared / "faces" / "val256").glob("lon_*.png"))[:6]
    pictures = [cv2.imread(str(f)) for f in files]
    assert metrics.calculate_identity(pictures[0], pictures[0], weights) == pytest.approx(1, abs=1e-5)
    softer = cv2.resize(cv2.resize(pictures[0], (96, 96), interpolation=cv2.INTER_AREA), (256, 256))
    others = [metrics.calculate_identity(pictures[0], p, weights) for p in pictures[1:]]
    assert metrics.calculate_identity(pictures[0], softer, weights) > 0.8 > 0.5 > np.mean(others)
    with pytest.raises(GCFSRError, match=r"none\.onnx is not a file"):
        metrics.calculate_identity(pictures[0], softer, "none.onnx")


def test_niqe_blocks() -> None:
    assert metrics.niqe_blocks(np.zeros((96, 192, 3))) == 2
    assert metrics.niqe_blocks(np.zeros((191, 191, 3))) == 1
    assert metrics.niqe_blocks(np.zeros((200, 200, 3)), crop_border=8) == 1
    pair = {"img": faces(size=128)[0]}
    assert str(validation.measured(pair, {"type": "calculate_niqe", "crop_border": 0})).startswith("not defined (NIQE")


class Board:
    """Takes what TensorBoard's writer would."""

    def __init__(self) -> None:
        self.scalars: dict[str, float] = {}
        self.images: dict[str, np.ndarray] = {}

    def add_scalar(self, name: str, value: float, iteration: int) -> None:
        self.scalars[name] = value

    def add_image(self, name: str, image: np.ndarray, iteration: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.images[name] = image


def test_validation_goes_on_when_a_metric_fails(
    tiny: ModuleType, squeezenet: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = {"experiments_root": str(tmp_path), "visualization": str(tmp_path / "visualization")}
    wanted = {
        "psnr": {"type": "calculate_psnr", "crop_border": 0, "better": "higher"},
        "niqe": {"type": "calculate_niqe", "crop_border": 0},
        "broken": {"type": "calculate_psnr"},  # without crop_border BasicSR's raises TypeError
        "frechet": {"type": "calculate_feature_frechet", "weights": squeezenet, "better": "lower"},
    }
    model = tiny.build(path=paths, val={"metrics": wanted, "grid": 2, "grid_factors": [4, 32]})
    logging.getLogger("basicsr").propagate = True
    loader, state, board = DataLoader(tiny.Faces()), torch.get_rng_state(), Board()
    with caplog.at_level(logging.INFO, logger="basicsr"):
        model.validation(loader, 10, board, save_img=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert "niqe: not defined" in caplog.text
    assert "broken: failed (TypeError" in caplog.text
    assert set(model.metric_results) == {"psnr", "frechet"}
    assert model.best_metric_results["five"]["psnr"]["iter"] == 10
    first = dict(model.metric_results)
    model.validation(loader, 20, None)
    assert model.metric_results == first  # fixed noise: validation never moves
    assert board.scalars == {f"metrics/five/{name}": value for name, value in first.items()}
    grid = cv2.imread(str(tmp_path / "visualization" / "grid_five_10.png"))
    assert grid.shape == (2 * 32, 4 * 32, 3)  # input, two dials, truth
    assert np.array_equal(board.images["grid/five"], grid[..., ::-1])
    assert len(list((tmp_path / "visualization" / "five").glob("*_10.png"))) == 5


def test_validation_uses_the_moving_average(tiny: ModuleType) -> None:
    model, data = tiny.build(), tiny.batch()
    with torch.no_grad():
        next(model.net_g.parameters()).add_(1.0)
    model.feed_data(data)
    model.test()
    with torch.no_grad():
        wanted = model.net_g_ema(data["lq"], data["s"], noise="fixed", seed=0)
    assert torch.equal(model.output, wanted)
