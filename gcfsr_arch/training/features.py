"""Losses and a discriminator over frozen ImageNet features (SqueezeNet 1.1, whose weights are a 5 MB local file)."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gcfsr_arch.errors import GCFSRError

SQUEEZENET_TAPS = (1, 4, 7, 9, 12)  # after ReLU and the fire blocks: strides 2, 4, 8, 16, 16
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def load_state(path: str | Path, option: str) -> dict[str, Tensor]:
    """Reads a state dict safely; `option` is the key named in the error when the file is missing or is none."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise GCFSRError(f"{option}: {path} is not a file; give the path of the weights, or remove the option")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["empty"])[0]
        raise GCFSRError(f"{option}: {path} cannot be read as weights ({reason}); give a state dict file") from error
    if not isinstance(state, dict):
        raise GCFSRError(f"{option}: {path} holds no state dict; give a file that holds one")
    return state


class FrozenFeatures(nn.Module):
    """SqueezeNet 1.1's activations at several depths; its parameters never train.

    Args:
        weights: path of a state dict in torchvision's layout.
        taps: indices into torchvision's `features` after which the activation is taken.
        option: the option's name for error messages.

    Raises:
        GCFSRError: the file is missing or holds another network.
    """

    def __init__(self, weights: str | Path, taps: Sequence[int] = SQUEEZENET_TAPS, option: str = "weights") -> None:
        super().__init__()
        from torchvision.models import squeezenet1_1  # torchvision takes seconds to import and only this needs it

        taps = tuple(sorted(taps))
        if not taps or not 0 <= taps[0] <= taps[-1] < 13:
            raise GCFSRError(f"{option}: taps {list(taps)} are not indices 0..12 of SqueezeNet's layers; correct them")
        net = squeezenet1_1(weights=None)
        try:
            net.load_state_dict(load_state(weights, option))
        except RuntimeError as error:
            fault = str(error).splitlines()[-1].strip()
            raise GCFSRError(f"{option}: {weights} does not hold SqueezeNet 1.1 ({fault}); give that one") from error
        self.layers = net.features[: taps[-1] + 1]
        self.taps = taps
        self.source = (str(weights), taps)  # two that agree in it give the same features
        for module in self.layers:
            if isinstance(module, nn.ReLU):
                module.inplace = False  # a tapped activation must survive
        self.requires_grad_(False)
        self.eval()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """Stays in eval mode: SqueezeNet's dropout lies behind the features, yet frozen means frozen."""
        return super().train(False)

    def channels(self) -> list[int]:
        """The number of channels of each tapped activation."""
        with torch.no_grad():
            return [f.shape[1] for f in self(torch.zeros(1, 3, 64, 64, dtype=self.mean.dtype, device=self.mean.device))]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in [-1, 1] -> one (N, C, h, w) per tap."""
        x = ((x + 1) / 2 - self.mean) / self.std
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


class FeatureLoss(nn.Module):
    """loss_weight * mean over taps of the squared distance of unit-length features (LPIPS's form with equal weights).

    Args:
        weights, taps: as in `FrozenFeatures`.
        loss_weight: the weight.
    """

    def __init__(self, weights: str, taps: Sequence[int] = SQUEEZENET_TAPS, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.features = FrozenFeatures(weights, taps, "train:feature_opt:weights")
        self.loss_weight = loss_weight

    def forward(self, output: Tensor, gt: Tensor) -> Tensor:
        return self.compare(self.features(output), gt)

    def compare(self, found: list[Tensor], gt: Tensor) -> Tensor:
        """The loss, given the features of the output."""
        with torch.no_grad():
            wanted = self.features(gt)
        pairs = zip(found, wanted, strict=True)
        distances = [(unit_channels(f) - unit_channels(w)).square().sum(1).mean() for f, w in pairs]
        return self.loss_weight * torch.stack(distances).mean()


class FeatureDiscriminator(nn.Module):
    """Small convolutional heads on frozen ImageNet features; one map of patch scores per head.

    Seen to learn within a few hundred iterations where a StyleGAN2 discriminator from scratch is still at chance.

    Args:
        weights, taps: as in `FrozenFeatures`.
        channels: width of each head's hidden layer.
    """

    def __init__(self, weights: str, taps: Sequence[int] = SQUEEZENET_TAPS, channels: int = 64) -> None:
        super().__init__()
        self.features = FrozenFeatures(weights, taps, "network_d:weights")
        spectral = nn.utils.parametrizations.spectral_norm
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral(nn.Conv2d(width, channels, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral(nn.Conv2d(channels, 1, 3, padding=1)),
            )
            for width in self.features.channels()
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in [-1, 1] -> per head (N, patches) scores."""
        return self.score(self.features(x))

    def score(self, found: list[Tensor]) -> list[Tensor]:
        """The scores, given the features of a picture."""
        pairs = zip(self.heads, found, strict=True)
        return [head(unit_channels(f) * f.shape[1] ** 0.5).flatten(1) for head, f in pairs]
