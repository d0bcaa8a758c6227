"""Two ranks of two micro-batches equal one rank with the whole batch: losses, gradients, parameters, validation."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("basicsr")

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("tiny_step.py")


def start(out: Path, world: int, iterations: int, dtype: str) -> list[subprocess.Popen]:
    """Starts the ranks."""
    meeting = out.with_suffix(".meeting")
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, out, str(rank), str(world), meeting, str(iterations), dtype],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]


def both(folder: Path, iterations: int, dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one rank and two ranks saved."""
    processes = [p for world in (1, 2) for p in start(folder / f"{world}.pt", world, iterations, dtype)]
    for process in processes:
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text[-3000:]
    one, two = (torch.load(folder / f"{world}.pt", weights_only=True) for world in (1, 2))
    return one, two


def close(one: dict[Any, torch.Tensor], two: dict[Any, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=tolerance, atol=tolerance)


def test_first_iteration_fp32(tmp_path: Path) -> None:
    one, two = both(tmp_path, 1, "float32")
    for net in ("g", "d"):
        assert one["gradients"][net]
        close(one["gradients"][net], two["gradients"][net], 1e-5)
    assert two["logs"][0] == pytest.approx(one["logs"][0], abs=1e-5)
    assert two["metrics"] == one["metrics"]  # the validation set has five images, two ranks have three and two
    assert set(one["metrics"]) == {"psnr", "ssim"}  # NIQE is not defined on 32 pixels


def test_twenty_iterations_float64(tmp_path: Path) -> None:
    one, two = both(tmp_path, 20, "float64")
    for logs_one, logs_two in zip(one["logs"], two["logs"], strict=True):
        assert logs_two == pytest.approx(logs_one, rel=1e-8, abs=1e-8)
    for net in ("g", "ema", "d"):
        close(one["states"][net], two["states"][net], 1e-8)
    assert one["logs"][-1]["l_g_pix"] != one["logs"][0]["l_g_pix"]
