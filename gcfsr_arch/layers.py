"""Thin Modules over `ops`: equalised-rate layers and the two style-modulated ones of StyleGAN2."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from gcfsr_arch import fast, ops


def unit_normal(*shape: int) -> Tensor:
    """A weight at the start of training. On the meta device nothing is drawn, which would import torch._dynamo."""
    weight = torch.empty(shape)
    return weight if weight.is_meta else weight.normal_()


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
        self.weight = nn.Parameter(unit_normal(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.activate = activate
        self.down_kernel: Tensor | None
        self.register_buffer("down_kernel", None if down_kernel is None else ops.fir_kernel(down_kernel), False)

    def forward(self, x: Tensor) -> Tensor:
        gain = ops.SQRT2 if self.activate else 1.0
        weight, bias = self.weight * (self.gain * gain), None if self.bias is None else self.bias * gain
        if self.down_kernel is not None:
            y = ops.conv_down(x, weight, bias, self.down_kernel)
        else:
            y = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        return ops.leaky_relu(y) if self.activate else y


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate, on the last axis; leaky ReLU after the bias if `activate`."""

    def __init__(self, in_features: int, out_features: int, bias_init: float = 0.0, activate: bool = False):
        super().__init__()
        self.weight = nn.Parameter(unit_normal(out_features, in_features))
        self.bias = nn.Parameter(torch.full((out_features,), bias_init))
        self.gain = 1 / math.sqrt(in_features)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        gain = ops.SQRT2 if self.activate else 1.0
        bias = self.bias * gain
        if torch.is_grad_enabled():  # so that a gradient in half precision does not underflow
            y = F.linear(x, self.weight * (self.gain * gain), bias)
        else:  # without a copy of the weights, scaled or in bfloat16: 200 MB in the latent head at 512
            with autocast_off(x):
                y = F.linear(x.to(self.weight) * (self.gain * gain), self.weight, bias)
        return ops.leaky_relu(y) if self.activate else y


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
        self.weight = nn.Parameter(unit_normal(out_channels, in_channels, kernel_size, kernel_size))
        self.gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.style = EqualLinear(num_style_feat, in_channels, bias_init=1.0) if style else None
        self.demodulate = demodulate
        self.up_kernel: Tensor | None
        self.register_buffer("up_kernel", None if up_kernel is None else ops.fir_kernel(up_kernel, 4.0), False)

    def forward(self, x: Tensor, code: Tensor, gain: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        style = self.weight.new_ones(1, x.shape[1]) if self.style is None else self.style(code)  # (N or 1, I)
        one = style.shape[0] == 1  # then the style goes into the weights, and can bear their factor
        weight, style = (self.weight, style * self.gain) if one else (self.weight * self.gain, style)
        return fast.modulated_conv2d(x, weight, style, self.demodulate, self.up_kernel, gain, bias)


class StyleConv(nn.Module):
    """Conv_sm of Eq. 3: modulated convolution, noise, bias, activation; and the feature modulation of Eq. 4.

    Args:
        in_channels, out_channels, num_style_feat, style, up_kernel: as in `ModulatedConv2d`.
        fuse_first: feature modulation comes before bias and activation (released) instead of after (Eq. 4).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_style_feat: int,
        style: bool = True,
        up_kernel: Sequence[float] | None = None,
        fuse_first: bool = False,
    ):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, num_style_feat, style, up_kernel=up_kernel)
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.fuse_first = fuse_first

    def forward(
        self,
        x: Tensor,
        code: Tensor,
        noise: Tensor | None,
        f: Tensor | None = None,
        sigmas: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """x (N, I, H, W), its code and noise -> g, or h where the encoder's f and the sigmas of Eq. 4 are given."""
        if fast.in_place():
            return self._folded(x, code, noise, f, sigmas)
        gain, bias = self.bias.new_full((1, 1, 1, 1), ops.SQRT2), self.bias.view(1, -1, 1, 1) * ops.SQRT2
        y = self.conv(x, code, gain)  # with the gain of the activation: leaky ReLU is positively homogeneous
        bias = bias.to(y.dtype)  # under autocast a term in float32 would double the size of every activation
        if noise is not None:
            y = y + (noise * (self.noise_strength * gain)).to(y.dtype)
        if f is None or sigmas is None:
            return ops.leaky_relu(y + bias)
        f, (sigma_enc, sigma_gen) = f.to(y.dtype), (sigma.to(y.dtype) for sigma in sigmas)
        if self.fuse_first:
            return ops.leaky_relu(ops.fuse(f, y, sigma_enc * ops.SQRT2, sigma_gen) + bias)
        return ops.fuse(f, ops.leaky_relu(y + bias), sigma_enc, sigma_gen)  # h of Eq. 4

    def _folded(
        self, x: Tensor, code: Tensor, noise: Tensor | None, f: Tensor | None, sigmas: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """`forward` in fewer passes over memory: sigma_gen, gain and bias are folded into the convolution."""
        bias, before, after = self.bias.view(1, -1, 1, 1) * ops.SQRT2, [], []
        gain = torch.full_like(bias, ops.SQRT2)
        if f is not None and sigmas is not None:
            sigma_enc, sigma_gen = sigmas
            gain = sigma_gen * ops.SQRT2
            if self.fuse_first:  # h = act(sigma_enc * f + sigma_gen * (conv + noise) + bias)
                before = [(f, sigma_enc * ops.SQRT2)]
            else:  # h = sigma_enc * f + sigma_gen * act(conv + noise + bias)
                after, bias = [(f, sigma_enc)], self.bias.view(1, -1, 1, 1) * gain
        if noise is not None:
            before = [*before, (noise, self.noise_strength * gain)]
        return fast.finish(self.conv(x, code, gain, bias), before, after)


class ToRGB(nn.Module):
    """tRGB of Eq. 5: a modulated 1x1 convolution to RGB, added to the doubled image of the level below."""

    def __init__(self, in_channels: int, num_style_feat: int, style: bool, resample_kernel: Sequence[float]):
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, 3, 1, num_style_feat, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.up_kernel: Tensor
        self.register_buffer("up_kernel", ops.fir_kernel(resample_kernel, 4.0), False)

    def forward(self, h: Tensor, code: Tensor, below: Tensor | None = None) -> Tensor:
        """h (N, C, 2^i, 2^i) and the image of the level below (N, 3, 2^(i-1), 2^(i-1)) -> (N, 3, 2^i, 2^i)."""
        rgb = self.conv(h, code) + self.bias.view(1, 3, 1, 1)
        return rgb if below is None else rgb + ops.upsample2d(below, self.up_kernel)


def autocast_off(x: Tensor) -> AbstractContextManager[object]:
    """Ends autocast where x is; a trace keeps it."""
    device = x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and not ops.traced()
    return torch.autocast(device, enabled=False) if on else nullcontext()


def run(module: nn.Module, *args: Any, recompute: bool) -> Any:
    """Calls a module; with `recompute` its activations are computed again in the backward pass instead of kept."""
    return checkpoint(module, *args, use_reentrant=False) if recompute else module(*args)
