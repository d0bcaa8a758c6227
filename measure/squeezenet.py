"""Frozen ImageNet features of SqueezeNet 1.1 (5 MB), for training's feature loss and discriminator and for metrics."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gcfsr_arch.checkpoint import read_state
from gcfsr_arch.errors import GCFSRError
from gcfsr_measure.frozen import ImageNetNormalize, fill

SQUEEZENET_TAPS = (1, 4, 7, 9, 12)  # after ReLU and the fire blocks: strides 2, 4, 8, 16, 16


class FrozenFeatures(nn.Module):
    """SqueezeNet 1.1's activations at several depths; its parameters never train.

    Args:
        weights: path of a state dict in torchvision's layout.
        taps: indices into torchvision's `features` after which the activation is taken.
        option: the option's name for error messages.

    Raises:
        GCFSRError: the file is missing or holds another network.
    """

    def __init__(self, weights: str | Path, taps: Sequence[int] = SQUEEZENET_TAPS, option: str = "") -> None:
        super().__init__()
        from torchvision.models import squeezenet1_1  # imported here: torchvision takes seconds to import

        taps = tuple(sorted(taps))
        try:
            if not taps or not 0 <= taps[0] <= taps[-1] < 13:
                raise GCFSRError(f"taps {list(taps)} are not indices 0..12 of SqueezeNet's layers")
            path = Path(weights).expanduser()
            net = squeezenet1_1(weights=None)
            fill(net, read_state(path)[0], f"{path} is not SqueezeNet 1.1")
        except GCFSRError as error:
            raise GCFSRError(f"{option}: {error}" if option else str(error)) from error
        self.layers = net.features[: taps[-1] + 1]
        self.taps = taps
        self.source = (str(weights), taps)  # two networks with the same source give the same features
        for module in self.layers:
            if isinstance(module, nn.ReLU):
                module.inplace = False  # a tapped activation must not be overwritten
        self.normalize = ImageNetNormalize()
        self.eval()

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """Stays in eval mode: SqueezeNet's dropout comes after the features, but the network is frozen anyway."""
        return super().train(False)

    def channels(self) -> list[int]:
        """The number of channels of each tapped activation."""
        blank = self.normalize.mean.new_zeros(1, 3, 64, 64)
        with torch.no_grad():
            return [f.shape[1] for f in self(blank)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in [-1, 1] -> one (N, C, h, w) per tap."""
        x = self.normalize(x)
        found = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.taps:
                found.append(x)
        return found


def unit_channels(feature: Tensor, eps: float = 1e-8) -> Tensor:
    """Scales each position's channel vector to unit length, as LPIPS does, in full precision."""
    feature = feature if feature.dtype == torch.float64 else feature.float()
    return feature * torch.rsqrt(feature.square().sum(1, keepdim=True) + eps)
