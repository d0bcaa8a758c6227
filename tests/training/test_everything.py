"""A run of the stock trainer with what docs/training.md lists together, extended exactly, and the samples it writes."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("basicsr")
pytest.importorskip("schedulefree")
pytest.importorskip("pytorch_optimizer")

CHANGES: dict[str, Any] = {
    "network_g__blind": True,
    "train__optim_g": {"type": "AdamWScheduleFree", "lr": 2e-3, "betas": [0.9, 0.99]},
    "train__optim_d": {"type": "Muon", "lr": 1e-3},
    "train__scheduler": None,
    "train__ema_decay": None,
    "train__pixel_opt": None,
    "train__losses": [
        {"type": "CharbonnierLoss"},
        {"type": "MSSSIMLoss", "loss_weight": 0.2, "scales": 2},
        {"type": "FocalFrequencyLoss", "loss_weight": 0.1},
        {"type": "LDLLoss", "loss_weight": 0.5},
    ],
    "train__gan_opt": {"type": "AdversarialLoss", "gan_type": "logistic", "loss_weight": 0.02, "relativistic": True},
    "train__r1_reg_weight": 1,
    "train__r2_reg_weight": 1,
    "train__net_d_pause": 0.9,
    "logger__dump_samples": 4,
}


def data(folder: Path) -> dict[str, Any]:
    """The blind data set with second-order degradation, two roots and real pairs."""
    for name, side in (("real_lq", 8), ("real_gt", 32)):
        (folder / name).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name / "0.png"), np.full((side, side, 3), 200, np.uint8))
    return {
        "name": "faces", "type": "BlindFaceDegradationDataset", "dataroot_gt": "faces", "extra_roots": ["val"],
        "root_weights": [3, 1], "out_size": 32, "use_hflip": True, "downsample_range": [1, 4],
        "second_order": {"prob": 0.7}, "paired": {"dataroot_lq": "real_lq", "dataroot_gt": "real_gt", "prob": 0.3},
        "num_worker_per_gpu": 0, "batch_size_per_gpu": 2,
    }  # fmt: skip


def test_it_trains_and_a_longer_run_goes_on_exactly(runs: Any) -> None:
    made, folder = data(runs.folder), runs.folder / "experiments/tiny"
    whole = runs.options("whole.yml", **CHANGES, datasets__train=made, train__total_iter=6)
    assert runs.run(whole) == 0, runs.text()[-3000:]
    log = runs.text()
    assert all(f" {name} " in log for name in ("charbonnier", "msssim", "focalfrequency", "ldl", "gan")), log[-3000:]
    states = [torch.load(folder / f"models/net_{net}_6.pth", weights_only=True) for net in "gd"]
    assert not torch.equal(*(next(iter(states[0][key].values())) for key in ("params", "params_ema")))

    tiles = np.split(cv2.imread(str(folder / "samples.png")), 4, axis=1)
    faces = [cv2.imread(str(path)) for name in ("faces", "val", "real_gt") for path in (runs.folder / name).iterdir()]
    known = [turned for face in faces for turned in (face, face[:, ::-1])]
    for lq, gt in (np.split(tile, 2) for tile in tiles):
        assert any(np.abs(gt.astype(int) - face).max() <= 1 for face in known)
        assert lq.shape == gt.shape == (32, 32, 3)

    folder.rename(runs.folder / "whole")
    half = runs.options("half.yml", **CHANGES, datasets__train=made, train__total_iter=3)
    assert runs.run(half) == 0, runs.text()[-3000:]
    assert runs.run(whole, "--auto_resume") == 0, runs.text()[-3000:]
    for net, wanted in zip("gd", states, strict=True):
        found = torch.load(folder / f"models/net_{net}_6.pth", weights_only=True)
        for key in wanted.keys() & {"params", "params_ema"}:
            assert all(torch.equal(found[key][name], value) for name, value in wanted[key].items()), (net, key)
