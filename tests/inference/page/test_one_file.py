"""`gcfsr export --format html`: the page opened from a file in a real Chromium, compared with PyTorch."""

import base64
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch

from gcfsr_arch import GCFSR, save_generator
from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.page.one_file import ORT, ORT_FILES, half_weights, read_ort
from gcfsr_inference.restore.autofactor import estimate_factor
from gcfsr_inference.restore.restorer import Restorer

WAIT = 240_000  # milliseconds: a loaded machine is slow, never wrong

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
playwright = pytest.importorskip("playwright.sync_api")
slow = pytest.mark.slow


def export(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "gcfsr_inference.cli", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def ort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime Web as `npm pack` writes it."""
    folder = tmp_path_factory.mktemp("ort")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine")
    packed = subprocess.run([npm, "pack", ORT], cwd=folder, capture_output=True, text=True, check=False)
    if packed.returncode:
        pytest.skip(f"npm cannot give {ORT}: {packed.stderr.strip()[-200:]}")
    return next(folder.glob("*.tgz"))


class Opened:
    """A page that was opened from its file, with every address it asked for."""

    def __init__(self, browser: "playwright.Browser", file: Path) -> None:
        self.asked: list[str] = []
        self.page = browser.new_page(accept_downloads=True)
        self.page.set_default_timeout(WAIT)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("#status:text('Ready.')")

    def drop(self, path: Path) -> None:
        self.page.set_input_files("#file", str(path))
        self.page.wait_for_selector("#save:enabled")

    def turn(self, position: float, dial: str = "dial") -> None:
        """Moves a dial, that of the factor to a hundredth of its way, and waits for the face."""
        self.page.eval_on_selector(
            f"#{dial}", "(dial, to) => { dial.value = to; dial.dispatchEvent(new Event('input')) }", position
        )
        self.page.wait_for_selector("#save:enabled")

    def shown(self, name: str) -> np.ndarray:
        """The canvas `before` or `after`, BGR."""
        address = self.page.eval_on_selector(f"#{name}", "canvas => canvas.toDataURL()")
        return cv2.imdecode(np.frombuffer(base64.b64decode(address.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture(scope="module")
def opened(ort: Path, chromium: "playwright.Browser", tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """The page of the default network, gcfsr-nano."""
    file = tmp_path_factory.mktemp("page") / "face.html"
    said = export("-o", file, "--ort", ort)
    assert said.returncode == 0, said.stderr
    assert file.stat().st_size < 9 * 2**20
    return Opened(chromium, file)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A face of 52 pixels, BGR."""
    image = pytest.importorskip("skimage.data").astronaut()[..., ::-1]
    return cv2.resize(np.ascontiguousarray(image[0:208, 112:320]), (52, 52), interpolation=cv2.INTER_AREA)


def saved(image: np.ndarray, path: Path) -> Path:
    cv2.imwrite(str(path), image)
    return path


@slow
def test_the_page_restores_as_python_does(opened: Opened, face: np.ndarray, tmp_path: Path) -> None:
    restorer = Restorer.load("gcfsr-nano")
    opened.drop(saved(face, tmp_path / "me.png"))
    assert opened.page.inner_text("#value") == f"{estimate_factor(face, restorer.out_size):.1f}x"
    for position in (0, 37, 100):
        opened.turn(position)
        factor = restorer.min_factor * (restorer.max_factor / restorer.min_factor) ** (position / 100)
        difference = np.abs(opened.shown("after").astype(int) - restorer.restore(face, factor=factor))
        assert difference.max() <= 1  # weights are rounded to 16 bits, pixels to 8
        assert difference.mean() < 0.05
    with opened.page.expect_download() as download:
        opened.page.click("#save")
    assert download.value.suggested_filename == "me_16.0x.png"
    download.value.save_as(tmp_path / "result.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "result.png")), opened.shown("after"))


@slow
def test_large_gray_and_oblong_images(opened: Opened, tmp_path: Path) -> None:
    image = pytest.importorskip("skimage.data").astronaut()
    gray = cv2.cvtColor(np.ascontiguousarray(image[:, 60:430]), cv2.COLOR_RGB2GRAY)  # 512 high, 370 wide
    opened.drop(saved(gray, tmp_path / "gray.png"))
    opened.turn(50)
    assert "The middle square of the image was taken." in opened.page.inner_text("#status")
    restorer = Restorer.load("gcfsr-nano")
    factor = (restorer.min_factor * restorer.max_factor) ** 0.5
    expected = restorer.restore(gray[71:441], factor=factor)
    after = opened.shown("after")
    assert (after == after[..., :1]).all()
    assert np.abs(after[..., 0].astype(int) - expected).max() <= 1


@slow
def test_a_file_that_is_not_an_image_is_one_line(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("nothing")
    opened.page.set_input_files("#file", str(tmp_path / "note.png"))
    opened.page.wait_for_selector("#status:text('note.png: not an image')")


@slow
def test_the_page_can_reach_no_other_host(opened: Opened) -> None:
    """It asks for nothing but itself, and its policy refuses what a script would ask for."""
    assert [address for address in opened.asked if not address.startswith("blob:")] == [opened.page.url]
    visits: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visits.append(self.path)
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        refused = opened.page.evaluate(
            """async address => {
              const image = new Promise(done => {
                const image = new Image(); image.onload = () => done(false); image.onerror = () => done(true);
                image.src = address + "/image"; });
              const worker = new Worker(URL.createObjectURL(new Blob([
                "onmessage = e => fetch(e.data).then(() => postMessage(false), () => postMessage(true))"])));
              const fetched = new Promise(done => { worker.onmessage = event => done(event.data); });
              worker.postMessage(address + "/worker");
              return Promise.all([fetch(address + "/fetch").then(() => false, () => true), image, fetched]);
            }""",
            address,
        )
        server.shutdown()
    assert refused == [True, True, True]
    assert visits == []


@slow
def test_a_blind_network_of_the_released_form(
    ort: Path, chromium: "playwright.Browser", face: np.ndarray, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = tmp_path / "blind.safetensors"
    save_generator(GCFSR(64, num_style_feat=32, narrow=1 / 16, variant="released", blind=True), network)
    said = export("-v", network, "-o", tmp_path / "page", "--format", "html", "--ort", ort, "--seed", 3)
    assert said.returncode == 0, said.stderr
    opened = Opened(chromium, tmp_path / "page.html")
    assert not opened.page.is_visible("#dial")
    opened.drop(saved(face, tmp_path / "face.png"))
    expected = Restorer.load(network).restore(face, seed=3)
    assert expected.std() > 5
    assert np.abs(opened.shown("after").astype(int) - expected).max() <= 2
    opened.page.close()


@slow
def test_every_dial_has_a_slider_set_to_the_estimate(
    ort: Path, chromium: "playwright.Browser", face: np.ndarray, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = tmp_path / "dials.safetensors"
    net = GCFSR(64, num_style_feat=32, narrow=1 / 16, conditions=("factor", "noise", "jpeg"), estimator=True)
    assert net.estimator is not None
    torch.nn.init.normal_(net.estimator.out.weight, std=0.1)  # drawn as 0, which would read the same of every face
    net.estimator.out.bias.data[:] = torch.tensor([0.5, 0.3, 0.3, -5.0, -5.0, -5.0])  # means, then spreads
    save_generator(net, network)
    said = export("-v", network, "-o", tmp_path / "page", "--format", "html", "--ort", ort)
    assert said.returncode == 0, said.stderr
    restorer = Restorer.load(network)
    opened = Opened(chromium, tmp_path / "page.html")
    assert not opened.page.is_enabled("#denoise")
    face = cv2.resize(face, (6, 6), interpolation=cv2.INTER_AREA)
    opened.drop(saved(face, tmp_path / "face.png"))
    read: Any = restorer.settled([restorer.strength(face)], restorer.encode(face))[0]
    assert abs(read["noise"] - read["jpeg"]) > 0.01
    assert restorer.min_factor < read["factor"] * restorer.max_factor < 0.9 * estimate_factor(face, restorer.out_size)
    assert opened.page.inner_text("#value") == f"{read['factor'] * restorer.max_factor:.1f}x"
    for option, name in (("denoise", "noise"), ("dejpeg", "jpeg")):
        assert float(opened.page.input_value(f"#{option}")) == pytest.approx(read[name], abs=2e-3)
        mark = opened.page.get_attribute(f"#{option}-estimate option", "value")
        assert float(mark or "") == pytest.approx(read[name], abs=2e-3)
    assert np.abs(opened.shown("after").astype(int) - restorer.restore(face, s=read)).max() <= 2
    before = opened.shown("after")
    opened.turn(1, "denoise")
    expected = restorer.restore(face, s={**read, "noise": 1.0})
    assert np.abs(expected.astype(int) - before).max() > 2
    assert np.abs(opened.shown("after").astype(int) - expected).max() <= 2
    assert opened.page.inner_text("label[for=denoise]").startswith("denoise 1.00, estimate ")
    opened.page.close()


def archive(path: Path, content: Callable[[str], bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name in ORT_FILES.values():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content(name))
            file.addfile(member, io.BytesIO(content(name)))
    return path


def test_the_runtime_is_read_from_an_archive_or_a_folder(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tgz", str.encode)
    with tarfile.open(path) as file:
        file.extractall(tmp_path, filter="data")
    expected = {asset: name.encode() for asset, name in ORT_FILES.items()}
    assert read_ort(path) == read_ort(tmp_path / "package") == expected


@pytest.mark.parametrize("kind", ["none", "empty", "cut", "other", "large"])
def test_another_file_is_not_the_runtime(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tgz"
    if kind == "large":
        monkeypatch.setattr("gcfsr_inference.page.one_file.LARGEST", 3)
    if kind in ("cut", "large"):
        archive(path, lambda name: np.random.default_rng(0).bytes(10000))
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    if kind == "empty":
        path.write_bytes(b"")
    if kind == "other":
        with tarfile.open(path, "w:gz"):
            pass
    with pytest.raises(GCFSRError, match=r"a\.tgz: not the npm package onnxruntime-web.*npm pack onnxruntime-web@"):
        read_ort(path)


@pytest.mark.parametrize(
    "arguments", [["-o", "a.html"], ["-o", "a.onnx", "--ort", "b.tgz"], ["-o", "a.html", "--ort", "absent.tgz"]]
)
def test_ort_belongs_to_html(arguments: list[str], tmp_path: Path) -> None:
    said = export("-o", tmp_path / arguments[1], *arguments[2:])
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert f"npm pack {ORT}" in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_halved_weights_are_rounded_and_small_or_large_ones_kept() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    draw = np.random.default_rng(0).normal(size=(3, 300)).astype(np.float32)
    moments = "net.estimator.norm.square"
    constants = {"small": draw[0, :10], "half": draw[1], "large": draw[2] * 1e5, moments: draw[0]}
    outputs = [helper.make_tensor_value_info(f"{name}_out", 1, None) for name in constants]
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in constants], "g", [], outputs,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    halved = half_weights(model.SerializeToString())
    assert len(halved) < len(model.SerializeToString()) - 500
    small, half, large, kept = onnxruntime.InferenceSession(halved).run(None, {})
    np.testing.assert_array_equal(kept, constants[moments])
    np.testing.assert_array_equal(small, constants["small"])
    np.testing.assert_array_equal(half, constants["half"].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(large, constants["large"])
