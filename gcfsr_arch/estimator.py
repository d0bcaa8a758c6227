"""Estimates the dials from the image: a small head on the encoder's features estimates every condition."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gcfsr_arch.layers import EqualLinear

HIDDEN = 16
OCTAVES = 5.0  # the factor is estimated on a logarithmic scale: 1 at s = 1, 0 at s = 1 / 32
LEAST = 1e-4  # variance
MOMENTUM = 0.01  # of the running moments, per batch
MARGIN = 0.5  # deviations above the mean at which "auto" sets a dial; docs/dials.md has the measurement


class Estimate(NamedTuple):
    """Each (N, k): conditions in [0, 1] and their standard deviations, or both on the head's own scale."""

    mean: Tensor
    deviation: Tensor

    def dials(self) -> Tensor:
        """Where "auto" sets the dials, (N, k) in [0, 1]: the mean and a margin above it.

        Not the factor's, for which the restorer has a second estimate (`Restorer.estimate_factor`).
        A dial above its true condition removes the degradation whole, as one at it does; one below leaves a share.
        """
        return (self.mean + MARGIN * self.deviation).clamp(0, 1)


def on_head_scale(s: Tensor) -> Tensor:
    """Conditions (N, k), factor first -> what the head estimates: the factor's octaves, the others as they are."""
    octaves = 1 + s[:, :1].clamp(min=2**-10).log2() / OCTAVES
    return torch.cat([octaves, s[:, 1:]], dim=1)


def from_head_scale(estimate: Estimate) -> Estimate:
    """The inverse of `on_head_scale`, clipped to [0, 1]; the factor's deviation to first order."""
    mean, deviation = estimate
    rate = OCTAVES * math.log(2)
    factor = torch.exp((mean[:, :1] - 1) * rate).clamp(max=1)  # not exp2, which OpenVINO does not know
    slope = factor * rate
    return Estimate(
        torch.cat([factor, mean[:, 1:].clamp(0, 1)], dim=1),
        torch.cat([deviation[:, :1] * slope, deviation[:, 1:]], dim=1),
    )


class RunningNorm(nn.Module):
    """(x - mean) / deviation by moments of everything seen in training; batches of four are too small for their own.

    Ranks share their moments, so that they stay equal.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.square: Tensor
        self.seen: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("square", torch.ones(features))  # mean of the squares
        self.register_buffer("seen", torch.zeros(()))  # batches

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._update(x.detach())
        return (x - self.mean) * torch.rsqrt((self.square - self.mean.square()).clamp(min=0) + LEAST)

    @torch.no_grad()
    def _update(self, x: Tensor) -> None:
        moments = torch.stack([x.mean(0), x.square().mean(0)])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(moments)
            moments /= dist.get_world_size()
        finite = moments.isfinite().all().to(moments)  # a step that is not finite is skipped
        share = finite * (1 / (1 + self.seen)).clamp(min=MOMENTUM)  # tensors: nothing waits for the device
        mean, square = moments.nan_to_num(0, 0, 0)
        self.mean.lerp_(mean, share)
        self.square.lerp_(square, share)
        self.seen += finite


class ConditionEstimator(nn.Module):
    """Two ratios of every channel at every level -> mean and standard deviation of every condition.

    How evenly the energy of Conv(f) is spread over the face tells noise, which is everywhere, from detail, which is
    not; how fast it varies from pixel to pixel tells sharp from blurred. Both are logarithms, and free of the contrast.

    Args:
        channels: {size: channels} of Conv(f) of Eq. 4.
        conditions: how many are estimated.
    """

    def __init__(self, channels: Mapping[int, int], conditions: int) -> None:
        super().__init__()
        features = 2 * sum(channels.values())
        self.norm = RunningNorm(features)
        self.hidden = EqualLinear(features, HIDDEN, activate=True)
        self.out = EqualLinear(HIDDEN, 2 * conditions)
        nn.init.zeros_(self.out.weight)  # so that the first gradients are small

    def forward(self, skips: Sequence[Tensor]) -> Estimate:
        """Conv(f) of every level, (N, C, 2^i, 2^i) -> the estimate on the head's scale, float32."""
        with torch.autocast(skips[0].device.type, enabled=False):
            ratios = torch.cat([ratio for f in skips for ratio in _ratios(f.float())], dim=1)
            mean, spread = self.out(self.hidden(self.norm(ratios))).chunk(2, dim=1)
            return Estimate(mean, (F.softplus(spread) + LEAST).sqrt())


def _ratios(f: Tensor) -> tuple[Tensor, Tensor]:
    """Evenness and fineness of each channel: (N, C, H, W) -> two of (N, C)."""
    d = f - f.mean((2, 3), keepdim=True)
    power = torch.log(d.square().mean((2, 3)) + LEAST)
    even = torch.log(d.abs() + 1e-2).mean((2, 3)) - power / 2  # 0 where all magnitudes are equal
    fine = torch.log(d.diff(dim=3).square().mean((2, 3)) + LEAST) - power
    return even, fine


def estimate_loss(estimate: Estimate, s: Tensor) -> Tensor:
    """Negative log-likelihood of the true conditions (N, k) under the estimate's Gaussians: mean, less a constant.

    Not F.gaussian_nll_loss, whose check of the variances' sign would make the host wait for the device.
    """
    variance, error = estimate.deviation.square(), estimate.mean - on_head_scale(s.float())
    return 0.5 * (variance.log() + error.square() / variance).mean()
