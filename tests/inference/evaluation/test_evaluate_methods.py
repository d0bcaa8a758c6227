"""Methods of `gcfsr evaluate` by their specification, conditions, and the command itself."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gcfsr_arch import GCFSRError
from gcfsr_inference.evaluation.conditions import find_protocol, parse_factors
from gcfsr_inference.evaluation.evaluate import Settings, evaluate
from gcfsr_inference.evaluation.metric_weights import availability
from gcfsr_inference.evaluation.specs import build_method
from gcfsr_inference.evaluation.workspace import read_bgr
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_measure.catalogue import entry_of

Asked = Callable[..., Settings]


@pytest.mark.slow
def test_basicsr_and_spandrel_give_the_same_result(asked: Asked, gt: Path, tmp_path: Path) -> None:
    pytest.importorskip("spandrel")
    arch = pytest.importorskip("basicsr.archs.srvgg_arch")
    torch.manual_seed(0)
    net = arch.SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=16, num_conv=2, upscale=4, act_type="prelu")
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    sizes = "num_in_ch: 3, num_out_ch: 3, num_feat: 16, num_conv: 2, upscale: 4, act_type: prelu"
    (tmp_path / "opt.yml").write_text(f"network_g: {{type: SRVGGNetCompact, {sizes}}}\n")
    a, b = f"a=basicsr:{tmp_path / 'opt.yml'}:{tmp_path / 'net.pth'}", f"b=spandrel:{tmp_path / 'net.pth'}"
    report = evaluate(asked(gt, a, b, factors="4"), sheets=0)
    assert report["values"]["a"] == report["values"]["b"]
    low = read_bgr(gt.parent / "out" / "inputs" / "x4" / "gen_a.png")
    with torch.no_grad():
        y = net(torch.tensor(low[None, :, :, ::-1] / 255.0).permute(0, 3, 1, 2).float())[0].permute(1, 2, 0).numpy()
    wanted = (y[..., ::-1] * 255).clip(0, 255)
    assert np.abs(read_bgr(gt.parent / "out" / "results" / "a" / "x4" / "gen_a.png") - wanted).max() <= 0.51
    with pytest.raises(GCFSRError, match="is 32x32, the ground truth is 64x64"):
        evaluate(asked(gt, a, factors="8", out=str(tmp_path / "c")), sheets=0)
    fitted = evaluate(asked(gt, a + "?fit=yes", factors="8", out=str(tmp_path / "c")), sheets=0)
    assert len(fitted["values"]["a"]["x8"]["psnr"]) == 5


@pytest.mark.parametrize(
    ("package", "spec", "how"),
    [("spandrel", "spandrel:{0}", "gcfsr[spandrel]"), ("basicsr", "basicsr:{0}:{0}", "gcfsr[train]")],
)
def test_a_method_names_the_package_that_it_needs(package, spec, how, checkpoint, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GCFSRError, match=re.escape(how)):
        build_method(spec.format(checkpoint))


def test_niqe_names_the_package_that_it_needs(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "basicsr", None)
    assert availability(entry_of("niqe"))[1] == (
        "no package: basicsr (pip install --no-build-isolation 'gcfsr[train]')"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.pth", r"nowhere\.pth"), ("folder:nowhere", "nowhere: no such folder"), ("bicubic?s=1", "option s"),
        ("python:json:nothing", "nothing"), ("python:nomodule:f", "nomodule"), ("basicsr:a.yml:b.pth", r"a\.yml"),
        ("spandrel:{checkpoint}?range=wide", "range=wide"), ("a/b=bicubic", "a/b=bicubic"),
        ("spandrel:{unknown}", "not a model that spandrel"), ("{checkpoint}?s=2", "2: must lie in"),
    ],
)  # fmt: skip
def test_a_wrong_specification_is_one_clear_line(spec: str, message: str, checkpoint: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.safetensors"  # of no architecture; our own is known to spandrel after `register()`
    save_file({"weight": torch.zeros(1)}, unknown)
    with pytest.raises(GCFSRError, match=message) as caught:
        build_method(spec.format(checkpoint=checkpoint, unknown=unknown))
    assert "\n" not in str(caught.value)


def test_a_fixed_s_holds_for_every_condition(checkpoint: Path) -> None:
    low = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    (condition,) = parse_factors("4")
    (fixed,) = build_method(f"{checkpoint}?s=0.5").restore([low], (64, 64), condition, [{}])
    np.testing.assert_array_equal(fixed, Restorer.load(checkpoint).restore(low, s=0.5))


def test_factors_are_read() -> None:
    keys = [condition.key for condition in parse_factors("4, 24.5,32@48,blind")]
    assert keys == ["x4", "x24.5", "x32@48", "blind"]
    for text in ("", "x", "0.5", "4,4", "nan", "inf"):
        with pytest.raises(GCFSRError, match="--factors"):
            parse_factors(text)
    with pytest.raises(GCFSRError, match="give one of them"):
        find_protocol(None, None)
    with pytest.raises(GCFSRError, match="celeba-1024-x64"):
        find_protocol("celeba", None)


def command(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "gcfsr_inference.cli", "evaluate", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_command(gt: Path, outside: dict[str, str], tmp_path: Path) -> None:
    """Evaluates, lists missing weights, compares, and reports errors on one line with status 2."""
    environment = {**outside, "GCFSR_WEIGHTS": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    out = str(tmp_path / "r")
    arguments = ["--gt", str(gt), "--factors", "4", "--method", "bicubic", "--method", "lanczos", "--out", out]
    done = command(*arguments, "--groups", "prefix", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "5 images compared, 0 excluded" in done.stdout
    assert "LPIPS (alex): no weights: alexnet-owt-7be5be79.pth goes to" in done.stdout
    report = json.loads(Path(out, "report.json").read_text())
    assert list(report["groups"]) == ["all", "gen", "lon"]
    page = Path(out, "report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "http" not in page
    file = str(Path(out, "report.json"))
    done = command("--compare", file, file, "--pair", "bicubic", "lanczos", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "| x4 | PSNR (RGB) | bicubic | lanczos |" in done.stdout
    nowhere = [*arguments[:4], "--method", "x.pth", "--out", out]
    for wrong in (["--factors", "4"], [*arguments, "--batch", "0"], nowhere):
        done = command(*wrong, environment=environment)
        assert done.returncode == 2
        assert done.stderr.startswith("gcfsr: error: ")
        assert done.stderr.count("\n") == 1
