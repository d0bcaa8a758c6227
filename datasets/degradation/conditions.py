"""The strengths of a degradation on the scale of a network's dials: conditions in [0, 1] (`gcfsr_arch.conditions`)."""

from typing import Protocol

import torch
from torch import Tensor

Pair = tuple[float, float]


class Drawn(Protocol):
    """What one degradation did; None leaves a step out."""

    @property
    def sigma(self) -> Pair | None: ...  # of the blur in pixels, along two axes
    @property
    def noise(self) -> float | None: ...  # standard deviation in [0, 1]
    @property
    def quality(self) -> int | None: ...  # of JPEG, 1 to 100


class Ranges(Protocol):
    """From what it was drawn."""

    @property
    def blur_sigma(self) -> Pair: ...
    @property
    def noise_range(self) -> Pair | None: ...
    @property
    def jpeg_range(self) -> Pair | None: ...


def conditions_of(factor: float, max_factor: float, drawn: Drawn, ranges: Ranges) -> Tensor:
    """(4,) float32: factor, blur, noise, jpeg. A degradation that is absent is 0, the worst of its range is 1.

    factor is factor / max_factor; blur the mean standard deviation of the two axes, noise its standard deviation, each
    over the largest of its range; jpeg is 100 - quality over that of the lowest quality. Each grows with its
    degradation, in proportion.
    """
    blur = 0.0 if drawn.sigma is None else sum(drawn.sigma) / 2
    noise = 0.0 if drawn.noise is None else drawn.noise * 255
    jpeg = 0.0 if drawn.quality is None else 100.0 - drawn.quality
    largest = (
        ranges.blur_sigma[1],
        0.0 if ranges.noise_range is None else ranges.noise_range[1],
        0.0 if ranges.jpeg_range is None else 100 - ranges.jpeg_range[0],
    )
    shares = (value / most if most else 0.0 for value, most in zip((blur, noise, jpeg), largest, strict=True))
    return torch.tensor([factor / max_factor, *shares], dtype=torch.float32).clamp(0, 1)
