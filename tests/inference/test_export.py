"""Exported graphs run in ONNX Runtime and OpenVINO and compared with PyTorch; the command; the backends."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gcfsr_arch import GCFSR, load_generator, save_generator
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.generator import noise_maps
from gcfsr_inference import exported
from gcfsr_inference.export import dial_names, export_onnx, feature_names

TINY = {"out_size": 32, "num_style_feat": 32, "narrow": 1 / 16}


def network(**options) -> GCFSR:
    torch.manual_seed(0)
    net = GCFSR(**{**TINY, **options}).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "noise_strength" in name:
                parameter.fill_(0.3)  # drawn as 0, which would hide the noise
    return net


def inputs(net: GCFSR, batch: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(batch)
    x = torch.rand((batch, 3, net.out_size, net.out_size), generator=generator) * 2 - 1
    s = torch.rand((batch, len(net.sizes)), generator=generator)
    return x, s, [torch.randn(shape, generator=generator) for shape in net.noise_shapes(batch)]


def run_onnx(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} == set(feed)
    return session.run(None, feed)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "tiny.safetensors"
    save_generator(network(), path)
    return path


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    pytest.importorskip("onnxscript")
    return export_onnx(network(), tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_two_parts_equal_pytorch(two_parts: list[Path], batch: int) -> None:
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
def test_one_part_with_constant_noise_equals_pytorch(options: dict, noise: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    net = network(**options)
    (path,) = export_onnx(net, tmp_path / "one.onnx", "one", noise, seed=3)
    for batch in (1, 3):
        x, s, _ = inputs(net, batch)
        (image,) = run_onnx(path, {"x": x.numpy()} if net.blind else {"x": x.numpy(), "s": s.numpy()})
        with torch.no_grad():
            expected = net(x, None if net.blind else s, noise, 3)
        assert np.abs(image - expected.numpy()).max() < 1e-4


def test_the_file_says_what_it_is(two_parts: list[Path]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(two_parts[1])
    onnx.checker.check_model(model)
    note = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "gcfsr"))
    assert note == {"config": network().config, "noise": "input", "seed": 0, "part": "decoder"}


def test_unknown_choices(tmp_path: Path) -> None:
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


@pytest.fixture(params=["onnx", "openvino"])
def backend(
    request: pytest.FixtureRequest, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> exported.ExportedBackend:
    """Each backend; OpenVINO's conversion is cached in one folder for all tests."""
    from gcfsr_inference.backends import choose_backend

    if request.param == "onnx":
        return choose_backend("onnx", request.getfixturevalue("two_parts")[0])
    pytest.importorskip("openvino")
    monkeypatch.setattr(exported, "CACHE", str(checkpoint.parent / "cache"))
    return choose_backend("openvino", checkpoint)


@pytest.mark.parametrize("noise", ["fixed", "zero", "random", "maps"])
def test_backends_equal_pytorch(backend: exported.ExportedBackend, noise: str) -> None:
    net = network()
    for batch in (1, 3):
        x, s, maps = inputs(net, batch)
        given = maps if noise == "maps" else noise
        image = backend.decode(backend.encode(x), s[:, :1], given, 4)
        with torch.no_grad():
            drawn = noise_maps(given, net.noise_shapes(batch), 4, x)
            expected = net(x, s[:, :1], [torch.zeros(1, 1, 1, 1) if m is None else m for m in drawn])
        assert (image - expected).abs().max() < 1e-4


def test_features_of_one_picture_serve_every_strength(backend: exported.ExportedBackend) -> None:
    net = network()
    x, _, _ = inputs(net, 1)
    s = torch.tensor([[0.1], [0.5], [1.0]])
    image = backend.decode(backend.encode(x), s, "fixed", 0)
    with torch.no_grad():
        expected = net.decode(net.encode(x), s, "fixed", 0)
    assert (image - expected).abs().max() < 1e-4


def test_backends_refuse_what_they_cannot_do(backend: exported.ExportedBackend, checkpoint: Path) -> None:
    from gcfsr_inference.backends import choose_backend

    features = backend.encode(inputs(network(), 1)[0])
    with pytest.raises(GCFSRError, match=r"--s-map: .* use --backend torch"):
        backend.decode(features, torch.full((1, 1, 32, 32), 0.5), "zero", 0)
    with pytest.raises(GCFSRError, match="s is missing"):
        backend.decode(features, None, "zero", 0)
    with pytest.raises(GCFSRError, match=r"--device|fp32"):
        choose_backend(backend.name, checkpoint, device="mps")
    with pytest.raises(GCFSRError, match=r"--dtype|fp32"):
        choose_backend(backend.name, checkpoint, dtype="fp8")


def test_an_export_is_made_once_per_checkpoint(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exported, "CACHE", str(tmp_path / "cache"))
    calls: list[Path] = []

    def write(net: GCFSR, stem: Path) -> None:
        calls.append(stem)
        stem.with_name(stem.name + ".a").write_bytes(b"graph")

    for _ in range(2):
        config, stem = exported.cached(checkpoint, "form", write, [".a"])
        assert config == network().config
    assert calls == [stem]
    stem.with_name(stem.name + ".a").unlink()
    exported.cached(checkpoint, "form", write, [".a"])
    other = tmp_path / "other.safetensors"
    save_generator(network(max_factor=16), other)
    assert exported.cached(other, "form", write, [".a"])[0]["max_factor"] == 16
    assert len(calls) == 3
    (tmp_path / "file").touch()
    monkeypatch.setattr(exported, "CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(GCFSRError, match="the cache cannot be made"):
        exported.cached(checkpoint, "form", write, [".a"])


def test_openvino_in_bf16_is_near(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from gcfsr_inference.backends import choose_backend

    monkeypatch.setattr(exported, "CACHE", str(checkpoint.parent / "cache"))
    net = network()
    x, s, _ = inputs(net, 1)
    backend = choose_backend("openvino", checkpoint, dtype="bf16")
    with torch.no_grad():
        expected = net(x, s, "zero")
    assert (backend.decode(backend.encode(x), s, "zero", 0) - expected).abs().max() < 0.05 * expected.abs().max()


SIGNAL = """
import os, signal, sys
from pathlib import Path

import torch
import gcfsr_inference.exported as exported
from gcfsr_inference.backends import choose_backend

checkpoint, exported.CACHE = Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGINT, lambda *_: print("handled"))
opened = [choose_backend("openvino", checkpoint) for _ in range(2)]
for backend in opened:
    backend.encode(torch.zeros(1, 3, 32, 32))
while opened:
    del backend
    backend = opened.pop(0)
del backend
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_signal_is_handled_after_openvino_is_gone(checkpoint: Path, outside: dict[str, str]) -> None:
    """With a Core for each network the signal has no stack to run on, and the process ends by SIGSEGV."""
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", SIGNAL, str(checkpoint), str(checkpoint.parent / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=outside)
    assert (done.returncode, done.stdout.strip()) == (0, "handled"), done.stderr


def test_onnx_files_open_directly(two_parts: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from gcfsr_inference.backends import choose_backend

    backend = choose_backend("onnx", two_parts[1])
    net = network()
    x, s, maps = inputs(net, 2)
    with torch.no_grad():
        assert (backend.decode(backend.encode(x), s, maps, None) - net(x, s, maps)).abs().max() < 1e-4
    (tmp_path / "a.encoder.onnx").write_bytes(two_parts[0].read_bytes())
    with pytest.raises(GCFSRError, match=r"a\.decoder\.onnx: no such file"):
        choose_backend("onnx", tmp_path / "a.encoder.onnx")
    (tmp_path / "a.decoder.onnx").write_bytes(b"damaged")
    with pytest.raises(GCFSRError, match=r"a\.decoder\.onnx: not an ONNX file"):
        choose_backend("onnx", tmp_path / "a.encoder.onnx")
    (tmp_path / "a.decoder.onnx").write_bytes(two_parts[0].read_bytes())
    with pytest.raises(GCFSRError, match="not written by `gcfsr export"):
        choose_backend("onnx", tmp_path / "a.encoder.onnx")
