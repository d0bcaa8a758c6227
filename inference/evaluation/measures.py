"""Metrics as functions of batches of pictures: what a metric sees, and one maker for each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcfsr_inference.evaluation import pixels


@dataclass(frozen=True)
class Case:
    """One result beside its truth: (H, W, 3) BGR uint8 both; `low` is the input, its downscale known or not (blind)."""

    truth: NDArray[np.uint8]
    result: NDArray[np.uint8]
    low: NDArray[np.uint8]
    blind: bool = False


Value = float | None | NDArray[np.float32]  # a number, not defined, or the (D,) features of the result
Measure = Callable[[Sequence[Case]], list[Value]]


def _each(function: Callable[[Case], float | None]) -> Measure:
    return lambda cases: [function(case) for case in cases]


def psnr_rgb(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.psnr(case.result, case.truth))


def ssim_rgb(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.ssim(case.result, case.truth))


def psnr_y(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.psnr(pixels.luma(case.result), pixels.luma(case.truth)))


def ssim_y(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.ssim(pixels.luma(case.result), pixels.luma(case.truth)))


def naturalness(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.niqe(case.result))


def sharpness_match(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: pixels.sharpness_match(case.result, case.truth))


def lr_consistency(weights: Path | None, device: str) -> Measure:
    return _each(lambda case: None if case.blind else pixels.consistency(case.result, case.low))


def lpips(weights: Path | None, device: str, net: str) -> Measure:
    from gcfsr_inference.evaluation import networks

    assert weights is not None
    return _distance(networks.lpips_distance(weights, net, device))


def squeezenet(weights: Path | None, device: str) -> Measure:
    from gcfsr_inference.evaluation import networks

    assert weights is not None
    return _distance(networks.feature_distance(weights, device))


def _distance(distance: Callable[[Any, Any], Any]) -> Measure:
    """A distance of pairs of one size, as many at once as there are."""

    def measure(cases: Sequence[Case]) -> list[Value]:
        values: list[Value] = [None] * len(cases)
        for indices in _by_size(cases):
            a = _tensor([cases[i].result for i in indices])
            b = _tensor([cases[i].truth for i in indices])
            for i, value in zip(indices, distance(a, b).tolist(), strict=True):
                values[i] = value
        return values

    return measure


def arcface(weights: Path | None, device: str) -> Measure:
    from gcfsr_inference.evaluation import networks

    assert weights is not None
    return _cosine(networks.arcface_embedding(weights, device))


def onnx_cosine(weights: Path | None, device: str, norm: str) -> Measure:
    from gcfsr_inference.evaluation import networks

    assert weights is not None
    return _cosine(networks.onnx_embedding(weights, norm))


def inception(weights: Path | None, device: str) -> Measure:
    from gcfsr_inference.evaluation import networks

    assert weights is not None
    return _features(networks.inception_features(weights, device))


def lite0(weights: Path | None, device: str) -> Measure:
    from gcfsr_inference.evaluation import networks

    assert weights is not None
    return _features(networks.lite0_features(weights, device))


def _cosine(embed: Callable[[Any], Any]) -> Measure:
    """Cosine of the embeddings of result and truth, both cropped from the FFHQ layout. [-1, 1]."""
    from torch.nn.functional import cosine_similarity

    from gcfsr_arch.training.metrics import face_crop

    def measure(cases: Sequence[Case]) -> list[Value]:
        results, truths = (_tensor([face_crop(image) for image in images])
                           for images in ([c.result for c in cases], [c.truth for c in cases]))  # fmt: skip
        return cosine_similarity(embed(results), embed(truths)).tolist()

    return measure


def _features(extract: Callable[[Any], Any]) -> Measure:
    """The features of the results alone; the distance is made of all of them later (frechet.py)."""

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


def _tensor(images: list[NDArray[np.uint8]]) -> Any:
    """BGR pictures of one size -> (N, 3, H, W) uint8 RGB."""
    import torch

    return torch.from_numpy(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2).contiguous()  # facexlib needs it so
