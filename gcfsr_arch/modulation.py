"""Eq. 4: from the strength s to the scaling vectors sigma_enc and sigma_gen of every level.

s has one entry per condition, k in all (`conditions`); the paper's network has one, the factor.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcfsr_arch.layers import EqualLinear


class Sigmas(NamedTuple):
    """The scaling vectors of one level (Eq. 4)."""

    enc: Tensor  # of the encoder's feature f
    gen: Tensor  # of the generator's feature g


GRID = 1024  # a map of one condition reads sigma from a table of GRID + 1 points in [0, 1]; between points it is linear
PIXELS = 1 << 16  # of a map of several conditions, for which the MLP is run at once


def unit_pair(sigma_1: Tensor, sigma_2: Tensor, eps: float = 1e-8) -> Sigmas:
    """Scales each pair to unit length (Eq. 4, without the absolute value).

    Args:
        sigma_1, sigma_2: scaling vectors of the encoder and the generator, any sign, any shape.
        eps: of Eq. 4.

    Returns:
        sigma_enc, sigma_gen with sigma_enc^2 + sigma_gen^2 = 1 up to eps, which matters only for a pair near zero.
    """
    norm = torch.rsqrt(sigma_1.square() + sigma_2.square() + eps)
    return Sigmas(sigma_1 * norm, sigma_2 * norm)


class FeatureModulation(nn.Module):
    """s -> sigma_enc, sigma_gen of every level (Eq. 4). What differs between the forms is `raw` and the sign."""

    positive: bool  # whether the absolute value is taken

    def __init__(self, channels: dict[int, int]):
        super().__init__()
        self.sizes = list(channels)

    def raw(self, s: Tensor, size: int) -> Sigmas:
        """sigma_1, sigma_2 of one level before scaling to unit length: (M, k) -> two of (M, C)."""
        raise NotImplementedError

    def pair(self, s: Tensor, size: int) -> Sigmas:
        """sigma_enc, sigma_gen of one level: (M, k) -> two of (M, C)."""
        sigma_1, sigma_2 = self.raw(s, size)
        if self.positive:
            sigma_1, sigma_2 = sigma_1.abs(), sigma_2.abs()
        return unit_pair(sigma_1, sigma_2)

    def forward(self, s: Tensor, size: int) -> Sigmas:
        """sigma_enc, sigma_gen of a level: (N, levels, k) to (N, C, 1, 1), maps (N, k, H, W) to (N, C, size, size)."""
        if s.ndim == 3:
            return Sigmas(*(sigma[:, :, None, None] for sigma in self.pair(s[:, self.sizes.index(size)], size)))
        s = F.interpolate(s, (size, size), mode="bilinear", antialias=True).clamp(0, 1)  # (N, k, size, size)
        if s.shape[1] == 1:
            tables = self.pair(torch.linspace(0, 1, GRID + 1).to(s)[:, None], size)  # each (GRID + 1, C)
            return Sigmas(*(read_table(table, s[:, 0]) for table in tables))
        pixels = s.permute(0, 2, 3, 1)  # (N, size, size, k)
        parts = [self.pair(part, size) for part in torch.split(pixels.flatten(0, 2), PIXELS)]
        both = Sigmas(torch.cat([part.enc for part in parts]), torch.cat([part.gen for part in parts]))
        return Sigmas(*(sigma.reshape(*pixels.shape[:3], -1).permute(0, 3, 1, 2) for sigma in both))


def read_table(table: Tensor, s: Tensor) -> Tensor:
    """Linear interpolation in a table over [0, 1]: (K, C) at (N, H, W) -> (N, C, H, W)."""
    position = s * (table.shape[0] - 1)
    low = position.detach().floor().clamp(max=table.shape[0] - 2).long()
    share = (position - low)[..., None]
    return torch.lerp(table[low], table[low + 1], share).permute(0, 3, 1, 2)


class MLPModulation(FeatureModulation):
    """The paper's form: one MLP k -> width -> width -> all sigma_1 and sigma_2, made positive; k = 1 is printed."""

    positive = True

    def __init__(self, channels: dict[int, int], width: int, conditions: int = 1):
        super().__init__(channels)
        self.hidden = nn.Sequential(
            EqualLinear(conditions, width, activate=True), EqualLinear(width, width, activate=True)
        )
        self.out = EqualLinear(width, 2 * sum(channels.values()), bias_init=1.0)
        self.slices: dict[int, slice] = {}
        start = 0
        for size, c in channels.items():
            self.slices[size] = slice(start, start + 2 * c)
            start += 2 * c

    def raw(self, s: Tensor, size: int) -> Sigmas:
        part = self.slices[size]  # only this level's rows of the last layer
        sigma = F.linear(self.hidden(s), self.out.weight[part] * self.out.gain, self.out.bias[part])
        return Sigmas(*sigma.chunk(2, dim=1))


class LinearModulation(FeatureModulation):
    """The released form: one linear layer 1 -> C per level and sigma, the sign kept."""

    positive = False

    def __init__(self, channels: dict[int, int]):
        super().__init__(channels)
        self.enc = nn.ModuleDict({str(size): EqualLinear(1, c, bias_init=1.0) for size, c in channels.items()})
        self.gen = nn.ModuleDict({str(size): EqualLinear(1, c, bias_init=1.0) for size, c in channels.items()})

    def raw(self, s: Tensor, size: int) -> Sigmas:
        return Sigmas(self.enc[str(size)](s), self.gen[str(size)](s))


class PlainAddition(FeatureModulation):
    """The ablation without feature modulation: h = Conv(f) + g for every s."""

    positive = True

    def pair(self, s: Tensor, size: int) -> Sigmas:
        one = s.new_ones(len(s), 1)
        return Sigmas(one, one)


def build_modulation(
    variant: str, channels: dict[int, int], width: int, enabled: bool, conditions: int = 1
) -> FeatureModulation:
    """The feature modulation of a variant over {size: channels}; `enabled=False` is plain addition."""
    if not enabled:
        return PlainAddition(channels)
    return MLPModulation(channels, width, conditions) if variant == "paper" else LinearModulation(channels)
