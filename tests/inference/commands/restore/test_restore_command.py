"""`gcfsr restore` as people call it: what goes in, what comes out where, and the same again."""

import io
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gcfsr_datasets.image_io import read_image
from gcfsr_datasets.resize import resize
from gcfsr_inference import Restorer, estimate_factor
from gcfsr_inference.cli import main
from gcfsr_inference.restore import restorer

pytestmark = pytest.mark.usefixtures("no_weights")
rng = np.random.default_rng(0)
FACE = cv2.GaussianBlur(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8), (5, 5), 0)  # what `face` holds


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_an_aligned_face_in_gfpgans_folders(restore, face, tiny, tmp_path):
    status, out, _ = restore("-i", face, "--aligned", "--factor", 8, "--suffix", "x")
    assert status == 0
    assert "factor 8 (given)" in out
    assert files(tmp_path / "out") == {"cropped_faces/face_00.png", "restored_faces/face_00_x.png", "cmp/face_00.png"}
    expected = Restorer.load(tiny).restore(FACE, factor=8)
    assert np.array_equal(pixels(tmp_path / "out/restored_faces/face_00_x.png"), expected)
    crop = np.clip(resize(FACE / 255, (32, 32)) * 255, 0, 255).round()
    assert np.array_equal(pixels(tmp_path / "out/cmp/face_00.png"), np.hstack([crop, expected]))


def test_an_image_without_a_face_is_not_an_aligned_face(restore, face, tmp_path):
    status, out, _ = restore("-i", face)
    assert status == 0
    assert "no face found" in out
    assert "--aligned" in out
    assert np.array_equal(pixels(tmp_path / "out/restored_imgs/face.png"), FACE)


def test_w_is_codeformers(restore, face, tmp_path):
    """w = 1 is the least strength the network knows, w = 0 the most."""
    for w, factor in ((1, 2), (0, 16), (0.5, 9)):
        for name, dial in (("a.png", ("-w", w)), ("b.png", ("--factor", factor))):
            assert restore("-i", face, "--aligned", *dial, out=tmp_path / name)[0] == 0
        assert np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))


def test_s_levels_and_map(restore, face, tmp_path):
    cv2.imwrite(str(tmp_path / "white.png"), np.full((20, 20), 255, np.uint8))
    for k, dial in enumerate((("--s", 1), ("--s-levels", "1,1"), ("--s-map", tmp_path / "white.png"))):
        assert restore("-i", face, "--aligned", *dial, out=tmp_path / f"{k}.png")[0] == 0
    first, *others = (pixels(tmp_path / f"{k}.png").astype(int) for k in range(3))
    assert all(np.abs(other - first).max() <= 1 for other in others)


def test_streams(tiny, face):
    command = [sys.executable, "-m", "gcfsr_inference.cli", "restore", "-i", "-", "-o", "-", "--aligned"]
    done = subprocess.run(
        [*command, "--checkpoint", str(tiny), "--factor", "4"], input=face.read_bytes(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    restored = cv2.imdecode(np.frombuffer(done.stdout, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(restored, Restorer.load(tiny).restore(FACE, factor=4))
    assert b"factor 4" in done.stderr


def test_the_script_is_the_command(root, tiny, face, tmp_path):
    script = root / "inference" / "inference_gcfsr.py"
    out = tmp_path / "s.png"
    command = [sys.executable, str(script), "-i", str(face), "-o", str(out), "--aligned", "--checkpoint", str(tiny)]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    assert pixels(out).shape == (32, 32, 3)


def test_a_folder_continues_after_a_bad_file(restore, face, tmp_path):
    folder = face.parent
    (folder / "sub").mkdir()
    (folder / "a_bad.png").write_bytes(face.read_bytes()[:100])
    (folder / "face.jpg").write_bytes(cv2.imencode(".jpg", FACE)[1].tobytes())
    (folder / "sub" / "deep face ü.png").write_bytes(face.read_bytes())
    status, _, err = restore("-i", folder, "--aligned", "--recursive", "--batch", 2, "--ext", "webp")
    assert status == 2
    assert "1 of 4 inputs failed" in err
    assert "a_bad.png" in err.splitlines()[1]
    restored = {name for name in files(tmp_path / "out") if name.startswith("restored_faces")}
    assert restored == {f"restored_faces/{name}.webp" for name in ("face_png_00", "face_jpg_00", "sub/deep face ü_00")}


@pytest.mark.parametrize("kind", ["gray", "alpha", "deep", "palette", "cmyk", "animated", "icc", "turned", "webp"])
def test_kinds_of_image(restore, face, tmp_path, kind):
    path, image = tmp_path / "kind.png", Image.fromarray(np.ascontiguousarray(FACE[..., ::-1]))
    if kind == "deep":
        cv2.imwrite(str(path), FACE.astype(np.uint16) * 257)
    elif kind == "animated":
        path = tmp_path / "kind.webp"
        image.save(path, save_all=True, append_images=[image.rotate(90)], lossless=True)
    elif kind == "cmyk":
        path = tmp_path / "kind.jpg"
        image.convert("CMYK").save(path, quality=100)
    elif kind == "turned":
        path, exif = tmp_path / "kind.jpg", Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif, quality=100, subsampling=0)
    elif kind == "icc":
        from PIL import ImageCms

        image.save(path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    elif kind == "webp":
        path = tmp_path / "kind.webp"
        image.save(path, lossless=True)
    else:
        image.putalpha(Image.fromarray(np.tile(np.arange(0, 240, 12, dtype=np.uint8), (20, 1))))
        modes = {"gray": "L", "alpha": "RGBA", "palette": "P"}
        (image if kind == "alpha" else image.convert("RGB").convert(modes[kind])).save(path)
    status, out, err = restore("-i", path, "--aligned", "--factor", 4)
    assert status == 0, err
    result = read_image(next((tmp_path / "out" / "restored_faces").iterdir()))
    assert result.bgr.dtype == (np.uint16 if kind == "deep" else np.uint8)
    assert (result.alpha is not None) == (kind == "alpha")
    assert (result.icc is not None) == (kind == "icc")
    assert ("frames" in out) == (kind == "animated")
    if kind == "gray":
        assert np.ptp(result.bgr, axis=2).max() == 0
    if kind == "alpha":
        assert result.alpha.min() < 12
        assert result.alpha.max() > 200
    if kind == "turned":
        crop = pixels(tmp_path / "out" / "cropped_faces" / "kind_00.png").astype(int)
        upright = np.clip(resize(np.rot90(FACE, -1) / 255, (32, 32)) * 255, 0, 255)
        assert np.abs(crop - upright).mean() < 12


def test_report_lock_draws_and_sidecar(restore, face, tmp_path):
    out = tmp_path / "out"
    extras = ("--report", "--lock", "--draws", 3, "--sidecar")
    status, text, _ = restore("-i", face, "--aligned", "--factor", 4, *extras)
    assert status == 0
    for words in ("locked in", "consistency at", "spread up to"):
        assert words in text
    (entry,) = json.loads((out / "report.json").read_text())
    assert entry["faces"][0]["consistency"]["mean"] < 0.5
    assert entry["faces"][0]["lock"]["after"]["mean"] < 0.5 <= entry["faces"][0]["lock"]["before"]["mean"]
    side = json.loads((out / "restored_faces/face_00.json").read_text())
    assert len(side["checkpoint_sha256"]) == len(side["input"]["sha256"]) == len(side["output"]["sha256"]) == 64
    assert side["faces"][0]["factor"] == 4
    mean, spread = (pixels(out / f"spread/face_00_{name}.png") for name in ("mean", "spread"))
    assert mean.shape == spread.shape == (32, 32, 3)
    assert entry["faces"][0]["largest_spread"] > 0


def test_auto_is_the_larger_of_cut_off_and_alignment(restore, tiny, astronaut, tmp_path):
    from gcfsr_inference.restore.runner import FaceRunner

    faces = FaceRunner(Restorer.load(tiny))
    sharp = np.clip(resize(astronaut / 255, (32, 32)) * 255, 0, 255).round().astype(np.uint8)
    assert faces.prepare(sharp).factor == 2  # the least that the network serves
    assert faces.prepare(sharp, scale=7.5).factor == 7.5
    assert faces.prepare(sharp, scale=99).factor == 16
    assert faces.prepare(sharp, scale=99, factor=5.0).factor == 5
    cv2.imwrite(str(tmp_path / "sharp.png"), sharp)
    assert "factor 2 (auto, estimated 1" in restore("-i", tmp_path / "sharp.png", "--aligned")[1]


def test_auto_estimates_each_face_once(restore, face, monkeypatch):
    calls = []
    monkeypatch.setattr(restorer, "estimate_factor", lambda *args: calls.append(1) or estimate_factor(*args))
    assert restore("-i", face, "--aligned", "--report", "--lock")[0] == 0
    assert len(calls) == 1


def test_draws_are_the_mean_and_deviation_of_draws(tiny):
    from gcfsr_inference.restore.runner import FaceRunner, Settings

    restorer = Restorer.load(tiny)
    mean, heat, largest = FaceRunner(restorer, Settings(draws=5)).draw(FACE, 0.5, 7)
    features = restorer.encode(FACE)
    draws = np.stack([restorer.decode(features, 0.5, noise="random", seed=7 + k) for k in range(5)]).astype(float)
    assert np.abs(mean - draws.mean(0)).max() <= 1
    spread = draws.std(0).mean(2)
    assert largest == pytest.approx(spread.max(), abs=0.5)  # the draws here are rounded to whole steps
    assert heat[np.unravel_index(spread.argmax(), spread.shape)].sum() > 600  # the light end of the map


def test_where_nothing_is_bundled_the_option_is_named(restore, face, monkeypatch, tmp_path):
    monkeypatch.setattr("gcfsr_inference.restore.weights.package_folder", lambda: tmp_path)
    status, _, err = restore("-i", face, "--aligned", checkpoint=None)
    assert (status, "--checkpoint" in err) == (2, True)


def test_restoring_loads_no_more_than_it_needs(tiny, face, tmp_path):
    args = ["restore", "-i", str(face), "-o", str(tmp_path / "x.png"), "--aligned", "--checkpoint", str(tiny)]
    names = ["scipy.stats", "scipy.fft", "facexlib", "basicsr", "rich", "matplotlib"]
    code = f"import sys; from gcfsr_inference.cli import main; main({args}); print(set({names}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stdout + done.stderr


@pytest.mark.parametrize(("flags", "message"), [("avx512_bf16", ""), ("avx2", "no bf16 arithmetic and emulates it")])
def test_bf16_on_a_processor_without_it_is_reported(restore, face, monkeypatch, tmp_path, flags, message):
    (tmp_path / "cpuinfo").write_text(f"flags : fma {flags}\n")
    monkeypatch.setattr("gcfsr_arch.devices.CPUINFO", tmp_path / "cpuinfo")
    status, _, err = restore("-i", face, "--aligned", "--factor", 8, "--dtype", "bf16")
    assert (status, message in err, bool(err)) == (0, True, bool(message))


def test_help_names_what_the_issue_names(capsys):
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    text = capsys.readouterr().out
    for flag in ("-i", "-o", "-v", "-s", "--upscale", "--bg_upsampler", "--bg_tile", "--suffix", "--only_center_face",
                 "--aligned", "--ext", "-w", "--factor", "--s", "--noise", "--seed"):  # fmt: skip
        assert f"{flag} " in text or f"{flag}," in text or f"{flag}\n" in text


def test_gray_alpha_png_bytes_are_whole(restore, face, tmp_path):
    """No temporary file is left beside the results."""
    restore("-i", face, "--aligned")
    assert not [name for name in files(tmp_path / "out") if name.endswith(".partial")]
    for path in (tmp_path / "out").rglob("*.png"):
        Image.open(io.BytesIO(path.read_bytes())).verify()
