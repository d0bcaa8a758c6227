"""`gcfsr restore` on a clip: the video, its report, its sidecar. What happens to the frames is tested with `video`."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")
pytestmark = pytest.mark.usefixtures("no_weights")
LANDMARKS = [[120, 102], [167, 103], [140, 125], [119, 143], [160, 144]]  # of the image below, found by YuNet


@pytest.fixture
def clip(write_clip, tmp_path: Path) -> Path:
    """Three frames of scikit-image's astronaut, and her landmarks in faces.json."""
    (tmp_path / "in").mkdir()
    image = pytest.importorskip("skimage.data").astronaut()[:300, 80:380, ::-1]
    (tmp_path / "faces.json").write_text(json.dumps([LANDMARKS]))
    return write_clip(tmp_path / "in" / "clip.mp4", [image] * 3, rate=10)


@pytest.fixture
def by_hand(tmp_path: Path) -> tuple[str, ...]:
    return "--landmarks", str(tmp_path / "faces.json")


def test_a_clip(restore, clip, by_hand, tmp_path):
    status, out, err = restore("-i", clip, *by_hand)
    assert status == 0, err
    assert "3 frames, 1 face followed, restored in 3 frames" in out
    assert "face 0: frames 1 to 3; factor" in out
    assert (tmp_path / "out/restored_imgs/clip.mp4").stat().st_size > 1000
    assert "output is the input" in restore("-i", clip, *by_hand, out=clip)[2]
    assert "not for videos" in restore("-i", clip, *by_hand, "--draws", 2)[2]
    assert (
        "3 frames, 1 face followed, restored in 3 frames" in restore("-i", clip)[1]
    )  # found by the detector in the package


def test_metadata_and_faces_of_a_clip_are_as_asked(restore, write_clip, by_hand, clip, tmp_path):
    tags = {"title": "Holiday", "location": "+48.8577+002.2950/"}
    source, made = write_clip(clip, [np.full((300, 300, 3), 90, np.uint8)] * 2, tags=tags), tmp_path / "made.mp4"
    for option, found in (("keep", {"title", "location"}), ("no-gps", {"title"}), ("none", set())):
        assert restore(source, *by_hand, "--metadata", option, out=made)[0] == 0
        with av.open(str(made)) as file:
            assert file.metadata.keys() & tags.keys() == found
    status, _, err = restore(source, *by_hand, "--faces", 7)
    assert (status, "clip.mp4: faces 7: there is no face 7; 1 followed" in err) == (2, True)


def test_what_is_missing_of_a_clip_is_reported(restore, write_clip, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (24, 160, 200, 3), np.uint8)
    source = write_clip(tmp_path / "cut.mkv", frames)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    status, out, err = restore("-i", source)
    assert status == 0, err
    assert f"{source}: ends after 0." in out
    assert "of 2.00 s; the rest is missing" in out


def test_a_killed_run_leaves_nothing_that_the_next_one_keeps(tiny, clip, write_clip, by_hand, tmp_path):
    out = tmp_path / "out" / "restored_imgs"
    image = np.full((300, 300, 3), 90, np.uint8)
    long = write_clip(tmp_path / "in" / "long.mp4", [image] * 400, rate=10)
    command = [sys.executable, "-m", "gcfsr_inference.cli", "restore", "--checkpoint", tiny, *by_hand, "-o", out.parent]
    running = subprocess.Popen([*command, "-i", long])
    while not list(out.glob(".*.partial")):
        assert running.poll() is None
        time.sleep(0.05)
    running.kill()
    running.wait()
    assert [path.suffix for path in out.iterdir()] == [".partial"]
    subprocess.run([*command, "-i", clip], check=True, capture_output=True)
    assert [path.name for path in out.iterdir()] == ["clip.mp4"]


def test_a_report_of_the_followed_faces(restore, clip, by_hand, tmp_path):
    status, out, err = restore("-i", clip, *by_hand, "--report", "--lock", "--factor", 4)
    assert status == 0, err
    assert "factor 4 on average (given); consistency" in out
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())
    (face,) = entry["faces"]
    assert (face["number"], face["frames"], face["first"], face["last"], face["factor"]) == (0, 3, 1, 3, 4)
    assert 0 < face["consistency"]["mean"] < 0.5 <= face["consistency"]["largest"]


def test_a_sidecar_makes_the_same_bytes_again(restore, clip, by_hand, tmp_path):
    options = ("--sidecar", "--noise", "random", "--seed", 3, "--s", 0.4)
    assert restore("-i", clip, *by_hand, *options)[0] == 0
    before = tmp_path / "out" / "restored_imgs" / "clip.mp4"
    side = before.with_suffix(".json")
    status, _, err = restore("--from-sidecar", side, checkpoint=None, out=tmp_path / "again.mp4")
    assert status == 0, err
    assert (tmp_path / "again.mp4").read_bytes() == before.read_bytes()
    clip.write_bytes(clip.read_bytes() + b"more")
    assert "input is not the one" in restore("--from-sidecar", side, checkpoint=None)[2]
