"""What `integrations/spandrel` sends upstream, written into a copy of spandrel: it computes what this package does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR, save_generator

spandrel = pytest.importorskip("spandrel")
ROOT = Path(__file__).resolve().parents[2]

USE = """
import sys
import numpy as np
import torch
from spandrel import MAIN_REGISTRY, ArchSupport, ModelLoader
from spandrel.architectures.GCFSR import GCFSR, GCFSRArch

MAIN_REGISTRY.add(ArchSupport.from_architecture(GCFSRArch()))
model = ModelLoader().load_from_file("net.safetensors")
assert isinstance(model.model, GCFSR)
assert model.model.hyperparameters["narrow"] == 1 / 16
assert GCFSR.__module__ == "spandrel.architectures.GCFSR.__arch.generator"
assert not [name for name in sys.modules if name.startswith("gcfsr")], "it needs our package"
np.save("result.npy", model(torch.from_numpy(np.load("image.npy"))).detach().numpy())
"""


def assemble(checkout: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "integrations/spandrel/assemble.py"), str(checkout)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_architecture_is_self_contained_in_spandrel(variant: str, tmp_path: Path) -> None:
    library = tmp_path / "libs/spandrel"
    shutil.copytree(Path(spandrel.__file__).parent, library / "spandrel", ignore=shutil.ignore_patterns("__pycache__"))
    said = assemble(tmp_path)
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "tests/test_GCFSR.py").is_file()
    assert (tmp_path / "tests/__snapshots__/test_GCFSR.ambr").is_file()

    torch.manual_seed(0)
    net = GCFSR(32, num_style_feat=32, narrow=1 / 16, variant=variant).eval()
    save_generator(net, tmp_path / "net.safetensors")
    image = torch.rand(2, 3, 32, 32)
    np.save(tmp_path / "image.npy", image.numpy())
    environment = {**os.environ, "PYTHONPATH": str(library), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    used = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert used.returncode == 0, used.stderr
    with torch.no_grad():
        expected = ((net(image * 2 - 1, 0.25, "fixed") + 1) / 2).clamp(0, 1)
    np.testing.assert_allclose(np.load(tmp_path / "result.npy"), expected.numpy(), rtol=0, atol=1e-6)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    said = assemble(tmp_path)
    assert said.returncode == 1
    assert said.stderr.strip() == "usage: assemble.py CHECKOUT, a checkout of spandrel's repository"
    assert list(tmp_path.iterdir()) == []
