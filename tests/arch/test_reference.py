"""The network equals its plain form (benchmarks/reference.py) in every variant, with and without gradients."""

import importlib.util

import pytest
import torch

from gcfsr_arch import GCFSR


@pytest.fixture(scope="module")
def plain(root):
    spec = importlib.util.spec_from_file_location("reference", root / "benchmarks" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reference_forward


OPTIONS = [
    {}, {"variant": "released"}, {"blind": True}, {"style_modulation": False}, {"feature_modulation": False},
    {"variant": "released", "style_modulation": False},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("strength", ["number", "each", "map"])
def test_fast_equals_plain(plain, options, batch, strength):
    torch.manual_seed(1)
    net = GCFSR(64, num_style_feat=16, narrow=1 / 32, **options)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    x = torch.rand(batch, 3, 64, 64) * 2 - 1
    noise = [torch.randn(shape) for shape in net.noise_shapes(batch)]
    s = {"number": 0.4, "each": torch.rand(batch), "map": torch.rand(batch, 1, 32, 32)}[strength]
    expected = plain(net, x, s, noise)
    trained = net(x, s, noise=noise)
    torch.testing.assert_close(trained, expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(net(x, s, noise=noise), expected, atol=1e-5, rtol=1e-5)
        nhwc = net(x.to(memory_format=torch.channels_last), s, noise=noise)
        torch.testing.assert_close(nhwc, expected, atol=1e-5, rtol=1e-5)
    mine = torch.autograd.grad(trained.square().mean(), list(net.parameters()))
    theirs = torch.autograd.grad(expected.square().mean(), list(net.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)
