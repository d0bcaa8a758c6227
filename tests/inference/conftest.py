"""Tiny networks as checkpoint files, and a face that may be shown."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_inference.cli import main


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network of 32 pixels with random parameters, factors 2 to 16."""
    return _save(tmp_path_factory, "tiny.safetensors", min_factor=2, max_factor=16)


@pytest.fixture(scope="session")
def tiny_blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same size, blind."""
    return _save(tmp_path_factory, "blind.safetensors", blind=True)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """scikit-image's astronaut (public domain): (256, 256, 3) BGR uint8 around the face."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[0:256, 96:352, ::-1])


@pytest.fixture
def face(tmp_path: Path) -> Path:
    """A file of 20x20 pixels of smooth noise."""
    path = tmp_path / "in" / "face.png"
    path.parent.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(noise, (5, 5), 0))
    return path


@pytest.fixture
def restore(tiny, tmp_path, capsys):
    """Runs `gcfsr restore` in this process: arguments -> (status, standard output, standard error)."""

    def call(*args, checkpoint=tiny, out=tmp_path / "out"):
        given = [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
        status = main(["restore", *map(str, args), "-o", str(out), *given])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home without weights and no GCFSR_WEIGHTS, whatever the machine has."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GCFSR_WEIGHTS", raising=False)


def _save(factory: pytest.TempPathFactory, name: str, **options) -> Path:
    import torch

    from gcfsr_arch import GCFSR, save_generator

    torch.manual_seed(0)
    net = GCFSR(32, num_style_feat=32, narrow=1 / 16, **options)
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if "noise_strength" in key:
                parameter.fill_(0.5)  # its start, 0, would hide every fault in the noise
    path = factory.mktemp("checkpoints") / name
    save_generator(net, path)
    return path
