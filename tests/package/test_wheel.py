"""The wheel: its files, its requirements, and that it works outside the repository."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import gcfsr_arch

Run = Callable[..., subprocess.CompletedProcess[str]]
HOMES = {
    "gcfsr": "gcfsr",
    "gcfsr_arch": "gcfsr_arch",
    "datasets": "gcfsr_datasets",
    "inference": "gcfsr_inference",
    "measure": "gcfsr_measure",
    "options": "gcfsr_options",
}
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files that git knows, so that untracked files change nothing."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked(root):
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_bytes((root / name).read_bytes())
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, *command, str(folder / "tree")], check=True, capture_output=True)
    return next(folder.glob("gcfsr-*.whl"))


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("target")
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return folder


def tracked(root: Path) -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("the repository is not a git checkout")
    return [name for name in done.stdout.split("\0") if (root / name).is_file()]


def metadata(wheel: Path) -> Parser:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_wheel_has_every_file_of_the_packages(root: Path, wheel: Path) -> None:
    expected = {"gcfsr_autoload.py"}
    for name in tracked(root):
        first, _, rest = name.partition("/")
        if first in HOMES and rest:
            expected.add(f"{HOMES[first]}/{rest}")
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert carried == expected


def test_options_weights_and_licences_are_among_them(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.startswith("gcfsr_options/train_") for name in names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    weights = [name for name in names if name.endswith(".safetensors")]
    if weights:
        assert any("LICENSE" in name and name.startswith("gcfsr_inference/weights/") for name in names)


def test_type_information_is_announced(wheel: Path) -> None:
    """PEP 561: without `py.typed` a type checker takes an installed package for untyped."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    typed = ("gcfsr", "gcfsr_arch", "gcfsr_datasets", "gcfsr_inference", "gcfsr_measure")
    assert {f"{name}/py.typed" for name in typed} <= names


def required(wheel: Path, python: str, extra: str) -> set[str]:
    """Names of the distributions that `pip install gcfsr[EXTRA]` requires under that Python."""
    environment = {"python_version": python, "extra": extra}
    lines = [Requirement(line) for line in metadata(wheel).get_all("Requires-Dist")]
    return {line.name for line in lines if line.marker is None or line.marker.evaluate(environment)}


@pytest.mark.parametrize(("python", "wanted"), [("3.10", True), ("3.12", True), ("3.13", False), ("3.14", False)])
def test_only_training_installs_basicsr_and_only_where_its_setup_works(wheel: Path, python: str, wanted: bool) -> None:
    assert ("basicsr" in required(wheel, python, "train")) is wanted
    others = set(metadata(wheel).get_all("Provides-Extra")) - {"train"}
    assert not any("basicsr" in required(wheel, python, extra) for extra in others | {""})


def test_the_core_is_small(wheel: Path) -> None:
    core = {"torch", "numpy", "scipy", "opencv-python", "pillow", "pyyaml", "safetensors", "pydantic", "rich"}
    assert required(wheel, "3.11", "") == core


def test_every_dependency_has_a_lower_bound(wheel: Path) -> None:
    requirements = [Requirement(line) for line in metadata(wheel).get_all("Requires-Dist")]
    free = [str(r) for r in requirements if not any(s.operator in (">=", "==") for s in r.specifier)]
    assert [line for line in free if not line.startswith("gcfsr[")] == []


def test_metadata(wheel: Path) -> None:
    said = metadata(wheel)
    assert said["Version"] == gcfsr_arch.__version__
    assert said["Author"] == "gcfsr contributors"
    assert said["License-Expression"] == "Apache-2.0 AND MIT AND LicenseRef-gcfsr-weights"
    assert said["Description-Content-Type"] == "text/markdown"
    assert all(url.split(", ")[1].startswith("https://") for url in said.get_all("Project-URL"))
    assert "Typing :: Typed" in said.get_all("Classifier")


def test_entry_points(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        text = archive.read(name).decode()
    assert "gcfsr = gcfsr_inference.cli:main" in text
    assert "[torch.backends]\ngcfsr = gcfsr_autoload:register" in text


def test_it_is_imported_from_outside_the_repository(target: Path, run: Run) -> None:
    code = (
        "import importlib, torch, gcfsr_options\n"
        "names = 'gcfsr_autoload gcfsr_arch.generator gcfsr_datasets.degradation gcfsr_inference.cli'.split()\n"
        "print(*[importlib.import_module(name).__file__ for name in names], gcfsr_options.__path__[0])\n"
        "net = importlib.import_module('gcfsr_arch').GCFSR(32, num_style_feat=16, narrow=1 / 16)\n"
        "assert net(torch.zeros(1, 3, 32, 32), 0.5).shape == (1, 3, 32, 32)\n"
    )
    done = run(sys.executable, "-c", code, PYTHONPATH=str(target))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 5
    assert all(path.startswith(str(target)) for path in done.stdout.split()), done.stdout


def test_its_command_runs_and_finds_its_option_files(target: Path, run: Run) -> None:
    listing = run(target / "bin" / "gcfsr", "--help", PYTHONPATH=str(target))
    assert listing.returncode == 0, listing.stderr
    assert "restore" in listing.stdout
    code = "from gcfsr_arch.train import bundled_options; print(*bundled_options().values())"
    done = run(sys.executable, "-c", code, PYTHONPATH=str(target))
    found = done.stdout.split()
    assert found, done.stderr
    assert all(path.startswith(str(target)) for path in found)
