"""`gcfsr restore` on photographs and videos: the files around `photo` and `video`, which have tests of their own."""

import json
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_inference.cli import main

pytestmark = pytest.mark.usefixtures("no_weights")
LANDMARKS = [[200, 102], [247, 103], [220, 125], [199, 143], [240, 144]]  # of the astronaut, found by YuNet


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    data = pytest.importorskip("skimage.data")
    path = tmp_path / "in" / "astro naut.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), data.astronaut()[:300, 80:380, ::-1])
    (tmp_path / "faces.json").write_text(json.dumps([[[x - 80, y] for x, y in LANDMARKS]]))
    return path


@pytest.fixture
def restore(tiny, tmp_path, capsys):
    def call(*args, out=tmp_path / "out", landmarks=True, checkpoint=tiny):
        given = ["--landmarks", str(tmp_path / "faces.json")] if landmarks else []
        given += [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
        status = main(["restore", *map(str, args), "-o", str(out), *given])
        return status, *capsys.readouterr()

    return call


def pixels(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_folders_report_and_a_sidecar_that_repeats_it(restore, photo, tmp_path):
    status, out, err = restore("-i", photo, "--sidecar", "--report", "--noise", "random", "-s", 2, "--suffix", "x")
    assert status == 0, err
    assert "face 0: factor" in out
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {
        "restored_imgs/astro naut_x.png", "restored_imgs/astro naut_x.json", "cropped_faces/astro naut_00.png",
        "restored_faces/astro naut_00_x.png", "cmp/astro naut_00.png", "report.json",
    }  # fmt: skip
    result = tmp_path / "out/restored_imgs/astro naut_x.png"
    assert pixels(result).shape == (600, 600, 3)
    side = json.loads(result.with_suffix(".json").read_text())
    assert np.allclose(side["faces"][0]["landmarks"], np.array(LANDMARKS) - [80, 0])
    assert len(side["faces"][0]["box"]) == 4
    status, _, err = restore("--from-sidecar", result.with_suffix(".json"), out=tmp_path / "again.png",
                             landmarks=False, checkpoint=None)  # fmt: skip
    assert status == 0, err
    assert (tmp_path / "again.png").read_bytes() == result.read_bytes()


def test_what_lies_outside_the_face_alpha_and_16_bits_are_kept(restore, photo, tmp_path):
    image = pixels(photo).astype(np.uint16) * 257
    alpha = np.tile(np.linspace(0, 65535, 300).astype(np.uint16), (300, 1))
    cv2.imwrite(str(photo), np.dstack([image, alpha]))
    assert restore("-i", photo)[0] == 0
    result = pixels(tmp_path / "out/restored_imgs/astro naut.png")
    assert result.dtype == np.uint16
    assert np.array_equal(result[..., 3], alpha)
    assert np.array_equal(result[-40:, :, :3], image[-40:])
    assert not np.array_equal(result[..., :3], image)


def test_no_face_keeps_the_picture_and_says_so(restore, photo, tmp_path):
    (tmp_path / "faces.json").write_text("[]")
    status, out, _ = restore("-i", photo)
    assert status == 0
    assert "no face found" in out
    assert np.array_equal(pixels(tmp_path / "out/restored_imgs/astro naut.png"), pixels(photo))


def test_a_face_that_cannot_be_aligned_is_left_and_reported(restore, photo, tmp_path):
    (tmp_path / "faces.json").write_text(json.dumps([[[5, 5]] * 5]))
    status, out, _ = restore("-i", photo, "--min-face", 0)
    assert status == 0
    assert "left as it was" in out
    assert np.array_equal(pixels(tmp_path / "out/restored_imgs/astro naut.png"), pixels(photo))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--faces", "7"), "no face 7"),
        (("--faces", "some"), "faces some"),
        (("--bg_upsampler", "realesrgan"), "realesrgan"),
        (("-s", 0), "upscale"),
        (("-s", "nan"), "upscale"),
        (("--s-map", "MASK"), "--aligned"),
    ],
)
def test_options_out_of_range(restore, photo, tmp_path, options, words):
    options = [str(photo) if option == "MASK" else option for option in options]
    status, _, err = restore("-i", photo, *options)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert words in err
    assert not list((tmp_path / "out").rglob("*.*"))


def test_with_a_real_detector(restore, shared, tmp_path):
    photograph = next((shared / "photos").glob("gfpgan_00_2faces*"))
    options = ("--weights-dir", shared / "weights", "--detector", "yunet", "--only_center_face")
    status, out, err = restore("-i", photograph, *options, landmarks=False)
    assert status == 0, err
    assert out.count(": factor") == 1
    assert len(list((tmp_path / "out" / "restored_faces").iterdir())) == 1


def test_a_video(restore, photo, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    clip = tmp_path / "in" / "clip.mp4"
    subprocess.run(
        [ffmpeg, "-y", "-v", "error", "-loop", "1", "-i", str(photo), "-t", "0.3", "-r", "10", str(clip)], check=True
    )
    status, out, err = restore("-i", clip)
    assert status == 0, err
    assert "3 frames, 1 faces, restored in 3" in out
    assert (tmp_path / "out/restored_imgs/clip.mp4").stat().st_size > 1000
    assert "output is the input" in restore("-i", clip, out=clip)[2]
    assert "not for videos" in restore("-i", clip, "--report")[2]
    assert "face_detection_yunet" in restore("-i", clip, landmarks=False)[2]
