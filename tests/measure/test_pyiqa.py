"""The adapter to pyiqa, against a stand-in with its interface (pyiqa 0.1.16): the package is never a dependency."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation.metric_weights import availability
from gcfsr_measure import catalogue
from gcfsr_measure.catalogue import entry_of
from gcfsr_measure.measures import Case


class Metric:
    """RGB in [0, 1]; a metric without reference takes one image only."""

    def __init__(self, name: str, device: str) -> None:
        self.metric_mode = "FR" if name == "mse" else "NR"

    def __call__(self, target: torch.Tensor, ref: torch.Tensor | None = None) -> torch.Tensor:
        assert target.shape[:2] == (1, 3)
        return target[:, 0].mean() if ref is None else (target - ref).square().mean()


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch) -> None:
    package: Any = ModuleType("pyiqa")
    package.create_metric = Metric
    configs: Any = ModuleType("pyiqa.default_model_configs")
    configs.DEFAULT_CONFIGS = {"mse": {"metric_mode": "FR", "lower_better": True}, "redness": {"metric_mode": "NR"}}
    monkeypatch.setitem(sys.modules, "pyiqa", package)
    monkeypatch.setitem(sys.modules, "pyiqa.default_model_configs", configs)
    monkeypatch.setattr(catalogue, "find_spec", lambda name: object())


@pytest.mark.usefixtures("pyiqa")
def test_metrics_of_pyiqa_by_name() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)
    error, red = entry_of("pyiqa:mse"), entry_of("pyiqa:redness")
    assert (error.name, error.higher, error.reference) == ("mse (pyiqa)", False, True)
    assert (red.higher, red.reference) == (True, False)
    assert "non-commercial" in error.note
    case = Case(a, b, a)
    assert error.make(None, "cpu")([case])[0] == pytest.approx(((a / 255 - b / 255) ** 2).mean(), rel=1e-5)
    assert red.make(None, "cpu")([case, Case(b, a, b)]) == pytest.approx([x[..., 2].mean() / 255 for x in (b, a)])
    with pytest.raises(GCFSRError, match="metric pyiqa:nothing: pyiqa has no such metric"):
        entry_of("pyiqa:nothing")


def test_without_pyiqa_its_metrics_report_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    status = availability(entry_of("pyiqa:musiq"), tmp_path)[1]
    assert status == "no package: pyiqa (pip install pyiqa; its licence is non-commercial)"
