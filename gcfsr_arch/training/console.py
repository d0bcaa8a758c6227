"""The line that a run prints: losses, speed, data share, memory, remaining time; and the same for TensorBoard."""

import datetime
import sys
import time
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only


class TrainLine:
    """Takes the place of BasicSR's MessageLogger; the same calls, another line.

    Args:
        opt: BasicSR's options.
        start_iter: the iteration that the run starts or resumes from.
        tb_logger: TensorBoard's writer, or None.
    """

    def __init__(self, opt: dict[str, Any], start_iter: int = 1, tb_logger: Any = None) -> None:
        self.name, self.total = opt["name"], int(opt["train"]["total_iter"])
        self.batch = opt["datasets"]["train"]["batch_size_per_gpu"] * opt.get("world_size", 1)
        self.start_iter, self.tb_logger = start_iter, tb_logger
        self.reset_start_time()

    def reset_start_time(self) -> None:
        """Resets the timer, so that the first iteration's compilation does not count."""
        self.start_time = time.time()

    @master_only
    def __call__(self, log_vars: dict[str, Any]) -> None:
        """Prints a line and writes scalars.

        Args:
            log_vars: epoch, iter, lrs, time and data_time (seconds per iteration), and losses by name.
        """
        values = dict(log_vars)
        values.pop("epoch")
        iteration, rates = values.pop("iter"), values.pop("lrs")
        per_iter, per_data = values.pop("time", 0.0), values.pop("data_time", 0.0)
        passed = (time.time() - self.start_time) / max(iteration - self.start_iter, 1)
        left = datetime.timedelta(seconds=int(passed * (self.total - iteration)))
        speed, memory = 1 / max(per_iter, 1e-9), memory_gb()
        get_root_logger().info(
            f"{self.name} {iteration:,}/{self.total:,} | {losses_text(values)} | lr {rates[0]:.2e} | "
            f"{speed:.2f} it/s, {speed * self.batch:.1f} images/s, data {per_data / max(per_iter, 1e-9):.0%} | "
            f"{memory:.2f} GB | {left} left"
        )
        if self.tb_logger is not None:
            scalars = {f"losses/{k}" if k.startswith("l_") else k: v for k, v in values.items()}
            scalars |= {"lr": rates[0], "speed/iterations_per_second": speed, "memory_gb": memory}
            for key, value in scalars.items():
                self.tb_logger.add_scalar(key, value, iteration)


def losses_text(values: dict[str, float]) -> str:
    """`G pix 0.1234 gan 0.0069 | D gan 0.0139 real +0.12 fake -0.31` out of the logged names."""
    groups: dict[str, list[str]] = {}
    for key, value in values.items():
        for prefix, group in {"l_g_": "G", "l_d_": "D", "out_d_": "D"}.items():
            if key.startswith(prefix):
                number = f"{value:+.2f}" if prefix == "out_d_" else f"{value:.4g}"
                groups.setdefault(group, []).append(f"{key.removeprefix(prefix)} {number}")
    return " | ".join(f"{group} {' '.join(parts)}" for group, parts in groups.items())


def memory_gb() -> float:
    """The largest memory used so far, in GB: the GPU's where there is one, otherwise the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform == "win32":  # no resource module there
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
