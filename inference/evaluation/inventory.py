"""The cost of a network (Table 1): parameters by part, multiply-adds and memory, counted on the meta device."""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gcfsr_arch.generator import GCFSR

# part, prefixes of its parameters' names, substrings of them; the first match counts
PARTS = (
    ("latent codes (Eq. 2)", ("encoder.head.",), ()),
    ("Conv(f) (Eq. 4)", ("encoder.skip.",), ()),
    ("encoder (Eq. 1)", ("encoder.",), ()),
    ("feature modulation (Eq. 4)", ("modulation.",), ()),
    ("tRGB (Eq. 5)", ("levels.",), (".to_rgb.",)),
    ("generator (Eq. 3)", ("levels.",), ()),
)


@dataclass(frozen=True)
class Inventory:
    """Counts for one face. `macs` are multiply-adds of convolutions and linear layers; bytes are of fp32 tensors."""

    parts: dict[str, int]  # parameters
    encode_macs: int
    decode_macs: int
    peak_bytes: int  # largest sum of live tensors in a pass, with the weights, without the backend's workspace

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    @property
    def macs(self) -> int:
        return self.encode_macs + self.decode_macs


def parameters_by_part(names_and_sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Sums sizes by the parts of `PARTS`; parameters that match none are counted as "other"."""
    counts = dict.fromkeys([part for part, _, _ in PARTS], 0)
    for name, size in names_and_sizes:
        fits = (
            p
            for p, starts, within in PARTS
            if name.startswith(starts) and (not within or any(w in name for w in within))
        )
        part = next(fits, "other")
        counts[part] = counts.get(part, 0) + size
    return {part: count for part, count in counts.items() if count}


def take_inventory(config: dict[str, Any]) -> Inventory:
    """Counts a `GCFSR(**config)` at batch 1 on the meta device: no weights, no arithmetic.

    Raises:
        GCFSRError: the configuration is invalid.
    """
    with torch.device("meta"), torch.no_grad():
        net = GCFSR(**config).eval()
        x = torch.empty(1, 3, net.out_size, net.out_size)
        s = torch.empty(1, len(net.conditions))
        noise = [torch.empty(shape) for shape in net.noise_shapes(1)]
        with FlopCounterMode(display=False) as encoding:
            features = net.encode(x)
        with FlopCounterMode(display=False) as decoding:
            net.decode(features, s, noise)
        del features
        with LiveBytes() as live:
            net(x, s, noise)
    weights = bytes_of(net)
    return Inventory(
        parts=parameters_by_part((name, p.numel()) for name, p in net.named_parameters()),
        encode_macs=encoding.get_total_flops() // 2,
        decode_macs=decoding.get_total_flops() // 2,
        peak_bytes=weights + live.peak,
    )


def bytes_of(net: nn.Module) -> int:
    """Size of a network's parameters in memory."""
    return sum(p.numel() * p.element_size() for p in net.parameters())


class LiveBytes(TorchDispatchMode):
    """Tracks the memory of tensors created inside the block: the current sum `now` and its maximum `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._seen:
            self._seen.add(storage)
            size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size
