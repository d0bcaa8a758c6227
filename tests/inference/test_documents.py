"""JSON from others with any change: the command works or prints one line that names the fault."""

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import TypeAdapter

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.options import read_options
from gcfsr_inference.backends import exported
from gcfsr_inference.documents import MOST_BYTES, read_document
from gcfsr_inference.photo.detect import build_detector
from gcfsr_inference.restore.dial import MAX_SEED

pytestmark = pytest.mark.usefixtures("no_weights")
ANYTHING = TypeAdapter(Any)
FIVE = [[30.0, 40.0], [60.0, 40.0], [45.0, 60.0], [33.0, 75.0], [57.0, 75.0]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"{", "not a note: Expecting"),
        (b"\xff\xfe", "not a note"),
        (b"[" * 100_000, "not a note: .*recursion"),
        (b"[NaN]", "NaN is not a number"),
        (b"[-Infinity]", "Infinity is not a number"),
        (b"[1" + b"0" * 10_000 + b"]", "not a note: .*digits"),
    ],
)
def test_invalid_documents(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(GCFSRError, match=rf"a\.json: .*{words}"):
        read_document(tmp_path / "a.json", ANYTHING, "a note")


def test_a_document_is_bounded_before_it_is_read(tmp_path: Path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(GCFSRError, match=r"over .* bytes"):
        read_document(tmp_path / "a.json", ANYTHING, "a note")


@pytest.mark.skipif(sys.platform != "linux", reason="needs named pipes and /dev/zero")
def test_devices_and_pipes_are_no_documents(restore, face, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        for options in (("--from-sidecar", path), ("-i", face, "--landmarks", path), ("-i", face, "--s-map", path)):
            status, _, err = restore(*options)
            assert (status, len(err.splitlines())) == (2, 1), err
            assert str(path) in err
            assert "not a regular file" in err
        with pytest.raises(GCFSRError, match="not a regular file"):
            read_options(Path(path))


def altered(document: Any) -> list[tuple[str, Any]]:
    """The document with each of its values replaced by each of several others, or left out."""
    found = []
    strange = (None, -1, 0, 1e400, "\0", "x", [], {}, True, 10**30, [[[]]], "../../etc/passwd")

    def walk(part: Any, place: tuple) -> None:
        keys = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        for key in list(keys):
            for value in (*strange, "REMOVED"):
                other = copy.deepcopy(document)
                holder = other
                for step in place:
                    holder = holder[step]
                if value == "REMOVED":
                    del holder[key]
                else:
                    holder[key] = value
                found.append((f"{'.'.join(map(str, (*place, key)))} = {value!r}", other))
            walk(part[key], (*place, key))

    walk(document, ())
    return found


@pytest.mark.parametrize("aligned", [True, False])
def test_no_altered_sidecar_gives_a_traceback_or_does_nothing(restore, astronaut, tmp_path, aligned):
    path = tmp_path / "in.png"
    cv2.imwrite(str(path), cv2.resize(astronaut, (20, 20)) if aligned else astronaut)
    landmarks = tmp_path / "five.json"
    landmarks.write_text(json.dumps([[[x * 2, y * 2] for x, y in FIVE]]))
    options = ["--aligned"] if aligned else ["--landmarks", landmarks]
    out = tmp_path / "a.png"
    assert restore("-i", path, *options, "--sidecar", out=out)[0] == 0
    side = out.with_suffix(".json")
    whole = json.loads(side.read_text())
    expected = out.read_bytes()
    cases = altered(whole)
    assert len(cases) > 100
    for number, (what, document) in enumerate(cases):
        if number % 7 and "batch" not in what and "factor" not in what:  # a part of them is enough for every run
            continue
        side.write_text(json.dumps(document))
        out.unlink(missing_ok=True)
        status, told, err = restore("--from-sidecar", side, checkpoint=None, out=out)
        assert "unexpected" not in err, (what, err)
        if status == 0:
            assert out.exists(), (what, told)
        else:
            assert (status, len(err.splitlines())) == (2, 1), (what, err)
            assert not out.exists(), what
    side.write_text(json.dumps(whole))
    assert restore("--from-sidecar", side, checkpoint=None, out=out)[0] == 0
    assert out.read_bytes() == expected


@pytest.mark.parametrize("batch", [-1, 0, 10**9, 1.5, "1", None, True])
def test_a_batch_that_is_none_is_named(restore, face, tmp_path, batch):
    out = tmp_path / "a.png"
    assert restore("-i", face, "--aligned", "--sidecar", out=out)[0] == 0
    side = out.with_suffix(".json")
    document = json.loads(side.read_text())
    document["faces"][0]["batch"] = batch
    side.write_text(json.dumps(document))
    status, _, err = restore("--from-sidecar", side, checkpoint=None, out=tmp_path / "b.png")
    assert (status, "not a sidecar" in err, "batch" in err) == (2, True, True)


def test_altered_landmarks_are_named(tmp_path: Path):
    path, image = tmp_path / "faces.json", np.zeros((99, 99, 3), np.uint8)
    for form in ([FIVE], [{"landmarks": FIVE, "box": [1, 2, 3, 4], "score": 0.5}], {"a.png": [FIVE]}):
        for what, document in altered(form):
            path.write_text(json.dumps(document))
            try:
                found = build_detector("landmarks", path).of_image("a.png").detect(image)
            except GCFSRError as error:
                assert "faces.json: " in str(error), what  # noqa: PT017
                continue
            assert all(np.isfinite(face.landmarks).all() and np.isfinite(face.box).all() for face in found), what


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"out_size": ', b'{"out_size": -1}'])
def test_a_damaged_note_of_the_export_cache_is_rewritten(tiny, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(exported, "CACHE", str(tmp_path / "cache"))
    made = []

    def write(net: Any, stem: Path) -> None:
        stem.with_name(stem.name + ".x").write_bytes(b"x")
        made.append(stem)

    config, stem = exported.cached(tiny, "form", write, [".x"])
    assert exported.cached(tiny, "form", write, [".x"]) == (config, stem)
    assert len(made) == 1
    stem.with_name(stem.name + ".json").write_bytes(damage)
    assert exported.cached(tiny, "form", write, [".x"]) == (config, stem)
    assert len(made) == 2


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 2**64])
def test_seeds_outside_what_torch_takes(restore, face, seed):
    status, _, err = restore("-i", face, "--aligned", "--seed", seed)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "--seed" in err


def test_the_largest_seed(restore, face, tmp_path):
    options = ("--noise", "random", "--seed", MAX_SEED, "--draws", 2)
    assert restore("-i", face, "--aligned", *options, out=tmp_path / "a.png")[0] == 0
