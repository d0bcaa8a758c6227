"""The Hugging Face Space: its front matter, and the app in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from packaging.requirements import Requirement

SPACE = Path(__file__).resolve().parents[2] / "space"


def test_the_front_matter_names_the_app() -> None:
    _, block, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---", 2)
    settings = yaml.safe_load(block)
    assert settings["sdk"] == "gradio"
    assert (SPACE / settings["app_file"]).is_file()
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}  # those that a Space may have
    assert {settings["colorFrom"], settings["colorTo"]} <= colours
    assert settings["title"]
    assert settings["license"] == "apache-2.0"
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 or later reads TOML")
    project = tomllib.loads((SPACE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (gradio,) = (Requirement(line) for line in project["optional-dependencies"]["demo"])
    assert gradio.specifier.contains(str(settings["sdk_version"]))
    assert Requirement(f"python{project['requires-python']}").specifier.contains(str(settings["python_version"]))
    names = [Requirement(line) for line in (SPACE / "requirements.txt").read_text().splitlines() if line]
    assert [(name.name, name.extras) for name in names] == [("gcfsr", {"demo"})]


@pytest.mark.slow
def test_the_app_serves_the_page(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "TMPDIR": str(tmp_path)}
    with open(tmp_path / "log", "w") as log:
        app = subprocess.Popen([sys.executable, str(SPACE / "app.py")], env=environment, stdout=log, stderr=log)
    try:
        for _ in range(2000):  # a loaded machine is slow, never wrong
            assert app.poll() is None, (tmp_path / "log").read_text()
            try:
                page = urlopen(f"http://127.0.0.1:{port}", timeout=5).read().decode()
                break
            except (URLError, OSError):
                time.sleep(0.3)
        assert "GCFSR" in page
    finally:
        app.terminate()
        app.wait(180)
