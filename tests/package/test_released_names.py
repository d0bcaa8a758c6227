"""The authors' option files: their names and arguments, run unchanged by BasicSR's trainer."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from gcfsr_arch import GCFSR, GCFSRDiscriminator, GCFSRError, load_generator
from gcfsr_arch.training.options.released import EMA_DECAY, our_options

needs_basicsr = pytest.mark.skipif(find_spec("basicsr") is None, reason="BasicSR is not installed")

# every key of the authors' training file, in its order, on a tiny network
OPTIONS = """
name: released_form
model_type: GCFSR_Model
num_gpu: 0
manual_seed: 0
datasets:
  train:
    name: FFHQ
    type: FFHQ_control_Dataset
    dataroot_gt: {faces}
    io_backend: {{type: disk}}
    downsample_list: [8, 8, 8, 4]
    cond_norm: 8.
    use_hflip: true
    mean: [0.5, 0.5, 0.5]
    std: [0.5, 0.5, 0.5]
    use_shuffle: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 100
    prefetch_mode: ~
  val:
    name: validation
    type: SingleImage_GT_Dataset
    dataroot_lq: {small}
    out_size: 32
    io_backend: {{type: disk}}
    cond_norm: 8.
    mean: [0.5, 0.5, 0.5]
    std: [0.5, 0.5, 0.5]
    scale: 1
network_g:
  type: {network}
  out_size: 32
  num_style_feat: 16
  channel_multiplier: 2
  narrow: 0.0625
network_d:
  type: StyleGAN2Discriminator_no_std
  out_size: 32
  channel_multiplier: 2
  narrow: 0.0625
  resample_kernel: [1, 3, 3, 1]
path: {{pretrain_network_g: ~, strict_load_g: true, pretrain_network_d: ~, resume_state: ~}}
train:
  optim_g: {{type: Adam, lr: !!float 2e-3}}
  optim_d: {{type: Adam, lr: !!float 2e-3}}
  scheduler: {{type: MultiStepLR, milestones: [800000], gamma: 0.5}}
  total_iter: 20
  warmup_iter: -1
  gan_opt: {{type: GANLoss, gan_type: wgan_softplus, loss_weight: !!float 1e-2}}
  pixel_opt: {{type: L1Loss, loss_weight: !!float 1, reduction: mean}}
  r1_reg_weight: 10
  path_batch_shrink: 2
  path_reg_weight: 2
  net_g_reg_every: 4
  net_d_reg_every: 16
  mixing_prob: 0.9
  net_d_iters: 1
  net_d_init_iters: 0
val: {{val_freq: !!float 20, save_img: true, num_val_samples: 3}}
logger:
  print_freq: 10
  save_checkpoint_freq: !!float 20
  use_tb_logger: true
  wandb: {{project: ~, resume_id: ~}}
dist_params: {{backend: nccl, port: 29500}}
find_unused_parameters: false
"""


@pytest.fixture(scope="module")
def small(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation faces at an eighth and a quarter of their size, without ground truth."""
    folder = tmp_path_factory.mktemp("small")
    for number, path in enumerate(sorted(faces.iterdir())[:4]):
        side = 4 if number % 2 else 8
        cv2.imwrite(str(folder / path.name), cv2.resize(cv2.imread(str(path)), (side, side)))
    return folder


def options(network: str, faces: Path, small: Path) -> dict[str, Any]:
    return yaml.safe_load(OPTIONS.format(network=network, faces=faces, small=small))


def test_released_options_are_translated(faces: Path, small: Path) -> None:
    theirs = options("GCFSR", faces, small)
    ours = our_options(theirs)
    assert ours["network_g"] == {**theirs["network_g"], "variant": "released", "max_factor": 8.0}
    assert ours["network_d"]["type"] == "GCFSRDiscriminator"
    train = ours["datasets"]["train"]
    assert (train["type"], train["factors"], train["max_factor"]) == (
        "MultiFactorDegradationDataset",
        [8, 8, 8, 4],
        8.0,
    )
    assert train["out_size"] == 32
    assert ours["train"]["ema_decay"] == EMA_DECAY
    assert ours["train"]["gan_opt"]["scale_d"] is False, "R1's weight of 10 would count as 1000"
    assert ours["train"]["optim_g"]["betas"] == pytest.approx([0, 0.9920], abs=5e-5)
    assert ours["train"]["optim_d"]["betas"] == pytest.approx([0, 0.9906], abs=5e-5)
    assert ours["train"]["net_d_first"] is True
    assert train["quantize"] == "enlarged"
    assert our_options(ours) == ours, "a translated file is translated again"
    assert theirs == options("GCFSR", faces, small), "the argument was changed"


def test_our_own_files_are_unchanged(root: Path) -> None:
    for path in sorted((root / "options").glob("*.yml")):
        opt = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert our_options(opt) == opt, path
        assert opt["network_g"]["variant"] in ("paper", "released"), path


@needs_basicsr
def test_networks_are_built_with_their_arguments(faces: Path, small: Path) -> None:
    from basicsr.archs import build_network

    import gcfsr_arch.register  # noqa: F401

    blind = build_network(options("GCFSR_blind", faces, small)["network_g"])
    assert isinstance(blind, GCFSR)
    assert (blind.blind, blind.config.variant) == (True, "released")
    judge = build_network(options("GCFSR", faces, small)["network_d"])
    assert isinstance(judge, GCFSRDiscriminator)
    assert not judge.minibatch_std


@needs_basicsr
def test_small_images_are_enlarged_as_in_training(faces: Path, small: Path) -> None:
    from basicsr.data import build_dataset

    import gcfsr_arch.register  # noqa: F401

    data = build_dataset({**options("GCFSR", faces, small)["datasets"]["val"], "phase": "val"})
    sample = data[1]
    assert sample["lq"].shape == (3, 32, 32)
    assert (sample["factor"], float(sample["s"])) == (8.0, 1.0)
    levels = (sample["lq"] + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-3, "not rounded to 8 bits"
    with pytest.raises(GCFSRError, match=r"none\.txt"):
        build_dataset({**data.opt, "meta_info_file": "none.txt"})


@needs_basicsr
def test_their_data_set_works_alone_and_never_repeats_a_sample(faces: Path, small: Path) -> None:
    """As their block has it: without an out_size, and a hundred times in an epoch."""
    from basicsr.data import build_dataset

    from gcfsr_arch.training.loaders import train_loader

    block = options("GCFSR", faces, small)["datasets"]["train"] | {"phase": "train", "num_worker_per_gpu": 0}
    data = build_dataset(dict(block))
    assert data[0]["lq"].shape == (3, 32, 32)
    loader, _, schedule = train_loader(
        {"dist": False, "num_gpu": 0, "world_size": 1, "rank": 0, "manual_seed": 0, "datasets": {}}, dict(block)
    )
    assert schedule.epoch_samples == 100 * len(data)
    first = str(sorted(faces.iterdir())[0])
    seen = {
        (float(f), float(lq[0, 3, 5]))
        for item in loader
        for f, lq, path in zip(item["factor"], item["lq"], item["lq_path"], strict=True)
        if path == first
    }
    assert len(seen) == 4, "two factors, mirrored or not"


@needs_basicsr
@pytest.mark.slow
@pytest.mark.parametrize("network", ["GCFSR", "GCFSR_blind"])
def test_the_stock_trainer_runs_them(
    network: str, faces: Path, small: Path, tmp_path: Path, outside: dict[str, str]
) -> None:
    (tmp_path / "theirs.yml").write_text(OPTIONS.format(network=network, faces=faces, small=small))
    script = Path(next(iter(find_spec("basicsr").submodule_search_locations))) / "train.py"
    done = subprocess.run(
        [sys.executable, str(script), "-opt", "theirs.yml"], cwd=tmp_path, env=outside, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    for key in ("train.mixing_prob", "train.path_reg_weight", "val.num_val_samples", "datasets.train.use_shuffle"):
        assert f"ignored: {key}" in said
    run = tmp_path / "experiments" / "released_form"
    assert len(list((run / "visualization" / "validation").glob("*_20.png"))) == 4
    net = load_generator(run / "models" / "net_g_20.pth", max_factor=8)
    assert (net.config.variant, net.blind, net.max_factor) == ("released", network == "GCFSR_blind", 8.0)
