"""`make demo`'s driver: how it crops faces, whose images it takes, and the whole run in a few iterations."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import demo_image as demo
from gcfsr_arch import GCFSRError

ROOT = Path(__file__).resolve().parents[2]


def test_the_eyes_are_where_ffhq_has_them() -> None:
    photo = np.zeros((512, 512, 3), np.uint8)
    for x, y in demo.ASTRONAUT_EYES:
        cv2.circle(photo, (round(x), round(y)), 3, (255, 255, 255), -1)
    face = demo.align(photo, demo.ASTRONAUT_EYES, 0, 1, np.zeros(2))[..., 0]
    _, _, _, centres = cv2.connectedComponentsWithStats((face > 100).astype(np.uint8))
    found = sorted(map(tuple, centres[1:]))  # the first is the background
    assert np.abs(np.array(found) - np.array(demo.FFHQ_EYES) * demo.SIDE).max() < 1.5


def test_variations_differ_and_the_shown_face_is_not_one_of_them() -> None:
    pytest.importorskip("skimage")
    varied, shown = demo.varied_astronaut()
    assert len({face.tobytes() for face in [*varied, shown]}) == demo.VARIATIONS + 1
    assert {face.shape for face in varied} == {(demo.SIDE, demo.SIDE, 3)}


def test_own_images_are_cropped_to_squares(tmp_path: Path) -> None:
    wide = np.zeros((60, 200, 3), np.uint8)
    wide[:, 70:130] = 200  # the middle square
    cv2.imwrite(str(tmp_path / "a.png"), wide)
    faces, shown = demo.own_images(tmp_path)
    assert len(faces) == demo.VARIATIONS  # enough for a batch
    assert shown.min() == 200
    (tmp_path / "empty").mkdir()
    with pytest.raises(GCFSRError, match="empty"):
        demo.own_images(tmp_path / "empty")


def test_one_row_per_network() -> None:
    face = np.full((demo.SIDE, demo.SIDE, 3), 90, np.uint8)
    outputs = [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(len(demo.DIALS))]
    sheet = demo.draw([("one", outputs), ("two", outputs)], face)
    assert sheet.shape[0] % 2 == 0
    assert sheet.shape[1] > (len(demo.DIALS) + 2) * demo.TILE


@pytest.mark.slow
def test_the_whole_run(tmp_path: Path) -> None:
    pytest.importorskip("basicsr")
    pytest.importorskip("skimage")
    small = ["network_g:narrow=0.0625", "network_d:narrow=0.0625", "train:total_iter=2"]
    words = [sys.executable, str(ROOT / "tools" / "demo_image.py"), "--force_yml", *small]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "trained just now on this very face" in done.stdout
    assert cv2.imread(str(tmp_path / "demo.png")) is not None
    wrong = subprocess.run([*words[:2], "--data", "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("gcfsr: error: nowhere")
