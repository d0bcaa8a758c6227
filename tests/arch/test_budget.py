"""Budgets at 1024 and full width, counted on the meta device, and forward passes on a pretended CUDA device."""

import importlib.util
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gcfsr_arch import GCFSR, GCFSRDiscriminator

BUDGETS = {  # at batch 1: operators, convolutions, bytes of activations that autograd keeps
    "G's step": (3000, 196, 3.30e9),
    "D's step": (480, 84, 2.55e9),
    "R1": (720, 152, 2.02e9),
    "encode": (95, 24, 0),
    "decode": (790, 32, 0),
}


@pytest.fixture(scope="module")
def budget(root):
    """benchmarks/budget.py, which prints the table of benchmarks/README.md."""
    sys.path.insert(0, str(root / "benchmarks"))
    spec = importlib.util.spec_from_file_location("budget", root / "benchmarks" / "budget.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(root / "benchmarks"))
    return module


def test_every_part_of_a_step_stays_within_its_budget(budget):
    found = budget.measure(1)
    assert found.keys() == BUDGETS.keys()
    for name, (operators, convolutions, saved) in BUDGETS.items():
        assert found[name].operators <= operators, name
        assert found[name].convolutions <= convolutions, name
        assert found[name].saved <= saved, name


def test_checkpointing_saves_activations(budget):
    kept = [budget.measure(1, checkpointing)["G's step"].saved for checkpointing in (False, True)]
    assert kept[1] < 0.75 * kept[0]


OPTIONS = [
    {}, {"variant": "released"}, {"blind": True}, {"style_modulation": False}, {"feature_modulation": False},
]  # fmt: skip


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_tensor_of_a_generator_is_made_on_another_device(options, grad):
    """Operators refuse tensors of two devices; no GPU is needed for tensors without values."""
    with FakeTensorMode(), torch.set_grad_enabled(grad):
        with torch.device("cuda"):
            net = GCFSR(64, num_style_feat=16, narrow=1 / 32, **options)
        x = torch.empty(2, 3, 64, 64, device="cuda")
        for s in (0.5, torch.empty(2, device="cuda"), torch.empty(2, 1, 16, 16, device="cuda")):
            for noise in ("random", "fixed", "zero"):
                assert net(x, s, noise=noise).device.type == "cuda"


@pytest.mark.parametrize("std", [True, False])
def test_no_tensor_of_a_discriminator_is_made_on_another_device(std):
    with FakeTensorMode():
        with torch.device("cuda"):
            net = GCFSRDiscriminator(32, narrow=1 / 32, minibatch_std=std)
        assert net(torch.empty(4, 3, 32, 32, device="cuda")).device.type == "cuda"
