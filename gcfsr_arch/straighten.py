"""Makes a dial's response a straight line where training left it flat or bent, without images.

Between two settings the scaling vectors of Eq. 4 become the line between those that the network had at two settings,
everywhere else they stay: the modulation's MLP is fitted to this. Nothing else of the network changes.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gcfsr_arch.errors import GCFSRError, did_you_mean
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.modulation import FeatureModulation, MLPModulation

BATCH = 512
ABSENT = 0.35  # how often each of the other dials is at 0


class Line(NamedTuple):
    """From `low` to `high` the response becomes the line between what it was at `from_low` and at `from_high`."""

    low: float
    high: float
    from_low: float
    from_high: float


class Fit(NamedTuple):
    """Mean distance of the fitted scaling vectors from the wanted ones, and of the wanted ones from the old."""

    on_lines: float
    elsewhere: float  # NaN where the lines leave nothing
    change: float  # on the lines


def straighten(net: GCFSR, dial: str, lines: Sequence[Line], steps: int = 4000, rate: float = 4e-3) -> Fit:
    """Fits the modulation so that a dial's response is a straight line over given stretches of it.

    Args:
        net: a network with the paper's modulation; changed in place, only its `modulation`.
        dial: one of its conditions.
        lines: in [0, 1], not overlapping. A line whose ends are not where they were leaves a step at that end, unless
            it is 0 or 1.
        steps: of the optimiser (Adam), 512 settings each.
        rate: its highest learning rate.

    Raises:
        GCFSRError: the network has no such dial or another form of modulation, or there is no line, or one
            not within [0, 1].
    """
    old = net.modulation
    if not isinstance(old, MLPModulation):
        raise GCFSRError("straighten: only the paper's modulation (variant: paper) can be fitted")
    if not lines:
        raise GCFSRError("straighten: no line is given")
    for line in lines:
        if not (0 <= line.low < line.high <= 1 and 0 <= line.from_low <= 1 and 0 <= line.from_high <= 1):
            raise GCFSRError(f"straighten: {tuple(line)}: the ends lie in [0, 1], the lower one first")
    if dial not in net.conditions:
        raise GCFSRError(f"straighten: {dial!r} is not a dial of this network; {did_you_mean(dial, net.conditions)}")
    index, new = net.conditions.index(dial), copy.deepcopy(old)
    random = torch.Generator().manual_seed(0)
    optimizer: Any = torch.optim.Adam(new.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.05)
    for _ in range(steps):
        s = _settings(net, index, lines, BATCH, random)
        loss: Any = (_vectors(new, s) - _wanted(old, s, index, lines)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    s = _settings(net, index, lines, 8 * BATCH, random)
    with torch.no_grad():
        before, after, wanted = _vectors(old, s), _vectors(new, s), _wanted(old, s, index, lines)
    inside = torch.stack([(line.low <= s[:, index]) & (s[:, index] <= line.high) for line in lines]).any(0)
    error = (after - wanted).abs().mean(1)
    change = (wanted - before).abs().mean(1)[inside]
    old.load_state_dict(new.state_dict())
    return Fit(float(error[inside].mean()), float(error[~inside].mean()), float(change.mean()))


def _vectors(modulation: FeatureModulation, s: Tensor) -> Tensor:
    """All scaling vectors, sigma_enc and sigma_gen of every level: (M, k) -> (M, C)."""
    return torch.cat([sigma for size in modulation.sizes for sigma in modulation.pair(s, size)], dim=1)


@torch.no_grad()
def _wanted(old: FeatureModulation, s: Tensor, index: int, lines: Sequence[Line]) -> Tensor:
    """The old vectors, on a line those between its ends: (M, k) -> (M, C)."""
    wanted, at = _vectors(old, s), s[:, index]
    for line in lines:
        on = (line.low <= at) & (at <= line.high)
        share = (at[on, None] - line.low) / (line.high - line.low)
        ends = [s[on].index_fill(1, torch.tensor(index), place) for place in (line.from_low, line.from_high)]
        wanted[on] = torch.lerp(_vectors(old, ends[0]), _vectors(old, ends[1]), share)
    return wanted


def _settings(net: GCFSR, index: int, lines: Sequence[Line], count: int, random: torch.Generator) -> Tensor:
    """Random settings of all dials, (count, k): half of them on the lines, and a fifth of those at their ends."""

    def draw() -> Tensor:
        return torch.rand(count, generator=random)

    least = net.min_factor / net.max_factor
    others = [draw() * (draw() >= ABSENT) for _ in net.conditions[1:]]
    s = torch.stack([least ** draw(), *others], dim=1)  # every octave of the factor equally often
    which = torch.randint(len(lines), (count,), generator=random)
    low, high = torch.tensor([(line.low, line.high) for line in lines], dtype=torch.float32)[which].unbind(1)
    share = (1.25 * draw() - 0.125).clamp(0, 1)  # a tenth at each end
    everywhere = draw() if index else s[:, 0]
    s[:, index] = torch.where(draw() < 0.5, torch.lerp(low, high, share), everywhere)
    return s
