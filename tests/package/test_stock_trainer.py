"""BasicSR's unedited `train.py` and `test.py`, pip's and a source tree's, on our option files, as real programs."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torchvision
import yaml

from gcfsr_arch import GCFSR, load_generator, save_generator

pytestmark = pytest.mark.skipif(find_spec("basicsr") is None, reason="BasicSR is not installed")

ROOT = Path(__file__).resolve().parents[2]
NETWORK = {"out_size": 32, "num_style_feat": 16, "narrow": 0.0625, "min_factor": 2, "max_factor": 8}
DATA = {
    "out_size": 32, "meta_info_file": "~", "exclude_list": "~", "luminance_cache": "~", "valid_corners": "~",
    "pin_memory": "false",
}  # fmt: skip
FACTORS = {"factors": "[4,8]", "factor_range": "[2,8]", "factor": 4, "max_factor": 8}
LOADER = {"batch_size_per_gpu": 2, "num_worker_per_gpu": 0, "prefetch_mode": "~", "dataset_enlarge_ratio": 1}


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


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SqueezeNet drawn from a seed, in the place of ImageNet's."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("features") / "squeezenet1_1.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return path


def shrunk(option_file: Path, faces: Path, iterations: int, features: Path | None = None) -> list[str]:
    """A command line that runs an option file of ours on a tiny network with little data; validation stays in.

    The perceptual loss is left out: VGG's weights are half a gigabyte.
    """
    opt = yaml.safe_load(option_file.read_text(encoding="utf-8"))
    force = {"num_gpu": 0, "path:experiments_root": "~", "path:pretrain_network_g": "~"}
    force |= {f"network_g:{key}": value for key, value in NETWORK.items()}
    if (opt.get("network_d") or {}).get("type") == "FeatureDiscriminator":
        force["network_d:weights"] = features
    elif opt.get("network_d"):
        force |= {"network_d:out_size": 32, "network_d:narrow": 0.0625}
    for phase, block in opt["datasets"].items():
        dial = FACTORS if block["type"] in ("MultiFactorDegradationDataset", "PhotographDegradationDataset") else {}
        wanted = {**DATA, **dial, **(LOADER if phase == "train" else {})}
        own = {key: value for key, value in wanted.items() if key in block}
        force |= {f"datasets:{phase}:{key}": value for key, value in {**own, "dataroot_gt": faces}.items()}
        if block.get("io_backend"):
            force[f"datasets:{phase}:io_backend:type"] = "disk"
    if (opt.get("val") or {}).get("grid_factors"):
        force["val:grid_factors"] = "[2,4,8]"
    if "train" in opt:
        force |= {"train:total_iter": iterations, "train:perceptual_opt": "~"}
        force |= {"train:scheduler:decay": 0} if "decay" in opt["train"].get("scheduler", {}) else {}
        force |= {"train:feature_opt:weights": features} if opt["train"].get("feature_opt") else {}
        force |= {"logger:print_freq": iterations, "logger:save_checkpoint_freq": iterations}
        force |= {"val:val_freq": iterations} if opt.get("val") else {}
    return ["-opt", str(option_file), "--force_yml", *(f"{key}={value}" for key, value in force.items())]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def option_files(pattern: str) -> list[str]:
    return sorted(path.name for path in (ROOT / "options").glob(pattern))


def text(option_file: str) -> str:
    return (ROOT / "options" / option_file).read_text(encoding="utf-8")


def name_in(option_file: str) -> str:
    return yaml.safe_load(text(option_file))["name"]


@pytest.mark.slow
@pytest.mark.parametrize("option_file", option_files("train_*.yml"))
@pytest.mark.parametrize("kind", ["pip", "source"])
def test_every_option_file_trains(
    kind: str,
    option_file: str,
    faces: Path,
    features: Path,
    source_tree: Path,
    tmp_path: Path,
    outside: dict[str, str],
) -> None:
    """20 iterations, started from a folder that has nothing to do with BasicSR, which stays as it was."""
    package = installed_basicsr() if kind == "pip" else source_tree / "basicsr"
    env = outside if kind == "pip" else {**outside, "PYTHONPATH": str(source_tree)}
    before = sorted(package.parent.iterdir())
    words = shrunk(ROOT / "options" / option_file, faces, 20, features)
    done = program(str(package / "train.py"), words, tmp_path, env)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    run = tmp_path / "experiments" / name_in(option_file)
    assert {path.name for path in run.glob("models/net_g_*")} == {"net_g_20.pth", "net_g_latest.pth"}
    net = load_generator(run / "models" / "net_g_20.pth")
    assert (net.out_size, net.max_factor) == (32, FACTORS["max_factor"])  # the file stores its range of factors
    assert sorted(package.parent.iterdir()) == before, "something was written beside BasicSR"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experiments"]


@pytest.mark.slow
@pytest.mark.parametrize("option_file", option_files("test_*.yml"))
def test_every_test_file_tests(option_file: str, faces: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    script, file = installed_basicsr() / "test.py", ROOT / "options" / option_file
    arguments = yaml.safe_load(text(option_file))["network_g"] | NETWORK
    arguments.pop("type")
    save_generator(GCFSR(**arguments), tmp_path / "g.safetensors")
    words = [*shrunk(file, faces, 20), f"path:pretrain_network_g={tmp_path / 'g.safetensors'}"]
    done = program(str(script), words, tmp_path, outside)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert list((tmp_path / "results" / name_in(option_file) / "visualization").rglob("*.png"))
    assert "Best" not in done.stdout + done.stderr, "a test has no best iteration"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.safetensors", "results"]


@pytest.mark.parametrize("kind", ["gcfsr test", "test.py"])
def test_testing_without_a_checkpoint_is_an_error(
    kind: str, faces: Path, tmp_path: Path, outside: dict[str, str]
) -> None:
    """Random weights would be tested otherwise, with exit status 0."""
    words = shrunk(ROOT / "options" / "test_gcfsr_demo.yml", faces, 20)  # leaves path:pretrain_network_g empty
    script, first = ("-m gcfsr_inference.cli", ["test"]) if kind == "gcfsr test" else (installed_basicsr() / kind, [])
    done = program(str(script), [*first, *words], tmp_path, outside)
    assert done.returncode == 2
    assert "path.pretrain_network_g: is missing, testing needs a checkpoint" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_folders_can_be_chosen_and_tensorboard_follows(faces: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    """Through `gcfsr train` with a bundled file's name, then `gcfsr test` of what it trained."""
    words = shrunk(ROOT / "options" / "train_gcfsr_demo.yml", faces, 2)
    words[1] = "train_gcfsr_demo.yml"
    elsewhere = tmp_path / "elsewhere"
    done = program("-m gcfsr_inference.cli", ["train", *words, f"path:experiments_root={elsewhere}"], tmp_path, outside)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (elsewhere / "gcfsr_demo" / "models" / "net_g_latest.pth").is_file()
    assert list((elsewhere / "tb_logger" / "gcfsr_demo").glob("events.out.tfevents*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere"]


@pytest.mark.slow
def test_torchrun_starts_two_ranks_without_a_gpu(faces: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    words = [*shrunk(ROOT / "options" / "train_gcfsr_demo.yml", faces, 2), "--launcher", "pytorch"]
    ranks = "-m torch.distributed.run --standalone --nproc_per_node=2 -m gcfsr_arch.train"
    done = program(ranks, words, tmp_path, outside)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (tmp_path / "experiments" / "gcfsr_demo" / "models" / "net_g_latest.pth").is_file()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-opt", "nowhere.yml"], "nowhere.yml"),
        (["-opt", "torn.yml"], "torn.yml: is not valid YAML"),
        (["-opt", "train_gcfsr_demo.yml", "--launcher", "pytorch"], "torchrun"),
    ],
)
def test_a_fault_is_one_line(words: list[str], named: str, tmp_path: Path, outside: dict[str, str]) -> None:
    (tmp_path / "torn.yml").write_text("name: x\nmodel_type: GCFSRModel\n\tnum_gpu: 0\n")
    done = program("-m gcfsr_inference.cli", ["train", *words], tmp_path, outside)
    assert done.returncode == 2
    assert named in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_other_models_run_unchanged_in_basicsr(
    faces: Path, source_tree: Path, tmp_path: Path, outside: dict[str, str]
) -> None:
    """An SRModel run writes where BasicSR has always written: beside its own package."""
    (tmp_path / "plain.yml").write_text(PLAIN.format(faces=faces))
    env = {**outside, "PYTHONPATH": str(source_tree)}
    done = program(str(source_tree / "basicsr" / "train.py"), ["-opt", "plain.yml"], tmp_path, env)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (source_tree / "experiments" / "plain" / "models" / "net_g_2.pth").is_file()
    assert not (tmp_path / "experiments").exists()
    assert "[plain..][epoch:" in done.stdout + done.stderr, "not BasicSR's own console line"
    shutil.rmtree(source_tree / "experiments")


PLAIN = """
name: plain
model_type: SRModel
num_gpu: 0
manual_seed: 0
scale: 1
datasets:
  train:
    name: pairs
    type: PairedImageDataset
    dataroot_gt: {faces}
    dataroot_lq: {faces}
    io_backend: {{type: disk}}
    gt_size: 32
    use_hflip: true
    use_rot: false
    num_worker_per_gpu: 0
    batch_size_per_gpu: 2
network_g: {{type: SRVGGNetCompact, num_feat: 4, num_conv: 1, upscale: 1}}
path: {{pretrain_network_g: ~, strict_load_g: true, resume_state: ~}}
train:
  optim_g: {{type: Adam, lr: 0.001}}
  scheduler: {{type: MultiStepLR, milestones: [100], gamma: 0.5}}
  total_iter: 2
  warmup_iter: -1
  pixel_opt: {{type: L1Loss, loss_weight: 1.0, reduction: mean}}
logger: {{print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: false}}
"""
