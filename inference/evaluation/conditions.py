"""The conditions of an evaluation: which degradation made the inputs, and the setting of the dial."""

from dataclasses import asdict, dataclass

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.degradation.blind_parameters import BlindRanges

# The blind degradation of CelebA-Test (Table 3): the ranges of GFPGAN's paper for 512 pixels. Unlike in training,
# colours are not changed.
CELEBA_TEST = BlindRanges(
    blur_sigma=(0.2, 10), downsample_range=(1, 8), noise_range=(0, 15), jpeg_range=(60, 100),
    color_jitter_prob=None, color_jitter_pt_prob=None, gray_prob=None,
)  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """One column group of a table.

    Attributes:
        factor: downscale ratio of the input (>= 1), or None for the blind degradation.
        dial: factor the dial is set to; equal to `factor` unless the dial is the subject (Fig. 1). None when blind.
    """

    factor: float | None
    dial: float | None

    @property
    def input_key(self) -> str:
        """Names the degraded inputs: "x16", "x24.5", "blind"; dials share them."""
        return "blind" if self.factor is None else f"x{self.factor:g}"

    @property
    def key(self) -> str:
        """Names the condition: the input's key, with "@48" when the dial is not at the true factor."""
        return self.input_key if self.dial == self.factor else f"{self.input_key}@{self.dial:g}"

    @property
    def turned(self) -> bool:
        """True when the dial is not at the true factor: only a method with a dial has a result."""
        return self.dial != self.factor

    def as_dict(self) -> dict[str, float | str | None]:
        """JSON form, with both keys."""
        return {**asdict(self), "key": self.key, "input_key": self.input_key}


@dataclass(frozen=True)
class Protocol:
    """A named list of conditions; `out_size`: of the ground truth (None: unchanged); `published`: the table's key."""

    name: str
    conditions: tuple[Condition, ...]
    out_size: int | None = None
    published: str | None = None


def _at(*factors: float) -> tuple[Condition, ...]:
    return tuple(Condition(factor, factor) for factor in factors)


PROTOCOLS = {
    "celeba-1024-x64": Protocol(
        "celeba-1024-x64", (*_at(16, 32, 64), Condition(32, 24), Condition(32, 48)), 1024, "table2"
    ),
    "adv-512": Protocol("adv-512", _at(4, 8), 512, "table4"),
    "blind-512": Protocol("blind-512", (Condition(None, None),), 512, "table3"),
}


def parse_factors(text: str) -> tuple[Condition, ...]:
    """Reads "4,8,24.5,32@48": inputs of factor 4, 8, 24.5 and 32, the last with the dial at 48; "blind" is one too.

    Raises:
        GCFSRError: an entry is not a number, is below 1, or is duplicated.
    """
    conditions: list[Condition] = []
    for entry in (part.strip() for part in text.split(",")):
        factor, _, dial = entry.partition("@")
        try:
            numbers = [] if entry == "blind" else [float(factor), float(dial or factor)]
        except ValueError as error:
            raise GCFSRError(f"--factors {entry!r}: not a number; write for example 4,8,24.5,32@48") from error
        if any(not 1 <= number < float("inf") for number in numbers):
            raise GCFSRError(f"--factors {entry!r}: a factor is at least 1")
        condition = Condition(*numbers) if numbers else Condition(None, None)
        if condition in conditions:
            raise GCFSRError(f"--factors {entry!r}: is duplicated")
        conditions.append(condition)
    return tuple(conditions)


def find_protocol(name: str | None, factors: str | None) -> Protocol:
    """The named protocol, or a list of factors under the name "factors".

    Raises:
        GCFSRError: neither or both are given, or the name is unknown.
    """
    if (name is None) == (factors is None):
        raise GCFSRError(f"--protocol or --factors: give one of them; protocols are {', '.join(PROTOCOLS)}")
    if factors is not None:
        return Protocol("factors", parse_factors(factors))
    if name not in PROTOCOLS:
        raise GCFSRError(f"--protocol {name}: unknown; known are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
