"""A loss and a discriminator over frozen ImageNet features (SqueezeNet 1.1, whose weights are a 5 MB local file)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gcfsr_measure.squeezenet import SQUEEZENET_TAPS, FrozenFeatures, unit_channels


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
        """The scores, given the features of an image."""
        pairs = zip(self.heads, found, strict=True)
        return [head(unit_channels(f) * f.shape[1] ** 0.5).flatten(1) for head, f in pairs]
