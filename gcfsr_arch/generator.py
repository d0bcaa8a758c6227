"""The whole network: Eq. 3 and 5 around the encoder (Eq. 1-2) and the feature modulation (Eq. 4)."""

import inspect
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcfsr_arch import fast, ops
from gcfsr_arch.conditions import Strength, per_condition
from gcfsr_arch.config import GCFSRConfig
from gcfsr_arch.encoder import Encoder, LatentHead
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.estimator import ConditionEstimator, Estimate, from_head_scale
from gcfsr_arch.layers import StyleConv, ToRGB, run
from gcfsr_arch.modulation import Sigmas, build_modulation

Noise = Literal["random", "fixed", "zero"] | Sequence[Tensor]


class Features(NamedTuple):
    """The result of `encode`; it does not depend on s."""

    top: Tensor  # (N, C, 16, 16), where generation starts
    skips: list[Tensor]  # Conv(f) of Eq. 4, (N, C, 2^i, 2^i) for i = l .. u
    w: Tensor  # (N, num_latent, num_style_feat) latent codes, Eq. 2


def noise_maps(noise: Noise, shapes: list[tuple[int, ...]], seed: int | None, like: Tensor) -> list[Tensor | None]:
    """The noise of every StyleConv in order.

    Args:
        noise: "random" (new at every call, or from `seed`), "fixed" (one map for all samples, from `seed` or 0),
            "zero", or a list of tensors.
        shapes: (N, 1, r, r) of each.
        seed: makes "random" reproducible and chooses the "fixed" maps.
        like: a tensor of the network's device and type.

    Raises:
        GCFSRError: another word, or a list of another length or other shapes.
    """
    if not isinstance(noise, str):
        if len(noise) != len(shapes):
            raise GCFSRError(f"noise: {len(noise)} maps were passed, the network takes {len(shapes)}")
        for given, shape in zip(noise, shapes, strict=True):
            if not ops.traced() and tuple(given.shape) not in (shape, (1, *shape[1:])):
                raise GCFSRError(f"noise: a map has shape {tuple(given.shape)}, the network takes {shape}")
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


class LevelInputs(NamedTuple):
    """What a level takes besides h and the image of the level below; level 16 has no `up`."""

    f: Tensor  # Conv(f) of Eq. 4, (N, C, 2^i, 2^i)
    sigmas: Sigmas
    up_code: Tensor | None
    conv_code: Tensor
    rgb_code: Tensor
    up_noise: Tensor | None
    conv_noise: Tensor | None


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

    def forward(self, h: Tensor, rgb: Tensor | None, given: LevelInputs) -> tuple[Tensor, Tensor]:
        """h and rgb of the level below -> h (N, C, 2^i, 2^i) and rgb (N, 3, 2^i, 2^i) of this one."""
        g = h if self.up is None else self.up(h, given.up_code, given.up_noise)  # Eq. 3, Conv_sm on the doubled h
        h = self.conv(g, given.conv_code, given.conv_noise, given.f, given.sigmas)  # Eq. 3-4, ops.fuse
        return h, self.to_rgb(h, given.rgb_code, below=rgb)  # Eq. 5


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
        out_size, options: the fields of `GCFSRConfig`.

    Attributes:
        config: all arguments, the defaults included.

    Raises:
        GCFSRError: naming the argument whose type or range is wrong.
    """

    __signature__ = inspect.signature(GCFSRConfig)

    def __init__(self, out_size: int, **options: Any):
        super().__init__()
        self.config = config = GCFSRConfig(out_size, **options)
        assert config.max_factor is not None  # set where it was not given
        self.out_size, self.blind, self.sizes = config.out_size, config.blind, config.sizes
        self.min_factor, self.max_factor = config.min_factor, config.max_factor
        self.conditions = config.conditions
        self.checkpoint_levels = False  # recompute each level in the backward pass: less memory, more time

        released, taps, feat = config.variant == "released", config.resample_kernel, config.num_style_feat
        width = {size: config.channels(size) for size in config.sizes}
        base, num_latent = width[16], 2 * len(config.sizes)
        narrowed = base if released and config.blind else max(1, base // 2)
        head = LatentHead(base, narrowed, num_latent, feat, taps) if config.style_modulation else None
        self.encoder = Encoder(width, taps, top_conv=released, head=head)
        self.modulation = build_modulation(
            config.variant, width, base, config.feature_modulation, len(config.conditions)
        )
        self.estimator = ConditionEstimator(width, len(config.conditions)) if config.estimator else None
        self.levels = build_levels(width, feat, config.style_modulation, taps, fuse_first=released)

    def noise_shapes(self, batch: int = 1) -> list[tuple[int, ...]]:
        """Shapes of the noise maps in order: 16 | 32, 32 | 64, 64 | ..."""
        return [(batch, 1, size, size) for size in self.sizes for _ in range(1 if size == 16 else 2)]

    def sigmas(self, s: Strength | None = None) -> dict[int, Sigmas]:
        """Eq. 4: {size: (sigma_enc, sigma_gen)}, each (N, C), or (N, C, size, size) for a map of s."""
        s = self._per_condition(s, like=next(self.parameters()))
        pairs = {size: self.modulation(s, size) for size in self.sizes}
        if s.ndim == 3:
            return {size: Sigmas(enc.flatten(1), gen.flatten(1)) for size, (enc, gen) in pairs.items()}
        return pairs

    def encode(self, x: Tensor) -> Features:
        """Features and latent codes (Eq. 1-2) of an image, (N, 3, 2^u, 2^u) RGB in [-1, 1], resized to that size.

        Raises:
            GCFSRError: another shape.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != self.out_size or x.shape[3] != self.out_size:
            size = self.out_size
            raise GCFSRError(f"input of shape {tuple(x.shape)}: the network takes (N, 3, {size}, {size}); resize it")
        if fast.in_place():
            x = x.contiguous(memory_format=torch.channels_last)  # faster on every device; the layers keep it
        return Features(*self.encoder(x, self.checkpoint_levels and self.training))

    def decode(
        self, features: Features, s: Strength | None = None, noise: Noise = "random", seed: int | None = None
    ) -> Tensor:
        """Generates the face from encoded features at strength s (Eq. 3-5).

        Args:
            features: of `encode`. Features of one image are used for every s of a batch.
            s: in [0, 1], not needed if blind. With k conditions (N, k), (N, levels from 16 up, k), maps (N, k, H, W)
                or a dictionary; with one also a number, (N,) or (N, levels). See `conditions.per_condition`.
            noise, seed: see `noise_maps`.

        Returns:
            (N, 3, 2^u, 2^u) RGB, in [-1, 1] except for overshoot.

        Raises:
            GCFSRError: s is missing, out of range, of another shape or of another batch than the images.
        """
        h, rgb = features.top, None
        s = self._per_condition(s, h)
        if not ops.traced() and h.shape[0] != s.shape[0] and 1 not in (h.shape[0], s.shape[0]):
            raise GCFSRError(f"s has a batch of {s.shape[0]}, the images of {h.shape[0]}; pass one s, or one for each")
        batch = max(h.shape[0], s.shape[0])
        maps = noise_maps(noise, self.noise_shapes(batch), seed, h)
        codes = features.w.unbind(1) or [features.w] * (2 * len(self.sizes))
        for i, (size, level) in enumerate(self.levels.items()):  # l .. u, i.e. 16 .. 2^u pixels
            given = LevelInputs(
                f=features.skips[i],
                sigmas=self.modulation(s, int(size)),
                up_code=codes[2 * i - 1] if i else None,
                conv_code=codes[2 * i],
                rgb_code=codes[2 * i + 1],  # also of the next level's `up`
                up_noise=maps[2 * i - 1] if i else None,
                conv_noise=maps[2 * i],
            )
            h, rgb = run(level, h, rgb, given, recompute=self.checkpoint_levels and self.training)
        assert rgb is not None
        return rgb

    def estimate(self, features: Features) -> Estimate:
        """What the features tell about the conditions: (N, k) in [0, 1] and their standard deviations.

        Raises:
            GCFSRError: the network has no estimator.
        """
        return from_head_scale(self._head()(features.skips))

    def at_factor(self, features: Features, s: float) -> Tensor:
        """(N, k): the factor's dial at s, and the others where `Estimate.dials` sets them, 0 without an estimator."""
        factor = features.top.new_full((len(features.top), 1), s)
        if self.estimator is None:
            return F.pad(factor, (0, len(self.conditions) - 1))
        return torch.cat([factor, self.estimate(features).dials()[:, 1:].to(factor)], dim=1)

    def _head(self) -> ConditionEstimator:
        if self.estimator is None:
            raise GCFSRError("this network does not estimate its conditions; train one with estimator: true")
        return self.estimator

    @overload
    def forward(
        self, x: Tensor, s: Strength | None = ..., noise: Noise = ..., seed: int | None = ..., estimate: None = ...
    ) -> Tensor: ...

    @overload
    def forward(
        self, x: Tensor, s: Strength | None = ..., noise: Noise = ..., seed: int | None = ..., *,
        estimate: Literal["detached", "joint"],
    ) -> tuple[Tensor, Estimate]: ...  # fmt: skip

    def forward(
        self,
        x: Tensor,
        s: Strength | None = None,
        noise: Noise = "random",
        seed: int | None = None,
        estimate: Literal["detached", "joint"] | None = None,
    ) -> Tensor | tuple[Tensor, Estimate]:
        """`decode(encode(x), s)`: (N, 3, 2^u, 2^u) RGB in [-1, 1] -> the restored faces, the same shape.

        With `estimate`, for training, also the estimator's output on its own scale; "detached" stops its gradient at
        the encoder's features.
        """
        features = self.encode(x)
        image = self.decode(features, s, noise, seed)
        if estimate is None:
            return image
        skips = [f.detach() for f in features.skips] if estimate == "detached" else features.skips
        return image, self._head()(skips)

    def _per_condition(self, s: Strength | None, like: Tensor) -> Tensor:
        if self.blind:
            s = 1.0
        if s is None:
            raise GCFSRError("s is missing: this network is not blind; pass s = factor / max_factor")
        return per_condition(s, self.conditions, len(self.sizes), like)
