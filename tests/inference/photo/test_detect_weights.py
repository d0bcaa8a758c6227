"""Detectors: weights that are missing, damaged or harmful, and landmarks from a file."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo import detect
from gcfsr_inference.photo.detect import build_detector, find_detector
from gcfsr_inference.restore.weights import package_folder


def test_missing_weights_say_which_file_belongs_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nowhere").mkdir()
    monkeypatch.setenv("GCFSR_WEIGHTS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(GCFSRError, match=r"detection_Resnet50_Final\.pth.*nowhere.*--weights-dir or GCFSR_WEIGHTS"):
        build_detector("retinaface_resnet50")


def test_a_folder_for_missing_weights_is_named_once(no_weights: None) -> None:
    (Path.home() / ".cache" / "gcfsr").mkdir(parents=True)
    with pytest.raises(GCFSRError, match=r"\) into ~/\.cache/gcfsr, or name"):
        build_detector("retinaface_resnet50")


def test_yunet_is_in_the_package(no_weights: None, tmp_path: Path) -> None:
    assert find_detector() == find_detector(tmp_path) == "yunet"
    assert build_detector("yunet").confidence == build_detector("yunet", tmp_path).confidence == 0.7
    licence = package_folder() / "LICENSE.yunet"
    assert "MIT License" in licence.read_text()


def test_weights_are_found_in_the_named_folder(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCFSR_WEIGHTS", str(shared / "weights"))
    assert find_detector() == "retinaface_mobile0.25"
    assert build_detector("yunet").confidence == detect.CONFIDENCE["yunet"]


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def test_weights_never_run_code(tmp_path: Path) -> None:
    pytest.importorskip("facexlib")
    bomb = tmp_path / "detection_mobilenet0.25_Final.pth"
    bomb.write_bytes(pickle.dumps({"body": Bomb(tmp_path / "ran")}))
    with pytest.raises(GCFSRError, match="not the weights of RetinaFace"):
        build_detector("retinaface_mobile0.25", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "file"), [("retinaface_mobile0.25", "a.pth"), ("yunet", "a.onnx")])
def test_damaged_weights(name: str, file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"damaged")
    with pytest.raises(GCFSRError, match="not "):
        build_detector(name, tmp_path / file)


def test_landmarks_from_a_file(tmp_path: Path) -> None:
    five = [[30, 40], [60, 40], [45, 60], [33, 75], [57, 75]]
    path = tmp_path / "faces.json"
    path.write_text(json.dumps({"a.png": [five, {"landmarks": five, "box": [1, 2, 3, 4]}], "b.png": []}))
    detector = build_detector("landmarks", path)
    first, second = detector.of_image("a.png").detect(np.zeros((1, 1, 3), np.uint8))
    np.testing.assert_array_equal(first.landmarks, five)
    np.testing.assert_array_equal(second.box, [1, 2, 3, 4])
    with pytest.raises(GCFSRError, match=r"no entry for the image c\.png"):
        detector.of_image("c.png").detect(np.zeros((1, 1, 3), np.uint8))


@pytest.mark.parametrize(
    "text", ["[[[1, 2]]]", '[{"box": [1, 2, 3, 4]}]', "3", '[{"landmarks": "abc"}]', "[[1, null]]"]
)
def test_landmark_files_of_another_form(text: str, tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    path.write_text(text)
    with pytest.raises(GCFSRError, match=r"faces\.json: "):
        build_detector("landmarks", path).detect(np.zeros((1, 1, 3), np.uint8))


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.write_text("{")])
def test_landmark_file_missing_or_not_json(make, tmp_path: Path) -> None:
    make(tmp_path / "faces.json")
    with pytest.raises(GCFSRError, match=r"faces\.json: "):
        build_detector("landmarks", tmp_path / "faces.json")


def test_unknown_detector_and_confidence() -> None:
    with pytest.raises(GCFSRError, match="detector mtcnn: unknown; choose retinaface_resnet50"):
        build_detector("mtcnn")
    for confidence in (float("nan"), 0, 1e-300, 1.01):  # at 0 all of an image is faces, each of which takes seconds
        with pytest.raises(GCFSRError, match=f"confidence {confidence}"):
            build_detector("yunet", confidence=confidence)
    with pytest.raises(GCFSRError, match="needs the JSON file"):
        build_detector("landmarks")
