"""Real pairs that training mixes in."""

from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.blind_face_dataset import BlindFaceDegradationDataset
from gcfsr_datasets.face_dataset import FaceDataset
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset
from gcfsr_datasets.photograph_dataset import PhotographDegradationDataset

KINDS: dict[str, tuple[type[FaceDataset], dict[str, Any]]] = {
    "multi": (MultiFactorDegradationDataset, {"factor_range": [2, 16], "max_factor": 16}),
    "blind": (BlindFaceDegradationDataset, {}),
    "photograph": (PhotographDegradationDataset, {"factor_range": [2, 16], "max_factor": 16}),
}


@pytest.fixture
def pairs(tmp_path: Path, face: np.ndarray) -> dict[str, Any]:
    """Three ground truths of 32 pixels; their inputs of 8 as other files in another folder."""
    for number in range(3):
        for folder, side, suffix in (("real_gt/a", 32, "png"), ("real_lq/a", 8, "bmp")):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            image = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
            image[:, : side // 2] //= number + 1
            cv2.imwrite(str(tmp_path / folder / f"{number}.{suffix}"), image)
    return {"dataroot_lq": str(tmp_path / "real_lq"), "dataroot_gt": str(tmp_path / "real_gt"), "prob": 1.0}


def make(root: Path, paired: dict[str, Any], kind: str = "multi", phase: str = "train", **more: Any) -> FaceDataset:
    cls, own = KINDS[kind]
    base = {"name": "faces", "type": cls.__name__, "phase": phase, "scale": 1, "out_size": 32, "use_hflip": True}
    return cls({**base, "dataroot_gt": str(root), **own, "paired": paired, **more})


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_the_two_files(folder: Path, pairs: dict[str, Any], kind: str, matlab: ModuleType) -> None:
    dataset, flipped = make(folder, pairs, kind), set()
    for index in range(12):
        sample = dataset.at(0, index)
        assert Path(sample["lq_path"]).stem == Path(sample["gt_path"]).stem
        gt, lq = (cv2.imread(sample[key]).astype(np.float32) / 255 for key in ("gt_path", "lq_path"))
        lq = matlab.imresize(lq, 4)
        tensors = [torch.from_numpy(image[..., ::-1].transpose(2, 0, 1) * 2 - 1) for image in (gt, lq)]
        mirrored = not torch.allclose(sample["gt"], tensors[0], atol=1e-5)
        flipped.add(mirrored)
        for key, wanted in zip(("gt", "lq"), tensors, strict=True):
            wanted = wanted.flip(2) if mirrored else wanted
            torch.testing.assert_close(sample[key], wanted, atol=1e-5, rtol=0)
        assert sample["factor"] == 4
        assert sample["s"] == (1 if kind == "blind" else 4 / 16)
    assert flipped == {True, False}


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_mixed_in_by_probability(folder: Path, pairs: dict[str, Any], kind: str) -> None:
    dataset = make(folder, pairs | {"prob": 0.25}, kind, repeats=25)
    batches, again = (list(DataLoader(dataset, 20, num_workers=count)) for count in (0, 2))
    paths = [path for batch in batches for path in batch["gt_path"]]
    assert 0.15 < np.mean(["real_gt" in path for path in paths]) < 0.35
    assert all(torch.equal(a["lq"], b["lq"]) for a, b in zip(batches, again, strict=True))
    assert "conditions" not in batches[0]
    assert len({path for path in paths if "real_gt" in path}) == 3


def test_validation_has_none(folder: Path, pairs: dict[str, Any]) -> None:
    sample = make(folder, pairs, phase="val").at(0, 0)
    assert "real" not in sample["gt_path"]
    assert "conditions" in sample


def test_a_given_factor_is_what_the_network_is_told(folder: Path, pairs: dict[str, Any]) -> None:
    sample = make(folder, pairs | {"factor": 12}).at(0, 0)
    assert (sample["factor"], sample["s"]) == (12, 0.75)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prob": 0}, "paired: prob: 0 must be above 0"),
        ({"factor": 0.5}, "paired: factor: 0.5 must be at least 1"),
        ({"prob": ...}, "paired: .*prob"),
        ({"dataroot_lq": "missing"}, "missing"),
        ({"ratio": 1}, "ratio is not an option"),
    ],
)
def test_wrong_options_are_named(folder: Path, pairs: dict[str, Any], change: dict[str, Any], words: str) -> None:
    block = {key: value for key, value in (pairs | change).items() if value is not ...}
    with pytest.raises(GCFSRError, match=words):
        make(folder, block)


def test_wrong_files_are_named(folder: Path, pairs: dict[str, Any]) -> None:
    extra = Path(pairs["dataroot_lq"]) / "a" / "9.png"
    cv2.imwrite(str(extra), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(GCFSRError, match=r"9\.png: paired\.dataroot_gt .*real_gt has no a.9; add it"):
        make(folder, pairs)
    extra.unlink()
    for number, (shape, words) in enumerate([((8, 6, 3), "is 6 x 8 pixels, not square"), ((1, 1, 3), "factor is 32")]):
        cv2.imwrite(str(Path(pairs["dataroot_lq"]) / "a" / f"{number}.bmp"), np.zeros(shape, np.uint8))
        with pytest.raises(GCFSRError, match=rf"{number}\.bmp: .*{words}"):
            [make(folder, pairs).at(0, index) for index in range(20)]
        cv2.imwrite(str(Path(pairs["dataroot_lq"]) / "a" / f"{number}.bmp"), np.zeros((8, 8, 3), np.uint8))
