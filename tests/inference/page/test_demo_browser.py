"""The page in a real headless Chromium: upload, turn the dial, choose the view, download; nothing asks another host."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR, save_generator

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT = 120_000  # milliseconds: a loaded machine is slow, never wrong

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian's package: chromium)"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[str]:
    """`gcfsr demo` with a small drawn network; YuNet where it is at hand, otherwise aligned faces."""
    folder = tmp_path_factory.mktemp("demo")
    torch.manual_seed(0)
    save_generator(GCFSR(64, num_style_feat=32, narrow=1 / 16), folder / "tiny.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    weights = Path(os.environ.get("GCFSR_SHARED", root.parent / "shared")) / "weights"
    environment = {**os.environ, "GCFSR_WEIGHTS": str(weights if weights.is_dir() else folder)}
    command = [sys.executable, "-m", "gcfsr_inference.cli", "demo", "-v", str(folder / "tiny.safetensors")]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, server, folder / "log")
        yield url
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            urlopen(url, timeout=5).close()
        except (URLError, OSError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(log.read_text())


@pytest.fixture(scope="module")
def page(address: str) -> Iterator["playwright.Page"]:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        page.set_default_timeout(WAIT)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#photo input[type=file]", state="attached")
        yield page
        browser.close()


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = pytest.importorskip("skimage.data").astronaut()[..., ::-1]
    path = tmp_path_factory.mktemp("photo") / "astronaut.png"
    cv2.imwrite(str(path), np.ascontiguousarray(image[:480]))  # not quite square, as photographs are
    return path


def shown(page: "playwright.Page") -> list[str]:
    """Addresses of the pictures before and after."""
    return [image.get_attribute("src") or "" for image in page.query_selector_all("#compare img")]


def changes_from(page: "playwright.Page", before: list[str]) -> list[str]:
    page.wait_for_function(
        "old => { const now = [...document.querySelectorAll('#compare img')].map(i => i.src);"
        " return now.length == 2 && now.join() != old }",
        arg=",".join(before),
    )
    return shown(page)


def test_upload_turn_view_and_download(page: "playwright.Page", astronaut: Path, tmp_path: Path) -> None:
    page.set_input_files("#photo input[type=file]", str(astronaut))
    first = changes_from(page, [])
    assert re.search(r"face 0: \d+ pixels, auto \d+\.\d", page.inner_text("#faces"))
    assert re.search(r"\d+\.\d dB at \d+x\d+", page.inner_text("#report"))
    assert page.is_checked("#auto input")

    page.fill("#dial input[type=number]", "32")
    page.press("#dial input[type=number]", "Tab")
    second = changes_from(page, first)
    assert second[0] == first[0]
    assert second[1] != first[1]
    page.wait_for_function("document.querySelector('#report').innerText.includes('32.0')")
    assert not page.is_checked("#auto input")

    slider = page.locator("#dial input[type=range]").bounding_box()
    page.mouse.move(slider["x"] + slider["width"] - 8, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    page.mouse.move(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2, steps=5)
    page.mouse.up()
    third = changes_from(page, second)
    assert third[1] not in (first[1], second[1])

    page.click("#view label:has-text('face 0')")
    changes_from(page, third)

    page.wait_for_selector("#download:not([disabled])")
    page.wait_for_timeout(1000)
    with page.expect_download() as downloading:
        page.click("#download")
    downloading.value.save_as(tmp_path / "result.png")
    assert downloading.value.suggested_filename == "astronaut_restored.png"
    result, source = cv2.imread(str(tmp_path / "result.png")), cv2.imread(str(astronaut))
    assert result is not None
    assert result.shape in (source.shape, (64, 64, 3))
    assert result.shape != source.shape or (result != source).any()


def test_a_file_that_is_no_picture_is_an_error_on_the_page(page: "playwright.Page", tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    page.reload()
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.set_input_files("#photo input[type=file]", str(tmp_path / "broken.png"))
    page.wait_for_selector(".toast-body")
    assert "broken.png: not an image" in page.inner_text(".toast-body")
    assert shown(page) == []


def test_no_other_host_is_asked(page: "playwright.Page", address: str) -> None:
    hosts = {urlparse(url).netloc for url in page.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlparse(address).netloc}
