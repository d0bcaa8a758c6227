"""An environment without BasicSR, as `pip install gcfsr` makes it: restoring works, training says what to install."""

import importlib.metadata
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.xdist_group("without-basicsr")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose site-packages are links to this one's, all but BasicSR's. torch is too large to install twice."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    done = subprocess.run(
        [folder / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = Path(done.stdout.strip())
    entries = (entry for place in sys.path if place.endswith("site-packages") for entry in Path(place).iterdir())
    for entry in entries:
        other_packages = entry.suffix == ".pth" and "__editable__" not in entry.name  # it would bring BasicSR back
        if not entry.name.startswith("basicsr") and not other_packages and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def test_basicsr_is_really_absent(python: Path, run: Run) -> None:
    done = run(python, "-c", "import torch, basicsr")
    assert "No module named 'basicsr'" in done.stderr


@pytest.mark.parametrize("words", [["-m", "gcfsr_inference.cli", "train"], ["-m", "gcfsr_arch.train"]])
def test_training_without_basicsr_prints_one_line_with_the_command(
    words: list[str], python: Path, root: Path, run: Run
) -> None:
    done = run(python, *words, "-opt", root / "options" / "train_gcfsr_demo.yml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("gcfsr: error: training needs BasicSR")
    assert "'gcfsr[train]'" in done.stderr
    assert "git clone" in done.stderr


@pytest.mark.slow
def test_a_clone_on_the_python_path_trains(python: Path, root: Path, faces: Path, tmp_path: Path, run: Run) -> None:
    """A checkout of BasicSR's source on which setup.py never ran: VERSION, and no `basicsr.version`."""
    installed = Path(importlib.metadata.distribution("basicsr").locate_file("basicsr"))
    ignored = shutil.ignore_patterns("__pycache__", "version.py")
    shutil.copytree(installed, tmp_path / "BasicSR" / "basicsr", ignore=ignored)
    (tmp_path / "BasicSR" / "VERSION").write_text("1.4.2\n")
    small = [
        "network_g:narrow=0.0625", "network_d:narrow=0.0625", "network_g:out_size=32", "network_d:out_size=32",
        f"datasets:train:dataroot_gt={faces}", f"datasets:val:dataroot_gt={faces}", "datasets:train:out_size=32",
        "datasets:val:out_size=32", "train:total_iter=2",
    ]  # fmt: skip
    words = [
        "-m",
        "gcfsr_inference.cli",
        "train",
        "-opt",
        root / "options" / "train_gcfsr_demo.yml",
        "--force_yml",
        *small,
    ]
    done = run(python, *words, PYTHONPATH=str(tmp_path / "BasicSR"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "experiments" / "gcfsr_demo" / "models" / "net_g_latest.pth").is_file()


def test_networks_data_and_restoring_work(python: Path, tmp_path: Path, run: Run) -> None:
    code = (
        "from gcfsr_arch import GCFSR, save_generator\n"
        "save_generator(GCFSR(32, num_style_feat=16, narrow=1 / 16), 'tiny.safetensors')\n"
        "from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset\n"
    )
    assert run(python, "-c", code).returncode == 0
    cv2.imwrite(str(tmp_path / "face.png"), np.full((8, 8, 3), 127, np.uint8))
    words = "-m gcfsr_inference.cli restore -i face.png -o out --checkpoint tiny.safetensors --aligned --factor 4"
    done = run(python, *words.split())
    assert done.returncode == 0, done.stderr
    assert any(cv2.imread(str(p)).shape[:2] == (32, 32) for p in (tmp_path / "out").rglob("*.png"))


def test_the_python_interface_restores(python: Path, run: Run) -> None:
    code = (
        "import gcfsr, numpy as np\n"
        "gcfsr.save_generator(gcfsr.GCFSR(32, num_style_feat=16, narrow=1 / 16), 'tiny.safetensors')\n"
        "face = gcfsr.Restorer.load('tiny.safetensors').restore(np.full((8, 8, 3), 127, np.uint8), factor=4)\n"
        "print(face.shape, face.dtype)\n"
    )
    done = run(python, "-c", code)
    assert (done.stdout, done.returncode) == ("(32, 32, 3) uint8\n", 0), done.stderr


def test_commands_explain_themselves(python: Path, run: Run) -> None:
    code = (
        "import gcfsr_inference.cli as cli, contextlib\n"
        "for name in cli.COMMANDS:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        cli.main([name, '--help'])\n"
        "import sys; print('torch' in sys.modules)\n"
    )
    done = run(python, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("False"), "--help of a command loads torch"


def test_info_counts(python: Path, run: Run) -> None:
    done = run(python, "-m", "gcfsr_inference.cli", "info", "--out-size", "1024")
    assert done.returncode == 0, done.stderr
    assert "66.63 M" in done.stdout
