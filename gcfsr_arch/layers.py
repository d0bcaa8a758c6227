"""Thin Modules over `ops`: equalised-rate layers and the two style-modulated ones of StyleGAN2."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from gcfsr_arch import ops


class EqualConv2d(nn.Module):
    """Convolution with an equalised learning rate, optionally halving the size, with bias and activation.

    Args:
        in_channels, out_channels, kernel_size: as in `nn.Conv2d`; the size is kept.
        bias: whether a bias is added.
        activate: leaky ReLU after the bias ("Conv" of Eq. 1).
        down_kernel: taps of the low-pass filter; the output has half the size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activate: bool = False,
        down_kernel: Sequence[float] | None = None,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.activate = activate
        self.down_kernel: Tensor | None
        self.register_buffer("down_kernel", None if down_kernel is None else ops.fir_kernel(down_kernel), False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.gain
        if self.down_kernel is not None:
            y = ops.conv_down(x, weight, self.down_kernel)
        else:
            y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if self.bias is None:
            return y
        return ops.biased_leaky_relu(y, self.bias) if self.activate else y + self.bias.view(1, -1, 1, 1)


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate, on the last axis; leaky ReLU after the bias if `activate`."""

    def __init__(self, in_features: int, out_features: int, bias_init: float = 0.0, activate: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))
        self.gain = 1 / math.sqrt(in_features)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.gain, self.bias)
        return F.leaky_relu(y, 0.2) * ops.SQRT2 if self.activate else y


class ModulatedConv2d(nn.Module):
    """Convolution whose kernel is modulated by a latent code (StyleGAN2); `style=False` leaves it unmodulated."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        num_style_feat: int,
        style: bool = True,
        demodulate: bool = True,
        up_kernel: Sequence[float] | None = None,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.style = EqualLinear(num_style_feat, in_channels, bias_init=1.0) if style else None
        self.demodulate = demodulate
        self.up_kernel: Tensor | None
        self.register_buffer("up_kernel", None if up_kernel is None else ops.fir_kernel(up_kernel, 4.0), False)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        style = None if self.style is None else self.style(code)  # (N, I)
        return ops.modulated_conv2d(x, self.weight * self.gain, style, self.demodulate, self.up_kernel)


class StyleConv(nn.Module):
    """Conv_sm of Eq. 3 in two halves: modulated convolution with noise, then bias and activation.

    Feature modulation stands after the second half in the paper and between the two in the released code.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_style_feat: int,
        style: bool = True,
        up_kernel: Sequence[float] | None = None,
    ):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, num_style_feat, style, up_kernel=up_kernel)
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def convolve(self, x: Tensor, code: Tensor, noise: Tensor | None) -> Tensor:
        y = self.conv(x, code)
        return y if noise is None else y + self.noise_strength * noise

    def activate(self, y: Tensor) -> Tensor:
        return ops.biased_leaky_relu(y, self.bias)

    def forward(self, x: Tensor, code: Tensor, noise: Tensor | None) -> Tensor:
        return self.activate(self.convolve(x, code, noise))


class ToRGB(nn.Module):
    """tRGB of Eq. 5: a modulated 1x1 convolution to RGB added to the doubled picture of the level below."""

    def __init__(self, in_channels: int, num_style_feat: int, style: bool, resample_kernel: Sequence[float]):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, 3, 1, num_style_feat, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.up_kernel: Tensor
        self.register_buffer("up_kernel", ops.fir_kernel(resample_kernel, 4.0), False)

    def forward(self, h: Tensor, code: Tensor, skip: Tensor | None = None) -> Tensor:
        rgb = self.conv(h, code) + self.bias.view(1, 3, 1, 1)  # (N, 3, 2^i, 2^i)
        return rgb if skip is None else rgb + ops.upsample2d(skip, self.up_kernel)


def run(module: nn.Module, *args: Any, recompute: bool) -> Any:
    """Calls a module; with `recompute` its activations are computed again in the backward pass instead of kept."""
    return checkpoint(module, *args, use_reentrant=False) if recompute else module(*args)
