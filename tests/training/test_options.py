"""Option files: what is right is read, what is wrong is named with its place, all of it at once."""

import inspect
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.training.options import check
from gcfsr_arch.training.options.data import BlindFace, MultiFactor
from gcfsr_arch.training.options.names import known_keys
from gcfsr_arch.training.options.networks import Discriminator, Generator, vgg_layers
from gcfsr_arch.training.options.registry import registered, typed_blocks
from gcfsr_arch.training.options.schema import EngineOptions, Options

BLIND = {"type": "BlindFaceDegradationDataset"}
VGG = {"type": "PerceptualLoss", "layer_weights": {"conv4_3": 1}}
EMAS = {"total_iter": 100, "optim_g": {"type": "Adam", "lr": 1}, "ema_decay": 0.9, "ema_half_life": 1000}
FREE = {"type": "AdamWScheduleFree", "lr": 1e-3}
KEPT = ("name", "dataroot_gt", "out_size", "num_worker_per_gpu", "batch_size_per_gpu")  # of both kinds
COSINE = {"type": "CosineAnnealingRestartLR", "periods": [20, 40], "restart_weights": [1, 1]}


def changed(options: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The options with one key set, or removed where the value is `...`."""
    *blocks, last = path.split(".")
    place = options
    for block in blocks:
        place = place.setdefault(block, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return options


def test_text_numbers_become_numbers(good: dict[str, Any]) -> None:
    report = check(good)
    assert report.faults == []
    assert report.options["train"]["optim_g"]["lr"] == 0.002
    assert report.options["logger"]["save_checkpoint_freq"] == 50
    assert isinstance(report.options["logger"]["save_checkpoint_freq"], int)
    assert list(report.options) == list(good)


@pytest.mark.parametrize(
    ("path", "value", "place", "words"),
    [
        ("train.totl_iter", 5, "train.totl_iter", "did you mean 'total_iter'?"),
        ("network_g.narow", 1, "network_g.narow", "did you mean 'narrow'?"),
        ("datasets.train.use_hflp", True, "datasets.train.use_hflp", "did you mean 'use_hflip'?"),
        ("total_iter", 5, "total_iter", "belongs under train"),
        ("datasets.train.zzz", 5, "datasets.train.zzz", "known ones are augment, balance_luminance, b"),
        ("train.keep_last", 5, "train.keep_last", "belongs under logger"),
        ("train.total_iter", 0, "train.total_iter", "greater than or equal to 1, got 0"),
        ("train.total_iter", 1.5, "train.total_iter", "whole number, got 1.5"),
        ("train.total_iter", True, "train.total_iter", "not true or false"),
        ("train.optim_g.lr", "fast", "train.optim_g.lr", "should be a number, got 'fast'"),
        ("train.optim_g.lr", -1e-3, "train.optim_g.lr", "greater than 0, got -0.001"),
        ("train.optim_g.lr", ..., "train.optim_g.lr", "is missing"),
        ("train.optim_g.type", "Adm", "train.optim_g.type", "did you mean 'Adam'?"),
        ("train.optim_d.type", "os.system", "train.optim_d.type", "unknown name 'os.system', known ones are Adam"),
        ("train.optim_g", {"type": "SGD", "lr": 1, "betas": [0, 0]}, "train.optim_g.betas", "unknown key"),
        ("train.optim_g", FREE | {"betas": [0, 0.9]}, "train.optim_g.betas.0", "greater than 0"),
        ("train.optim_g", FREE, "train.scheduler", "a schedule-free optim_g needs no schedule"),
        (
            "train.optim_g",
            FREE,
            "train.optim_g.type",
            "needs the package schedulefree: pip install 'gcfsr[optimizers]'",
        ),
        ("train.losses", [{"type": "LDL"}], "train.losses.0.type", "did you mean 'LDLLoss'?"),
        ("train.losses", [{"type": "LDLLoss"}], "train.ema_decay", "LDLLoss compares with the moving average"),
        ("train.losses", [{"type": "LDLLoss", "window": 4}], "train.losses.0.window", "should be 3, 5, 7, 9 or 11"),
        ("train.losses", [{"type": "MSSSIMLoss"}], "train.losses.0.scales", "need out_size 176; lower scales"),
        ("train.losses", [{"type": "MSSSIMLoss", "scales": 5000}], "train.losses.0.scales", "less than or equal to 5"),
        ("train.losses", [{"type": "SSIMLoss", "window": 65}], "train.losses.0.window", "65 pixels need out_size 65"),
        ("train.ssim_opt", {"window": 65}, "train.ssim_opt.window", "65 pixels need out_size 65; lower window"),
        ("train.pixel_opt.reduction", "none", "train.pixel_opt.reduction", "should be 'mean', got 'none'"),
        ("train.pixel_opt.reduction", "sum", "train.pixel_opt.reduction", "should be 'mean', got 'sum'"),
        ("train.pixel_opt.eps", 1e-6, "train.pixel_opt", "eps belongs to CharbonnierLoss, L1Loss has none"),
        ("train.perceptual_opt", VGG | {"layer_weights": {"conv9_9": 1}}, "train.perceptual_opt", "layer 'conv9_9'"),
        ("train.perceptual_opt", VGG | {"layer_weights": {}}, "train.perceptual_opt.layer_weights", "at least 1 item"),
        ("train.perceptual_opt", VGG | {"criterion": "l2"}, "train.perceptual_opt.criterion", "should be 'l1'"),
        ("network_d.resample_kernel", [1, -1], "network_d.resample_kernel", "1 to 16 numbers whose sum is not zero"),
        ("network_g.resample_kernel", 17 * [1], "network_g.resample_kernel", "1 to 16 numbers"),
        ("train.losses", [{"type": "DISTSLoss"}], "train.losses.0.vgg_path", "is missing"),
        ("train.losses", 2 * [{"type": "FocalFrequencyLoss"}], "train.losses.1.type", "in the list already"),
        ("train.losses", [{"type": "FocalFrequencyLoss", "alfa": 1}], "train.losses.0.alfa", "did you mean 'alpha'?"),
        ("train.losses", {"type": "L1Loss"}, "train.losses", "should be a valid list"),
        ("train.scheduler.type", "MultiStep", "train.scheduler.type", "did you mean 'MultiStepLR'?"),
        ("train.ema_decay", 1, "train.ema_decay", "less than 1"),
        ("train.ema_rampup", 0.1, "train.ema_rampup", "train.ema_half_life, which is missing"),
        ("train", EMAS, "train.ema_decay", "remove one of them"),
        ("train.engine", {"accumulate": 3}, "train.engine.accumulate", "more than the 2 images"),
        ("path.ignore_resume_networks", "net_g", "path.ignore_resume_networks", "network_g, network_d or a"),
        (
            "path.ignore_resume_networks",
            ["net_g"],
            "path.ignore_resume_networks",
            "network_g, network_d or a",
        ),
        ("network_g.out_size", 96, "network_g.out_size", "power of two"),
        ("network_d.out_size", 128, "network_d.out_size", "network_g.out_size is 64"),
        ("datasets.train.out_size", 128, "datasets.train.out_size", "network_g.out_size is 64"),
        ("datasets.train.factors", [4, 64], "datasets.train", "factor must be from 1 to max_factor 32"),
        ("datasets.train.factor_range", [4, 8], "datasets.train", "given exactly once"),
        ("datasets.train.max_factor", 64, "datasets.train.max_factor", "network_g's is 32"),
        ("datasets.train.type", "MultiFactorDataset", "datasets.train.type", "'MultiFactorDegradationDataset'"),
        ("datasets.train.batch_size_per_gpu", ..., "datasets.train.batch_size_per_gpu", "is missing"),
        ("datasets.tain", {"name": "x"}, "datasets.tain", "should be train, val, val_2"),
        ("name", "a/b", "name", "without slashes"),
        ("num_gpu", -1, "num_gpu", "whole number from 0, or 'auto'"),
        ("network_g.type", "GCSFR", "network_g.type", "did you mean 'GCFSR'?"),
        ("network_d", ..., "network_d", "train.gan_opt needs it"),
        ("logger", ..., "logger", "training needs it"),
        ("val", {"val_freq": 5, "metrics": {"p": {"type": "calculate_psn"}}}, "val.metrics.p.type", "'calculate_psnr'"),
        *(
            ("val", {"val_freq": 5, "metrics": {"p": metric}}, f"val.metrics.p{key}", words)
            for metric, key, words in (
                ({"type": "calculate_ssim", "crop_boarder": 8}, ".crop_boarder", "did you mean 'crop_border'"),
                ({"type": "calculate_psnr", "convert_to": "y"}, ".convert_to", "under val.metrics.calculate_niqe"),
                ({"type": "calculate_psnr", "input_order": "CHW"}, ".input_order", "should be 'HWC'"),
                ({"type": "calculate_lpips", "net": "res", "weights": "w"}, ".net", "should be 'alex', 'vgg' or"),
                (
                    {"type": "calculate_lpips", "test_y_channel": True},
                    ".test_y_channel",
                    "it belongs under val.metrics.",
                ),
                ({"type": "calculate_identity"}, ".weights", "is missing"),
                ({"type": "calculate_psnr", "crop_border": "32"}, ".crop_border", "leaves nothing of network_g.out_"),
                ({"type": "calculate_lpips", "weights": "w"}, ".type", "needs the package lpips: pip install 'gcfsr["),
            )
        ),
        ("val", {"val_freq": 5, "grid_factors": [4, 33]}, "val.grid_factors", "must be at most 32"),
        ("model_type", "GCFSRModle", "model_type", "'GCFSRModel'"),
        ("train.gan_opt.scale_d", "maybe", "train.gan_opt.scale_d", "boolean"),
        ("train.gan_opt.real_label_val", 0.9, "train.gan_opt.real_label_val", "equal to 1, got 0.9"),
        ("train.engine", {"tf32": 2}, "train.engine.tf32", "boolean"),
        ("train.scheduler", COSINE, "train.scheduler.periods", "end after 60 iterations, before train.total_iter 100"),
        ("train.scheduler", {"type": "WarmupStableDecayLR", "decay": 101}, "train.scheduler.decay", "longer than"),
        ("logger.wandb", {"project": "x"}, "logger.wandb", "pip install wandb"),
        ("logger.wandb", {"project": "x"}, "logger.use_tb_logger", "must be true"),
        ("datasets.train.type", {}, "datasets.train.type", "valid string"),
        ("datasets.train.type", [[]], "datasets.train.type", "valid string"),
    ],
)
def test_a_fault_is_named_with_its_place(good: dict[str, Any], path: str, value: Any, place: str, words: str) -> None:
    faults = check(changed(good, path, value)).faults
    assert any(where.startswith(place) and words in what for where, what in faults), faults
    assert all("\n" not in where + what for where, what in faults)


@pytest.fixture(autouse=True)
def bare_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the packages wandb, schedulefree and lpips are not installed."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    monkeypatch.setitem(sys.modules, "lpips", None)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.pixel_opt", {"type": "L1Loss", "reduction": "mean"}),
        ("train.pixel_opt", {"type": "CharbonnierLoss", "eps": 1e-6}),
        ("train.perceptual_opt", VGG | {"criterion": "l1"}),
        ("train.ssim_opt", {"window": 64}),
        ("network_d.resample_kernel", [1, 2, 1]),
    ],
)
def test_values_at_the_limits_are_accepted(good: dict[str, Any], path: str, value: Any) -> None:
    assert check(changed(good, path, value)).faults == []


def test_layers_of_a_vgg_are_basicsr_s() -> None:
    vgg_arch = pytest.importorskip("basicsr.archs.vgg_arch")
    for vgg_type, names in vgg_arch.NAMES.items():
        assert vgg_layers(vgg_type) == names
        assert vgg_layers(f"{vgg_type}_bn") == vgg_arch.insert_bn(names)


def test_cosine_periods_may_end_with_the_run(good: dict[str, Any]) -> None:
    """BasicSR's scheduler counts from 0, so it needs total_iter - 1 iterations of periods."""
    for total, faults in ((60, 0), (61, 0), (62, 1)):
        options = changed(changed(good, "train.scheduler", dict(COSINE)), "train.total_iter", total)
        assert len(check(options).faults) == faults, total


def test_testing_needs_a_checkpoint(good: dict[str, Any]) -> None:
    test = {key: good[key] for key in ("name", "model_type", "num_gpu", "network_g", "path")}
    block = {key: value for key, value in good["datasets"]["train"].items() if "per_gpu" not in key}
    test["datasets"] = {"test": {**block, "factors": [4]}}
    for path, faults in (({}, 1), ({"pretrain_network_g": None}, 1), ({"pretrain_network_g": "g.pth"}, 0)):
        report = check({**test, "path": path}, is_train=False)
        assert len(report.faults) == faults, report.faults
        assert all(place == "path.pretrain_network_g" for place, _ in report.faults)


@pytest.mark.parametrize(
    ("gan", "r1", "doubtful"),
    [
        ({"loss_weight": 0.01, "scale_d": True}, 10, True),
        ({"loss_weight": 0.01, "scale_d": True}, 0.1, False),
        ({"loss_weight": 0.01}, 10, False),
        ({"loss_weight": 1, "scale_d": True}, 10, False),
    ],
)
def test_r1_far_above_the_scaled_loss_is_warned_about(
    good: dict[str, Any], gan: dict[str, Any], r1: float, doubtful: bool
) -> None:
    report = check(changed(changed(good, "train.gan_opt", gan), "train.r1_reg_weight", r1))
    assert report.faults == []
    warnings = [remark for remark in report.remarks() if remark.startswith("warning: train.r1_reg_weight: ")]
    assert len(warnings) == doubtful
    assert all("lower it to 0.1" in line for line in warnings)


def test_a_discriminator_without_its_loss_is_warned_about(good: dict[str, Any]) -> None:
    assert not check(good).remarks()
    report = check(changed(changed(good, "train.gan_opt", ...), "train.r1_reg_weight", 10))
    assert report.faults == []
    wanted = [f"warning: {key}: is not used without train.gan_opt" for key in ("train.r1_reg_weight", "network_d")]
    assert report.remarks() == wanted


def test_a_blind_network_has_no_dial_to_move(good: dict[str, Any]) -> None:
    moved = changed(good, "train.mismatch", {"prob": 0.5, "octaves": 1})
    for blind in (False, True):
        places = [place for place, _ in check(changed(moved, "network_g.blind", blind)).faults]
        assert ("train.mismatch" in places) == blind


@pytest.mark.parametrize(("kind", "better"), [("calculate_niqe", "lower"), ("calculate_ssim", "higher")])
def test_a_metric_that_would_keep_the_worst_value_as_best_is_warned_about(
    good: dict[str, Any], kind: str, better: str
) -> None:
    for chosen in ("higher", "lower"):
        report = check(changed(good, "val", {"val_freq": 5, "metrics": {"m": {"type": kind, "better": chosen}}}))
        assert report.faults == []
        warnings = [f"warning: val.metrics.m.better: is {chosen}, but {better} values of "]
        assert [remark[: len(warnings[0])] for remark in report.remarks()] == (warnings if chosen != better else [])


def test_all_faults_at_once(good: dict[str, Any]) -> None:
    options = changed(good, "train.totl_iter", 5)
    options["network_g"]["out_size"] = 100
    options["logger"]["print_freq"] = "often"
    options["train"]["gan_opt"]["gan_type"] = "lsgam"
    places = [place for place, _ in check(options).faults]
    assert {"train.totl_iter", "network_g.out_size", "logger.print_freq", "train.gan_opt.gan_type"} <= set(places)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_misspelled_key_suggests_the_right_one(good_text: str, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(known_keys()[("train",)] | known_keys()[("network_g", "GCFSR")])))
    block = "train" if key in known_keys()[("train",)] else "network_g"
    if len(key) < 5:
        return
    position = data.draw(st.integers(1, len(key) - 2))
    wrong = key[:position] + key[position + 1 :]
    if wrong in known_keys()[("train",)] | known_keys()[("network_g", "GCFSR")]:
        return
    options = yaml.safe_load(good_text)
    options[block][wrong] = 1
    told = dict(check(options).faults)[f"{block}.{wrong}"]
    assert "did you mean" in told


@pytest.mark.parametrize("section", [None, 3, [], "text"])
def test_a_block_of_another_type_is_a_fault(good: dict[str, Any], section: Any) -> None:
    for block in ("datasets", "network_g", "network_d", "train", "path", "val", "logger"):
        faults = check({**good, block: section}).faults
        assert faults or (section is None and block in ("network_d", "val")), block
    for phase in (None, 3, [], "text"):
        assert check({**good, "datasets": {"train": phase}}).faults


@pytest.mark.parametrize(("kind", "schema"), [(GCFSR, Generator), (GCFSRDiscriminator, Discriminator)])
def test_schema_of_a_network_is_its_signature(kind: type, schema: Any) -> None:
    parameters = inspect.signature(kind).parameters
    assert parameters.keys() == schema.model_fields.keys() - {"type"}
    for name, parameter in parameters.items():
        if parameter.default is not parameter.empty:
            default = schema.model_fields[name].default
            assert default == (list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default)


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"seed": -1}, "datasets.train", "seed must be at least 0"),
        (
            {"augment": {"gamma": [0, 1]}},
            "datasets.train.augment",
            "augment: gamma: [0.0, 1.0] is not a range from 0.001",
        ),
        ({"augment": {"gamma": [2, 1]}}, "datasets.train.augment.gamma", "should be [smallest, largest]"),
        ({"mean": [0, 0, 0], "std": [1, 1, 1]}, "datasets.train.mean.0", "greater than or equal to 0.5"),
        ({"quantize": "both"}, "datasets.train.quantize", "'enlarged'"),
        ({"io_backend": {"type": "tape"}}, "datasets.train.io_backend.type", "'disk' or 'lmdb'"),
        ({"max_bad_share": 2}, "datasets.train", "max_bad_share must be between 0 and 1"),
        (BLIND | {"blur_kernel_size": 40}, "datasets.train", "blur_kernel_size: 40 must be odd"),
        (BLIND | {"kernel_prob": [1]}, "datasets.train", "with a probability each"),
        (BLIND | {"jpeg_range": [60, 101]}, "datasets.train", "jpeg_range: (60.0, 101.0) must be at most 100"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_data_set_is_checked_by_its_own_dataclass(
    good: dict[str, Any], change: dict[str, Any], place: str, words: str
) -> None:
    """The schema of data sets is derived from it: keys, defaults, meanings, and the checks themselves."""
    block = good["datasets"]["train"] | change
    good["datasets"]["train"] = {k: v for k, v in block.items() if "type" not in change or k in KEPT or k in change}
    assert any(where == place and words in what for where, what in check(good).faults), check(good).faults


def test_every_key_says_what_it_is() -> None:
    """Keys of ours that are no plain name of BasicSR's have a description."""
    blocks = (MultiFactor, BlindFace, Generator, EngineOptions, Options)
    described = {key for block in blocks for key in block.model_fields}
    silent = {key for block in blocks for key, info in block.model_fields.items() if not info.description}
    assert silent <= {"type", "model_type", "network_g", "network_d", "path", "train", "val", "logger", "dist_params"}
    assert described > silent


def test_names_known_without_basicsr_are_its_registries(good: dict[str, Any]) -> None:
    pytest.importorskip("basicsr")
    blocks = {registry: known for _, _, known, registry in typed_blocks(good | {"val": {"metrics": {"p": {}}}})}
    for registry, known in blocks.items():
        assert set(known) <= registered(registry).keys()
