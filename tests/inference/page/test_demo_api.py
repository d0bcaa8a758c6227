"""What programs send to the page: a mistake is one line, and no file is read that was not uploaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR
from gcfsr_inference.backends.backend import TorchBackend
from gcfsr_inference.photo.detect import LandmarkFile
from gcfsr_inference.photo.paste import TEMPLATE
from gcfsr_inference.restore.restorer import Restorer

pytest.importorskip("gradio")
gradio_client = pytest.importorskip("gradio_client")

PHOTO = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Of a page that serves a small random network, and finds one face in every photograph."""
    from gcfsr_inference.page.demo import Page

    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    (tmp_path / "faces.json").write_text(str([(TEMPLATE * 100 + 20).tolist()]))
    torch.manual_seed(0)
    restorer = Restorer(TorchBackend(GCFSR(32, num_style_feat=32, narrow=1 / 16)))
    page = Page(lambda name: restorer, ["tiny"], LandmarkFile(tmp_path / "faces.json"), folder).build()
    url = page.launch(quiet=True, prevent_thread_lock=True, ssr_mode=False, allowed_paths=[str(folder)])[1]
    yield gradio_client.Client(url, verbose=False)
    page.close(verbose=False)


def test_mistakes_are_one_line_without_a_traceback(client: Any, tmp_path: Path, capfd) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), PHOTO)
    (tmp_path / "text.png").write_text("no image")
    photo, text = (gradio_client.handle_file(str(tmp_path / name)) for name in ("photo.png", "text.png"))
    wrong: list[tuple[tuple[Any, ...], str]] = [
        ((photo, -1.0), "this checkpoint serves factors 4 to 32"),
        ((photo, 1e308), "this checkpoint serves factors 4 to 32"),
        ((photo, "8"), "factor: a str, not a number"),
        ((photo, []), "factor: a list, not a number"),
        ((None, 8.0), "image: not an uploaded file"),
        (([photo], 8.0), "image: not an uploaded file"),
        ((text, 8.0), "text.png: not an image"),
        (({"path": str(tmp_path / "photo.png")}, 8.0), "image: not an uploaded file"),  # a file of the server
    ]
    capfd.readouterr()
    for arguments, words in wrong:
        with pytest.raises(Exception, match=words) as caught:
            client.predict(*arguments, api_name="/restore")
        assert str(tmp_path) not in str(caught.value)
    lines = capfd.readouterr().err.splitlines()
    assert [line.startswith("gcfsr demo: ") for line in lines] == [True] * len(wrong)
    restored = cv2.imread(client.predict(photo, 8.0, api_name="/restore"))
    assert restored is not None
    assert restored.shape == PHOTO.shape
