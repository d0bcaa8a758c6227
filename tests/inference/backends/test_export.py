"""Exported graphs run in ONNX Runtime and compared with PyTorch; the command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gcfsr_arch import GCFSR, load_generator
from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.backends.export import dial_names, export_onnx, feature_names
from gcfsr_inference.backends.exported import ExportedBackend

Draw = Callable[[GCFSR, int], tuple[Tensor, Tensor, list[Tensor]]]


def run_onnx(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} == set(feed)
    return session.run(None, feed)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_two_parts_equal_pytorch(
    two_parts: list[Path], batch: int, network: Callable[..., GCFSR], inputs: Draw
) -> None:
    net = network()
    x, s, noise = inputs(net, batch)
    encoder, decoder = two_parts
    assert [path.name for path in two_parts] == ["tiny.encoder.onnx", "tiny.decoder.onnx"]
    features = dict(zip(feature_names(net), run_onnx(encoder, {"x": x.numpy()}), strict=True))
    dial = dict(zip(dial_names(net, "input"), [s.numpy(), *(n.numpy() for n in noise)], strict=True))
    (image,) = run_onnx(decoder, {**features, **dial})
    with torch.no_grad():
        expected = net(x, s, noise)
    assert np.abs(image - expected.numpy()).max() < 1e-4
    assert np.abs(image).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "noise"), [({"variant": "released"}, "fixed"), ({"variant": "released", "blind": True}, "zero")]
)
def test_one_part_with_constant_noise_equals_pytorch(
    options: dict, noise: str, tmp_path: Path, network: Callable[..., GCFSR], inputs: Draw
) -> None:
    pytest.importorskip("onnxscript")
    net = network(**options)
    (path,) = export_onnx(net, tmp_path / "one.onnx", "one", noise, seed=3)
    for batch in (1, 3):
        x, s, _ = inputs(net, batch)
        (image,) = run_onnx(path, {"x": x.numpy()} if net.blind else {"x": x.numpy(), "s": s.numpy()})
        with torch.no_grad():
            expected = net(x, None if net.blind else s, noise, 3)
        assert np.abs(image - expected.numpy()).max() < 1e-4


@pytest.mark.slow
def test_a_network_of_several_conditions_takes_the_vector(tmp_path: Path, network: Callable[..., GCFSR]) -> None:
    """By the graph itself, and by the backend of `Restorer`, where one condition differs from image to image."""
    pytest.importorskip("onnxscript")
    net = network(conditions=("factor", "noise", "jpeg"))
    (path,) = export_onnx(net, tmp_path / "one.onnx", "one", "zero")
    x, s = torch.rand(3, 3, net.out_size, net.out_size) * 2 - 1, torch.rand(3, len(net.sizes), 3)
    (image,) = run_onnx(path, {"x": x.numpy(), "s": s.numpy()})
    with torch.no_grad():
        assert np.abs(image - net(x, s, "zero").numpy()).max() < 1e-4
    backend = ExportedBackend(net.config.to_dict(), lambda _: [], lambda _: [], "onnx")
    assert backend._levels(s[:, 0]).shape == (3, len(net.sizes), 3)
    np.testing.assert_array_equal(backend._levels(s), s.numpy())


def test_the_file_says_what_it_is(two_parts: list[Path], network: Callable[..., GCFSR]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(two_parts[1])
    onnx.checker.check_model(model)
    note = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "gcfsr"))
    assert note == {"config": network().config.to_dict(), "noise": "input", "seed": 0, "part": "decoder"}


def test_unknown_choices(tmp_path: Path, network: Callable[..., GCFSR]) -> None:
    for parts, noise in (("three", "input"), ("one", "random")):
        with pytest.raises(GCFSRError, match="export: parts"):
            export_onnx(network(), tmp_path / "a.onnx", parts, noise)


def test_the_command_writes_safetensors(checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gcfsr_inference.cli", "export", "-v", str(checkpoint)]
    half = tmp_path / "half.safetensors"
    done = subprocess.run([*command, "-o", str(half), "--half"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert half.stat().st_size < 0.6 * checkpoint.stat().st_size
    ours, theirs = load_generator(half), load_generator(checkpoint)
    assert ours.config == theirs.config
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["-o", "a.bin"], "name it .onnx"), (["-o", "a.onnx", "--half"], "--half"), (["-o", "IN"], "output is the input")],
)
def test_the_command_refuses_in_one_line(options: list[str], reason: str, checkpoint: Path, tmp_path: Path) -> None:
    options = [str(checkpoint) if option == "IN" else option for option in options]
    command = [sys.executable, "-m", "gcfsr_inference.cli", "export", "-v", str(checkpoint), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("gcfsr: error: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
