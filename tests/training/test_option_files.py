"""The shipped option files: the paper's settings, and a test file that builds the trained network."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gcfsr_arch.training.options import apply_force, check
from gcfsr_arch.training.options.released import train_options
from gcfsr_inference.evaluation.report.published import PUBLISHED

OPTIONS = Path(__file__).resolve().parents[2] / "options"
OURS = ("x64", "adv_512", "blind_512", "nostyle_1024", "released_1024", "demo")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((OPTIONS / name).read_text())


@pytest.mark.parametrize("name", OURS)
def test_the_test_file_builds_the_trained_network(name: str) -> None:
    train, test = read(f"train_gcfsr_{name}.yml"), read(f"test_gcfsr_{name}.yml")
    assert train["model_type"] == test["model_type"] == "GCFSRModel"
    assert test["network_g"] == train["network_g"]
    assert "variant" in train["network_g"]
    assert f"experiments/{train['name']}/" in test["path"]["pretrain_network_g"]
    sizes = {block["out_size"] for block in [*train["datasets"].values(), *test["datasets"].values()]}
    assert sizes == {train["network_g"]["out_size"]} == {train["network_d"]["out_size"]}


@pytest.mark.parametrize("name", [n for n in OURS if n != "blind_512"])
def test_s_means_the_same_everywhere(name: str) -> None:
    train, test = read(f"train_gcfsr_{name}.yml"), read(f"test_gcfsr_{name}.yml")
    largest = {block["max_factor"] for block in [*train["datasets"].values(), *test["datasets"].values()]}
    assert largest == {train["network_g"]["max_factor"]}


def test_the_papers_settings() -> None:
    options = read("train_gcfsr_x64.yml")
    data, train = options["datasets"]["train"], options["train"]
    assert (data["factors"], data["max_factor"], data["use_hflip"]) == ([4, 8, 16, 32, 64], 64, True)
    assert data["batch_size_per_gpu"] * 8 == 24
    assert [train[key]["lr"] for key in ("optim_g", "optim_d")] == [2e-3, 2e-3]
    assert train["total_iter"] == 300000
    assert [train[key]["loss_weight"] for key in ("pixel_opt", "gan_opt")] == [1, 0.01]
    assert train["perceptual_opt"]["perceptual_weight"] == 0.01
    assert train["gan_opt"]["scale_d"] is True


def test_the_adversarial_file_has_one_loss() -> None:
    train = read("train_gcfsr_adv_512.yml")["train"]
    assert [key for key in train if key.endswith("_opt")] == ["gan_opt"]


@pytest.mark.parametrize("name", [n for n in OURS if n not in ("blind_512", "demo")])
def test_inputs_are_8_bit_images(name: str) -> None:
    """In training, validation and tests alike, as in `gcfsr evaluate`; the released code rounds after enlarging."""
    train, test = read(f"train_gcfsr_{name}.yml")["datasets"], read(f"test_gcfsr_{name}.yml")["datasets"]
    trained = train.pop("train")["quantize"]
    assert trained == ("enlarged" if name == "released_1024" else True)
    assert {block["quantize"] for block in [*train.values(), *test.values()]} == {True}


def test_the_head_names_the_papers_batch() -> None:
    """Both command lines of the file's head train on 24 images a step."""
    head = (OPTIONS / "train_gcfsr_x64.yml").read_text().split("\nname:")[0]
    assert "--nproc_per_node=8 basicsr/train.py -opt options/train_gcfsr_x64.yml --launcher pytorch" in head
    forced = re.findall(r"--force_yml (\S+) (\S+)", head)[0]
    options = read("train_gcfsr_x64.yml")
    assert [apply_force(options, entry) for entry in forced] == [None, None]
    report = check(options)
    assert report.faults == []
    assert report.options["datasets"]["train"]["batch_size_per_gpu"] == 24
    assert report.options["train"]["engine"]["accumulate"] == 8


def test_the_released_settings() -> None:
    """Those of the authors' trainer, which its own option file does not name."""
    train = read("train_gcfsr_released_1024.yml")["train"]
    theirs = train_options({"optim_g": {"lr": 2e-3}, "optim_d": {"lr": 2e-3}, "gan_opt": {"gan_type": "wgan_softplus"}})
    for key in ("optim_g", "optim_d"):
        assert train[key]["betas"] == pytest.approx(theirs[key]["betas"], abs=1e-6)
    assert train["ema_decay"] == pytest.approx(theirs["ema_decay"], abs=1e-5)
    assert train["net_d_first"] is theirs["net_d_first"] is True
    assert train["gan_opt"]["scale_d"] is theirs["gan_opt"]["scale_d"] is False
    assert (train["r1_reg_weight"], train["total_iter"]) == (10, 800000)


def test_the_adversarial_file_validates_the_factors_of_table_4() -> None:
    data = read("train_gcfsr_adv_512.yml")["datasets"]
    published = {f"x{block['factor']}" for name, block in data.items() if name.startswith("val")}
    assert published == PUBLISHED["table4"].keys()


@pytest.mark.parametrize("name", [n for n in OURS if n != "demo"])
def test_metrics_that_need_weights_can_be_uncommented(name: str) -> None:
    text = (OPTIONS / f"test_gcfsr_{name}.yml").read_text()
    metrics = yaml.safe_load(re.sub(r"# (\w+: \{type)", r"\1", text))["val"]["metrics"]
    assert metrics.keys() == {"psnr", "ssim", "niqe", "lpips", "fid", "identity"}
    pytest.importorskip("basicsr")
    from basicsr.utils.registry import METRIC_REGISTRY

    import gcfsr_arch.register  # noqa: F401

    assert [block["type"] for block in metrics.values() if block["type"] not in METRIC_REGISTRY] == []


def test_blind_inputs_are_those_of_celeba_test() -> None:
    for name, key in (("train_gcfsr_blind_512.yml", "val"), ("test_gcfsr_blind_512.yml", "test_1")):
        block = read(name)["datasets"][key]
        assert [block[k] for k in ("blur_sigma", "downsample_range", "noise_range", "jpeg_range")] == [
            [0.2, 10], [1, 8], [0, 15], [60, 100],
        ]  # fmt: skip
        assert {block[k] for k in ("color_jitter_prob", "color_jitter_pt_prob", "gray_prob")} == {None}


def test_scaling_the_loss_is_scaling_adams_eps() -> None:
    """What train_gcfsr_x64.yml says about 0.01 before D's loss."""
    gradients = torch.randn(30, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-5
    ends = []
    for scale, eps in ((0.01, 1e-8), (1.0, 1e-6), (1.0, 1e-8)):
        parameter = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
        adam = torch.optim.Adam([parameter], lr=2e-3, betas=(0.0, 0.99), eps=eps)
        for gradient in gradients:
            parameter.grad = scale * gradient
            adam.step()
        ends.append(parameter.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=0)
    assert (ends[0] - ends[2]).abs().max() > 1e-4


def test_adams_eps_is_an_option() -> None:
    options = read("train_gcfsr_x64.yml")
    options["train"]["optim_d"]["eps"] = 1e-10
    assert check(options).faults == []
