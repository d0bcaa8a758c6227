"""Grows a trained network in width, output size and conditions: a larger one starts from the smaller one's weights.

Channels and levels that exist are copied. New channels start as in a new network but the old ones do not read them, so
widening keeps the function, and new conditions have no effect yet. A new output level starts with the enlarged output
of the level below.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from gcfsr_arch import ops
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.generator import GCFSR

SAME = ("num_style_feat", "resample_kernel", "variant", "style_modulation", "feature_modulation")
LEAK = 0.2  # slope of the leaky ReLU below zero


@torch.no_grad()
def grow(small: GCFSR, large: GCFSR) -> GCFSR:
    """Fills a new network from a smaller trained one.

    Args:
        small: the trained network, of the paper's form.
        large: a new network at least as wide, with the same output size or twice that; changed in place. s must mean
            the same to both, so that twice the output size goes with twice `max_factor`. Its conditions begin with
            those of `small`.

    Returns:
        `large`. With the same output size it computes what `small` computes. With twice the size its output is nearly
        the output of `small` for the reduced input, enlarged: only its first convolutions are an approximation.

    Raises:
        GCFSRError: the networks differ in more than size and width, or `large` is narrower somewhere.
    """
    for key in SAME:
        one, other = getattr(small.config, key), getattr(large.config, key)
        if one != other:
            raise GCFSRError(f"grow: {key} is {one} and {other}; it must be the same in both")
    own, wanted = small.conditions, large.conditions
    if wanted[: len(own)] != own:
        raise GCFSRError(
            f"grow: conditions {', '.join(own)} to {', '.join(wanted)}; the new ones come behind the old ones"
        )
    if small.config.variant != "paper":
        raise GCFSRError("grow: networks of the released form cannot be grown; use variant: paper")
    if large.out_size not in (small.out_size, 2 * small.out_size):
        raise GCFSRError(f"grow: out_size {small.out_size} to {large.out_size}; it can stay or double")
    doubled = large.out_size > small.out_size
    old, new = small.state_dict(), large.state_dict()  # views of the live parameters
    for key, given in old.items():
        if key.startswith("estimator."):  # an estimator of other features or conditions starts from random weights
            if key in new and new[key].shape == given.shape:
                new[key].copy_(given)
        elif key.startswith("modulation.out."):
            for size in small.sizes:  # per level: rows of sigma_1, then of sigma_2
                rows = zip(_sigma_rows(given, small, size), _sigma_rows(new[key], large, size), strict=True)
                for source, target in rows:
                    _copy(key, source * _gain_ratio(key, small, large), target)
        elif not (doubled and key.startswith("encoder.first.")):
            _copy(key, given * _gain_ratio(key, small, large), new[key])
    if doubled:
        _begin_level(small, large)
    return large


def _copy(key: str, source: Tensor, target: Tensor) -> None:
    """Writes `source` into the leading channels of `target`; old outputs (axis 0) ignore new inputs (axis 1)."""
    if any(a > b for a, b in zip(source.shape, target.shape, strict=True)):
        raise GCFSRError(
            f"grow: {key} has shape {tuple(source.shape)}, larger than {tuple(target.shape)} of the new one"
        )
    target[: len(source)] = 0
    target[tuple(slice(n) for n in source.shape)] = source


def _gain_ratio(key: str, small: GCFSR, large: GCFSR) -> float:
    """The equalised learning rate scales a weight by its fan-in, which grows."""
    layer, _, kind = key.rpartition(".")
    if kind != "weight":
        return 1.0
    of_small, of_large = cast(Any, small.get_submodule(layer)), cast(Any, large.get_submodule(layer))
    return float(of_small.gain) / float(of_large.gain)


def _sigma_rows(parameter: Tensor, net: GCFSR, size: int) -> tuple[Tensor, ...]:
    """The rows of the MLP's last layer that give sigma_1 and sigma_2 of one level."""
    counts = [cast(Any, net.levels[str(level)]).conv.bias.shape[0] for level in net.sizes]
    index = net.sizes.index(size)
    start = 2 * sum(counts[:index])
    return parameter[start : start + 2 * counts[index]].chunk(2)


def _begin_level(small: GCFSR, large: GCFSR) -> None:
    """The new output level: its encoder passes the image on, its tRGB adds nothing yet."""
    first, down = cast(Any, large.encoder.first), cast(Any, large.encoder.down[str(small.out_size)])
    first.weight[:6] = 0
    for channel in range(3):  # x and -x, so that both signs pass the leaky ReLU
        first.weight[channel, channel, 1, 1] = 1 / first.gain
        first.weight[channel + 3, channel, 1, 1] = -1 / first.gain
    first.bias[:6] = 0
    source = small.encoder.first
    kernel = _halved(source.weight * source.gain, small)  # (C, 3, 3, 3)
    kernel = kernel / ((1 + LEAK) * ops.SQRT2)  # lrelu(x) - lrelu(-x) = (1 + LEAK) x
    down.weight[: len(kernel)] = 0
    down.weight[: len(kernel), :3] = kernel / down.gain
    down.weight[: len(kernel), 3:6] = -kernel / down.gain
    down.bias[: len(kernel)] = source.bias
    to_rgb = cast(Any, large.levels[str(large.out_size)]).to_rgb
    to_rgb.conv.weight.zero_()
    to_rgb.bias.zero_()


def _halved(kernel: Tensor, small: GCFSR) -> Tensor:
    """Kernels (..., 3, 3) on an image of half the size -> nearly equal ones behind the blur of a stride at full size.

    Both filters are separable, so one least-squares fit over smooth lines gives the matrix for each axis.
    """
    size, taps = 64, torch.tensor(small.config.resample_kernel, dtype=torch.float64)
    points = torch.randn(256, 1, size // 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lines = F.interpolate(points, size=size, mode="linear", align_corners=False)  # an input enlarged four times
    half = F.avg_pool1d(lines, 2)
    blurred = F.conv1d(F.pad(lines, (2, 2)), (taps / taps.sum()).view(1, 1, -1))  # as `ops.conv_down` pads it
    inner = slice(4, size // 2 - 4)
    wanted = torch.stack([half[:, 0].roll(1 - tap, -1)[:, inner] for tap in range(3)], -1)
    offered = torch.stack([blurred[:, 0, tap::2][:, : size // 2][:, inner] for tap in range(3)], -1)
    linalg = cast("Any", torch.linalg)  # untyped upstream
    fit: Tensor = linalg.lstsq(offered.reshape(-1, 3), wanted.reshape(-1, 3)).solution.to(kernel)  # (new tap, old tap)
    return fit @ kernel @ fit.T
