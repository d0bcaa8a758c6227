"""The backends that run exported graphs: ONNX Runtime and OpenVINO against PyTorch, their cache, and signals."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gcfsr_arch import GCFSR, save_generator
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.generator import noise_maps
from gcfsr_inference import Restorer
from gcfsr_inference.backends import exported

Draw = Callable[[GCFSR, int], tuple[Tensor, Tensor, list[Tensor]]]


@pytest.fixture(params=["onnx", "openvino"])
def backend(
    request: pytest.FixtureRequest, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> exported.ExportedBackend:
    """Each backend; OpenVINO's conversion is cached in one folder for all tests."""
    from gcfsr_inference.backends.backend import choose_backend

    if request.param == "onnx":
        return choose_backend("onnx", request.getfixturevalue("two_parts")[0])
    pytest.importorskip("openvino")
    monkeypatch.setattr(exported, "CACHE", str(checkpoint.parent / "cache"))
    return choose_backend("openvino", checkpoint)


@pytest.mark.parametrize("noise", ["fixed", "zero", "random", "maps"])
def test_backends_equal_pytorch(
    backend: exported.ExportedBackend, noise: str, network: Callable[..., GCFSR], inputs: Draw
) -> None:
    net = network()
    for batch in (1, 3):
        x, s, maps = inputs(net, batch)
        given = maps if noise == "maps" else noise
        image = backend.decode(backend.encode(x), s[:, :1], given, 4)
        with torch.no_grad():
            shapes = net.noise_shapes(batch)
            drawn = zip(noise_maps(given, shapes, 4, x), shapes, strict=True)
            expected = net(x, s[:, :1], [torch.zeros(shape) if m is None else m for m, shape in drawn])
        assert (image - expected).abs().max() < 1e-4
        assert (backend.restore(x, s[:, :1], given, 4) - expected).abs().max() < 1e-4


def test_features_of_one_image_serve_every_strength(
    backend: exported.ExportedBackend, network: Callable[..., GCFSR], inputs: Draw
) -> None:
    net = network()
    x, _, _ = inputs(net, 1)
    s = torch.tensor([[0.1], [0.5], [1.0]])
    image = backend.decode(backend.encode(x), s, "fixed", 0)
    with torch.no_grad():
        expected = net.decode(net.encode(x), s, "fixed", 0)
    assert (image - expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_backends_read_the_dials_as_pytorch_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Callable[..., GCFSR], inputs: Draw
) -> None:
    """The estimate itself, and a face restored with "auto", from a checkpoint whose parameters are halved."""
    pytest.importorskip({"onnx": "onnxscript", "openvino": "openvino"}[name])
    monkeypatch.setattr(exported, "CACHE", str(tmp_path / "cache"))
    net = network(conditions=("factor", "noise", "jpeg"), estimator=True)
    assert net.estimator is not None
    torch.nn.init.normal_(net.estimator.out.weight)  # drawn as 0, which would read the same of every image
    net.train()
    for batch in range(2, 5):
        net(inputs(net, batch)[0], torch.zeros(batch, 3), "zero", estimate="detached")  # moments
    save_generator(net.eval(), tmp_path / "dials.safetensors", half=True)
    ours, theirs = (Restorer.load(tmp_path / "dials.safetensors", backend=kind) for kind in ("torch", name))
    x = inputs(net, 3)[0]
    expected, found = (one.backend.estimate(one.backend.encode(x)) for one in (ours, theirs))
    assert expected.mean.std(0).min() > 1e-3  # it differs from image to image
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    face = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    difference = theirs.restore(face).astype(int) - ours.restore(face)
    assert np.abs(difference).max() <= 1


def test_backends_refuse_what_they_cannot_do(
    backend: exported.ExportedBackend, checkpoint: Path, network: Callable[..., GCFSR], inputs: Draw
) -> None:
    from gcfsr_inference.backends.backend import choose_backend

    features = backend.encode(inputs(network(), 1)[0])
    with pytest.raises(GCFSRError, match=r"--s-map: .* use --backend torch"):
        backend.decode(features, torch.full((1, 1, 32, 32), 0.5), "zero", 0)
    with pytest.raises(GCFSRError, match="s is missing"):
        backend.decode(features, None, "zero", 0)
    with pytest.raises(GCFSRError, match=r"--device|fp32"):
        choose_backend(backend.name, checkpoint, device="mps")
    with pytest.raises(GCFSRError, match=r"--dtype|fp32"):
        choose_backend(backend.name, checkpoint, dtype="fp8")


def test_an_export_is_made_once_per_checkpoint(
    checkpoint: Path, tmp_path: Path, monkeypatch, network: Callable[..., GCFSR]
) -> None:
    monkeypatch.setattr(exported, "CACHE", str(tmp_path / "cache"))
    calls: list[Path] = []

    def write(net: GCFSR, stem: Path) -> None:
        calls.append(stem)
        stem.with_name(stem.name + ".a").write_bytes(b"graph")

    for _ in range(2):
        config, stem = exported.cached(checkpoint, "form", write, [".a"])
        assert config == network().config.to_dict()
    assert calls == [stem]
    stem.with_name(stem.name + ".a").unlink()
    exported.cached(checkpoint, "form", write, [".a"])
    other = tmp_path / "other.safetensors"
    save_generator(network(max_factor=16), other)
    assert exported.cached(other, "form", write, [".a"])[0]["max_factor"] == 16
    assert len(calls) == 3
    (tmp_path / "file").touch()
    monkeypatch.setattr(exported, "CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(GCFSRError, match=r"the cache of exports: .*cache: cannot be made"):
        exported.cached(checkpoint, "form", write, [".a"])


def test_openvino_exports_are_replaced_whole(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Callable[..., GCFSR]
) -> None:
    """Another process may read the files while they are written again, and the one that writes may be killed."""
    openvino = pytest.importorskip("openvino")
    from gcfsr_inference.backends.openvino_backend import open_backend

    monkeypatch.setattr(exported, "CACHE", str(tmp_path))
    open_backend(checkpoint)
    (note,) = tmp_path.glob("*.json")
    note.unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def killed(model: object, path: str, **options: object) -> None:
        Path(path).with_suffix(".bin").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(openvino, "save_model", killed)
        with pytest.raises(KeyboardInterrupt):
            open_backend(checkpoint)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    open_backend(checkpoint)
    assert len(list(tmp_path.iterdir())) == len(before) + 1


def test_openvino_in_bf16_is_near(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, network: Callable[..., GCFSR], inputs: Draw
) -> None:
    pytest.importorskip("openvino")
    from gcfsr_inference.backends.backend import choose_backend

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
from gcfsr_inference.backends import exported
from gcfsr_inference.backends.backend import choose_backend

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


def test_a_signal_is_handled_after_openvino_is_deleted(checkpoint: Path, outside: dict[str, str]) -> None:
    """With a Core for each network the signal has no stack to run on, and the process ends by SIGSEGV."""
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", SIGNAL, str(checkpoint), str(checkpoint.parent / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=outside)
    assert (done.returncode, done.stdout.strip()) == (0, "handled"), done.stderr


def test_onnx_files_open_directly(
    two_parts: list[Path], tmp_path: Path, network: Callable[..., GCFSR], inputs: Draw
) -> None:
    pytest.importorskip("onnxruntime")
    from gcfsr_inference.backends.backend import choose_backend

    backend = choose_backend("onnx", two_parts[1])
    assert Restorer.load(two_parts[0], backend="onnx").out_size == backend.out_size
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
    (tmp_path / "a.encoder.onnx").write_bytes(two_parts[1].read_bytes())  # another graph than that of the metadata
    (tmp_path / "a.decoder.onnx").write_bytes(two_parts[1].read_bytes())
    with pytest.raises(GCFSRError, match=r"a\.encoder\.onnx: ONNX Runtime cannot run it: "):
        choose_backend("onnx", tmp_path / "a.encoder.onnx").encode(x)
