"""Reading the dials from the image: a small head on the encoder's features estimates every condition."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcfsr_arch.layers import EqualLinear

HIDDEN = 16
OCTAVES = 5.0  # the factor is estimated on a logarithmic scale: 1 at s = 1, 0 at s = 1 / 32
LEAST = 1e-4  # variance


class Estimate(NamedTuple):
    """Each (N, k): conditions in [0, 1] and their standard deviations, or both on the head's own scale."""

    mean: Tensor
    deviation: Tensor


def on_head_scale(s: Tensor) -> Tensor:
    """Conditions (N, k), factor first -> what the head estimates: the factor's octaves, the others as they are."""
    octaves = 1 + s[:, :1].clamp(min=2**-10).log2() / OCTAVES
    return torch.cat([octaves, s[:, 1:]], dim=1)


def from_head_scale(estimate: Estimate) -> Estimate:
    """The inverse of `on_head_scale`, clipped to [0, 1]; the factor's deviation to first order."""
    mean, deviation = estimate
    factor = torch.exp2((mean[:, :1] - 1) * OCTAVES).clamp(max=1)
    slope = factor * OCTAVES * torch.log(torch.tensor(2.0))
    return Estimate(
        torch.cat([factor, mean[:, 1:].clamp(0, 1)], dim=1),
        torch.cat([deviation[:, :1] * slope, deviation[:, 1:]], dim=1),
    )


class ConditionEstimator(nn.Module):
    """log variance of every channel at every level -> mean and standard deviation of every condition.

    Noise, blur and compression each change the power that the encoder's filters find, level by level, as they change a
    spectrum; where in the face they find it does not matter.

    Args:
        channels: {size: channels} of Conv(f) of Eq. 4.
        conditions: how many are estimated.
    """

    def __init__(self, channels: Mapping[int, int], conditions: int) -> None:
        super().__init__()
        self.hidden = EqualLinear(sum(channels.values()), HIDDEN, activate=True)
        self.out = EqualLinear(HIDDEN, 2 * conditions)
        nn.init.zeros_(self.out.weight)  # so that the first gradients are small

    def forward(self, skips: Sequence[Tensor]) -> Estimate:
        """Conv(f) of every level, (N, C, 2^i, 2^i) -> the estimate on the head's scale, float32."""
        with torch.autocast(skips[0].device.type, enabled=False):
            power = [torch.log(f.float().var((2, 3), correction=0) + LEAST) for f in skips]
            mean, spread = self.out(self.hidden(torch.cat(power, dim=1))).chunk(2, dim=1)
            return Estimate(mean, (F.softplus(spread) + LEAST).sqrt())


def estimate_loss(estimate: Estimate, s: Tensor) -> Tensor:
    """Negative log-likelihood of the true conditions (N, k) under the estimate's Gaussians, their mean."""
    return F.gaussian_nll_loss(estimate.mean, on_head_scale(s.float()), estimate.deviation.square(), eps=LEAST)
