"""The `gcfsr` command: every row of its table, its exit statuses, `gcfsr info`."""

import argparse
import json
from importlib import import_module
from pathlib import Path

import pytest
import torch

from gcfsr_arch import GCFSR, save_generator
from gcfsr_arch.errors import GCFSRError
from gcfsr_inference import cli
from gcfsr_inference.evaluation.inventory import parameters_by_part, take_inventory


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_row_of_the_table_has_its_command(name: str) -> None:
    module = import_module(f"gcfsr_inference.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"gcfsr {name}")
    module.add_arguments(parser)
    assert callable(module.run)
    assert all(action.help for action in parser._actions), "an option without a word of help"


def test_version_and_listing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gcfsr ")
    assert cli.main([]) == 2
    listing = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if name not in listing] == []


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["restor"])
    assert stop.value.code == 2
    assert "restor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (GCFSRError("face.png: is missing; check the path"), 2, "gcfsr: error: face.png: is missing; check the path\n"),
        (KeyboardInterrupt(), 130, "gcfsr: interrupted\n"),
    ],
)
def test_errors_end_in_one_line(
    fault: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(args: argparse.Namespace) -> None:
        raise fault

    monkeypatch.setattr(import_module("gcfsr_inference.commands.info"), "run", fail)
    assert cli.main(["info"]) == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "config",
    [
        {"out_size": 64},
        {"out_size": 64, "variant": "released", "blind": True},
        {"out_size": 32, "style_modulation": False},
    ],
)
def test_inventory_counts_what_the_network_has(config: dict) -> None:
    config = {"narrow": 1 / 16, "num_style_feat": 16, **config}
    net = GCFSR(**config)
    inventory = take_inventory(config)
    assert inventory.parameters == sum(p.numel() for p in net.parameters())
    assert "other" not in inventory.parts
    assert inventory.peak_bytes > inventory.parameters * 4


def test_inventory_agrees_with_the_paper() -> None:
    """66.69 M parameters in Table 1, within half a percent in both forms; about 149 G multiply-adds."""
    for variant in ("paper", "released"):
        inventory = take_inventory({"out_size": 1024, "variant": variant})
        assert inventory.parameters == pytest.approx(66.69e6, rel=0.005)
        assert inventory.macs == pytest.approx(149e9, rel=0.03)


def test_multiply_adds_against_a_count_by_hand() -> None:
    """Doubling every channel count quadruples convolutions; the whole lies between two and four times."""
    narrow, wide = (take_inventory({"out_size": 64, "num_style_feat": 64, "narrow": n}).macs for n in (1 / 8, 1 / 4))
    assert 2 < wide / narrow < 4.1


def test_parameters_are_counted_by_part() -> None:
    names = [
        "encoder.head.linear.weight",
        "encoder.skip.16.weight",
        "encoder.first.bias",
        "levels.16.to_rgb.bias",
        "new",
    ]
    counts = parameters_by_part((name, 1) for name in names)
    assert set(counts.values()) == {1}
    assert len(counts) == 5


def test_info_reads_option_files_and_checkpoints(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["info", str(root / "options" / "train_gcfsr_x64.yml")]) == 0
    assert "66.63 M" in capsys.readouterr().out
    save_generator(GCFSR(32, num_style_feat=16, narrow=1 / 16, variant="released"), tmp_path / "tiny.safetensors")
    assert cli.main(["info", str(tmp_path / "tiny.safetensors"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["config"]["out_size"], told["config"]["variant"]) == (32, "released")


def test_info_takes_a_bundled_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "gcfsr-nano", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["out_size"] == 128
    assert cli.main(["info", "gcfsr-none"]) == 2
    assert capsys.readouterr().err.startswith("gcfsr: error: gcfsr-none: no such checkpoint; ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("name: [", "is not valid YAML"),
        ("name: x\n", "network_g"),
        ("network_g: {type: RRDBNet}\n", "RRDBNet"),
        ("network_g: {type: GCFSR, out_size: 48}\n", "power of two"),
        ("network_g: {type: GCFSR, out_size: 64, widht: 3}\n", "widht"),
    ],
)
def test_info_names_what_is_wrong(
    text: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yml"
    if text is not None:
        path.write_text(text)
    assert cli.main(["info", str(path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_info_needs_one_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 2
    assert cli.main(["info", "x.yml", "--out-size", "64"]) == 2
    assert capsys.readouterr().err.count("gcfsr: error: info:") == 2


def test_live_bytes_follows_allocation_and_release() -> None:
    from gcfsr_inference.evaluation.inventory import LiveBytes

    with LiveBytes() as live:
        kept = torch.zeros(1000)
        for _ in range(3):
            torch.zeros(500)
    assert kept.shape == (1000,)
    assert live.peak == 4 * 1500
