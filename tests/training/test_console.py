"""The line that a run prints."""

import re
from typing import Any

import pytest

pytest.importorskip("basicsr")

from basicsr.utils import get_root_logger

from gcfsr_arch.training.console import TrainLine, losses_text

OPTIONS = {
    "name": "tiny",
    "train": {"total_iter": 300},
    "datasets": {"train": {"batch_size_per_gpu": 4}},
    "world_size": 2,
}


class Board(dict):
    """Takes what TensorBoard's writer would."""

    def add_scalar(self, name: str, value: float, iteration: int) -> None:
        self[name] = value, iteration


def test_the_console_line_has_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    line, board = TrainLine(OPTIONS, 0, None), Board()
    line.tb_logger = board
    line.start_time -= 100  # a hundred seconds for a hundred iterations
    values: dict[str, Any] = {"epoch": 3, "iter": 100, "lrs": [2e-3], "time": 0.5, "data_time": 0.05}
    messages: list[str] = []  # not by way of logging, whose state other tests change
    monkeypatch.setattr(get_root_logger(), "info", messages.append)
    line({**values, "l_g_pix": 0.1234, "l_d_gan": 0.01, "out_d_real": 0.5})
    (message,) = messages
    pattern = (
        r"tiny 100/300 \| G pix 0.1234 \| D gan 0.01 real \+0.50 \| lr 2.00e-03 \| "
        r"2.00 it/s, 16.0 images/s, data 10% \| [\d.]+ GB \| 0:03:\d\d left"
    )
    assert re.fullmatch(pattern, message)
    assert board["losses/l_g_pix"] == (0.1234, 100)
    assert board["out_d_real"] == (0.5, 100)
    assert board["lr"] == (2e-3, 100)
    assert board["speed/iterations_per_second"] == (2.0, 100)


def test_losses_without_a_discriminator() -> None:
    assert losses_text({"l_g_pix": 1.5, "l_g_ssim": 0.25}) == "G pix 1.5 ssim 0.25"
    assert losses_text({}) == ""
