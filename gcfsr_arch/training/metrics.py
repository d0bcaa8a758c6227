"""Metrics with local weights for BasicSR's validation: LPIPS, identity, FID; and small stand-ins by their own names.

Pictures are BGR uint8 (H, W, 3), BasicSR's habit. A metric over the whole set returns one feature vector per picture
and carries `reduce`, which turns the stacked vectors into the figure. The pure part knows no BasicSR.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.features import FrozenFeatures, load_state, unit_channels

LPIPS_TAPS = {  # indices into torchvision's `features` after which LPIPS takes the activation
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
}
LPIPS_SHIFT, LPIPS_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# the ArcFace template of 112x112 lies at these places of an FFHQ-aligned face (fractions of its side): left, top, side
ARCFACE_BOX = (0.117, 0.113, 0.758)  # least squares of the five template points


class NotDefined(ValueError):
    """The metric has no value for this picture or set; not a fault."""


def rgb_tensor(image: np.ndarray) -> Tensor:
    """BGR uint8 (H, W, 3) -> RGB float (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)[None].float() / 127.5 - 1


def niqe_blocks(image: np.ndarray, crop_border: int = 0) -> int:
    """How many of NIQE's 96x96 blocks a picture holds; with fewer than two there is no covariance."""
    return max(image.shape[0] - 2 * crop_border, 0) // 96 * (max(image.shape[1] - 2 * crop_border, 0) // 96)


# ---- LPIPS -----------------------------------------------------------------------------------------------------------


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al., 2018).

    Args:
        net: "alex", "vgg" or "squeeze".
        backbone: path of torchvision's ImageNet state dict of that network.
        heads: path of the linear heads, as the authors' `lpips` package carries them (alex.pth, vgg.pth, squeeze.pth).

    Raises:
        GCFSRError: an unknown network, or a file that is missing or another's.
    """

    def __init__(self, net: str, backbone: str, heads: str) -> None:
        super().__init__()
        import torchvision.models as zoo  # takes seconds to import

        builders = {"alex": zoo.alexnet, "vgg": zoo.vgg16, "squeeze": zoo.squeezenet1_1}
        if net not in builders:
            raise GCFSRError(f"calculate_lpips: net {net!r} is not one of {', '.join(builders)}; choose one of them")
        self.taps = LPIPS_TAPS[net]
        with torch.device("meta"):  # the weights come from the file
            layers = builders[net](weights=None).features
        state = load_state(backbone, "backbone")
        states = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        weights = list(load_state(heads, "heads").values())
        try:
            layers.load_state_dict(states, assign=True)
        except RuntimeError as error:
            raise GCFSRError(f"backbone: {backbone} is no {net} state dict of torchvision; give that one") from error
        if len(weights) != len(self.taps) or any(w.ndim != 4 for w in weights):
            raise GCFSRError(f"heads: {heads} does not hold the {len(self.taps)} heads of {net}; give lpips' {net}.pth")
        self.layers, self.heads = layers[: self.taps[-1] + 1], weights
        for module in self.layers:
            if isinstance(module, nn.ReLU):
                module.inplace = False
        self.requires_grad_(False).eval()

    def activations(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) in [-1, 1] -> unit-length activations."""
        x = (x - torch.tensor(LPIPS_SHIFT).view(1, 3, 1, 1).to(x)) / torch.tensor(LPIPS_SCALE).view(1, 3, 1, 1).to(x)
        found = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.taps:
                found.append(unit_channels(x, eps=1e-20))
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [-1, 1], twice -> (N,) distances."""
        layers = zip(self.activations(x), self.activations(y), self.heads, strict=True)
        return torch.stack([((a - b).square() * w.to(a)).sum(1).mean((1, 2)) for a, b, w in layers]).sum(0)


_lpips = lru_cache(maxsize=2)(LPIPS)


def calculate_lpips(img: np.ndarray, img2: np.ndarray, backbone: str, heads: str, net: str = "alex", **_: Any) -> float:
    """LPIPS of two pictures; lower is nearer. Weights as in `LPIPS`."""
    with torch.no_grad():
        return _lpips(net, backbone, heads)(rgb_tensor(img), rgb_tensor(img2)).item()


# ---- SqueezeNet features: small stand-ins ----------------------------------------------------------------------------

_features = lru_cache(maxsize=2)(FrozenFeatures)


def calculate_feature_distance(img: np.ndarray, img2: np.ndarray, weights: str, **_: Any) -> float:
    """SqueezeNet feature distance: LPIPS's form with equal weights. It is not LPIPS."""
    with torch.no_grad():
        a, b = ([unit_channels(f) for f in _features(weights)(rgb_tensor(x))] for x in (img, img2))
        return float(np.mean([(x - y).square().sum(1).mean().item() for x, y in zip(a, b, strict=True)]))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance between Gaussians fitted to two sets of features (Heusel et al., 2017).

    Args:
        a, b: (N, D), (M, D) features, at least two rows each.

    Raises:
        NotDefined: fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise NotDefined("a Frechet distance needs at least two pictures")
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # Tr sqrt(A B) = sum of sqrt of the eigenvalues of sqrt(A) B sqrt(A), which is symmetric and positive
    values, vectors = scipy.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(scipy.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def frechet_of_pairs(pairs: np.ndarray) -> float:
    """`frechet_distance` of (N, 2 D): restored and true features side by side."""
    restored, true = np.split(pairs, 2, axis=1)
    return frechet_distance(restored, true)


def over_set(reduce: Callable[[np.ndarray], float]) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Marks a metric that returns features, which `reduce` turns into one figure."""

    def mark(metric: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        metric.reduce = reduce  # type: ignore[attr-defined]
        return metric

    return mark


@over_set(frechet_of_pairs)
def calculate_feature_frechet(img: np.ndarray, img2: np.ndarray, weights: str, **_: Any) -> np.ndarray:
    """Frechet distance of SqueezeNet's pooled features over the set. It is not FID."""
    with torch.no_grad():
        return np.concatenate([_features(weights)(rgb_tensor(x))[-1].mean((2, 3))[0].numpy() for x in (img, img2)])


# ---- FID -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _inception(weights: str) -> nn.Module:
    from basicsr.archs import inception  # BasicSR's copy of pytorch-fid's network

    from gcfsr_arch.training.hooks.table import replaced

    state = load_state(weights, "weights")
    try:
        with replaced("basicsr.archs.inception", LOCAL_FID_WEIGHTS=str(Path(weights).expanduser())):
            return inception.InceptionV3([3], resize_input=True, normalize_input=False).eval()
    except (RuntimeError, OSError) as error:
        raise GCFSRError(
            f"weights: {weights} ({len(state)} tensors) is not pytorch-fid's Inception; "
            "give pt_inception-2015-12-05-6726825d.pth"
        ) from error


@over_set(frechet_of_pairs)
def calculate_fid_gcfsr(img: np.ndarray, img2: np.ndarray, weights: str, **_: Any) -> np.ndarray:
    """FID between the restored and the true pictures of the validation set; pytorch-fid's Inception weights."""
    with torch.no_grad():
        return np.concatenate([_inception(weights)(rgb_tensor(x))[0].flatten().numpy() for x in (img, img2)])


# ---- identity --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _embedder(weights: str) -> "cv2.dnn.Net":
    path = Path(weights).expanduser()
    if not path.is_file():
        raise GCFSRError(f"weights: {path} is not a file; give MobileFaceNet.onnx or another 112x112 embedding")
    try:
        return cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise GCFSRError(f"weights: {path} cannot be read as ONNX; give MobileFaceNet.onnx") from error


def face_crop(image: np.ndarray) -> np.ndarray:
    """The ArcFace crop of an FFHQ-aligned face: BGR (S, S, 3) -> BGR (112, 112, 3)."""
    side = image.shape[0]
    left, top, width = (round(part * side) for part in ARCFACE_BOX)
    crop = image[top : top + width, left : left + width]
    return cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA if width > 112 else cv2.INTER_CUBIC)


def embed(image: np.ndarray, weights: str) -> np.ndarray:
    """The unit-length identity embedding of an aligned face, BGR uint8."""
    rgb = face_crop(image)[..., ::-1].astype(np.float32) / 255
    rgb = (rgb - np.float32((0.485, 0.456, 0.406))) / np.float32((0.229, 0.224, 0.225))
    net = _embedder(weights)
    net.setInput(np.ascontiguousarray(rgb.transpose(2, 0, 1)[None]))
    vector = net.forward().ravel()
    return vector / np.linalg.norm(vector)


def calculate_identity(img: np.ndarray, img2: np.ndarray, weights: str, **_: Any) -> float:
    """Cosine of the identity embeddings (MobileFaceNet's with its weights); 1 is the same. Faces aligned as FFHQ's."""
    return float(embed(img, weights) @ embed(img2, weights))


METRICS = (
    calculate_lpips, calculate_identity, calculate_fid_gcfsr, calculate_feature_distance, calculate_feature_frechet,
)  # fmt: skip
