"""Eq. 3 and 5 around the encoder (Eq. 1-2) and the feature modulation (Eq. 4): the whole network."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from gcfsr_arch import ops
from gcfsr_arch.encoder import Encoder, LatentHead
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.layers import StyleConv, ToRGB, run
from gcfsr_arch.modulation import Sigmas, Strength, build_modulation, level_sizes, strength_per_level

Noise = Literal["random", "fixed", "zero"] | Sequence[Tensor]


class Features(NamedTuple):
    """What `encode` finds in a picture; it does not depend on s."""

    top: Tensor  # (N, C, 16, 16), where generation starts
    skips: list[Tensor]  # Conv(f) of Eq. 4, (N, C, 2^i, 2^i) for i = l .. u
    w: Tensor  # (N, num_latent, num_style_feat) latent codes, Eq. 2


def channels_at(size: int, channel_multiplier: float, narrow: float) -> int:
    """Channels of the level of `size` pixels (StyleGAN2's table)."""
    full = 512 if size <= 32 else 256 * channel_multiplier * 64 / size
    return max(1, int(full * narrow))


def noise_maps(noise: Noise, shapes: list[tuple[int, ...]], seed: int | None, like: Tensor) -> list[Tensor | None]:
    """The noise of every StyleConv in order.

    Args:
        noise: "random" (new at every call, or from `seed`), "fixed" (one map for all samples, from `seed` or 0),
            "zero", or a list of tensors.
        shapes: (N, 1, r, r) of each.
        seed: makes "random" reproducible and chooses the "fixed" maps.
        like: a tensor of the network's device and type.

    Raises:
        GCFSRError: another word, or a list of another length.
    """
    if not isinstance(noise, str):
        if len(noise) != len(shapes):
            raise GCFSRError(f"noise: {len(noise)} maps were passed, the network takes {len(shapes)}")
        return [n.to(like) for n in noise]
    if noise == "zero":
        return [None] * len(shapes)
    if noise == "random" and seed is None:
        return [torch.randn(shape, device=like.device, dtype=like.dtype) for shape in shapes]
    if noise not in ("random", "fixed"):
        raise GCFSRError(f"noise {noise!r}: one of 'random', 'fixed', 'zero', or a list of tensors")
    generator = torch.Generator().manual_seed(seed or 0)  # on the CPU: the same maps on every device
    if noise == "fixed":
        shapes = [(1, *shape[1:]) for shape in shapes]
    return [torch.randn(shape, generator=generator).to(like) for shape in shapes]


class Level(nn.Module):
    """One level of the generator: grow (above l), convolve, fuse with the encoder's feature, tRGB (Eq. 3-5)."""

    def __init__(
        self, in_channels: int, channels: int, num_style_feat: int, style: bool, taps: Sequence[float], first: bool,
        fuse_first: bool,
    ):  # fmt: skip
        super().__init__()
        self.up = None if first else StyleConv(in_channels, channels, num_style_feat, style, up_kernel=taps)
        self.conv = StyleConv(channels, channels, num_style_feat, style, fuse_first=fuse_first)
        self.to_rgb = ToRGB(channels, num_style_feat, style, taps)

    def forward(
        self, h: Tensor, f: Tensor, codes: Sequence[Tensor], noise: Sequence[Tensor | None], sigmas: Sigmas,
        rgb: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """h and rgb of the level below -> h (N, C, 2^i, 2^i) and rgb (N, 3, 2^i, 2^i) of this one."""
        *up_code, conv_code, rgb_code = codes
        *up_noise, conv_noise = noise
        g = h if self.up is None else self.up(h, up_code[0], up_noise[0])  # Eq. 3, Conv_sm on the doubled h
        h = self.conv(g, conv_code, conv_noise, f, sigmas)  # Eq. 3-4   (N, C, 2^i, 2^i)
        return h, self.to_rgb(h, rgb_code, skip=rgb)  # Eq. 5


def build_levels(
    width: dict[int, int], num_style_feat: int, style: bool, taps: Sequence[float], fuse_first: bool
) -> nn.ModuleDict:
    """The generator's levels by size, from 16 up, over {size: channels}."""
    levels = nn.ModuleDict()
    for size, channels in width.items():
        below = width[max(16, size // 2)]
        levels[str(size)] = Level(below, channels, num_style_feat, style, taps, size == 16, fuse_first)
    return levels


class GCFSR(nn.Module):
    """Generative and controllable face super-resolution (He et al., CVPR 2022).

    Args:
        out_size: output size 2^u, a power of two from 32.
        num_style_feat: length of a latent code.
        channel_multiplier: widens the levels above 32 pixels.
        narrow: multiplies every width.
        resample_kernel: taps of the low-pass filter of every resampling.
        variant: "paper" (Eq. 4 as printed) or "released" (the authors' code and weights).
        blind: s is fixed at 1 (blind restoration).
        style_modulation: False is the ablation of Fig. 7.
        feature_modulation: False is the ablation h = Conv(f) + g.
        min_factor, max_factor: the factors the network serves; s = factor / max_factor. `max_factor` is 64 at 1024
            and above, otherwise 32, unless given.

    Raises:
        GCFSRError: a size that is no power of two from 32, or an unknown variant.
    """

    def __init__(
        self,
        out_size: int,
        num_style_feat: int = 512,
        channel_multiplier: float = 2,
        narrow: float = 1.0,
        resample_kernel: Sequence[float] = (1, 3, 3, 1),
        variant: str = "paper",
        blind: bool = False,
        style_modulation: bool = True,
        feature_modulation: bool = True,
        min_factor: float = 4.0,
        max_factor: float | None = None,
    ):
        super().__init__()
        if out_size < 32 or out_size & (out_size - 1):
            raise GCFSRError(f"out_size {out_size}: it must be a power of two from 32, for example 512 or 1024")
        if variant not in ("paper", "released"):
            raise GCFSRError(f"variant {variant!r}: it is 'paper' or 'released'")
        self.out_size, self.blind, self.num_style_feat = out_size, blind, num_style_feat
        self.min_factor = float(min_factor)
        self.max_factor = float(max_factor or (64 if out_size >= 1024 else 32))
        self.sizes = list(level_sizes(out_size))
        self.config: dict[str, Any] = {
            "out_size": out_size, "num_style_feat": num_style_feat, "channel_multiplier": channel_multiplier,
            "narrow": narrow, "resample_kernel": list(resample_kernel), "variant": variant, "blind": blind,
            "style_modulation": style_modulation, "feature_modulation": feature_modulation,
            "min_factor": self.min_factor, "max_factor": self.max_factor,
        }  # fmt: skip
        self.checkpoint_levels = False  # recompute each level in the backward pass: less memory, more time

        released = variant == "released"
        width = {size: channels_at(size, channel_multiplier, narrow) for size in self.sizes}
        base, num_latent = width[16], 2 * len(self.sizes)
        narrowed = base if released and blind else max(1, base // 2)
        head = LatentHead(base, narrowed, num_latent, num_style_feat, resample_kernel) if style_modulation else None
        self.encoder = Encoder(width, resample_kernel, top_conv=released, head=head)
        self.modulation = build_modulation(variant, width, base, feature_modulation)
        self.levels = build_levels(width, num_style_feat, style_modulation, resample_kernel, fuse_first=released)

    def noise_shapes(self, batch: int = 1) -> list[tuple[int, ...]]:
        """Shapes of the noise maps in order: 16 | 32, 32 | 64, 64 | ..."""
        return [(batch, 1, size, size) for size in self.sizes for _ in range(1 if size == 16 else 2)]

    def sigmas(self, s: Strength | None = None) -> dict[int, Sigmas]:
        """Eq. 4: {size: (sigma_enc, sigma_gen)}, each (N, C), or (N, C, size, size) for a map of s."""
        s = strength_per_level(self._strength(s), len(self.sizes), like=next(self.parameters()))
        pairs = {size: self.modulation(s, size) for size in self.sizes}
        if s.ndim == 2:
            return {size: (enc.flatten(1), gen.flatten(1)) for size, (enc, gen) in pairs.items()}
        return pairs

    def encode(self, x: Tensor) -> Features:
        """Features and latent codes (Eq. 1-2) of a picture, (N, 3, 2^u, 2^u) RGB in [-1, 1], resized to that size.

        Raises:
            GCFSRError: another shape.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != self.out_size or x.shape[3] != self.out_size:
            size = self.out_size
            raise GCFSRError(f"input of shape {tuple(x.shape)}: the network takes (N, 3, {size}, {size}); resize it")
        if ops.in_place():
            x = x.contiguous(memory_format=torch.channels_last)  # faster on every device; the layers keep it
        return Features(*self.encoder(x, self.checkpoint_levels and self.training))

    def decode(
        self, features: Features, s: Strength | None = None, noise: Noise = "random", seed: int | None = None
    ) -> Tensor:
        """Generates the face from encoded features at strength s (Eq. 3-5).

        Args:
            features: of `encode`. Features of one picture are used for every s of a batch.
            s: number, (N,), (N, 1), (N, levels from 16 up) or map (N, 1, H, W), in [0, 1]; not needed if blind.
            noise, seed: see `noise_maps`.

        Returns:
            (N, 3, 2^u, 2^u) RGB, in [-1, 1] but for overshoot.

        Raises:
            GCFSRError: s is missing, out of range or of another shape.
        """
        h, rgb = features.top, None
        s = strength_per_level(self._strength(s), len(self.sizes), h)
        batch = max(h.shape[0], s.shape[0])
        maps = noise_maps(noise, self.noise_shapes(batch), seed, h)
        codes = features.w.unbind(1) or [features.w] * (2 * len(self.sizes))
        for i, (size, level) in enumerate(self.levels.items()):  # l .. u, i.e. 16 .. 2^u pixels
            used = slice(max(0, 2 * i - 1), 2 * i + 2)  # tRGB uses the code of the next convolution
            sigmas = self.modulation(s, int(size))
            args = (h, features.skips[i], codes[used], maps[max(0, 2 * i - 1) : 2 * i + 1], sigmas, rgb)
            h, rgb = run(level, *args, recompute=self.checkpoint_levels and self.training)
        assert rgb is not None
        return rgb

    def forward(self, x: Tensor, s: Strength | None = None, noise: Noise = "random", seed: int | None = None) -> Tensor:
        """`decode(encode(x), s)`: (N, 3, 2^u, 2^u) RGB in [-1, 1] -> the restored faces, the same shape."""
        return self.decode(self.encode(x), s, noise, seed)

    def _strength(self, s: Strength | None) -> Strength:
        if self.blind:
            return 1.0
        if s is None:
            raise GCFSRError("s is missing: this network is not blind; pass s = factor / max_factor")
        return s
