"""BasicSR's names for the metrics, and validation: batches, workers, ranks, and metrics that fail."""

import inspect
import logging
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

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
from gcfsr_arch.training.options import metrics as schema
from gcfsr_measure.catalogue import ENTRIES, entry_of
from gcfsr_measure.measures import Case
from gcfsr_measure.networks import NORMALISATIONS


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


def wanted(**options: Any) -> metrics.Wanted | None:
    """The metric of one block of `val.metrics`."""
    return metrics.wanted_metrics({"metrics": {"x": options}})["x"]


def test_the_schema_has_every_metric_and_what_the_metrics_take() -> None:
    assert set(schema.KNOWN) == {*metrics.OURS, *metrics.THEIRS}
    assert {*get_args(get_args(schema.Identity.model_fields["norm"].annotation)[0])} == set(NORMALISATIONS)
    nets = get_args(schema.Lpips.model_fields["net"].annotation)
    assert {f"lpips-{net}" for net in nets if net != "alex"} == {key for key in ENTRIES if key.startswith("lpips-")}


@pytest.mark.parametrize("kind", metrics.THEIRS)
def test_basicsrs_metrics_take_the_keys_of_its_functions(kind: str) -> None:
    parameters = set(inspect.signature(METRIC_REGISTRY.get(kind)).parameters) - {"img", "img2", "kwargs"}
    assert set(schema.METRICS[kind].model_fields) - {"type", "better"} == parameters


def test_niqe_of_gray_is_basicsrs() -> None:
    assert wanted(type="calculate_niqe", convert_to="gray") is None
    images = faces(size=240)
    options = {"type": "calculate_niqe", "convert_to": "gray"}
    found = validation.foreign_value(images, options)  # BasicSR has no default for crop_border
    assert (
        found
        == validation.foreign_value(images, {**options, "crop_border": 0})
        != validation.foreign_value(images, {"type": "calculate_niqe"})
    )
    assert isinstance(found, float)


@pytest.mark.parametrize("crop", [0, 3])
@pytest.mark.parametrize(
    ("kind", "y"),
    [
        ("calculate_psnr", False),
        ("calculate_psnr", True),
        ("calculate_ssim", False),
        ("calculate_ssim", True),
        ("calculate_niqe", False),
    ],
)
def test_basicsrs_names_mean_what_they_mean_in_basicsr(kind: str, y: bool, crop: int) -> None:
    size = 240 if kind == "calculate_niqe" else 64
    (a, b), options = faces(size=size), {"type": kind, "crop_border": crop, "input_order": "HWC"}
    options |= {"test_y_channel": True} if y else {}
    metric = wanted(**options)
    assert metric is not None
    theirs = calculate_metric({"img": b, "img2": a}, dict(options))
    (found,) = metrics.measured(metric, [Case(a, b, a)])
    assert found == pytest.approx(theirs, rel=1e-5)


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
        ({"type": "calculate_lpips"}, r"^val\.metrics\.x\.weights: is missing$"),
        ({"type": "calculate_lpips", "weights": "none.pth"}, r"^val\.metrics\.x\.weights: none\.pth is not a file"),
        ({"type": "calculate_identity", "weights": __file__, "nrom": "raw"}, r"^val\.metrics\.x\.nrom: .*'norm'"),
    ],
)
def test_what_cannot_run_is_named_before_the_run(options: dict[str, str], message: str) -> None:
    with pytest.raises(GCFSRError, match=message):
        wanted(**options)


def test_weights_of_another_network_are_named_before_the_run(tiny: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    metric = {"type": "calculate_feature_distance", "weights": str(path), "better": "lower"}
    with pytest.raises(GCFSRError, match=r"^val\.metrics\.d: .*other\.pth is not Squeeze.*features\.0\.weight\"\)$"):
        tiny.build(val={"metrics": {"d": metric}})


def test_a_failing_image_does_not_take_its_batch_with_it() -> None:
    a, b = faces()
    cases = [Case(a, b, a), Case(a, b[:8], a), Case(a, a, a)]
    values = metrics.measured(metrics.Wanted("ssim"), cases)
    assert values[0] == pytest.approx(entry_of("ssim").make(None, "cpu")([cases[0]])[0])
    assert values[1] == "not defined (a side is below 11 pixels)"
    assert metrics.measured(metrics.Wanted("psnr"), cases)[1].startswith("failed (ValueError")


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
        "broken": {"type": "calculate_niqe", "convert_to": "gray"},  # BasicSR's raises for small images
        "frechet": {"type": "calculate_feature_frechet", "weights": squeezenet, "better": "lower"},
    }
    model = tiny.build(path=paths, val={"metrics": wanted, "grid": 2, "grid_factors": [4, 32]})
    logging.getLogger("basicsr").propagate = True
    loader, state, board = DataLoader(tiny.Faces()), torch.get_rng_state(), Board()
    with caplog.at_level(logging.INFO, logger="basicsr"):
        model.validation(loader, 10, board, save_img=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert "niqe: not defined" in caplog.text
    assert "broken: failed (" in caplog.text
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
