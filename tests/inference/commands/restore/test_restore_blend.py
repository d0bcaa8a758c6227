"""`--blend` between input and result, and the identity cosine of the report."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize
from gcfsr_inference import Restorer
from gcfsr_inference.photo.detect import LandmarkFile
from gcfsr_inference.photo.paste import TEMPLATE
from gcfsr_inference.photo.photograph import PhotoOptions, restore_photo
from gcfsr_inference.restore.arrays import blended

pytestmark = pytest.mark.usefixtures("no_weights")


def pixels(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3), (16, 16, 4)])
def test_blended_is_the_line_between_two_images(dtype, shape):
    rng, top = np.random.default_rng(0), np.iinfo(dtype).max
    result, given = (rng.integers(0, top + 1, shape).astype(dtype) for _ in range(2))
    colours = np.s_[..., :3] if len(shape) == 3 else np.s_[...]
    np.testing.assert_array_equal(blended(result, given, 1.0), result)
    np.testing.assert_array_equal(blended(result, given, 0.0)[colours], given[colours])
    for blend in (0.25, 0.5):
        wanted = (1 - blend) * given.astype(float) + blend * result.astype(float)
        assert np.abs(blended(result, given, blend)[colours] - wanted[colours]).max() <= 0.51
    if shape[2:] == (4,):
        np.testing.assert_array_equal(blended(result, given, 0.0)[..., 3], result[..., 3])


def test_an_aligned_face(restore, face, tiny, tmp_path):
    for blend in (0, 0.5, 1):
        assert restore(face, "--aligned", "--factor", 8, "--blend", blend, out=tmp_path / f"{blend}.png")[0] == 0
    low = np.clip(resize(pixels(face) / 255, (32, 32)) * 255, 0, 255).round()
    full = Restorer.load(tiny, "cpu").restore(pixels(face), factor=8)
    np.testing.assert_array_equal(pixels(tmp_path / "0.png"), low)
    np.testing.assert_array_equal(pixels(tmp_path / "1.png"), full)
    assert np.abs(pixels(tmp_path / "0.5.png") - (low + full.astype(float)) / 2).max() <= 0.5
    half = Restorer.load(tiny, "cpu").restore(pixels(face), factor=8, blend=0.5)
    np.testing.assert_array_equal(half, pixels(tmp_path / "0.5.png"))


@pytest.mark.parametrize("size", [20, 90])  # the face has fewer pixels than the network gives, and more
def test_a_photograph(tiny, tmp_path, size):
    y, x = np.mgrid[:120, :160]
    image = (np.dstack([x, y, x + y]) / 3 + 70).astype(np.uint8)
    (tmp_path / "faces.json").write_text(str([(TEMPLATE * size + [30, 20]).tolist()]))
    faces, restorer = LandmarkFile(tmp_path / "faces.json"), Restorer.load(tiny, "cpu")

    def restored(blend: float) -> np.ndarray:
        options = PhotoOptions(blend=blend, only_gains=False, min_face=0)
        return restore_photo(image, restorer, faces, options).image

    full = restored(1.0)
    assert (full != image).any()
    np.testing.assert_array_equal(restored(0.0), image)
    np.testing.assert_array_equal(full, restore_photo(image, restorer, faces, PhotoOptions(only_gains=False)).image)
    inside = (full > 0) & (full < 255)  # elsewhere the result was clipped
    assert np.abs(restored(0.5) - (image + full.astype(float)) / 2)[inside].max() <= 0.76


@pytest.mark.parametrize("blend", ["-0.1", "1.5", "nan", "inf"])
def test_invalid_blends(restore, face, blend):
    status, _, err = restore(face, "--blend", blend)
    assert (status, err.count("\n")) == (2, 1)
    assert "--blend" in err
    with pytest.raises(GCFSRError, match="--blend"):
        PhotoOptions(blend=float(blend))


def test_a_sidecar_knows_the_blend(restore, face, tmp_path):
    assert restore(face, "--aligned", "--blend", 0.3, "--sidecar", out=tmp_path / "a.png")[0] == 0
    assert restore("--from-sidecar", tmp_path / "a.json", out=tmp_path / "b.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# -- identity ------------------------------------------------------------------------------------------------------


@pytest.fixture
def embedding(tmp_path: Path) -> Path:
    """An ONNX 'embedding': the mean of each channel."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h = onnx.helper
    ends = [h.make_tensor_value_info("x", 1, ["n", 3, 112, 112]), h.make_tensor_value_info("y", 1, ["n", 3])]
    nodes = [h.make_node("GlobalAveragePool", ["x"], ["p"]), h.make_node("Flatten", ["p"], ["y"])]
    graph = h.make_graph(nodes, "mean", ends[:1], ends[1:])
    path = tmp_path / "mean.onnx"
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_the_cosine_of_identical_images_is_1(restore, face, embedding, tmp_path):
    options = ("--aligned", "--report", "--embedding", f"{embedding}?norm=half")
    status, out, _ = restore(face, *options, "--blend", 0)
    assert status == 0
    assert "identity cosine 1.000" in out
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())
    assert entry["faces"][0]["identity"] == 1


def test_the_cosine_is_that_of_the_embeddings(restore, face, embedding, tmp_path):
    """By hand: the mean colours of the crop that the metric takes, of the files that were written."""
    from gcfsr_measure.faces import ARCFACE_BOX, face_crop

    options = ("--aligned", "--report", "--embedding", f"{embedding}?norm=half", "--skip-existing")
    assert restore(face, *options)[0] == 0
    (entry,) = json.loads((tmp_path / "out" / "report.json").read_text())
    given = pixels(tmp_path / "out" / "cropped_faces" / "face_00.png")
    result = pixels(tmp_path / "out" / "restored_faces" / "face_00.png")
    a, b = (
        torch.from_numpy(face_crop(image, ARCFACE_BOX, 112).astype(float) / 127.5 - 1).mean((0, 1))
        for image in (given, result)
    )
    wanted = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    assert entry["faces"][0]["identity"] == pytest.approx(wanted, abs=2e-4)
    assert wanted < 0.9999
    (line,) = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["faces"][0]["identity"] == entry["faces"][0]["identity"]


def test_an_embedding_needs_its_file_and_a_report(restore, face, tmp_path):
    for options, words in (
        (("--embedding", "mobilefacenet"), "--report"),
        (("--report", "--embedding", tmp_path / "gone.onnx"), "gone.onnx"),
        (("--report", "--embedding", "mobilefacenet"), "MobileFaceNet.onnx"),
        (("--report", "--embedding", "psnr"), "psnr"),
    ):
        status, _, err = restore(face, "--aligned", *options)
        assert (status, err.count("\n")) == (2, 1), err
        assert words in err
