"""BasicSR's names for the metrics, and validation: batches, workers, ranks, and metrics that fail."""

import inspect
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.models import squeezenet1_1

pytest.importorskip("basicsr")

from basicsr.metrics import calculate_metric
from basicsr.utils.registry import METRIC_REGISTRY

from gcfsr_arch import GCFSRError
from gcfsr_arch.training import metrics, validation
from gcfsr_arch.training.options import registry
from gcfsr_measure.catalogue import entry_of
from gcfsr_measure.measures import Case


def faces(seed: int = 0, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Two similar BGR images."""
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


def test_every_name_is_known_to_the_option_checks() -> None:
    assert set(registry.METRICS) == {*metrics.OURS, *metrics.THEIRS}


@pytest.mark.parametrize("kind", metrics.THEIRS)
def test_basicsrs_functions_take_the_keys_that_are_passed_to_them(kind: str) -> None:
    parameters = set(inspect.signature(METRIC_REGISTRY.get(kind)).parameters) - {"img", "img2", "kwargs"}
    assert metrics.ARGUMENTS[kind] == parameters - metrics.COMMON
    images = faces(size=240)
    options = {"type": kind, "input_order": "HWC"}  # BasicSR has no default for crop_border
    assert validation.foreign_value(images, options) == validation.foreign_value(images, {**options, "crop_border": 0})
    assert isinstance(validation.foreign_value(images, options), float)


@pytest.mark.parametrize("crop", [0, 3])
@pytest.mark.parametrize("y", [False, True])
@pytest.mark.parametrize("kind", ["calculate_psnr", "calculate_ssim", "calculate_niqe"])
def test_basicsrs_names_mean_what_they_mean_in_basicsr(kind: str, y: bool, crop: int) -> None:
    size = 240 if kind == "calculate_niqe" else 64
    (a, b), options = faces(size=size), {"type": kind, "crop_border": crop, "test_y_channel": y}
    metric = metrics.metric_of(options)
    assert metric is not None
    wanted = calculate_metric({"img": b, "img2": a}, dict(options))
    (found,) = metrics.measured(metric, [Case(a, b, a)])
    assert found == pytest.approx(wanted, rel=1e-5)
    assert metrics.metric_of({**options, "input_order": "HWC"}) is None  # then BasicSR's own function runs


def test_registered_metrics_work_in_any_basicsr_model(squeezenet: str) -> None:
    a, b = faces()
    options = {"type": "calculate_feature_distance", "weights": squeezenet}
    wanted = entry_of("squeezenet").make(Path(squeezenet), "cpu")([Case(a, b, a)])[0]
    assert calculate_metric({"img": b, "img2": a}, dict(options)) == pytest.approx(wanted)
    with pytest.raises(GCFSRError, match="distance between whole sets"):
        calculate_metric({"img": b, "img2": a}, {**options, "type": "calculate_feature_frechet"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "calculate_lpips"}, "weights: calculate_lpips needs the path"),
        ({"type": "calculate_lpips", "weights": "none.pth"}, r"weights: none\.pth is not a file"),
        (
            {"type": "calculate_lpips", "weights": __file__, "heads": "x"},
            "heads: unknown key, remove it; .* takes",
        ),
        ({"type": "calculate_lpips", "weights": __file__, "net": "res"}, "metric lpips-res: unknown"),
        ({"type": "calculate_identity", "weights": __file__, "nrom": "raw"}, "nrom: .*'norm'"),
        ({"type": "calculate_psnr", "crop_border": 0, "test_y_chanel": True}, "test_y_chanel: .*'test_y_channel'"),
        ({"type": "calculate_ssim", "crop_boarder": 8}, "crop_boarder: unknown key, did you mean 'crop_border'"),
        ({"type": "calculate_niqe", "convert": "gray"}, "convert: .*'convert_to'"),
        ({"type": "calculate_psnr", "convert_to": "y"}, "convert_to: .*takes .*crop_border, input_order, test_y_ch"),
    ],
)
def test_what_cannot_run_is_named_before_the_run(options: dict[str, str], message: str) -> None:
    with pytest.raises(GCFSRError, match=message):
        metrics.metric_of(options)


def test_a_failing_image_does_not_take_its_batch_with_it() -> None:
    a, b = faces()
    cases = [Case(a, b, a), Case(a, b[:8], a), Case(a, a, a)]
    values = metrics.measured(metrics.Metric("ssim"), cases)
    assert values[0] == pytest.approx(entry_of("ssim").make(None, "cpu")([cases[0]])[0])
    assert values[1] == "not defined (a side is below 11 pixels)"
    assert metrics.measured(metrics.Metric("psnr"), cases)[1].startswith("failed (ValueError")


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


def test_validation_continues_when_a_metric_fails(
    tiny: ModuleType, squeezenet: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = {"experiments_root": str(tmp_path), "visualization": str(tmp_path / "visualization")}
    wanted = {
        "psnr": {"type": "calculate_psnr", "crop_border": 0, "better": "higher"},
        "niqe": {"type": "calculate_niqe", "crop_border": 0},
        "broken": {"type": "calculate_psnr", "input_order": "upside down", "crop_border": 0},  # BasicSR's raises
        "frechet": {"type": "calculate_feature_frechet", "weights": squeezenet, "better": "lower"},
    }
    model = tiny.build(path=paths, val={"metrics": wanted, "grid": 2, "grid_factors": [4, 32]})
    logging.getLogger("basicsr").propagate = True
    loader, state, board = DataLoader(tiny.Faces()), torch.get_rng_state(), Board()
    with caplog.at_level(logging.INFO, logger="basicsr"):
        model.validation(loader, 10, board, save_img=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert "niqe: not defined" in caplog.text
    assert "broken: failed (ValueError" in caplog.text
    assert set(model.metric_results) == {"psnr", "frechet"}
    assert model.best_metric_results["five"]["psnr"]["iter"] == 10
    first = dict(model.metric_results)
    model.validation(loader, 20, None)
    assert model.metric_results == first  # fixed noise: validation never moves
    assert board.scalars == {f"metrics/five/{name}": value for name, value in first.items()}
    grid = cv2.imread(str(tmp_path / "visualization" / "grid_five_10.png"))
    assert grid.shape == (2 * 32, 4 * 32, 3)  # input, two dials, ground truth
    assert np.array_equal(board.images["grid/five"], grid[..., ::-1])
    assert len(list((tmp_path / "visualization" / "five").glob("*_10.png"))) == 5


def test_validation_is_the_same_in_batches_and_in_workers(tiny: ModuleType, squeezenet: str, tmp_path: Path) -> None:
    wanted = {
        "psnr": {"type": "calculate_psnr", "crop_border": 2},
        "ssim": {"type": "calculate_ssim"},
        "distance": {"type": "calculate_feature_distance", "weights": squeezenet},
        "frechet": {"type": "calculate_feature_frechet", "weights": squeezenet},
    }
    model = tiny.build(path={"experiments_root": str(tmp_path)})
    found = []
    for how in ({"batch": 1}, {"batch": 3, "workers": 2}, {}):
        model.opt["val"] = {"metrics": wanted, **how}
        model.validation(DataLoader(tiny.Faces()), 10, None)
        found.append(dict(model.metric_results))
    assert set(found[0]) == set(wanted)
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-3)


def test_validation_without_ground_truth_has_no_metric_that_needs_it(
    tiny: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Blind(tiny.Faces):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {key: value for key, value in super().__getitem__(index).items() if key != "gt"}

    model = tiny.build(path={"experiments_root": str(tmp_path)}, val={"metrics": {"psnr": {"type": "calculate_psnr"}}})
    logging.getLogger("basicsr").propagate = True
    with caplog.at_level(logging.INFO, logger="basicsr"):
        model.validation(DataLoader(Blind()), 10, None)
    assert "psnr: not defined (there is no ground truth)" in caplog.text


def test_validation_uses_the_moving_average(tiny: ModuleType) -> None:
    model, data = tiny.build(), tiny.batch()
    with torch.no_grad():
        next(model.net_g.parameters()).add_(1.0)
    model.feed_data(data)
    model.test()
    with torch.no_grad():
        wanted = model.net_g_ema(data["lq"], data["s"], noise="fixed", seed=0)
    assert torch.equal(model.output, wanted)
