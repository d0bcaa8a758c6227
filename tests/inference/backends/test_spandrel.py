"""The real spandrel finds, loads and calls our checkpoints; others' are not taken for ours."""

from pathlib import Path

import pytest
import torch

from gcfsr_arch import GCFSR, save_generator
from gcfsr_arch.released_names import released_name

spandrel = pytest.importorskip("spandrel")

from gcfsr_inference.backends.spandrel_arch import DEFAULT_S, GCFSRArch, register  # noqa: E402 - after the skip

TINY = {"out_size": 32, "num_style_feat": 32, "narrow": 1 / 16}


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()
    register()


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
    torch.testing.assert_close(model(image), GCFSRArch().call(net, image))


def test_other_networks_are_not_ours() -> None:
    arch = GCFSRArch()
    for support in spandrel.MAIN_REGISTRY:
        if support.architecture.id != "GCFSR":
            assert not support.detect(GCFSR(**TINY).state_dict()), support.architecture.id
    assert not arch.detect({"conv_first.weight": torch.zeros(1)})
    assert not arch.detect(torch.nn.Linear(2, 2).state_dict())
