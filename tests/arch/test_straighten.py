"""A dial's response becomes the asked line, and nothing else of the network changes."""

import copy

import pytest
import torch

from gcfsr_arch import GCFSR, GCFSRError
from gcfsr_arch.straighten import Line, straighten


@pytest.fixture(scope="module")
def bent() -> GCFSR:
    """A network whose modulation is random and strong, so that the response to each dial bends."""
    torch.manual_seed(0)
    net = GCFSR(
        32, num_style_feat=64, narrow=1 / 16, min_factor=2, max_factor=8, conditions=("factor", "blur", "noise")
    )
    with torch.no_grad():
        for layer in (net.modulation.hidden[0], net.modulation.hidden[1]):
            layer.bias.normal_(0, 0.5)
    return net.eval()


def sigmas(net: GCFSR, blur: float) -> torch.Tensor:
    """All scaling vectors at a fixed factor and noise."""
    s = torch.tensor([[0.5, blur, 0.3]])[:, None].expand(-1, len(net.sizes), -1)
    with torch.no_grad():
        return torch.cat([part.flatten() for size in net.sizes for part in net.modulation(s, size)])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().mean())


def test_the_line_is_where_it_was_asked_for(bent: GCFSR) -> None:
    net = copy.deepcopy(bent)
    fit = straighten(net, "blur", [Line(0, 0.5, 0.25, 0.5)], steps=1500, rate=2e-3)
    low, high = sigmas(bent, 0.25), sigmas(bent, 0.5)
    for blur, wanted in ((0.0, low), (0.25, (low + high) / 2), (0.4, 0.2 * low + 0.8 * high)):
        assert distance(sigmas(net, blur), wanted) < distance(sigmas(bent, blur), wanted) / 3, blur
    for blur in (0.5, 0.6, 0.8, 1.0):
        assert distance(sigmas(net, blur), sigmas(bent, blur)) < 0.02
    assert fit.change > 3 * max(fit.on_lines, fit.elsewhere)


def test_only_the_modulation_changes(bent: GCFSR) -> None:
    net = copy.deepcopy(bent)
    straighten(net, "noise", [Line(0, 1, 0, 1)], steps=2)
    for key, value in net.state_dict().items():
        assert torch.equal(value, bent.state_dict()[key]) == (not key.startswith("modulation.")), key


@pytest.mark.parametrize(
    ("dial", "line", "message"),
    [
        ("jpeg", Line(0, 1, 0, 1), "'jpeg' is not a dial of this network; known ones are factor, blur, noise"),
        ("blur", Line(0.5, 0.5, 0, 1), "the lower one first"),
        ("blur", Line(0, 1, 0, 1.5), r"lie in \[0, 1\]"),
        ("blur", Line(0, float("nan"), 0, 1), r"lie in \[0, 1\]"),
    ],
)
def test_refuses(bent: GCFSR, dial: str, line: Line, message: str) -> None:
    with pytest.raises(GCFSRError, match=message):
        straighten(copy.deepcopy(bent), dial, [line])


def test_refuses_no_line(bent: GCFSR) -> None:
    with pytest.raises(GCFSRError, match="no line"):
        straighten(copy.deepcopy(bent), "blur", [])


def test_refuses_the_released_form() -> None:
    with pytest.raises(GCFSRError, match="variant: paper"):
        straighten(GCFSR(32, narrow=1 / 16, variant="released"), "factor", [Line(0, 1, 0, 1)])
