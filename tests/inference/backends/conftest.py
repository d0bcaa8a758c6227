"""A tiny network, its inputs, and the files that it is exported to."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gcfsr_arch import GCFSR, save_generator
from gcfsr_inference.backends.export import export_onnx

TINY = {"out_size": 32, "num_style_feat": 32, "narrow": 1 / 16}


@pytest.fixture(scope="package")
def network() -> Callable[..., GCFSR]:
    """Builds the drawn network, always the same, with further arguments."""

    def build(**options) -> GCFSR:
        torch.manual_seed(0)
        net = GCFSR(**{**TINY, **options}).eval()
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if "noise_strength" in name:
                    parameter.fill_(0.3)  # drawn as 0, which would hide the noise
        return net

    return build


@pytest.fixture(scope="package")
def inputs() -> Callable[[GCFSR, int], tuple[Tensor, Tensor, list[Tensor]]]:
    """Draws images, strengths by level and noise maps for a batch."""

    def draw(net: GCFSR, batch: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        generator = torch.Generator().manual_seed(batch)
        x = torch.rand((batch, 3, net.out_size, net.out_size), generator=generator) * 2 - 1
        s = torch.rand((batch, len(net.sizes)), generator=generator)
        return x, s, [torch.randn(shape, generator=generator) for shape in net.noise_shapes(batch)]

    return draw


@pytest.fixture(scope="package")
def checkpoint(network: Callable[..., GCFSR], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as safetensors."""
    path = tmp_path_factory.mktemp("net") / "tiny.safetensors"
    save_generator(network(), path)
    return path


@pytest.fixture(scope="package")
def two_parts(network: Callable[..., GCFSR], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Its encoder and decoder in ONNX."""
    pytest.importorskip("onnxscript")
    return export_onnx(network(), tmp_path_factory.mktemp("onnx") / "tiny.onnx")
