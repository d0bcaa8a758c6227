"""Option files: what is right is read, what is wrong is named with its place, all of it at once."""

import inspect
import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.training.options import check, check_file, json_schema
from gcfsr_arch.training.options_data import BlindFace, MultiFactor, Tones
from gcfsr_arch.training.options_names import known_keys
from gcfsr_arch.training.options_networks import Discriminator, Generator
from gcfsr_arch.training.options_schema import Engine, Options
from gcfsr_datasets.color import ToneRanges
from gcfsr_datasets.dataset_options import BlindOptions, MultiFactorOptions
from gcfsr_inference import cli

GOOD = """
name: good
model_type: GCFSRModel
num_gpu: 0
datasets:
  train: {name: faces, type: MultiFactorDegradationDataset, dataroot_gt: faces, out_size: 64, max_factor: 32,
          factors: [4, 8], num_worker_per_gpu: 0, batch_size_per_gpu: 2}
network_g: {type: GCFSR, variant: paper, out_size: 64}
network_d: {type: GCFSRDiscriminator, out_size: 64}
path: {}
train:
  total_iter: 100
  optim_g: {type: Adam, lr: 2e-3}
  optim_d: {type: Adam, lr: 2e-3}
  scheduler: {type: MultiStepLR, milestones: [50]}
  pixel_opt: {type: L1Loss}
  gan_opt: {type: GANLoss}
logger: {print_freq: 10, save_checkpoint_freq: 5e1}
"""


def good() -> dict[str, Any]:
    return yaml.safe_load(GOOD)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good options with one key set, or removed where the value is `...`."""
    options = good()
    *blocks, last = path.split(".")
    place = options
    for block in blocks:
        place = place.setdefault(block, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return options


def test_text_numbers_become_numbers() -> None:
    report = check(good())
    assert report.faults == []
    assert report.options["train"]["optim_g"]["lr"] == 0.002
    assert report.options["logger"]["save_checkpoint_freq"] == 50
    assert isinstance(report.options["logger"]["save_checkpoint_freq"], int)
    assert list(report.options) == list(good())


@pytest.mark.parametrize(
    ("path", "value", "place", "words"),
    [
        ("train.totl_iter", 5, "train.totl_iter", "did you mean 'total_iter'?"),
        ("network_g.narow", 1, "network_g.narow", "did you mean 'narrow'?"),
        ("datasets.train.use_hflp", True, "datasets.train.use_hflp", "did you mean 'use_hflip'?"),
        ("total_iter", 5, "total_iter", "belongs under train"),
        ("train.keep_last", 5, "train.keep_last", "belongs under logger"),
        ("train.total_iter", 0, "train.total_iter", "greater than or equal to 1, got 0"),
        ("train.total_iter", 1.5, "train.total_iter", "whole number, got 1.5"),
        ("train.total_iter", True, "train.total_iter", "not true or false"),
        ("train.optim_g.lr", "fast", "train.optim_g.lr", "should be a number, got 'fast'"),
        ("train.optim_g.lr", -1e-3, "train.optim_g.lr", "greater than 0, got -0.001"),
        ("train.optim_g.lr", ..., "train.optim_g.lr", "is missing"),
        ("train.optim_g.type", "Adm", "train.optim_g.type", "did you mean 'Adam'?"),
        ("train.scheduler.type", "MultiStep", "train.scheduler.type", "did you mean 'MultiStepLR'?"),
        ("train.ema_decay", 1, "train.ema_decay", "less than 1"),
        ("network_g.out_size", 96, "network_g.out_size", "power of two"),
        ("network_d.out_size", 128, "network_d.out_size", "network_g.out_size is 64"),
        ("datasets.train.out_size", 128, "datasets.train.out_size", "network_g.out_size is 64"),
        ("datasets.train.factors", [4, 64], "datasets.train.factors", "between 1 and 32"),
        ("datasets.train.factor_range", [4, 8], "datasets.train", "exactly one of factors"),
        ("datasets.train.max_factor", 64, "datasets.train.max_factor", "network_g's is 32"),
        ("datasets.train.type", "MultiFactorDataset", "datasets.train.type", "'MultiFactorDegradationDataset'"),
        ("datasets.train.batch_size_per_gpu", ..., "datasets.train.batch_size_per_gpu", "is missing"),
        ("datasets.tain", {"name": "x"}, "datasets", "pattern"),
        ("network_g.type", "GCSFR", "network_g.type", "did you mean 'GCFSR'?"),
        ("network_d", ..., "network_d", "train.gan_opt needs it"),
        ("logger", ..., "logger", "training needs it"),
        ("val", {"val_freq": 5, "metrics": {"p": {"type": "calculate_psn"}}}, "val.metrics.p.type", "'calculate_psnr'"),
        ("model_type", "GCFSRModle", "model_type", "'GCFSRModel'"),
        ("train.gan_opt.scale_d", "maybe", "train.gan_opt.scale_d", "boolean"),
    ],
)
def test_a_fault_is_named_with_its_place(path: str, value: Any, place: str, words: str) -> None:
    faults = check(changed(path, value)).faults
    assert any(where.startswith(place) and words in what for where, what in faults), faults
    assert all("\n" not in where + what for where, what in faults)


def test_all_faults_at_once() -> None:
    options = changed("train.totl_iter", 5)
    options["network_g"]["out_size"] = 100
    options["logger"]["print_freq"] = "often"
    options["train"]["gan_opt"]["gan_type"] = "lsgan"
    places = [place for place, _ in check(options).faults]
    assert {"train.totl_iter", "network_g.out_size", "logger.print_freq", "train.gan_opt.gan_type"} <= set(places)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_misspelt_key_names_the_right_one(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(known_keys()[("train",)] | known_keys()[("network_g", "GCFSR")])))
    block = "train" if key in known_keys()[("train",)] else "network_g"
    if len(key) < 5:
        return
    position = data.draw(st.integers(1, len(key) - 2))
    wrong = key[:position] + key[position + 1 :]
    if wrong in known_keys()[("train",)] | known_keys()[("network_g", "GCFSR")]:
        return
    options = good()
    options[block][wrong] = 1
    told = dict(check(options).faults)[f"{block}.{wrong}"]
    assert "did you mean" in told


@pytest.mark.parametrize("section", [None, 3, [], "text"])
def test_a_block_that_is_none_is_a_fault_and_no_crash(section: Any) -> None:
    for block in ("datasets", "network_g", "network_d", "train", "path", "val", "logger"):
        faults = check({**good(), block: section}).faults
        assert faults or (section is None and block in ("network_d", "val")), block
    for phase in (None, 3, [], "text"):
        assert check({**good(), "datasets": {"train": phase}}).faults


def test_released_option_file_is_accepted_and_what_it_never_used_is_told() -> None:
    options = good()
    options["model_type"] = "GCFSR_Model"
    options["network_g"].pop("variant")
    options["network_d"]["type"] = "StyleGAN2Discriminator_no_std"
    options["datasets"]["train"] = {
        "name": "FFHQ", "type": "FFHQ_control_Dataset", "dataroot_gt": "x", "io_backend": {"type": "disk"},
        "downsample_list": [64, 32, 4], "cond_norm": 64.0, "use_hflip": True, "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5], "use_shuffle": True, "num_worker_per_gpu": 6, "batch_size_per_gpu": 3,
        "dataset_enlarge_ratio": 100, "prefetch_mode": None,
    }  # fmt: skip
    options["train"] |= {"path_batch_shrink": 2, "path_reg_weight": 2, "mixing_prob": 0.9, "net_g_reg_every": 4}
    report = check(options)
    assert report.faults == []
    assert {"train.path_reg_weight", "train.mixing_prob", "datasets.train.use_shuffle"} <= {
        p for p, _ in report.ignored
    }


def test_a_file_is_read_and_forced_as_basicsr_does(tmp_path: Path) -> None:
    path = tmp_path / "good.yml"
    path.write_text(GOOD)
    report = check_file(
        path, ["train:total_iter=7", "train:ema_decay=9e-1", "datasets:train:factors=[8, 16]", "name=x"]
    )
    assert report.faults == []
    assert report.options["train"]["total_iter"] == 7
    assert report.options["train"]["ema_decay"] == 0.9
    assert report.options["datasets"]["train"]["factors"] == [8, 16]
    report = check_file(path, ["train:totl_iter=7", "no:such:block=1", "a=b=c", "nothing"])
    assert len(report.faults) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [1", "is no YAML"),
        ("- a", "holds no options"),
        ("", "holds no options"),
        ("name: a\nname: b", "stands twice"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "no such option file"),
    ],
)
def test_what_is_no_option_file(tmp_path: Path, content: str | bytes | None, words: str) -> None:
    path = tmp_path / "x.yml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(GCFSRError, match=words) as caught:
        check_file(path)
    assert str(path) in str(caught.value)


def test_the_option_files_of_the_package_are_sound(root: Path) -> None:
    for path in sorted((root / "options").glob("*.yml")):
        report = check_file(path)
        assert report.faults == [], path.name
        assert report.ignored == [], path.name
        plain = json.loads(json.dumps(report.options))
        jsonschema.Draft202012Validator(json.loads(json_schema())).validate(plain)


def test_json_schema_is_current_and_agrees(root: Path) -> None:
    written = (root / "docs/options.schema.json").read_text()
    assert written == json_schema(), "run `gcfsr check-options --schema > docs/options.schema.json`"
    validator = jsonschema.Draft202012Validator(json.loads(written))
    options = check(good()).options
    validator.validate(options)
    options["train"]["totl_iter"] = 3
    assert not validator.is_valid(options)


@pytest.mark.parametrize(("kind", "schema"), [(GCFSR, Generator), (GCFSRDiscriminator, Discriminator)])
def test_schema_of_a_network_is_its_signature(kind: type, schema: Any) -> None:
    parameters = inspect.signature(kind).parameters
    assert parameters.keys() == schema.model_fields.keys() - {"type"}
    for name, parameter in parameters.items():
        if parameter.default is not parameter.empty:
            default = schema.model_fields[name].default
            assert default == (list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default)


@pytest.mark.parametrize(
    ("kind", "schema"), [(MultiFactorOptions, MultiFactor), (BlindOptions, BlindFace), (ToneRanges, Tones)]
)
def test_schema_of_a_data_set_is_its_dataclass(kind: Any, schema: Any) -> None:
    known = {spec.name: spec for spec in fields(kind)}
    assert known.keys() - {"phase"} <= schema.model_fields.keys()
    for name in known.keys() - {"phase", "name", "io_backend"}:
        if known[name].default is not MISSING:
            default = known[name].default
            assert schema.model_fields[name].default == (list(default) if isinstance(default, tuple) else default), name


def test_schema_of_the_engine_is_its_dataclass() -> None:
    engine = pytest.importorskip("gcfsr_arch.training.engine")
    assert {spec.name: spec.default for spec in fields(engine.Engine)} == {
        name: info.default for name, info in Engine.model_fields.items()
    }


def test_every_key_says_what_it_is() -> None:
    """Keys of ours that are no plain name of BasicSR's have a description."""
    described = {key for block in (MultiFactor, BlindFace, Generator, Engine, Options) for key in block.model_fields}
    silent = {
        key
        for block in (MultiFactor, BlindFace, Generator, Engine, Options)
        for key, info in block.model_fields.items()
        if not info.description
    }
    assert silent <= {"type", "model_type", "network_g", "network_d", "path", "train", "val", "logger", "dist_params"}
    assert described > silent


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.yml"
    path.write_text(GOOD)
    assert cli.main(["check-options", str(path), "--force_yml", "train:total_iter=7"]) == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert resolved["train"]["total_iter"] == 7
    assert resolved["network_g"]["num_style_feat"] == 512
    assert check(resolved).faults == []
    path.write_text(GOOD.replace("total_iter", "totl_iter").replace("out_size: 64}", "out_size: 65}"))
    assert cli.main(["check-options", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith(f"gcfsr: error: {path}: ") for line in lines)
    assert cli.main(["check-options", str(tmp_path / "none.yml")]) == 2
    assert cli.main(["check-options"]) == 2
    assert cli.main(["check-options", "--schema"]) == 0
