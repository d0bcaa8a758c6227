"""The same again: seeds, and the sidecar from which a result can be made anew."""

import json

import cv2
import pytest

pytestmark = pytest.mark.usefixtures("no_weights")


def test_the_same_command_gives_the_same_bytes(restore, face, tmp_path):
    for out in ("a", "b"):
        assert restore("-i", face, "--aligned", "--noise", "random", out=tmp_path / f"{out}.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert restore("-i", face, "--aligned", "--noise", "random", "--seed", 1, out=tmp_path / "c.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


def test_a_sidecar_makes_the_same_bytes_again(restore, face, tmp_path):
    other = face.with_name("other.png")
    cv2.imwrite(str(other), cv2.imread(str(face))[:16, :16])
    options = ("--noise", "random", "--lock", "--sidecar", "--batch", 2, "--seed", 3)
    assert restore("-i", face, other, "--aligned", *options)[0] == 0
    for name in ("face_00", "other_00"):
        before = tmp_path / "out" / "restored_faces" / f"{name}.png"
        again = tmp_path / f"{name}.png"
        assert restore("--from-sidecar", before.with_suffix(".json"), checkpoint=None, out=again)[0] == 0
        assert again.read_bytes() == before.read_bytes()


@pytest.mark.parametrize("whole", [False, True], ids=["aligned", "whole"])
@pytest.mark.parametrize(
    ("made", "asked"),
    [
        (("--factor", 8), ("--s", 1.0)),
        (("--factor", 8), ("--factor", "auto")),
        (("-w", 0.5), ("--factor", 6)),
        ((), ("--s", 0.3)),
    ],
)
def test_a_dial_of_the_command_replaces_the_sidecars(restore, face, tmp_path, made, asked, whole):
    options = ("--landmarks", landmarks_of(face), "--always") if whole else ("--aligned",)
    options += ("--sidecar", "--noise", "zero")
    assert restore(face, *options, *made, out=tmp_path / "made.png")[0] == 0
    again = ("--from-sidecar", tmp_path / "made.json")
    assert restore(*again, *asked, checkpoint=None, out=tmp_path / "again.png")[0] == 0
    assert restore(face, *options, *asked, out=tmp_path / "wanted.png")[0] == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "wanted.png").read_bytes()


def landmarks_of(face):
    """A file of landmarks of a face that fills the image."""
    size, path = len(cv2.imread(str(face))), face.with_name("landmarks.json")
    points = [[0.34, 0.46], [0.66, 0.46], [0.5, 0.61], [0.37, 0.75], [0.63, 0.75]]
    path.write_text(json.dumps([[[x * size, y * size] for x, y in points]]))
    return path


def test_a_sidecar_does_not_fit_anything_else(restore, face, tiny_blind, tmp_path):
    assert restore("-i", face, "--aligned", "--sidecar")[0] == 0
    side = tmp_path / "out" / "restored_faces" / "face_00.json"
    status, _, err = restore("--from-sidecar", side, checkpoint=tiny_blind)
    assert (status, "checkpoint is not the one" in err) == (2, True)
    cv2.imwrite(str(face), cv2.imread(str(face)) // 2)
    status, _, err = restore("--from-sidecar", side, checkpoint=None)
    assert (status, "input is not the one" in err) == (2, True)
    for broken in ('{"kind": "x"}', "[1]", "{"):
        side.write_text(broken)
        status, _, err = restore("--from-sidecar", side, checkpoint=None)
        assert (status, "not a sidecar" in err) == (2, True)
