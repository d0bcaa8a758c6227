"""The page of `gcfsr export -o face.html`, opened from its file in Chromium: size and seconds.

    npm pack onnxruntime-web@1.30.0
    python benchmarks/one_file.py onnxruntime-web-1.30.0.tgz [--networks gcfsr-nano gcfsr-256] [--runs 5]

The first face includes what the browser compiles on the way; a move of the dial runs the decoder alone.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
from playwright.sync_api import Page, sync_playwright
from skimage.data import astronaut
from timing import machine, table

DONE = "#save:enabled"


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def drop(page: Page, face: Path) -> None:
    """Gives the page a face and waits for the restored one."""
    page.set_input_files("#file", str(face))
    page.wait_for_selector(DONE)


def turn(page: Page, position: int) -> None:
    """Moves the dial and waits for the face."""
    change = "(dial, to) => { dial.value = to; dial.dispatchEvent(new Event('input')) }"
    page.eval_on_selector("#dial", change, position)
    page.wait_for_selector(DONE)


def measured(page: Page, file: Path, face: Path, runs: int) -> list[float]:
    """Seconds until the page is ready, of the first face, of a move of the dial (median)."""
    opened = seconds(lambda: (page.goto(file.as_uri()), page.wait_for_selector("#status:text('Ready.')")))
    first = seconds(lambda: drop(page, face))
    places = range(10, 10 + 8 * runs, 8)
    return [opened, first, statistics.median(seconds(lambda to=to: turn(page, to)) for to in places)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ort", help="ONNX Runtime Web, as npm packs it")
    parser.add_argument("--networks", nargs="+", default=["gcfsr-nano", "gcfsr-256"])
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    rows: list[tuple[str, ...]] = [("network", "size", "opened", "first face", "a move of the dial")]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        face = Path(folder, "face.png")
        cv2.imwrite(str(face), cv2.resize(astronaut()[:208, 112:320, ::-1], (52, 52), interpolation=cv2.INTER_AREA))
        for network in args.networks:
            file = Path(folder, f"{network}.html")
            export = [sys.executable, "-m", "gcfsr_inference.cli", "export", "-v", network]
            subprocess.run([*export, "-o", str(file), "--ort", args.ort], check=True, capture_output=True)
            page = browser.new_page()
            page.set_default_timeout(120_000)
            times = (f"{value:.2f} s" for value in measured(page, file, face, args.runs))
            rows.append((str(network), f"{file.stat().st_size / 2**20:.1f} MiB", *times))
            page.close()
        version = browser.version
        browser.close()
    print(f"{machine()}; Chromium {version}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
