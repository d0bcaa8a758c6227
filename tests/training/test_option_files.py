"""The shipped option files: the paper's settings, and a test file that builds the trained network."""

from pathlib import Path
from typing import Any

import pytest
import yaml

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
