"""BasicSR's unedited `train.py` and `test.py`, pip's and a source tree's, on our option files, as real programs."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.skipif(find_spec("basicsr") is None, reason="BasicSR is not installed")

TINY = ["network_g:out_size=32", "network_g:num_style_feat=16", "network_g:narrow=0.0625"]


def installed_basicsr() -> Path:
    return Path(next(iter(find_spec("basicsr").submodule_search_locations)))


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BasicSR as its source archive unpacks, setup never run: the archive's `basicsr/` is what pip installs."""
    tree = tmp_path_factory.mktemp("source") / "BasicSR"
    shutil.copytree(installed_basicsr(), tree / "basicsr", ignore=shutil.ignore_patterns("__pycache__", "version.py"))
    (tree / "VERSION").write_text("1.4.2\n")
    return tree


def program(name: str, words: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a script or a module (`-m` in the name) and returns what it said."""
    command = [sys.executable, *name.split(" "), *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def shrunk(option_file: Path, faces: Path, iterations: int) -> list[str]:
    """A command line that runs an option file of ours on a tiny network with little data; validation stays in."""
    opt = yaml.safe_load(option_file.read_text(encoding="utf-8"))
    force = [*TINY, "num_gpu=0", f"train:total_iter={iterations}"] if "train" in opt else [*TINY, "num_gpu=0"]
    for phase, block in opt["datasets"].items():
        where = f"datasets:{phase}"
        force += [f"{where}:dataroot_gt={faces}", f"{where}:io_backend:type=disk", f"{where}:out_size=32"]
        force += [f"{where}:meta_info_file=~"] if block.get("meta_info_file") else []
        for key in ("factors", "factor_range"):
            force += [f"{where}:{key}=[4,8]"] if block.get(key) else []
        force += [f"{where}:factor=4"] if block.get("factor") else []
        if phase == "train":
            force += [f"{where}:batch_size_per_gpu=2", f"{where}:num_worker_per_gpu=0", f"{where}:prefetch_mode=~"]
    if "train" in opt:
        force += [f"val:val_freq={iterations}", "logger:print_freq=1", f"logger:save_checkpoint_freq={iterations}"]
        force += ["train:perceptual_opt=~"]  # needs VGG's weights
    if opt.get("network_d"):
        force += ["network_d:out_size=32", "network_d:narrow=0.0625"]
    return ["-opt", str(option_file), "--force_yml", *force]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def training_files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "options").glob("train_*.yml"))


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", training_files(ROOT))
@pytest.mark.parametrize("kind", ["pip", "source"])
def test_every_option_file_trains(
    kind: str, name: str, faces: Path, source_tree: Path, tmp_path: Path, outside: dict[str, str]
) -> None:
    package = installed_basicsr() if kind == "pip" else source_tree / "basicsr"
    env = outside if kind == "pip" else {**outside, "PYTHONPATH": str(source_tree)}
    before = files(package.parent / "experiments") if (package.parent / "experiments").exists() else []
    done = program(str(package / "train.py"), shrunk(ROOT / "options" / name, faces, 20), tmp_path, env)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    opt = yaml.safe_load((ROOT / "options" / name).read_text(encoding="utf-8"))
    run = tmp_path / "experiments" / opt["name"]
    assert (run / "models" / "net_g_20.pth").is_file()
    assert (run / "models" / "net_g_latest.pth").is_file()
    assert "iter:      20" in (done.stdout + done.stderr) or "20/20" in (done.stdout + done.stderr)
    after = files(package.parent / "experiments") if (package.parent / "experiments").exists() else []
    assert before == after, "a run was written beside BasicSR"
    assert not (package.parent / "tb_logger").exists()
    if opt["logger"].get("use_tb_logger"):
        assert list((tmp_path / "experiments").rglob("events.out.tfevents*"))
