"""The safetensors that a training run becomes: its moving average, mixed and straightened as asked."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import export_network
from gcfsr_arch import GCFSR, load_generator
from gcfsr_arch.checkpoint import read_state

NETWORK = {
    "out_size": 32, "num_style_feat": 32, "narrow": 0.0625, "min_factor": 2, "max_factor": 16,
    "conditions": ["factor", "blur"],
}  # fmt: skip


@pytest.fixture
def options(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yml"
    path.write_text(yaml.safe_dump({"network_g": {"type": "GCFSR", **NETWORK}}))
    return path


def trained(path: Path) -> GCFSR:
    """Writes a trainer's checkpoint; returns its moving average."""
    average, last = GCFSR(**NETWORK), GCFSR(**NETWORK)
    torch.save({"params": last.state_dict(), "params_ema": average.state_dict()}, path)
    return average


def test_exports_the_moving_average_with_its_configuration(tmp_path: Path, options: Path) -> None:
    average = trained(tmp_path / "net_g_latest.pth")
    target = tmp_path / "out" / "tiny.safetensors"
    export_network.export(tmp_path / "net_g_latest.pth", options, target, {"licence": "L"})
    found = load_generator(target)
    assert found.config == average.config
    for name, value in average.state_dict().items():
        assert torch.equal(found.state_dict()[name], value.half().float()), name


def test_the_command_mixes_and_straightens(tmp_path: Path, options: Path, root: Path, outside: dict[str, str]) -> None:
    last, first = trained(tmp_path / "last.pth"), trained(tmp_path / "first.pth")
    target = tmp_path / "tiny.safetensors"
    command = [
        sys.executable, root / "tools" / "export_network.py", tmp_path / "last.pth", target, "--options", options,
        "--mix", f"{tmp_path / 'first.pth'}=0.25", "--line", "blur=0:1=0:1", "--note", "licence=L = M",
    ]  # fmt: skip
    done = subprocess.run(command, env=outside, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "blur: the scaling vectors" in done.stdout
    state = read_state(target)[0]
    for name, value in last.state_dict().items():
        if not name.startswith("modulation."):
            mixed = 0.75 * value + 0.25 * first.state_dict()[name]
            torch.testing.assert_close(state[name].float(), mixed, atol=1e-3, rtol=1e-3)
    from safetensors import safe_open

    with safe_open(target, framework="pt") as file:
        assert file.metadata()["licence"] == "L = M"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mix", "first.pth=2"], "is not CHECKPOINT=SHARE"),
        (["--line", "blur=0:1"], "is not DIAL=LOW:HIGH=FROM_LOW:FROM_HIGH"),
        (["--note", "config={}"], "is not KEY=TEXT"),
        (["--line", "blr=0:1=0:1"], "'blr' is not a dial of this network; did you mean 'blur'?"),
        (["--options", "none.yml"], "none.yml"),
        (["--mix", "none.pth=0.5"], "none.pth"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, options: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path / "last.pth")
    target = tmp_path / "tiny.safetensors"
    words = [str(tmp_path / "last.pth"), str(target), "--options", str(options), *arguments]
    try:
        status = export_network.exit_status(lambda: export_network.run(words))
    except SystemExit as stopped:  # argparse
        status = stopped.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not target.exists()
