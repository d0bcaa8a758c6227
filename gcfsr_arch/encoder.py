"""Eq. 1-2: from the upsampled image to multi-level features f and latent codes w."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from gcfsr_arch.layers import EqualConv2d, EqualLinear, run


class LatentHead(nn.Module):
    """Eq. 2: w = Reshape(FC(Conv ... (f^(l)))). (N, C, 16, 16) -> (N, num_latent, num_style_feat)."""

    def __init__(self, channels: int, narrowed: int, num_latent: int, num_style_feat: int, taps: Sequence[float]):
        super().__init__()
        self.down1 = EqualConv2d(channels, channels, 3, activate=True, down_kernel=taps)
        self.down2 = EqualConv2d(channels, narrowed, 3, activate=True, down_kernel=taps)
        self.linear = EqualLinear(narrowed * 4 * 4, num_latent * num_style_feat, activate=True)
        self.shape = (num_latent, num_style_feat)

    def forward(self, f: Tensor) -> Tensor:
        y = self.down2(self.down1(f))  # (N, narrowed, 4, 4)
        return self.linear(y.flatten(1)).unflatten(1, self.shape)


class Encoder(nn.Module):
    """Eq. 1: strided convolutions from 2^u to 2^l, and "Conv(f)" of Eq. 4 behind each level.

    Args:
        channels: {size: channels} from 16 up to the output size.
        taps: of the low-pass filter before each stride.
        top_conv: one more convolution on f^(l) before generation (released form).
        head: latent head, or None without style modulation.
    """

    def __init__(self, channels: dict[int, int], taps: Sequence[float], top_conv: bool, head: LatentHead | None):
        super().__init__()
        sizes = sorted(channels, reverse=True)
        c = channels[sizes[0]]
        self.first = EqualConv2d(3, c, 3, activate=True)
        self.down = nn.ModuleDict(
            {
                str(small): EqualConv2d(channels[large], channels[small], 3, activate=True, down_kernel=taps)
                for large, small in pairwise(sizes)
            }
        )
        self.skip = nn.ModuleDict({str(size): EqualConv2d(channels[size], channels[size], 3) for size in sizes})
        c = channels[sizes[-1]]
        self.top = EqualConv2d(c, c, 3, activate=True) if top_conv else nn.Identity()
        self.head = head

    def forward(self, x: Tensor, recompute: bool = False) -> tuple[Tensor, list[Tensor], Tensor]:
        """Encodes (N, 3, 2^u, 2^u) in [-1, 1].

        Returns:
            top: (N, C, 16, 16), where generation starts.
            skips: Conv(f) of every level, from 16 up.
            w: (N, num_latent, num_style_feat); no codes, (N, 0, 0), without style modulation.
        """
        f = self.first(x)  # (N, C, 2^u, 2^u)
        largest, *smaller = self.skip
        skips = [self.skip[largest](f)]
        for size in smaller:  # u - 1 .. l
            down = self.down[size]
            f = run(down, f, recompute=recompute)  # (N, C, 2^i, 2^i)
            skips.insert(0, self.skip[size](f))
        w = f.new_empty(f.shape[0], 0, 0) if self.head is None else self.head(f)
        return self.top(f), skips, w
