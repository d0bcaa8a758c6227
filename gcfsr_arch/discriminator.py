"""StyleGAN2's discriminator; minibatch standard deviation is optional (the released networks have none)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gcfsr_arch.config import channels_at, check_out_size, check_taps
from gcfsr_arch.layers import EqualConv2d, EqualLinear


def minibatch_std(x: Tensor, group: int = 4) -> Tensor:
    """Appends the mean standard deviation over groups of samples as one channel (StyleGAN2). (N, C, H, W) -> C + 1.

    A batch that `group` does not divide is one group.
    """
    n, _, h, w = x.shape
    group = group if n % group == 0 else n
    y = x.view(group, -1, *x.shape[1:])  # (G, N/G, C, H, W)
    std = torch.sqrt(y.var(0, unbiased=False) + 1e-8).mean((1, 2, 3))  # (N/G,)
    return torch.cat([x, std.repeat(group).view(n, 1, 1, 1).expand(n, 1, h, w)], dim=1)


class ResBlock(nn.Module):
    """Two convolutions, the second halving the size, beside a 1x1 skip; the sum keeps the variance."""

    def __init__(self, in_channels: int, out_channels: int, taps: Sequence[float]):
        super().__init__()
        self.conv1 = EqualConv2d(in_channels, in_channels, 3, activate=True)
        self.conv2 = EqualConv2d(in_channels, out_channels, 3, activate=True, down_kernel=taps)
        self.skip = EqualConv2d(in_channels, out_channels, 1, bias=False, down_kernel=taps)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


class GCFSRDiscriminator(nn.Module):
    """StyleGAN2 discriminator: (N, 3, out_size, out_size) RGB in [-1, 1] -> (N, 1) logits.

    Args:
        out_size: a power of two from 8 to 4096.
        channel_multiplier, narrow: widths, as in `GCFSR`.
        resample_kernel: taps of the low-pass filter before each stride.
        minibatch_std: whether the last convolution sees the standard deviation over the batch.

    Raises:
        GCFSRError: a size that is not a power of two from 8, or taps whose sum is zero.
    """

    def __init__(
        self,
        out_size: int,
        channel_multiplier: float = 2,
        narrow: float = 1.0,
        resample_kernel: Sequence[float] = (1, 3, 3, 1),
        minibatch_std: bool = False,
    ):
        super().__init__()
        check_out_size(out_size, 8)
        check_taps(resample_kernel)
        sizes = [2**i for i in range(out_size.bit_length() - 1, 1, -1)]  # out_size .. 4
        width = [channels_at(size, channel_multiplier, narrow) for size in sizes]
        self.first = EqualConv2d(3, width[0], 1, activate=True)
        self.blocks = nn.Sequential(*[ResBlock(c_in, c_out, resample_kernel) for c_in, c_out in pairwise(width)])
        self.minibatch_std = minibatch_std
        self.final_conv = EqualConv2d(width[-1] + int(minibatch_std), width[-1], 3, activate=True)
        self.linear1 = EqualLinear(width[-1] * 4 * 4, width[-1], activate=True)
        self.linear2 = EqualLinear(width[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(self.first(x))  # (N, C, 4, 4)
        y = self.final_conv(minibatch_std(y) if self.minibatch_std else y)
        return self.linear2(self.linear1(y.flatten(1)))  # (N, 1)
