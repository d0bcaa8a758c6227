"""The network computed as the released code computes it: the plain form that the fast one is measured against.

Grouped convolutions with one materialised kernel per sample, the generic zero-inserting FIR filter, every gain and
bias an operation of its own, NCHW. It reads the parameters of a `GCFSR` in either variant.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gcfsr_arch import GCFSR
from gcfsr_arch.layers import EqualConv2d, EqualLinear, ModulatedConv2d, StyleConv
from gcfsr_arch.ops import upfirdn2d


def activate(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2) * 2**0.5


def conv(layer: EqualConv2d, x: Tensor) -> Tensor:
    weight = layer.weight * layer.gain
    if layer.down_kernel is not None:
        p = layer.down_kernel.shape[0] - 2 + weight.shape[-1] - 1
        y = F.conv2d(upfirdn2d(x, layer.down_kernel, pad=((p + 1) // 2, p // 2)), weight, stride=2)
    else:
        y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    if layer.activate:
        return activate(y, layer.bias)
    return y if layer.bias is None else y + layer.bias.view(1, -1, 1, 1)


def linear(layer: EqualLinear, x: Tensor) -> Tensor:
    y = F.linear(x, layer.weight * layer.gain)
    return activate(y, layer.bias) if layer.activate else y + layer.bias


def modulated(layer: ModulatedConv2d, x: Tensor, code: Tensor) -> Tensor:
    n, i, h, w = x.shape
    o, _, k, _ = layer.weight.shape
    style = x.new_ones(n, i) if layer.style is None else linear(layer.style, code).expand(n, -1)
    weight = layer.weight[None] * layer.gain * style.view(n, 1, i, 1, 1)  # (N, O, I, k, k)
    if layer.demodulate:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4)) + 1e-8).view(n, o, 1, 1, 1)
    x = x.reshape(1, n * i, h, w)
    if layer.up_kernel is None:
        return F.conv2d(x, weight.view(n * o, i, k, k), padding=k // 2, groups=n).view(n, o, h, w)
    weight = weight.transpose(1, 2).reshape(n * i, o, k, k)
    y = F.conv_transpose2d(x, weight, stride=2, groups=n)
    return upfirdn2d(y.view(n, o, *y.shape[2:]), layer.up_kernel, pad=(1, 1))


def style_conv(layer: StyleConv, x: Tensor, code: Tensor, noise: Tensor | None) -> Tensor:
    y = modulated(layer.conv, x, code)
    return y if noise is None else y + layer.noise_strength * noise


def reference_forward(net: GCFSR, x: Tensor, s: float | Tensor, noise: list[Tensor]) -> Tensor:
    """`net(x, s, noise=noise)`, plainly. (N, 3, S, S) in [-1, 1]."""
    f = conv(net.encoder.first, x)
    skips = {x.shape[-1]: conv(net.encoder.skip[str(x.shape[-1])], f)}
    for size, layer in net.encoder.down.items():
        f = conv(layer, f)
        skips[int(size)] = conv(net.encoder.skip[size], f)
    head = net.encoder.head
    if head is None:
        codes = [f] * (2 * len(net.sizes))  # never read
    else:
        w = linear(head.linear, conv(head.down2, conv(head.down1, f)).flatten(1))
        codes = list(w.unflatten(1, head.shape).unbind(1))
    h = conv(net.encoder.top, f) if isinstance(net.encoder.top, EqualConv2d) else f
    rgb, noise, i = None, list(noise), 0
    for size, (enc, gen) in net.sigmas(s).items():
        level = net.levels[str(size)]
        if level.up is not None:
            h = activate(style_conv(level.up, h, codes[i - 1], noise.pop(0)), level.up.bias)
        g = style_conv(level.conv, h, codes[i], noise.pop(0))
        enc, gen = (v if v.ndim == 4 else v[:, :, None, None] for v in (enc, gen))
        if level.conv.fuse_first:
            h = activate(gen * g + enc * skips[size], level.conv.bias)
        else:
            h = gen * activate(g, level.conv.bias) + enc * skips[size]
        part = modulated(level.to_rgb.conv, h, codes[i + 1]) + level.to_rgb.bias.view(1, 3, 1, 1)
        rgb = part if rgb is None else part + upfirdn2d(rgb, level.to_rgb.up_kernel, up=2, pad=(2, 1))
        i += 2
    return rgb
