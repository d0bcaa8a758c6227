"""`gcfsr weights` and how a checkpoint's name becomes a file."""

import re
import shutil

import cv2
import numpy as np
import pytest

from gcfsr_arch import GCFSRError
from gcfsr_arch.files import home_folder
from gcfsr_inference import Restorer
from gcfsr_inference.cli import main
from gcfsr_inference.restore import weights
from gcfsr_inference.restore.weights import DEFAULT_FOLDER, resolve_checkpoint, user_folders

pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture
def bundle(tiny, tmp_path, monkeypatch):
    """A package folder with one bundled network and its licence."""
    folder = tmp_path / "package" / "weights"
    folder.mkdir(parents=True)
    for name in ("gcfsr-256", "gcfsr-nano"):
        shutil.copy(tiny, folder / f"{name}.safetensors")
    (folder / "LICENSE").write_text("For research only.\nSecond line.\n")
    monkeypatch.setattr(weights, "files", lambda package: folder.parent)
    return folder


def test_the_list(bundle, tiny, tmp_path, monkeypatch, capsys):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(tiny, own / "mine.safetensors")
    (own / "other.pth").write_bytes(b"no checkpoint")
    (own / "a.pth").symlink_to(own / "gone.pth")
    (own / "b.pth").mkdir()
    monkeypatch.setenv("GCFSR_WEIGHTS", str(own))
    assert main(["weights"]) == 0
    text = capsys.readouterr().out
    for words in ("gcfsr-256  [default]", "32x32, form: paper, factors 2 to 16", "For research only.", "mine.safeten",
                  "other.pth  0.0 MB  not a checkpoint", "gcfsr-1024.pth", "gcfsr-512-blind.pth", "released",
                  "yunet", "detection_Resnet50_Final.pth"):  # fmt: skip
        assert words in text, words
    assert not re.search(r"\b[ab]\.pth", text)  # no files
    assert text.count("For research only.") == 1  # both have the same


def test_the_list_without_anything(monkeypatch, capsys):
    monkeypatch.setattr(weights, "bundled", dict)
    assert main(["weights"]) == 0
    text = capsys.readouterr().out
    assert "none in this installation" in text
    assert "none exists" in text


def test_names_become_files(bundle, tiny, tmp_path):
    default = bundle / "gcfsr-256.safetensors"
    assert [resolve_checkpoint(name) for name in (None, "gcfsr-256", "256")] == [default] * 3
    assert resolve_checkpoint(tiny) == tiny
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(tiny, own / "mine.safetensors")
    assert resolve_checkpoint("mine", own) == resolve_checkpoint("mine.safetensors", own) == own / "mine.safetensors"


def test_an_exported_file_is_not_a_checkpoint(bundle, tmp_path):
    """But for the backend onnx, which the message names."""
    exported = tmp_path / "face.encoder.onnx"
    exported.write_bytes(b"onnx")
    assert resolve_checkpoint(exported) == exported
    with pytest.raises(GCFSRError, match=r"face\.encoder\.onnx: is ONNX; run it with --backend onnx"):
        Restorer.load(exported)
    with pytest.raises(GCFSRError, match=r"nowhere\.onnx"):
        resolve_checkpoint("nowhere.onnx", tmp_path)


def test_restore_finds_a_checkpoint_in_its_weights_folder(tiny, tmp_path, capsys):
    own, face = tmp_path / "own", tmp_path / "face.png"
    own.mkdir()
    shutil.copy(tiny, own / "mine.safetensors")
    cv2.imwrite(str(face), np.zeros((20, 20, 3), np.uint8))
    options = ["-v", "mine", "--weights-dir", str(own), "--aligned", "-o", str(tmp_path / "out.png")]
    assert main(["restore", "-i", str(face), *options]) == 0, capsys.readouterr().err
    assert cv2.imread(str(tmp_path / "out.png")).shape == (32, 32, 3)


def test_the_users_folders_in_order(tmp_path, monkeypatch):
    for name in ("a", "b", "home/.cache/gcfsr"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("GCFSR_WEIGHTS", str(tmp_path / "b"))
    assert user_folders(tmp_path / "a") == [tmp_path / "a", tmp_path / "b", tmp_path / "home/.cache/gcfsr"]


def test_what_is_not_there_is_named(bundle, tmp_path, monkeypatch):
    with pytest.raises(GCFSRError, match=r"nowhere.*gcfsr-256"):
        resolve_checkpoint("nowhere")
    with pytest.raises(GCFSRError, match="--weights-dir names a folder"):
        user_folders(tmp_path / "gone")
    monkeypatch.setenv("GCFSR_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(GCFSRError, match="GCFSR_WEIGHTS names a folder"):
        user_folders()
    assert resolve_checkpoint() == bundle / "gcfsr-256.safetensors"  # the bundled one needs no folder


@pytest.mark.parametrize(
    "command",
    [
        "restore -i FACE -v TINY -o OUT --aligned",
        "restore -i FACE -v TINY -o OUT",
        "restore -i FACE -o OUT --upscale 2 --bg_upsampler realesrgan",
        "demo -v TINY",
        "weights",
    ],
)
def test_a_weights_folder_that_does_not_exist_is_an_error_everywhere(command, tiny, face, tmp_path, capsys):
    words = {"FACE": str(face), "TINY": str(tiny), "OUT": str(tmp_path / "out")}
    line = [words.get(word, word) for word in command.split()]
    assert main([*line, "--weights-dir", str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err.count(f"{tmp_path / 'gone'}: --weights-dir names a folder that does not exist") == 1
    assert not (tmp_path / "out").exists()


def test_every_bundled_network_loads_and_has_a_licence():
    from gcfsr_inference import Restorer

    for path in weights.bundled().values():
        assert weights.licence_of(path)
        assert path.stat().st_size <= 30e6
        assert Restorer.load(path).out_size in (128, 256)


def test_an_export_makes_its_folder(tiny, tmp_path):
    target = tmp_path / "new" / "folder" / "copy.safetensors"
    assert main(["export", "-v", str(tiny), "-o", str(target)]) == 0
    assert resolve_checkpoint(target) == target


def test_a_user_without_a_home(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user that the machine does not know
    monkeypatch.delenv("GCFSR_WEIGHTS", raising=False)
    assert user_folders() == []
    assert resolve_checkpoint(None).is_file()
    with pytest.raises(GCFSRError, match="set HOME"):
        home_folder(DEFAULT_FOLDER)
