"""The networks equal their plain form (`gcfsr_arch.reference`) in every variant, with and without gradients."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gcfsr_arch import GCFSR, GCFSRDiscriminator, fast, reference

OPTIONS = [
    {}, {"variant": "released"}, {"blind": True}, {"style_modulation": False}, {"feature_modulation": False},
    {"variant": "released", "style_modulation": False}, {"resample_kernel": (1, 2, 1)},
    {"resample_kernel": (1, 4, 7, 2)},
]  # fmt: skip


def network(**options):
    """No parameter is at its initial value."""
    torch.manual_seed(1)
    net = GCFSR(64, num_style_feat=16, narrow=1 / 32, **options)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return net


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("strength", ["number", "each", "levels", "map"])
def test_fast_equals_plain(options, batch, strength, monkeypatch):
    net = network(**options)
    x = torch.rand(batch, 3, 64, 64) * 2 - 1
    noise = [torch.randn(shape) for shape in net.noise_shapes(batch)]
    s = {"number": 0.4, "each": torch.rand(batch), "levels": torch.rand(batch, 3), "map": torch.rand(batch, 1, 24, 40)}[
        strength
    ]
    expected = reference.generate(net, x, s, noise)
    trained = net(x, s, noise=noise)
    torch.testing.assert_close(trained, expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        for even in (False, True):  # the branch of other processors too
            monkeypatch.setattr(fast, "EVEN_WIDTH", even)
            for layout in (torch.contiguous_format, torch.channels_last):
                actual = net(x.to(memory_format=layout), s, noise=noise)
                torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    mine = torch.autograd.grad(trained.square().mean(), list(net.parameters()))
    theirs = torch.autograd.grad(expected.square().mean(), list(net.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_sigmas_equal_the_plain_ones(options):
    net, s = network(**options), torch.rand(5)
    for size, (enc, gen) in net.sigmas(s).items():
        plain_enc, plain_gen = reference.sigmas(net, s[:, None], size)
        torch.testing.assert_close(enc, plain_enc, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(gen, plain_gen, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(enc, gen, atol=1e-2)  # so that an exchange would be seen


@pytest.mark.parametrize(("before", "after"), [(64, 16), (40, 16), (24, 64), (16, 16), (7, 16)])
def test_the_plain_resampling_equals_pillows(before, after):
    image = pytest.importorskip("PIL.Image")
    x = torch.rand(before, before)
    m = reference.triangle(before, after)
    expected = image.fromarray(x.numpy(), mode="F").resize((after, after), image.Resampling.BILINEAR)
    torch.testing.assert_close(m @ x @ m.t(), torch.from_numpy(np.array(expected)), atol=1e-5, rtol=1e-5)


def test_the_discriminator_equals_its_plain_form():
    torch.manual_seed(1)
    net, x = GCFSRDiscriminator(32, narrow=1 / 32).double(), torch.rand(3, 3, 32, 32, dtype=torch.float64) * 2 - 1
    expected = reference.discriminate(net, x)
    torch.testing.assert_close(net(x), expected)
    mine, theirs = (torch.autograd.grad(F.softplus(y).mean(), list(net.parameters())) for y in (net(x), expected))
    torch.testing.assert_close(mine, theirs)
