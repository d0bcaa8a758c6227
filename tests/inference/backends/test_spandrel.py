"""The real spandrel finds, loads and calls our checkpoints; others' are not taken for ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gcfsr_arch import GCFSR, GCFSRError, save_generator
from gcfsr_arch.released_names import released_name

spandrel = pytest.importorskip("spandrel")

from gcfsr_inference.backends.spandrel_arch import DEFAULT_S, GCFSRArch, register  # noqa: E402 - after the skip

TINY = {"out_size": 32, "num_style_feat": 32, "narrow": 1 / 16}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """Registers twice, and leaves spandrel's registry as it was: it is shared by the whole process."""
    registry = spandrel.MAIN_REGISTRY
    before = dict(vars(registry))  # what a registry holds is replaced, never changed in place
    register()
    register()
    assert len(registry) == len(before["_architectures"]) + 1
    yield
    vars(registry).update(before)
    assert "GCFSR" not in registry


@pytest.mark.parametrize("options", [{}, {"variant": "released"}, {"style_modulation": False}], ids=str)
def test_a_safetensors_file_is_loaded_and_called(options: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = GCFSR(**TINY, **options).eval()
    save_generator(net, tmp_path / "tiny.safetensors")
    model = spandrel.ModelLoader().load_from_file(tmp_path / "tiny.safetensors")
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert model.architecture.id == "GCFSR"
    assert (model.purpose, model.scale, model.input_channels) == ("FaceSR", 1, 3)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = ((net(image * 2 - 1, DEFAULT_S, "fixed") + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(model(image), expected)


@pytest.mark.parametrize("blind", [False, True])
def test_a_released_pth_is_loaded(blind: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = GCFSR(**TINY, variant="released", blind=blind).eval()
    state = {released_name(name, 32): value for name, value in net.state_dict().items()}
    torch.save({"params_ema": state}, tmp_path / "released.pth")
    model = spandrel.ModelLoader().load_from_file(tmp_path / "released.pth")
    assert model.architecture.id == "GCFSR"
    assert model.model.blind == blind
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(image), GCFSRArch().call(net, image).clamp(0, 1))


def test_tiles_and_sizes_that_do_not_fit() -> None:
    """An image of 2 x 2 faces is each face alone; smaller ones are padded and cut; a batch is its images."""
    torch.manual_seed(0)
    model = spandrel.ModelLoader().load_from_state_dict(GCFSR(**TINY).state_dict())
    image = torch.rand(2, 3, 64, 64)
    whole = model(image)
    for top in (0, 32):
        for left in (0, 32):
            tile = (..., slice(top, top + 32), slice(left, left + 32))
            torch.testing.assert_close(whole[tile], model(image[tile].contiguous()), rtol=0, atol=1e-5)
    torch.testing.assert_close(whole[1:], model(image[1:]), rtol=0, atol=1e-5)
    assert model(torch.rand(1, 3, 20, 50)).shape == (1, 3, 20, 50)
    assert model.tiling is spandrel.ModelTiling.DISCOURAGED


def test_alpha_goes_through_as_three_equal_channels() -> None:
    """How chaiNNer treats the alpha channel of an image: a gray image of its own."""
    torch.manual_seed(0)
    model = spandrel.ModelLoader().load_from_state_dict(GCFSR(**TINY).state_dict())
    rgba = torch.rand(1, 4, 32, 32)
    alpha = model(rgba[:, 3:].expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    result = torch.cat([model(rgba[:, :3]), alpha], 1)
    assert result.shape == rgba.shape
    assert 0 <= result.min() <= result.max() <= 1
    with pytest.raises(GCFSRError, match="3"):
        model(rgba)


def test_other_networks_are_not_ours() -> None:
    arch = GCFSRArch()
    for support in spandrel.MAIN_REGISTRY:
        if support.architecture.id != "GCFSR":
            assert not support.detect(GCFSR(**TINY).state_dict()), support.architecture.id
    assert not arch.detect({"conv_first.weight": torch.zeros(1)})
    assert not arch.detect(torch.nn.Linear(2, 2).state_dict())
