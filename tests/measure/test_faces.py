"""Crops of aligned faces, and identity on real ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_measure.catalogue import entry_of
from gcfsr_measure.faces import ARCFACE_BOX
from gcfsr_measure.measures import Case


def test_the_arcface_crop_meets_its_template() -> None:
    """The five points of an FFHQ-aligned face land within three pixels of ArcFace's template."""
    points = np.float64([[96, 119], [160, 120], [127, 157], [98, 186], [154, 186]]) / 256
    template = np.float64([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]])
    left, top, side = ARCFACE_BOX
    assert np.abs((points - (left, top)) / side * 112 - template).max() < 3


def test_identity_distinguishes_people(shared: Path) -> None:
    weights = shared / "weights" / "MobileFaceNet.onnx"
    people = [cv2.imread(str(file)) for file in sorted((shared / "faces" / "val256").glob("lon_*.png"))[:6]]
    first = people[0]
    softer = cv2.resize(cv2.resize(first, (96, 96), interpolation=cv2.INTER_AREA), (256, 256))
    measure = entry_of("mobilefacenet").make(weights, "cpu")
    same, soft, *others = measure([Case(first, face, first) for face in (first, softer, *people[1:])])
    assert same == pytest.approx(1, abs=1e-5)
    assert soft > 0.8 > 0.5 > np.mean(others)
