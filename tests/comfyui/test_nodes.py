"""The ComfyUI nodes through the documented contract, loaded as ComfyUI loads a folder of `custom_nodes`."""

import importlib.util
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from gcfsr import GCFSRError, Restorer

ROOT = Path(__file__).resolve().parents[2]
TYPES = {"IMAGE", "MASK", "INT", "FLOAT", "STRING", "BOOLEAN", "GCFSR"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[ModuleType]:
    """A stub of ComfyUI's loader: it imports the folder's `__init__.py` under a module name of its own."""
    spec = importlib.util.spec_from_file_location("custom_nodes_gcfsr", ROOT / "comfyui" / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def run(nodes: ModuleType, name: str, **values: object) -> tuple:
    """Calls a node as ComfyUI does: values checked against INPUT_TYPES, a new instance, the named function."""
    cls = nodes.NODE_CLASS_MAPPINGS[name]
    declared = cls.INPUT_TYPES()
    required, optional = declared["required"], declared.get("optional", {})
    assert set(required) <= set(values) <= set(required) | set(optional)
    for key, value in values.items():
        kind = (required | optional)[key][0]
        assert value in kind if isinstance(kind, list) else kind in TYPES
    result = getattr(cls(), cls.FUNCTION)(**values)
    assert len(result) == len(cls.RETURN_TYPES)
    return result


@pytest.fixture(scope="module")
def restorer(nodes: ModuleType) -> Restorer:
    (loaded,) = run(nodes, "GCFSRLoadCheckpoint", checkpoint="gcfsr-nano", device="cpu")
    return loaded


@pytest.fixture(scope="module")
def face(restorer: Restorer) -> torch.Tensor:
    """A smooth image (1, S, S, 3) of the network's size."""
    points = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    size = (restorer.out_size, restorer.out_size)
    return torch.nn.functional.interpolate(points, size, mode="bilinear").permute(0, 2, 3, 1)


def test_every_node_keeps_the_contract(nodes: ModuleType):
    assert set(nodes.NODE_DISPLAY_NAME_MAPPINGS) == set(nodes.NODE_CLASS_MAPPINGS)
    for cls in nodes.NODE_CLASS_MAPPINGS.values():
        declared = cls.INPUT_TYPES()
        names = [*declared["required"], *declared.get("optional", {})]
        assert list(inspect.signature(getattr(cls, cls.FUNCTION)).parameters)[1:] == names
        assert set(cls.RETURN_TYPES) <= TYPES
        assert cls.CATEGORY


def test_aligned_faces_are_those_of_the_restorer(nodes: ModuleType, restorer: Restorer, face: torch.Tensor):
    settings = {"auto_factor": False, "factor": 4.0, "aligned": True, "seed": 1}
    image, count = run(nodes, "GCFSRRestoreFaces", restorer=restorer, image=face.expand(2, -1, -1, -1), **settings)
    assert image.shape == (2, restorer.out_size, restorer.out_size, 3)
    assert count == 2
    bgr = np.rint(face[0].numpy()[..., ::-1] * 65535).astype(np.uint16)
    expected = restorer.restore(bgr, factor=4.0, seed=1)[..., ::-1] / 65535
    np.testing.assert_allclose(image[1].numpy(), expected, atol=2e-5)


def test_a_photograph_without_faces_comes_back(nodes: ModuleType, restorer: Restorer):
    plain = torch.full((1, 120, 200, 3), 0.25)
    settings = {"auto_factor": True, "factor": 8.0, "aligned": False, "seed": 0}
    image, count = run(nodes, "GCFSRRestoreFaces", restorer=restorer, image=plain, **settings)
    assert count == 0
    torch.testing.assert_close(image, plain, atol=1e-5, rtol=0)


def test_a_mask_sets_the_strength(nodes: ModuleType, restorer: Restorer, face: torch.Tensor):
    settings = {"auto_factor": True, "factor": 8.0, "aligned": True, "seed": 0, "restorer": restorer, "image": face}
    by_mask, _ = run(nodes, "GCFSRRestoreFaces", s_map=torch.full(face.shape[1:3], 0.5), **settings)
    set_by_hand = {**settings, "auto_factor": False}
    instead, _ = run(nodes, "GCFSRRestoreFaces", s_map=torch.full(face.shape[1:3], 0.5), **set_by_hand)
    assert torch.equal(instead, by_mask)
    number = {**settings, "auto_factor": False, "factor": 0.5 * restorer.max_factor}
    by_factor, _ = run(nodes, "GCFSRRestoreFaces", **number)
    torch.testing.assert_close(by_mask, by_factor, atol=2e-3, rtol=0)
    with pytest.raises(GCFSRError, match="s_map"):
        run(nodes, "GCFSRRestoreFaces", s_map=torch.zeros(3, 5), **settings)


def test_a_sweep_has_one_image_per_factor(nodes: ModuleType, restorer: Restorer, face: torch.Tensor):
    (images,) = run(nodes, "GCFSRSweep", restorer=restorer, image=face, factors="2, 16", seed=0)
    assert images.shape == (2, restorer.out_size, restorer.out_size, 3)
    assert (images[0] - images[1]).abs().max() > 0.01
    for image, factors, word in ((face, "2, x", "factors"), (face.expand(2, -1, -1, -1), "2", "one aligned face")):
        with pytest.raises(GCFSRError, match=word):
            run(nodes, "GCFSRSweep", restorer=restorer, image=image, factors=factors, seed=0)


def test_the_project_file_names_the_package_and_no_basicsr(nodes: ModuleType):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 or later reads TOML")
    project = tomllib.loads((ROOT / "comfyui" / "pyproject.toml").read_text(encoding="utf-8"))
    assert [Requirement(line).name for line in project["project"]["dependencies"]] == ["gcfsr"]
    assert {"PublisherId", "DisplayName"} <= set(project["tool"]["comfy"])
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import comfyui; assert 'basicsr' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
