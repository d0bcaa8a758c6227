"""The page in a real headless Chromium: upload, turn the dial, choose the view, download; nothing asks another host."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR, save_generator
from gcfsr_inference.page.session import DemoSession
from gcfsr_inference.photo.detect import build_detector, find_detector
from gcfsr_inference.restore.restorer import Restorer

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")

WAIT = 120_000  # milliseconds: a loaded machine is slow, never wrong

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    save_generator(GCFSR(64, num_style_feat=32, narrow=1 / 16), path)
    return path


@contextmanager
def serving(tiny: Path, folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen]]:
    """`gcfsr demo` with that network: its address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gcfsr_inference.cli", "demo", "-v", str(tiny), "--port", str(port)]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, server, folder / "log")
        yield url, server
    finally:
        server.terminate()
        server.wait(180)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[str]:
    with serving(tiny, tmp_path_factory.mktemp("demo"), dict(os.environ)) as (url, _):
        yield url


def client_file(path: Path) -> object:
    from gradio_client import handle_file

    return handle_file(str(path))


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(2000):  # a loaded machine is slow, never wrong
        assert server.poll() is None, log.read_text()
        try:
            urlopen(url, timeout=5).close()
        except (URLError, OSError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(log.read_text())


@pytest.fixture(scope="module")
def page(address: str, chromium: "playwright.Browser") -> "playwright.Page":
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page.set_default_timeout(WAIT)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#photo input[type=file]", state="attached")
    return page


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = pytest.importorskip("skimage.data").astronaut()[..., ::-1]
    path = tmp_path_factory.mktemp("photo") / "astronaut.png"
    cv2.imwrite(str(path), np.ascontiguousarray(image[:480]))  # not quite square, as photographs are
    return path


def shown(page: "playwright.Page") -> list[str]:
    """Addresses of the images before and after."""
    return [source for image in page.query_selector_all("#compare img") if (source := image.get_attribute("src"))]


def changes_from(page: "playwright.Page", before: list[str]) -> list[str]:
    page.wait_for_function(
        "old => { const now = [...document.querySelectorAll('#compare img')].map(i => i.getAttribute('src'));"
        " return now.length == 2 && now.every(Boolean) && now.join() != old }",
        arg=",".join(before),
    )
    return shown(page)


def upload(page: "playwright.Page", path: Path) -> list[str]:
    page.reload()
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.set_input_files("#photo input[type=file]", str(path))
    return changes_from(page, [])


def downloaded(page: "playwright.Page", folder: Path) -> np.ndarray:
    """Asks for the file; BGR."""
    with page.expect_download() as downloading:
        page.click("#download")
    downloading.value.save_as(folder / "result.png")
    assert downloading.value.suggested_filename == "astronaut_restored.png"
    return cv2.imread(str(folder / "result.png"))


def expected(network: Path, photo: Path, chosen: list[int], factor: float | None) -> np.ndarray:
    """What a session without a page makes of the same setting; BGR."""
    session = DemoSession(Restorer.load(network), build_detector(find_detector()), photo)
    return session.restore(chosen, factor).image


def test_upload_turn_view_and_download(page: "playwright.Page", astronaut: Path, tiny: Path, tmp_path: Path) -> None:
    first = upload(page, astronaut)
    assert re.search(r"face 0: \d+ pixels, auto \d+\.\d", page.inner_text("#faces"))
    assert "Face 0 was left unchanged" in page.inner_text("#report")  # a random network's results do not agree
    assert page.is_checked("#auto input")
    assert "identify" in page.inner_text("body")

    page.fill("#dial input[type=number]", "99")  # beyond the range: its end, without an error
    page.press("#dial input[type=number]", "Tab")
    second = changes_from(page, first)
    assert second[0] == first[0]
    assert second[1] != first[1]
    page.wait_for_function("document.querySelector('#report').innerText.includes('32.0')")
    assert re.search(r"\d+\.\d dB at \d+x\d+", page.inner_text("#report"))
    assert "far above the estimate" in page.inner_text("#report")
    assert not page.is_checked("#auto input")
    assert page.query_selector(".toast-body") is None

    page.click("#view label:has-text('whole')")  # it began zoomed on the face, which is small in the photograph
    third = changes_from(page, second)
    assert third[0] != second[0]
    page.click("#gallery .thumbnail-item >> nth=0")
    assert changes_from(page, third)[0] == second[0]
    np.testing.assert_array_equal(downloaded(page, tmp_path), expected(tiny, astronaut, [0], 32.0))


def test_the_file_is_that_of_the_last_state(
    page: "playwright.Page", astronaut: Path, tiny: Path, tmp_path: Path
) -> None:
    """Arrow keys, a drag and quick clicks, each followed at once by the download."""
    upload(page, astronaut)
    page.focus("#dial input[type=range]")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    factor = float(page.input_value("#dial input[type=range]"))
    np.testing.assert_array_equal(downloaded(page, tmp_path), expected(tiny, astronaut, [0], factor))

    slider = page.locator("#dial input[type=range]").bounding_box()
    page.mouse.move(slider["x"] + slider["width"] - 8, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    page.mouse.move(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2, steps=5)
    page.mouse.up()
    dragged = float(page.input_value("#dial input[type=range]"))
    assert dragged != factor
    np.testing.assert_array_equal(downloaded(page, tmp_path), expected(tiny, astronaut, [0], dragged))

    for _ in range(3):  # off, on, off
        page.click("#faces input >> nth=0")
    np.testing.assert_array_equal(downloaded(page, tmp_path), cv2.imread(str(astronaut)))


def test_keyboard_and_labels_of_the_comparison(page: "playwright.Page", astronaut: Path) -> None:
    upload(page, astronaut)
    images = page.query_selector_all("#compare img")
    assert [bool(image.get_attribute("alt")) for image in images] == [True, True]
    page.focus("#compare input[type=range]")
    before = page.eval_on_selector("#compare img.after", "image => image.style.clipPath")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.eval_on_selector("#compare img.after", "image => image.style.clipPath") != before


def test_dial_and_image_fit_a_telephone(page: "playwright.Page", astronaut: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        upload(page, astronaut)
        page.eval_on_selector("#compare", "element => element.scrollIntoView({block: 'start'})")
        dial, image = (page.locator(name).bounding_box() for name in ("#dial input[type=range]", "#compare img.after"))
        for box in (dial, image):
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= 844
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


def test_a_file_that_is_not_an_image_is_an_error_on_the_page(page: "playwright.Page", tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    page.reload()
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.set_input_files("#photo input[type=file]", str(tmp_path / "broken.png"))
    page.wait_for_function("document.querySelector('#report').innerText.includes('cannot be restored')")
    assert "broken.png: not an image" in page.inner_text("#report")
    assert shown(page) == []


def test_the_client_of_the_docs_restores(address: str, astronaut: Path, tiny: Path, root: Path) -> None:
    pytest.importorskip("gradio_client")
    (code,) = re.findall(r"^```py\n(.*?)^```", (root / "docs" / "photos.md").read_text("utf-8"), re.M | re.S)
    for given, ours in (("http://127.0.0.1:7860", address), ("photo.jpg", str(astronaut))):
        assert given in code
        code = code.replace(given, ours)
    names: dict = {}
    exec(compile(code, "docs/photos.md", "exec"), names)
    np.testing.assert_array_equal(cv2.imread(names["file"]), expected(tiny, astronaut, [0], 8.0))


def test_other_hosts_and_origins_are_refused(address: str) -> None:
    for header in ({"Host": "example.org"}, {"Origin": "http://example.org"}):
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(address, headers=header), timeout=30)


def test_nothing_is_left_when_the_server_ends(tiny: Path, astronaut: Path, tmp_path: Path) -> None:
    """On SIGTERM its folder goes; after SIGKILL the next server removes it."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for ending in (signal.SIGKILL, signal.SIGTERM):
        with serving(tiny, tmp_path, environment) as (url, server):
            client = pytest.importorskip("gradio_client").Client(url, verbose=False, download_files=False)
            client.predict(client_file(astronaut), 4.0, api_name="/restore")
            (folder,) = tmp_path.glob("gcfsr-demo-*")
            assert folder.name.split("-")[2] == str(server.pid)
            assert list(folder.rglob("*.png"))
            server.send_signal(ending)
            server.wait(180)
    assert list(tmp_path.glob("gcfsr-demo-*")) == []


def test_no_other_host_is_asked(page: "playwright.Page", address: str) -> None:
    hosts = {urlparse(url).netloc for url in page.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlparse(address).netloc}
