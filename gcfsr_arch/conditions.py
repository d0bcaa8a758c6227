"""The dials of a network: the strength s of Eq. 4, as a vector with one entry per condition.

Every condition is a dial in [0, 1]. `factor` is factor / max_factor; for the others 0 means that the input has no such
degradation, and 1 is the worst one that the training data had (its options give the ranges).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gcfsr_arch.errors import GCFSRError

CONDITIONS = ("factor", "blur", "noise", "jpeg")  # what the data sets report, in this order

Setting = float | Tensor  # of one condition
Strength = Setting | Mapping[str, Setting]


def per_condition(s: Strength, conditions: Sequence[str], levels: int, like: Tensor) -> Tensor:
    """Converts every form of s to one: (N, levels, k) for k conditions, or maps (N, k, H, W).

    Args:
        s: in [0, 1], (N, k), (N, levels, k) or maps (N, k, H, W). With one condition that axis may be left out: a
            number, (N,) or (N, levels). Or a dictionary with one of these, or a map (N, 1, H, W), for each condition;
            a degradation that it leaves out is absent, 0.
        conditions: the network's, `factor` first.
        levels: how many levels the network has; the first is that of 16 pixels.
        like: a tensor of the network's device and type.

    Raises:
        GCFSRError: a number outside [0, 1], a shape that is none of these, an unknown condition, or no `factor`.
    """
    if isinstance(s, Mapping):
        return _stacked(s, conditions, levels, like)
    if not isinstance(s, Tensor):
        if not 0 <= s <= 1:
            raise GCFSRError(f"s = {s}: the strength lies in [0, 1]; it is factor / max_factor")
        s = like.new_full((), float(s))  # made on the device: nothing is copied
    s, k = s.to(like), len(conditions)
    if k == 1 and s.ndim < 2:
        s = s.reshape(-1, 1)
    if s.ndim == 4 and s.shape[1] == k:
        return s
    if s.ndim == 3 and s.shape[1:] == (levels, k):
        return s
    if s.ndim == 2 and s.shape[1] == k:
        return s[:, None].expand(-1, levels, -1)
    if s.ndim == 2 and s.shape[1] == levels and k == 1:
        return s[:, :, None]
    raise GCFSRError(f"s of shape {tuple(s.shape)}: {_forms(conditions, levels)}")


def _forms(conditions: Sequence[str], levels: int) -> str:
    k = len(conditions)
    if k == 1:
        return f"pass a number, (N,), (N, 1), (N, {levels}) or a map (N, 1, H, W)"
    names = ", ".join(conditions)
    return f"pass (N, {k}) for {names}, (N, {levels}, {k}) by level, maps (N, {k}, H, W) or a dictionary by name"


def _stacked(s: Mapping[str, Setting], conditions: Sequence[str], levels: int, like: Tensor) -> Tensor:
    """The settings by name as one tensor."""
    for name in s:
        if name not in conditions:
            raise GCFSRError(f"s: {name!r} is not a condition of this network; it has {', '.join(conditions)}")
    if conditions[0] not in s:
        raise GCFSRError(f"s: {conditions[0]!r} is missing; pass it as factor / max_factor")
    one_by_one: list[Tensor] = []
    for name in conditions:
        try:
            one_by_one.append(per_condition(s.get(name, 0.0), (name,), levels, like))
        except GCFSRError as error:
            raise GCFSRError(f"{name}: {error}") from None
    maps = [x for x in one_by_one if x.ndim == 4]
    if not maps:  # each (N or 1, levels, 1)
        return torch.cat(_of_one_batch(one_by_one), dim=2)
    sizes = {tuple(x.shape[2:]) for x in maps}
    if len(sizes) > 1:
        raise GCFSRError(f"s: maps of {' and '.join(f'{h}x{w}' for h, w in sorted(sizes))}; give all the same size")
    planes = [x if x.ndim == 4 else _as_map(name, x, maps[0]) for name, x in zip(conditions, one_by_one, strict=True)]
    return torch.cat(_of_one_batch(planes), dim=1)


def _as_map(name: str, x: Tensor, like: Tensor) -> Tensor:
    """(N, levels, 1), the same at every level -> (N, 1, H, W)."""
    if not (x == x[:, :1]).all():
        raise GCFSRError(
            f"{name}: strengths by level cannot be combined with a map of another condition; pass a number"
        )
    return x[:, :1, :, None].expand(-1, -1, *like.shape[2:])


def _of_one_batch(parts: list[Tensor]) -> list[Tensor]:
    """Expands a batch of one to that of the others."""
    batches = {len(x) for x in parts} - {1}
    if len(batches) > 1:
        raise GCFSRError(f"s: conditions with batches of {' and '.join(map(str, sorted(batches)))}; give all the same")
    batch = max(batches, default=1)
    return [x.expand(batch, *x.shape[1:]) for x in parts]
