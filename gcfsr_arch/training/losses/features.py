"""Losses and a discriminator over frozen networks: ImageNet features and a face embedding, whose weights are files."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gcfsr_arch.checkpoint import read_state
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.losses import REGIONS, region_crops
from gcfsr_measure.faceapi import DLIB_SIZE, dlib_network, normalised
from gcfsr_measure.faces import DLIB_BOX
from gcfsr_measure.frozen import ImageNetNormalize, fill
from gcfsr_measure.lite0 import EfficientNetLite0
from gcfsr_measure.squeezenet import SQUEEZENET_TAPS, FrozenFeatures, unit_channels


class FeatureLoss(nn.Module):
    """loss_weight * mean over taps of the squared distance of unit-length features (LPIPS's form with equal weights).

    Args:
        weights, taps: as in `FrozenFeatures`.
        loss_weight: the weight.
    """

    def __init__(self, weights: str, taps: Sequence[int] = SQUEEZENET_TAPS, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.features = FrozenFeatures(weights, taps, "train.feature_opt.weights")
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


class IdentityLoss(nn.Module):
    """loss_weight * (1 - cosine) of dlib's face embedding of output and ground truth, both FFHQ-aligned.

    Args:
        weights: dlib-face.safetensors of tools/face_api.py.
        loss_weight: the weight.

    Raises:
        GCFSRError: the file is missing or contains another network.
    """

    def __init__(self, weights: str, loss_weight: float = 1.0) -> None:
        super().__init__()
        try:
            self.network = dlib_network(Path(weights).expanduser())
        except GCFSRError as error:
            raise GCFSRError(f"weights: {error}") from error
        self.loss_weight = loss_weight

    def embedding(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) RGB in [-1, 1] -> (N, 128), full precision."""
        left, top, width = (round(part * x.shape[-1]) for part in DLIB_BOX)
        crop = x[..., top : top + width, left : left + width].float()
        crop = F.interpolate(crop, (DLIB_SIZE, DLIB_SIZE), mode="bilinear", antialias=True, align_corners=False)
        return self.network(normalised((crop + 1) * 127.5, str(x.device))).float()

    def forward(self, output: Tensor, gt: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.embedding(gt)
        return self.loss_weight * (1 - F.cosine_similarity(self.embedding(output), wanted)).mean()


class DISTSLoss(nn.Module):
    """loss_weight * DISTS (Ding et al., 2020): similarity of the means and variances of VGG16's features, taken from 1.

    The pooling is a blurred one, and the images themselves are the first of the six features.

    Args:
        vgg_path: VGG16's state dict, torchvision's.
        weights: file with alpha and beta, 1,475 numbers each.
        loss_weight: the weight.

    Raises:
        GCFSRError: a file is missing or contains something else.
    """

    CHANNELS = (3, 64, 128, 256, 512, 512)
    STAGES = ((0, 4), (5, 9), (10, 16), (17, 23), (24, 30))  # of torchvision's layers, without the pooling between
    pool: Tensor
    shares: Tensor  # (2, 1475) alpha and beta; together 1

    def __init__(self, vgg_path: str, weights: str, loss_weight: float = 1.0) -> None:
        super().__init__()
        from torchvision.models import vgg16  # imported here: torchvision takes seconds to import

        path, net = Path(vgg_path).expanduser(), vgg16(weights=None)
        try:
            fill(net, read_state(path)[0], f"{path} is not VGG16")
        except GCFSRError as error:
            raise GCFSRError(f"vgg_path: {error}") from error
        self.stages = nn.ModuleList(net.features[start:stop] for start, stop in self.STAGES)
        for module in self.stages.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # the activation before it is differentiated
        try:
            state = read_state(Path(weights).expanduser())[0]
            if {key: value.numel() for key, value in state.items()} != {"alpha": 1475, "beta": 1475}:
                raise GCFSRError(f"{weights}: holds something else than alpha and beta of DISTS")
        except GCFSRError as error:
            raise GCFSRError(f"weights: {error}") from error
        shares = torch.stack([state[key].flatten().float() for key in ("alpha", "beta")])
        self.register_buffer("shares", shares / shares.sum(), persistent=False)
        taps = torch.tensor([0.5, 1.0, 0.5])  # a Hann window
        self.register_buffer("pool", torch.outer(taps, taps) / 4, persistent=False)
        self.normalize = ImageNetNormalize()
        self.loss_weight = loss_weight

    def features(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in [-1, 1] -> the image in [0, 1] and the activations of the five stages."""
        found, x = [(x + 1) / 2], self.normalize(x)
        for number, stage in enumerate(self.stages):
            if number:
                kernel = self.pool.to(x).expand(x.shape[1], 1, 3, 3)
                x = (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
            x = stage(x)
            found.append(x)
        return found

    def forward(self, output: Tensor, gt: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(gt)
        similarity, small = output.new_zeros(()), 1e-6
        parts = self.shares.split(self.CHANNELS, dim=1)
        for x, y, (alpha, beta) in zip(self.features(output), wanted, parts, strict=True):
            x, y = (f if f.dtype == torch.float64 else f.float() for f in (x, y))
            mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
            var_x, var_y = x.var((2, 3), correction=0), y.var((2, 3), correction=0)
            covariance = (x * y).mean((2, 3)) - mean_x * mean_y
            texture = (2 * mean_x * mean_y + small) / (mean_x**2 + mean_y**2 + small)
            structure = (2 * covariance + small) / (var_x + var_y + small)
            similarity = similarity + (alpha * texture + beta * structure).sum(1).mean()
        return self.loss_weight * (1 - similarity)


class ProjectedPyramid(nn.Module):
    """EfficientNet-Lite0's features mixed by fixed random convolutions over channels and scales.

    Projected GAN (Sauer et al., 2021): a 1x1 convolution at each scale, then, from coarse to fine, the coarser scale is
    enlarged and added, and a 3x3 convolution follows. Nothing in it trains.

    Args:
        weights: EfficientNet-Lite0's state dict.
        channels: width of the mixed features.

    Raises:
        GCFSRError: the file is missing or contains another network.
    """

    def __init__(self, weights: str, channels: int = 64) -> None:
        super().__init__()
        try:
            path = Path(weights).expanduser()
            self.network = fill(EfficientNetLite0(), read_state(path)[0], f"{path} is not EfficientNet-Lite0")
        except GCFSRError as error:
            raise GCFSRError(f"network_d.lite0: {error}") from error
        self.across = nn.ModuleList(nn.Conv2d(width, channels, 1, bias=False) for width in EfficientNetLite0.CHANNELS)
        self.along = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in self.across)
        for conv in (*self.across, *self.along):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        self.normalize = ImageNetNormalize()
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "ProjectedPyramid":
        """Stays in eval mode: batch normalisation must not follow the faces."""
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in [-1, 1] -> (N, channels, H / stride, W / stride) at strides 32, 16, 8, 4."""
        scales = self.network.pyramid(self.normalize(x))
        mixed: list[Tensor] = []
        for feature, across, along in reversed(list(zip(scales, self.across, self.along, strict=True))):
            feature = across(feature)
            if mixed:
                coarser = F.interpolate(mixed[-1], feature.shape[-2:], mode="bilinear", align_corners=False)
                feature = feature + coarser.to(feature.dtype)
            mixed.append(along(feature))
        return mixed


class FeatureDiscriminator(nn.Module):
    """Small convolutional heads on frozen ImageNet features; one map of patch scores per head.

    Seen to learn within a few hundred iterations where a StyleGAN2 discriminator from scratch is still at chance.

    Args:
        weights, taps: as in `FrozenFeatures`.
        channels: width of each head's hidden layer.
        lite0: weights of EfficientNet-Lite0, whose `ProjectedPyramid` gets four heads more; None for none.
        regions: whether the eyes and the mouth of aligned faces get heads of their own. Over each feature map these
            count together as much as the whole face.
    """

    def __init__(
        self,
        weights: str,
        taps: Sequence[int] = SQUEEZENET_TAPS,
        channels: int = 64,
        lite0: str | None = None,
        regions: bool = False,
    ) -> None:
        super().__init__()
        self.features = FrozenFeatures(weights, taps, "network_d.weights")
        self.pyramid = None if lite0 is None else ProjectedPyramid(lite0, channels)
        widths = self.features.channels() + [channels] * (0 if lite0 is None else len(EfficientNetLite0.CHANNELS))
        self.heads = nn.ModuleList(patch_head(width, channels) for width in widths)
        self.regions = nn.ModuleList(
            nn.ModuleList(patch_head(width, channels) for _ in REGIONS) for width in widths if regions
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in [-1, 1] -> per head, those of the regions of a map as one, (N, patches) scores."""
        return self.score(self.features(x), x)

    def score(self, found: list[Tensor], x: Tensor) -> list[Tensor]:
        """The scores of x, given its `features`."""
        if self.pyramid is not None:
            found = found + self.pyramid(x)
        found = [unit_channels(f) * f.shape[1] ** 0.5 for f in found]
        scores = [head(f).flatten(1) for head, f in zip(self.heads, found, strict=True)]
        for heads, f in zip(self.regions, found, strict=False):  # no region has heads, or those of every map
            parts = zip(heads, region_crops(f), strict=True)
            scores.append(torch.cat([head(part).flatten(1) for head, part in parts], dim=1))
        return scores


def patch_head(width: int, channels: int) -> nn.Sequential:
    """(N, width, h, w) features -> (N, 1, h, w) scores of patches."""
    spectral = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(
        spectral(nn.Conv2d(width, channels, 3, padding=1)),
        nn.LeakyReLU(0.2),
        spectral(nn.Conv2d(channels, 1, 3, padding=1)),
    )
