"""The hub's mixin on a local folder: what is saved loads back, also through our own reader."""

import json
from pathlib import Path

import pytest
import torch

from gcfsr_arch import GCFSR, load_generator

huggingface_hub = pytest.importorskip("huggingface_hub")

from gcfsr_inference.backends.hub import HubGCFSR  # noqa: E402 - after the skip

TINY = {"out_size": 32, "num_style_feat": 32, "narrow": 1 / 16, "max_factor": 16.0, "variant": "released"}


def test_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = HubGCFSR(**TINY).eval()
    net.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["out_size"] == 32
    assert stored["max_factor"] == 16
    loaded = HubGCFSR.from_pretrained(tmp_path)
    assert loaded.config == net.config
    assert not loaded.training
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(loaded(x, 0.5, "zero"), net(x, 0.5, "zero"), rtol=0, atol=0)
    for name, value in load_generator(tmp_path / "model.safetensors", max_factor=16).state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name], rtol=0, atol=0)


def test_from_a_network() -> None:
    net = GCFSR(**TINY).eval()
    hub = HubGCFSR.from_network(net)
    assert isinstance(hub, GCFSR)
    assert hub.config == net.config
    assert not hub.training
    for name, value in net.state_dict().items():
        assert hub.state_dict()[name].data_ptr() == value.data_ptr()


def test_push_uploads_the_saved_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload itself is the hub's; the test compares a copy of what would be sent."""
    sent: dict[str, object] = {}

    class Hub:
        def __init__(self, **_: object) -> None: ...

        def create_repo(self, repo_id: str, **_: object) -> object:
            return type("Repo", (), {"repo_id": repo_id})()

        def upload_folder(self, repo_id: str, folder_path: str, **_: object) -> str:
            sent[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())
            return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    assert HubGCFSR(**TINY).push_to_hub("someone/tiny") == "done"
    assert {"config.json", "model.safetensors"} <= set(sent["someone/tiny"])
