"""Invalid input to the command: one line, status 2, no traceback, no half-written file."""

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_inference.cli import main

pytestmark = pytest.mark.usefixtures("no_weights")
FACE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8), (5, 5), 0)


@pytest.fixture
def face(tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), FACE)
    return path


@pytest.fixture
def refused(tiny, tmp_path, capsys, recwarn):
    """Runs the command, which must end in one line and status 2 and leave no file; returns the line."""

    def call(*args, checkpoint=tiny, out=tmp_path / "out"):
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        status = main(["restore", *map(str, args), "-o", str(out), "--checkpoint", str(checkpoint)])
        captured = capsys.readouterr()
        lines = captured.err.strip().splitlines()
        assert status == 2
        assert len(lines) == 1, captured.err
        assert not recwarn.list  # they would be lines on standard error
        assert lines[0].startswith("gcfsr: error: ")
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
        return lines[0]

    return call


def image(kind: str, path: Path) -> Path:
    whole = cv2.imencode(".png", FACE)[1].tobytes()
    shape = {"1x1": (1, 1, 3), "4000x10": (10, 4000, 3)}.get(kind)
    if shape:
        cv2.imwrite(str(path), np.full(shape, 90, np.uint8))
    else:
        path.write_bytes({"not": b"GIF? no, words", "truncated": whole[: len(whole) // 2], "empty": b""}[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "aligned"),
    [*((kind, True) for kind in ("not", "truncated", "empty", "1x1", "4000x10")),
     *((kind, False) for kind in ("not", "truncated", "empty"))],
)  # fmt: skip
def test_files_that_are_not_images(refused, tmp_path, kind, aligned):
    path = image(kind, tmp_path / f"{kind} ü.png")
    assert path.name in refused("-i", path, *(["--aligned"] if aligned else []))


def test_a_video_is_not_an_aligned_face(refused, tmp_path):
    (tmp_path / "clip.mp4").touch()
    assert "clip.mp4: --aligned: is not for videos" in refused("-i", tmp_path / "clip.mp4", "--aligned")


def test_inputs_that_are_not_there(refused, tmp_path):
    assert "gone.png" in refused("-i", tmp_path / "gone.png")
    (tmp_path / "empty folder").mkdir()
    assert "empty folder" in refused("-i", tmp_path / "empty folder")


def test_an_empty_name_is_not_the_current_folder(refused, face, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "the name of an input is empty" in refused("", "--aligned")


def test_standard_input_is_not_for_several_processes(refused, face):
    assert "-: standard input is not for several processes" in refused("-", face, "--aligned", "--jobs", 2)


def test_invalid_outputs(refused, face, tmp_path):
    assert "face.png" in refused("-i", face, "--aligned", out=face / "below a file")
    assert "output is the input" in refused("-i", face, "--aligned", out=face)
    crop = tmp_path / "out" / "restored_faces" / "a_00.png"
    crop.parent.mkdir(parents=True)
    crop.write_bytes(face.read_bytes())
    (tmp_path / "a.png").write_bytes(face.read_bytes())
    status = main(["restore", "-i", str(tmp_path / "a.png"), str(crop), "-o", str(tmp_path / "out"), "--aligned"])
    assert status == 2
    assert crop.read_bytes() == face.read_bytes()


def test_an_output_equal_to_the_input_by_another_way(refused, face, tmp_path):
    (tmp_path / "link.png").symlink_to(face)
    assert "output is the input" in refused("-i", tmp_path / "link.png", "--aligned", out=face)
    assert "output is the input" in refused("-i", os.path.relpath(face), "--aligned", out=face)


def test_an_output_equal_to_a_file_that_an_option_names(refused, face, tmp_path):
    mask, faces = tmp_path / "mask.png", tmp_path / "out.json"
    cv2.imwrite(str(mask), np.zeros((20, 20), np.uint8))
    faces.write_text("[]")
    before = mask.read_bytes()
    assert "mask.png: the output is the input" in refused(face, "--aligned", "--s-map", mask, out=mask)
    options = ("--landmarks", faces, "--sidecar")
    assert "out.json: the output is the input" in refused(face, *options, out=tmp_path / "out.png")
    assert (mask.read_bytes(), faces.read_text()) == (before, "[]")


def test_an_output_that_is_no_file(restore, refused, face, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe.png: not a regular file" in refused("-i", face, "--aligned", out=tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert "loop.png" in refused("-i", tmp_path / "loop.png", "--aligned")
    assert restore(face, "--aligned", out=tmp_path / "loop.png")[0] == 0  # replaced, as every file that is there
    assert (tmp_path / "loop.png").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused, face, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "locked" in refused("-i", face, "--aligned", out=locked / "x.png")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--factor", 1), "2 to 16"),
        (("--factor", 16.1), "2 to 16"),
        (("--factor", "nan"), "nan"),
        (("--factor", "much"), "'auto'"),
        (("--s", -0.1), "[0, 1]"),
        (("--s", "nan"), "[0, 1]"),
        (("--s", "inf"), "[0, 1]"),
        (("-w", 1.1), "[0, 1]"),
        (("-w", "nan"), "[0, 1]"),
        (("--s-levels", "0.1"), "2 levels"),
        (("--s-levels", "a,b"), "numbers"),
        (("--s-levels", "0.1,2"), "[0, 1]"),
        (("--s", 0.5, "--factor", 4), "both"),
        (("-w", 0.5, "--s", 0.5), "both"),
        (("--batch", 0), "--batch"),
        (("--draws", -1), "--draws"),
        (("--seed", -1), "--seed"),
        (("--ext", "exe"), "--ext"),
        (("--device", "cuda:77"), "cuda:77"),
        (("--backend", "abacus"), "abacus"),
        (("--s-map", "no such mask.png"), "no such mask.png"),
    ],
)
def test_options_out_of_range(refused, face, options, words):
    assert words in refused("-i", face, "--aligned", *options)


def test_a_mask_of_another_size(refused, face, tmp_path):
    mask = tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.zeros((10, 20), np.uint8))
    line = refused("-i", face, "--aligned", "--s-map", mask)
    assert "20x10" in line
    assert "20x20" in line


def test_one_file_for_several_inputs(refused, face, tmp_path):
    other = tmp_path / "other.png"
    other.write_bytes(face.read_bytes())
    assert "one file for 2 inputs" in refused("-i", face, other, "--aligned", out=tmp_path / "x.png")
    assert "one file for 2 inputs" in refused("-i", face, other, "--aligned", out="-")


def test_a_format_that_cannot_hold_it(refused, tmp_path):
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), FACE.astype(np.uint16) * 257)
    assert "16 bits" in refused("-i", path, "--aligned", "--ext", "jpg")


class Bomb:
    """Unpickling this would make a file."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_a_checkpoint_that_would_run_code_does_not(refused, face, tmp_path):
    bomb, target = tmp_path / "bomb.pth", tmp_path / "ran"
    torch.save({"params_ema": Bomb(str(target))}, bomb)
    assert "bomb.pth" in refused("-i", face, "--aligned", checkpoint=bomb)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Bomb(str(target))))
    assert "plain.pth" in refused("-i", face, "--aligned", checkpoint=plain)
    assert not target.exists()


def test_checkpoints_of_something_else(refused, face, tmp_path):
    other = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), other)
    assert "other.pth" in refused("-i", face, "--aligned", checkpoint=other)
    words = tmp_path / "words.safetensors"
    words.write_text("no tensors here")
    assert "words.safetensors" in refused("-i", face, "--aligned", checkpoint=words)
    assert "gone" in refused("-i", face, "--aligned", checkpoint=tmp_path / "gone.safetensors")


def test_a_dial_for_a_blind_network(refused, face, tiny_blind):
    assert "blind" in refused("-i", face, "--aligned", "--factor", 4, checkpoint=tiny_blind)
