"""What the frozen networks of losses and metrics share: loading of their weights, and ImageNet's normalisation."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from gcfsr_arch.errors import GCFSRError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def fill(network: nn.Module, state: dict[str, Tensor], path: str | Path) -> nn.Module:
    """Loads a state dict strictly and freezes the network.

    Raises:
        GCFSRError: naming the first key that is missing, unexpected or has another shape.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = re.sub('", ".*', '"', str(error).splitlines()[1].strip())
        raise GCFSRError(f"{path}: weights of another network ({first})") from error
    return network.eval().requires_grad_(False)


class ImageNetNormalize(nn.Module):
    """(N, 3, H, W) RGB in [-1, 1] -> the same, normalised as ImageNet's networks expect it."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2 - self.mean) / self.std
