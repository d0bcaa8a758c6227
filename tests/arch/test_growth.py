"""A grown network computes what the small one does, or nearly its enlarged output at twice the size."""

import pytest
import torch
import torch.nn.functional as F

from gcfsr_arch import GCFSR, GCFSRError
from gcfsr_arch.growth import grow
from gcfsr_arch.ops import fir_kernel, upfirdn2d


def network(out_size: int, narrow: float, seed: int, **changes: object) -> GCFSR:
    """A network whose parameters are all random, so that nothing that is copied wrongly can hide."""
    torch.manual_seed(seed)
    defaults = {"num_style_feat": 16, "min_factor": 2, "max_factor": out_size / 4}
    net = GCFSR(out_size, narrow=narrow, **{**defaults, **changes})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias") or "noise_strength" in name:
                parameter += 0.3 * torch.randn(parameter.shape)
    return net.eval()


def images(size: int, scale: int = 1) -> torch.Tensor:
    points = torch.randn(2, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0)) * 0.4
    return F.interpolate(points, size=(size, size), mode="bicubic", align_corners=False)


@pytest.mark.parametrize("s", [0.1, 1.0])
def test_a_wider_network_is_the_same_function(s: float):
    small, large = network(64, 1 / 32, 0), network(64, 1 / 16, 1)
    x = images(64)
    noise = [torch.randn(shape) for shape in small.noise_shapes(2)]
    before = large(x, s, noise=noise)
    after = grow(small, large)(x, s, noise=noise)
    expected = small(x, s, noise=noise)
    torch.testing.assert_close(after, expected, atol=2e-4, rtol=1e-4)
    assert (before - expected).abs().max() > 0.1


def test_new_channels_learn():
    """Every parameter of the grown network that acts takes a gradient once its outputs are read."""
    large = grow(network(32, 1 / 32, 0), network(32, 1 / 16, 1))
    optimizer = torch.optim.SGD(large.parameters(), lr=0.1)
    for _ in range(2):  # the first step opens the zero weights behind the new channels
        optimizer.zero_grad()
        large(images(32), 0.5).square().mean().backward()
        optimizer.step()
    still = [name for name, p in large.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert still == []


def test_a_larger_network_starts_with_the_enlarged_output():
    """Its first features are nearly those of the reduced image; behind them it is the small network, enlarged."""
    small, large = network(32, 1 / 16, 0), network(64, 1 / 16, 1)
    grow(small, large)
    x = images(64)
    reduced = F.avg_pool2d(x, 2)
    wanted = small.encoder.first(reduced)
    found = large.encoder.down["32"](large.encoder.first(x))[:, : wanted.shape[1]]
    inner = (..., slice(2, -2), slice(2, -2))
    assert (found - wanted)[inner].norm() < 0.1 * wanted[inner].norm()

    large.encoder.down["32"].register_forward_hook(lambda *_: small.encoder.first(reduced))  # now without that error
    expected = upfirdn2d(small(reduced, 0.5, noise="zero"), fir_kernel([1, 3, 3, 1], 4.0), up=2, pad=(2, 1))
    torch.testing.assert_close(large(x, 0.5, noise="zero"), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("small", "large", "word"),
    [
        ((32, 1 / 16, {}), (32, 1 / 32, {}), "shape"),
        ((32, 1 / 16, {}), (128, 1 / 16, {}), "out_size"),
        ((32, 1 / 16, {}), (32, 1 / 16, {"num_style_feat": 32}), "num_style_feat"),
        ((32, 1 / 16, {"variant": "released"}), (32, 1 / 16, {"variant": "released"}), "released"),
    ],
)
def test_what_cannot_be_grown_is_refused(small: tuple, large: tuple, word: str):
    nets = [network(size, narrow, 0, **changes) for size, narrow, changes in (small, large)]
    with pytest.raises(GCFSRError, match=word):
        grow(*nets)
