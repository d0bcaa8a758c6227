"""`gcfsr restore` on photographs and videos: the files around `photo` and `video`, which have tests of their own."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_inference.cli import main
from gcfsr_inference.photo.detect import build_detector
from gcfsr_inference.photo.paste import TEMPLATE
from gcfsr_inference.photo.photograph import PhotoOptions

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
    def call(*args, out=tmp_path / "out", landmarks=True, checkpoint=tiny, always=True):
        given = ["--always"] if always else []
        given += ["--landmarks", str(tmp_path / "faces.json")] if landmarks else []
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


def test_no_face_keeps_the_image_with_a_message(restore, photo, tmp_path):
    (tmp_path / "faces.json").write_text("[]")
    status, out, _ = restore("-i", photo)
    assert status == 0
    assert "no face found" in out
    assert np.array_equal(pixels(tmp_path / "out/restored_imgs/astro naut.png"), pixels(photo))


def test_a_sharp_face_is_left_and_reported(restore, photo, tmp_path):
    """And the same again from its sidecar; a factor given by hand restores it."""
    status, out, err = restore("-i", photo, "--sidecar", always=False)
    assert status == 0, err
    assert "left unchanged: already sharper than this network's output" in out
    result = tmp_path / "out/restored_imgs/astro naut.png"
    assert np.array_equal(pixels(result), pixels(photo))
    again = tmp_path / "again.png"
    side = result.with_suffix(".json")
    status, _, err = restore("--from-sidecar", side, out=again, landmarks=False, checkpoint=None, always=False)
    assert status == 0, err
    assert again.read_bytes() == result.read_bytes()
    assert "factor 4" in restore("-i", photo, "--factor", 4, always=False)[1]


def test_a_face_that_cannot_be_aligned_is_left_and_reported(restore, photo, tmp_path):
    (tmp_path / "faces.json").write_text(json.dumps([[[5, 5]] * 5]))
    status, out, _ = restore("-i", photo, "--min-face", 0)
    assert status == 0
    assert "left unchanged" in out
    assert np.array_equal(pixels(tmp_path / "out/restored_imgs/astro naut.png"), pixels(photo))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--faces", "7"), "no face 7"),
        (("--faces", "some"), "faces some"),
        (("-s", 0), "upscale"),
        (("-s", "nan"), "upscale"),
        (("--min-face", "nan"), "min-face"),
        (("--min-face", -1), "min-face"),
        (("--bg_upsampler", "magic"), "magic"),
        (("--bg_tile", 1), "tile 1"),
        (("--suffix", "../x"), "slash"),
        (("--detector", "yunet"), "--landmarks"),
    ],
)
def test_options_out_of_range(restore, photo, tmp_path, options, words):
    status, _, err = restore("-i", photo, *options)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert words in err
    assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--detector", "magic"), "magic"),
        (("--detector", "retinaface_resnet50"), "detection_Resnet50"),
        (("--detector", "landmarks"), "--landmarks"),
        (("--landmarks", "no such.json"), "no such.json"),
        (("--faces", "some"), "faces some"),
        (("--confidence", 2, "--detector", "yunet"), "confidence"),
    ],
)
def test_an_invalid_option_is_reported_once_for_all_images(restore, photo, options, words):
    other = photo.with_name("other.png")
    other.write_bytes(photo.read_bytes())
    status, _, err = restore("-i", photo, other, *options, landmarks=False)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert words in err
    assert "inputs failed" not in err


def test_a_map_of_strengths_over_the_whole_image(restore, photo, tmp_path):
    """White is the largest factor, black the least; half of each turns the two halves of the face apart."""
    mask = tmp_path / "mask.png"
    expected = {}
    for name, factor in (("black", 2), ("white", 16)):
        assert restore("-i", photo, "--factor", factor, out=tmp_path / f"{name}.png")[0] == 0
        expected[name] = pixels(tmp_path / f"{name}.png").astype(int)
        cv2.imwrite(str(mask), np.full((300, 300), 255 * (name == "white"), np.uint8))
        status, out, err = restore("-i", photo, "--s-map", mask, out=tmp_path / "mapped.png")
        assert status == 0, err
        assert "by place (given)" in out
        assert np.abs(pixels(tmp_path / "mapped.png") - expected[name]).max() <= 1
    half = np.zeros((300, 300), np.uint8)
    half[:, 143:] = 255  # the nose is at 140
    cv2.imwrite(str(mask), half)
    assert restore("-i", photo, "--s-map", mask, out=tmp_path / "mapped.png")[0] == 0
    mapped = pixels(tmp_path / "mapped.png").astype(int)
    for side, near, far in ((np.s_[60:190, :110], "black", "white"), (np.s_[60:190, 175:], "white", "black")):
        assert np.abs(mapped - expected[near])[side].mean() < np.abs(mapped - expected[far])[side].mean()
    cv2.imwrite(str(mask), half[:200])
    assert "300x200" in restore("-i", photo, "--s-map", mask)[2]


def test_draws_of_several_faces_in_one_folder_have_names_of_their_own(restore, photo, tmp_path):
    faces = [[[x - 80 + dx, y] for x, y in LANDMARKS] for dx in (-20, 20)]
    (tmp_path / "faces.json").write_text(json.dumps(faces))
    status, out, err = restore("-i", photo, "--draws", 2, "--s", 0.5, out=tmp_path / "one" / "x.png")
    assert status == 0, err
    assert "face 1: s 0.5 (given); spread" in out
    found = {path.name for path in (tmp_path / "one").iterdir()}
    assert found == {"x.png", *(f"x_{face}_{part}.png" for face in ("00", "01") for part in ("mean", "spread"))}


def test_an_empty_report_is_not_written(restore, photo, tmp_path):
    photo.write_text("no image")
    assert restore("-i", photo, "--report")[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("side", [300, 1350])
def test_a_photograph_works_right_after_installation(restore, photo, tmp_path, side):
    """Without any weights of the user's; a square portrait keeps its size, however large."""
    cv2.imwrite(str(photo), cv2.resize(pixels(photo), (side, side), interpolation=cv2.INTER_CUBIC))
    status, out, err = restore("-i", photo, landmarks=False)
    assert status == 0, err
    assert out.count(": factor") == 1
    result = pixels(tmp_path / "out/restored_imgs/astro naut.png")
    assert result.shape == (side, side, 3)
    assert not np.array_equal(result, pixels(photo))


def test_with_a_real_detector(restore, shared, tmp_path):
    photograph = next((shared / "photos").glob("gfpgan_00_2faces*"))
    options = ("--weights-dir", shared / "weights", "--detector", "yunet", "--only_center_face")
    status, out, err = restore("-i", photograph, *options, landmarks=False)
    assert status == 0, err
    assert out.count(": factor") == 1
    assert len(list((tmp_path / "out" / "restored_faces").iterdir())) == 1


def test_a_format_that_cannot_hold_the_image_is_refused_before_the_work(restore, photo, tmp_path):
    image = pixels(photo)
    cv2.imwrite(str(photo), np.dstack([image, image[..., 0]]))
    status, out, err = restore("-i", photo, "--ext", "jpg")
    assert (status, "no alpha channel" in err, out) == (2, True, "")
    assert not (tmp_path / "out").exists()


def test_thousands_of_faces(restore, photo, tmp_path, monkeypatch):
    """The largest are restored, up to a number, and the others counted in one line."""
    from gcfsr_inference.commands.restore import context

    monkeypatch.setattr(context, "PhotoOptions", partial(PhotoOptions, max_faces=2))
    faces = [(TEMPLATE * side + [side, 10]).tolist() for side in range(24, 29)]
    (tmp_path / "faces.json").write_text(json.dumps(faces))
    status, out, err = restore("-i", photo, "--sidecar")
    assert status == 0, err
    assert out.count(": factor") == 2
    assert "3 further faces left unchanged: more than 2 faces" in out
    side = json.loads((tmp_path / "out/restored_imgs/astro naut.json").read_text())
    assert [face["status"][:8] for face in side["faces"]] == ["left unc"] * 3 + ["restored"] * 2


@pytest.mark.parametrize("turned", [False, True])
def test_aligned_images_that_are_not_square_are_cropped(restore, tmp_path, turned):
    """As CelebA's 178x218: the face is neither squeezed nor moved; its eyes lie where FFHQ's do."""
    image = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[10:228, 130:308, ::-1])
    path = tmp_path / "celeba.png"
    cv2.imwrite(str(path), np.ascontiguousarray(np.rot90(image)) if turned else image)
    status, out, err = restore("-i", path, "--aligned", landmarks=False, always=False)
    assert status == 0, err
    assert ("218x178" if turned else "178x218") + " is not square; cropped to the" in out
    assert "is returned at 32x32 pixels" in out
    crop = pixels(tmp_path / "out/cropped_faces/celeba_00.png")
    (seen,) = build_detector("yunet").detect(cv2.resize(crop, (128, 128), interpolation=cv2.INTER_CUBIC))
    assert np.abs(seen.landmarks / 128 - TEMPLATE).max() < 0.05  # squeezed, it would be off by 0.1


def test_an_aligned_image_without_a_face_is_squeezed_with_a_message(restore, tmp_path):
    cv2.imwrite(str(tmp_path / "gray.png"), np.full((40, 36, 3), 90, np.uint8))
    status, out, err = restore("-i", tmp_path / "gray.png", "--aligned", landmarks=False, always=False)
    assert status == 0, err
    assert "36x40 is not square and no face is found to crop; it is squeezed" in out
