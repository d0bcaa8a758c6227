"""The arguments of `GCFSR`: listed once, checked before anything is built, and stored in checkpoints."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.errors import GCFSRError

MAX_TEXT = 1 << 16  # characters of a stored configuration


@dataclass(frozen=True)
class GCFSRConfig:
    """The arguments of `GCFSR`.

    Args:
        out_size: output size 2^u in pixels, a power of two from 32 to 4096.
        num_style_feat: length of a latent code.
        channel_multiplier: widens the levels above 32 pixels.
        narrow: multiplies every width.
        resample_kernel: taps of the low-pass filter of every resampling.
        variant: "paper" (Eq. 4 as printed) or "released" (the authors' code and weights).
        blind: s is fixed at 1 (blind restoration).
        style_modulation: False is the ablation of Fig. 7.
        feature_modulation: False is the ablation h = Conv(f) + g.
        min_factor, max_factor: the factors the network serves, 1 to 1024; s = factor / max_factor. `max_factor` is 64
            at 1024 pixels and above, otherwise 32, unless given.
        conditions: what s holds: "factor", then any of "blur", "noise" and "jpeg". More than one needs the paper's
            form and a network that is not blind.
        estimator: a small head estimates the conditions from the encoder's features (`GCFSR.estimate`).

    Raises:
        GCFSRError: naming the argument whose type or range is wrong.
    """

    out_size: int
    num_style_feat: int = 512
    channel_multiplier: float = 2
    narrow: float = 1.0
    resample_kernel: tuple[float, ...] = (1, 3, 3, 1)
    variant: Literal["paper", "released"] = "paper"
    blind: bool = False
    style_modulation: bool = True
    feature_modulation: bool = True
    min_factor: float = 4.0
    max_factor: float | None = None
    conditions: tuple[str, ...] = ("factor",)
    estimator: bool = False

    def __post_init__(self) -> None:
        check_out_size(self.out_size, 32)
        feat = cast("object", self.num_style_feat)  # files and callers may give any type
        if not _is_number(feat, 1, 8192) or not isinstance(feat, int):
            raise GCFSRError(f"num_style_feat {_shown(feat)}: it must be an integer from 1 to 8192")
        for name, low, high in (("channel_multiplier", 1e-3, 64), ("narrow", 1e-3, 8), ("min_factor", 1, 1024)):
            if not _is_number(getattr(self, name), low, high):
                raise GCFSRError(f"{name} {_shown(getattr(self, name))}: it must be a number from {low:g} to {high:g}")
        check_taps(self.resample_kernel)
        if self.variant not in ("paper", "released"):
            raise GCFSRError(f"variant {_shown(self.variant)}: it must be 'paper' or 'released'")
        for name in ("blind", "style_modulation", "feature_modulation", "estimator"):
            if not isinstance(getattr(self, name), bool):
                raise GCFSRError(f"{name} {_shown(getattr(self, name))}: it must be true or false")
        largest = (64 if self.out_size >= 1024 else 32) if self.max_factor is None else self.max_factor
        if not _is_number(largest, self.min_factor, 1024):
            raise GCFSRError(
                f"max_factor {_shown(largest)}: it must be a number from min_factor ({self.min_factor:g}) to 1024"
            )
        self._check_conditions()
        for name, value in (
            ("resample_kernel", tuple(self.resample_kernel)), ("min_factor", float(self.min_factor)),
            ("max_factor", float(largest)), ("conditions", tuple(self.conditions)),
        ):  # fmt: skip
            object.__setattr__(self, name, value)  # the class is frozen

    def _check_conditions(self) -> None:
        names = cast("Sequence[str]", self.conditions)
        valid = isinstance(names, list | tuple) and 1 <= len(names) <= len(CONDITIONS) and names[0] == CONDITIONS[0]
        if not valid or any(name not in CONDITIONS for name in names) or len(set(names)) < len(names):
            others = ", ".join(CONDITIONS[1:])
            raise GCFSRError(
                f"conditions {_shown(names)}: it must be 'factor', then any of {others}, each once at most"
            )
        if len(names) > 1 and (self.blind or self.variant != "paper"):
            raise GCFSRError("conditions: more than one needs variant: paper and blind: false")
        if self.estimator and self.blind:
            raise GCFSRError("estimator: a blind network has no dial to estimate; leave it out")

    @property
    def sizes(self) -> list[int]:
        """Sizes 2^l .. 2^u of the levels, l = 4: 16, 32, ..., out_size."""
        return [2**i for i in range(4, self.out_size.bit_length())]

    def channels(self, size: int) -> int:
        """Width of the level of `size` pixels."""
        return channels_at(size, self.channel_multiplier, self.narrow)

    def to_dict(self) -> dict[str, Any]:
        """The arguments as JSON has them; `GCFSR(**config.to_dict())` is the same network.

        What the paper's networks do not have is left out of theirs, so that their files stay as they were.
        """
        arguments = {**asdict(self), "resample_kernel": list(self.resample_kernel), "conditions": list(self.conditions)}
        if len(self.conditions) == 1 and not self.estimator:
            del arguments["conditions"], arguments["estimator"]
        return arguments

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any]) -> "GCFSRConfig":
        """From what a file stores.

        Raises:
            GCFSRError: an argument is missing, unknown, or invalid.
        """
        unknown = sorted(_shown(name) for name in arguments.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise GCFSRError(f"argument {unknown[0]} is unknown to this version of gcfsr")
        if "out_size" not in arguments:
            raise GCFSRError("argument 'out_size' is missing")
        return cls(**arguments)

    @classmethod
    def from_json(cls, text: str) -> "GCFSRConfig":
        """From the JSON of `to_dict`; errors as of `from_dict`, and for text that is not a JSON object."""
        try:
            arguments = json.loads(text) if len(text) <= MAX_TEXT else None
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise GCFSRError("the configuration is not a JSON object")
        return cls.from_dict(cast("dict[str, Any]", arguments))


def channels_at(size: int, channel_multiplier: float, narrow: float) -> int:
    """Channels of the level of `size` pixels (StyleGAN2's table)."""
    full = 512 if size <= 32 else 256 * channel_multiplier * 64 / size
    return max(1, int(full * narrow))


def check_out_size(out_size: object, least: int) -> None:
    """Raises GCFSRError unless `out_size` is a power of two from `least` to 4096."""
    if not isinstance(out_size, int) or not least <= out_size <= 4096 or out_size & (out_size - 1):
        raise GCFSRError(
            f"out_size {_shown(out_size)}: it must be a power of two from {least} to 4096, for example 512 or 1024"
        )


def check_taps(taps: Sequence[float]) -> None:
    """Raises GCFSRError unless the taps of a low-pass filter can be scaled to a sum."""
    numbers = isinstance(taps, list | tuple) and all(_is_number(tap, -1e3, 1e3) for tap in taps)
    if not numbers or not 1 <= len(taps) <= 16:
        raise GCFSRError(f"resample_kernel {_shown(taps)}: it must be a list of 1 to 16 numbers, such as [1, 3, 3, 1]")
    if abs(sum(taps)) < 1e-3:
        raise GCFSRError(f"resample_kernel {_shown(taps)}: its sum must not be zero")


def _is_number(value: object, low: float, high: float) -> bool:
    """Whether a value is a number from low to high; NaN is not, nor are true and false."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _shown(value: object) -> str:
    """Any value as one short line for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
