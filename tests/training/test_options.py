"""Option files: what is right is read, what is wrong is named with its place, all of it at once."""

import inspect
from dataclasses import MISSING, fields
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.training.options import check
from gcfsr_arch.training.options_data import BlindFace, MultiFactor, Placement, Tones
from gcfsr_arch.training.options_names import known_keys
from gcfsr_arch.training.options_networks import Discriminator, Generator
from gcfsr_arch.training.options_registry import registered, typed_blocks
from gcfsr_arch.training.options_schema import Engine, Options
from gcfsr_datasets.color import ToneRanges
from gcfsr_datasets.dataset_options import BlindOptions, MultiFactorOptions
from gcfsr_datasets.placement import PlacementRanges


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
        ("datasets.tain", {"name": "x"}, "datasets.tain", "should be train, val, val_2"),
        ("name", "a/b", "name", "without slashes"),
        ("num_gpu", -1, "num_gpu", "whole number from 0, or 'auto'"),
        ("network_g.type", "GCSFR", "network_g.type", "did you mean 'GCFSR'?"),
        ("network_d", ..., "network_d", "train.gan_opt needs it"),
        ("logger", ..., "logger", "training needs it"),
        ("val", {"val_freq": 5, "metrics": {"p": {"type": "calculate_psn"}}}, "val.metrics.p.type", "'calculate_psnr'"),
        ("val", {"val_freq": 5, "grid_factors": [4, 33]}, "val.grid_factors", "must be at most 32"),
        ("model_type", "GCFSRModle", "model_type", "'GCFSRModel'"),
        ("train.gan_opt.scale_d", "maybe", "train.gan_opt.scale_d", "boolean"),
    ],
)
def test_a_fault_is_named_with_its_place(good: dict[str, Any], path: str, value: Any, place: str, words: str) -> None:
    faults = check(changed(good, path, value)).faults
    assert any(where.startswith(place) and words in what for where, what in faults), faults
    assert all("\n" not in where + what for where, what in faults)


def test_all_faults_at_once(good: dict[str, Any]) -> None:
    options = changed(good, "train.totl_iter", 5)
    options["network_g"]["out_size"] = 100
    options["logger"]["print_freq"] = "often"
    options["train"]["gan_opt"]["gan_type"] = "lsgan"
    places = [place for place, _ in check(options).faults]
    assert {"train.totl_iter", "network_g.out_size", "logger.print_freq", "train.gan_opt.gan_type"} <= set(places)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_misspelt_key_names_the_right_one(good_text: str, data: st.DataObject) -> None:
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
def test_a_block_that_is_none_is_a_fault_and_no_crash(good: dict[str, Any], section: Any) -> None:
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
    ("kind", "schema"),
    [
        (MultiFactorOptions, MultiFactor),
        (BlindOptions, BlindFace),
        (ToneRanges, Tones),
        (PlacementRanges, Placement),
    ],
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


def test_names_known_without_basicsr_are_its_registries(good: dict[str, Any]) -> None:
    pytest.importorskip("basicsr")
    blocks = {registry: known for _, _, known, registry in typed_blocks(good | {"val": {"metrics": {"p": {}}}})}
    for registry, known in blocks.items():
        assert set(known) <= registered(registry).keys()
