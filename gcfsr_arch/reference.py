"""The networks as the paper writes them, slow and obvious: the oracle of the tests and the baseline of the benchmarks.

Every equation is computed from the parameters alone: grouped convolutions with one kernel per sample, the
zero-inserting filter, every gain, bias and sigma an operation of its own, NCHW. Only `ops` is shared with the networks,
and of it only plain forms that are tested against other libraries.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.layers import EqualConv2d, EqualLinear, ModulatedConv2d, StyleConv
from gcfsr_arch.modulation import GRID, LinearModulation, MLPModulation
from gcfsr_arch.ops import SQRT2, fuse, modulated_conv2d, upfirdn2d


def activate(x: Tensor, bias: Tensor | None) -> Tensor:
    """Bias over axis 1, leaky ReLU, gain sqrt(2)."""
    x = x if bias is None else x + bias.view(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x, 0.2) * SQRT2


def conv(layer: EqualConv2d, x: Tensor) -> Tensor:
    """(N, I, H, W) -> (N, O, H, W), or half the size."""
    weight = layer.weight * layer.gain
    if layer.down_kernel is None:
        y = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    else:
        p = layer.down_kernel.shape[0] - 2 + weight.shape[-1] - 1
        y = F.conv2d(upfirdn2d(x, layer.down_kernel, pad=((p + 1) // 2, p // 2)), weight, stride=2)
    if layer.activate:
        return activate(y, layer.bias)
    return y if layer.bias is None else y + layer.bias.view(1, -1, 1, 1)


def linear(layer: EqualLinear, x: Tensor) -> Tensor:
    """(N, I) -> (N, O)."""
    y = F.linear(x, layer.weight * layer.gain)
    return activate(y, layer.bias) if layer.activate else y + layer.bias


def modulated(layer: ModulatedConv2d, x: Tensor, code: Tensor | None) -> Tensor:
    """StyleGAN2, Eq. 1-3: (N, I, H, W) -> (N, O, H, W), or twice the size."""
    style = x.new_ones(1, x.shape[1]) if layer.style is None or code is None else linear(layer.style, code)
    return modulated_conv2d(x, layer.weight * layer.gain, style, layer.demodulate, layer.up_kernel)


def noisy(layer: StyleConv, x: Tensor, code: Tensor | None, noise: Tensor) -> Tensor:
    """The modulated convolution plus noise, before bias and activation."""
    return modulated(layer.conv, x, code) + layer.noise_strength * noise


def encode(encoder: Any, x: Tensor) -> tuple[Tensor, dict[int, Tensor], list[Tensor | None]]:
    """Eq. 1-2: where generation starts, {size: Conv(f)}, and the latent codes."""
    f = conv(encoder.first, x)
    conv_f = {x.shape[-1]: conv(encoder.skip[str(x.shape[-1])], f)}
    for size, down in encoder.down.items():
        f = conv(down, f)
        conv_f[int(size)] = conv(encoder.skip[size], f)
    codes: list[Tensor | None] = [None] * (2 * len(conv_f))
    if encoder.head is not None:
        w = linear(encoder.head.linear, conv(encoder.head.down2, conv(encoder.head.down1, f)).flatten(1))
        codes = list(w.reshape(-1, *encoder.head.shape).unbind(1))
    return conv(encoder.top, f) if isinstance(encoder.top, EqualConv2d) else f, conv_f, codes


def sigmas(net: GCFSR, s: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Eq. 4 at the level of `size`: s (M, k) -> sigma_enc, sigma_gen (M, C)."""
    modulation: Any = net.modulation
    if isinstance(modulation, MLPModulation):
        first, second = cast("Sequence[Any]", modulation.hidden)
        sigma = linear(modulation.out, linear(second, linear(first, s)))
        widths = {level: net.config.channels(level) for level in net.sizes}
        start = 2 * sum(width for level, width in widths.items() if level < size)
        sigma_1, sigma_2 = sigma[:, start : start + 2 * widths[size]].abs().chunk(2, dim=1)
    elif isinstance(modulation, LinearModulation):  # the sign is kept
        enc: Any = modulation.enc[str(size)]
        gen: Any = modulation.gen[str(size)]
        sigma_1, sigma_2 = linear(enc, s), linear(gen, s)
    else:  # the ablation h = Conv(f) + g
        return s.new_ones(len(s), 1), s.new_ones(len(s), 1)
    length = torch.sqrt(sigma_1**2 + sigma_2**2 + 1e-8)
    return sigma_1 / length, sigma_2 / length


def sigma_maps(net: GCFSR, s: float | Tensor, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """`sigmas` for every form of s but a dictionary: (N or 1, C, 1, 1), or (N, C, size, size) for maps (N, k, H, W)."""
    s = torch.as_tensor(1.0 if net.blind else s).to(like)
    if s.ndim == 4:
        s = (triangle(s.shape[2], size).to(s) @ s @ triangle(s.shape[3], size).to(s).t()).clamp(0, 1)
        if len(net.conditions) > 1:
            at_pixels = sigmas(net, s.permute(0, 2, 3, 1).flatten(0, 2), size)
            enc, gen = (sigma.reshape(len(s), size, size, -1).permute(0, 3, 1, 2) for sigma in at_pixels)
            return enc, gen
        points = torch.arange(GRID + 1).to(s)  # a map reads a table of GRID + 1 points, linear in between
        share = (1 - (s[:, 0, ..., None] * GRID - points).abs()).clamp(min=0)  # (N, size, size, GRID + 1)
        enc, gen = ((share @ table).permute(0, 3, 1, 2) for table in sigmas(net, points[:, None] / GRID, size))
        return enc, gen
    if len(net.conditions) == 1 and s.ndim < 3:
        s = s.reshape(-1, 1) if s.ndim < 2 else s  # (N, 1) or (N, levels)
        s = s[:, :, None]
    s = s[:, None] if s.ndim == 2 else s  # (N, 1 or levels, k)
    s = s[:, 0 if s.shape[1] == 1 else net.sizes.index(size)]
    enc, gen = (sigma[:, :, None, None] for sigma in sigmas(net, s, size))
    return enc, gen


def triangle(before: int, after: int) -> Tensor:
    """Bilinear resampling of a line, widened when it shrinks so that it does not alias: an (after, before) matrix."""
    step = before / after
    centre, position = (torch.arange(after) + 0.5) * step, torch.arange(before) + 0.5
    weight = (1 - (position - centre[:, None]).abs() / max(step, 1.0)).clamp(min=0)
    return weight / weight.sum(1, keepdim=True)


def doubled(rgb: Tensor, kernel: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 3, 2H, 2W)."""
    k = kernel.shape[0]
    return upfirdn2d(rgb, kernel, up=2, pad=((k - 1) // 2 + 1, (k - 2) // 2))


def generate(net: GCFSR, x: Tensor, s: float | Tensor, noise: list[Tensor]) -> Tensor:
    """`net(x, s, noise=noise)`: (N, 3, S, S) RGB in [-1, 1] -> the same."""
    h, conv_f, codes = encode(net.encoder, x)
    rgb, noise = None, list(noise)
    for i, size in enumerate(net.sizes):
        level: Any = net.levels[str(size)]
        f = conv_f[size]
        if level.up is not None:
            h = activate(noisy(level.up, h, codes[2 * i - 1], noise.pop(0)), level.up.bias)
        g = noisy(level.conv, h, codes[2 * i], noise.pop(0))
        if level.conv.fuse_first:  # released
            h = activate(fuse(f, g, *sigma_maps(net, s, size, x)), level.conv.bias)
        else:
            h = fuse(f, activate(g, level.conv.bias), *sigma_maps(net, s, size, x))  # Eq. 4
        part = modulated(level.to_rgb.conv, h, codes[2 * i + 1]) + level.to_rgb.bias.view(1, 3, 1, 1)
        rgb = part if rgb is None else part + doubled(rgb, level.to_rgb.up_kernel)
    assert rgb is not None
    return rgb


def discriminate(net: GCFSRDiscriminator, x: Tensor) -> Tensor:
    """`net(x)` of a discriminator without the standard deviation over the batch: (N, 3, S, S) -> (N, 1)."""
    y, blocks = conv(net.first, x), cast("Sequence[Any]", net.blocks)
    for block in blocks:
        y = (conv(block.conv2, conv(block.conv1, y)) + conv(block.skip, y)) / SQRT2
    return linear(net.linear2, linear(net.linear1, conv(net.final_conv, y).flatten(1)))
