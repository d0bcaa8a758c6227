"""Metrics as functions of batches of images: their input `Case`, and one builder per metric.

A builder takes (weights path or None, device) and returns a `Measure`. The value of an image
does not depend on the order or the batch size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcfsr_measure import pixels
from gcfsr_measure.faces import ARCFACE_BOX, DLIB_BOX, LANDMARK_BOX, Box, face_crop

Image = NDArray[np.uint8]  # (H, W, 3) BGR in [0, 255]


@dataclass(frozen=True)
class Case:
    """A result with its ground truth and its input `low`; `blind` if the degradation is not a known downscale."""

    gt: Image
    result: Image
    low: Image
    blind: bool = False


Value = float | None | NDArray[np.float32]  # a number, None where not defined, or the (D,) features of the result
Measure = Callable[[Sequence[Case]], list[Value]]


# ---- pixels


def _each(function: Callable[[Case], float | None]) -> Measure:
    return lambda cases: [function(case) for case in cases]


def psnr_rgb(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.psnr(case.result, case.gt))


def ssim_rgb(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.ssim(case.result, case.gt))


def psnr_y(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.psnr(pixels.luma(case.result), pixels.luma(case.gt)))


def ssim_y(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.ssim(pixels.luma(case.result), pixels.luma(case.gt)))


def naturalness(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.niqe(case.result))


def sharpness_match(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.sharpness_match(case.result, case.gt))


def lr_consistency(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: None if case.blind else pixels.consistency(case.result, case.low))


# ---- networks; torch is imported where one is built


def lpips(weights: Path | None, device: str, net: str) -> Measure:
    from gcfsr_measure import networks

    return _distance(networks.lpips_distance(_given(weights), net, device))


def squeezenet(weights: Path | None, device: str) -> Measure:
    from gcfsr_measure import networks

    return _distance(networks.feature_distance(_given(weights), device))


def arcface(weights: Path | None, device: str) -> Measure:
    from gcfsr_measure import networks

    return _cosine(networks.arcface_embedding(_given(weights), device), ARCFACE_BOX, 112)


def onnx_cosine(weights: Path | None, device: str, norm: str = "") -> Measure:
    from gcfsr_measure import networks

    return _cosine(networks.onnx_embedding(_given(weights), norm), ARCFACE_BOX, 112)


def dlib_cosine(weights: Path | None, device: str) -> Measure:
    from gcfsr_measure import faceapi

    return _cosine(faceapi.dlib_embedding(_given(weights), device), DLIB_BOX, faceapi.DLIB_SIZE)


def landmark_error(weights: Path | None, device: str) -> Measure:
    """Mean distance of the 68 landmarks of result and ground truth, in % of the distance of the outer eye corners."""
    from gcfsr_measure import faceapi

    find = faceapi.landmarks(_given(weights), device)

    def measure(cases: Sequence[Case]) -> list[Value]:
        sides = ([case.result for case in cases], [case.gt for case in cases])
        crops = [[face_crop(image, LANDMARK_BOX, faceapi.LANDMARK_SIZE) for image in images] for images in sides]
        results, gts = (find(_tensor(images)) for images in crops)
        right, left = gts[:, 36], gts[:, 45]
        errors = (results - gts).norm(dim=2).mean(1) / (right - left).norm(dim=1)
        return (100 * errors).tolist()

    return measure


def by_pyiqa(weights: Path | None, device: str, name: str) -> Measure:
    """A metric of the package pyiqa by its name there."""
    metric = import_module("pyiqa").create_metric(name, device=device)

    def measure(cases: Sequence[Case]) -> list[Value]:
        pairs = [[_tensor([image]).float() / 255 for image in (case.result, case.gt)] for case in cases]
        return [float(metric(*pair[: 2 if metric.metric_mode == "FR" else 1])) for pair in pairs]

    return measure


def inception(weights: Path | None, device: str) -> Measure:
    from gcfsr_measure import networks

    return _features(networks.inception_features(_given(weights), device))


def lite0(weights: Path | None, device: str) -> Measure:
    from gcfsr_measure import networks

    return _features(networks.lite0_features(_given(weights), device))


def squeezenet_features(weights: Path | None, device: str) -> Measure:
    from gcfsr_measure import networks

    return _features(networks.squeezenet_features(_given(weights), device))


def _given(weights: Path | None) -> Path:
    assert weights is not None
    return weights


def _distance(distance: Callable) -> Measure:
    """A distance of pairs of one size, as many at once as there are."""

    def measure(cases: Sequence[Case]) -> list[Value]:
        values: list[Value] = [None] * len(cases)
        for indices in _by_size(cases):
            a = _tensor([cases[i].result for i in indices])
            b = _tensor([cases[i].gt for i in indices])
            for i, value in zip(indices, distance(a, b).tolist(), strict=True):
                values[i] = value
        return values

    return measure


def _cosine(embed: Callable, box: Box, size: int) -> Measure:
    """Cosine of the embeddings of result and ground truth, both cropped from the FFHQ layout. [-1, 1]."""
    from torch.nn.functional import cosine_similarity

    def measure(cases: Sequence[Case]) -> list[Value]:
        results = embed(_tensor([face_crop(case.result, box, size) for case in cases]))
        gts = embed(_tensor([face_crop(case.gt, box, size) for case in cases]))
        return cosine_similarity(results, gts).tolist()

    return measure


def _features(extract: Callable) -> Measure:
    """The features of the results alone; `frechet_distance` makes the distance from all of them."""

    def measure(cases: Sequence[Case]) -> list[Value]:
        values: list[Value] = [None] * len(cases)
        for indices in _by_size(cases):
            rows = extract(_tensor([cases[i].result for i in indices])).float().cpu().numpy()
            for i, row in zip(indices, rows, strict=True):
                values[i] = row
        return values

    return measure


def _by_size(cases: Sequence[Case]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, case in enumerate(cases):
        groups.setdefault(case.result.shape, []).append(index)
    return list(groups.values())


def _tensor(images: list[Image]):
    """BGR images of one size -> (N, 3, H, W) uint8 RGB tensor."""
    import torch

    return torch.from_numpy(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2).contiguous()  # facexlib needs it so
