"""`gcfsr sweep`: sheet, animation and page."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from gcfsr_arch import GCFSRError
from gcfsr_inference import Restorer
from gcfsr_inference.backends.backend import TorchBackend
from gcfsr_inference.cli import main
from gcfsr_inference.commands.sweep import parse_factors
from gcfsr_inference.figures.sweep import LABEL, WIDEST, animation, page, sheet, sweep

pytestmark = pytest.mark.usefixtures("no_weights")
FACE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8), (5, 5), 0)


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "a <face>.png"
    cv2.imwrite(str(path), FACE)
    return path


@pytest.fixture
def run(face, tiny, tmp_path, capsys):
    def call(out, *args):
        status = main(["sweep", "-i", str(face), "-o", str(tmp_path / out), "--checkpoint", str(tiny), *args])
        return status, *capsys.readouterr()

    return call


def test_encodes_once_and_equals_single_restorations(tiny, monkeypatch):
    calls = []
    plain = TorchBackend.encode
    monkeypatch.setattr(TorchBackend, "encode", lambda self, x: calls.append(1) or plain(self, x))
    restorer = Restorer.load(tiny)
    found = sweep(restorer, FACE, [2, 4, 16])
    assert len(calls) == 1
    for face, factor in zip(found.faces, found.factors, strict=True):
        assert np.array_equal(face, Restorer.load(tiny).restore(FACE, factor=factor))


def test_a_sheet_has_a_row_per_face_and_a_column_per_factor(tiny):
    restorer = Restorer.load(tiny)
    found = [sweep(restorer, FACE, [2, 8]), sweep(restorer, FACE[::-1].copy(), [2, 8])]
    made = sheet(found, 16)
    assert made.shape == (2 * (WIDEST + LABEL), 3 * WIDEST, 3)
    shown = made[:WIDEST, WIDEST : 2 * WIDEST]
    assert np.array_equal(shown, cv2.resize(found[0].faces[0], (WIDEST, WIDEST), interpolation=cv2.INTER_NEAREST))
    captions = made[WIDEST : WIDEST + LABEL]
    assert captions.min() < 100  # letters
    assert (captions == 255).mean() > 0.5  # on white


@pytest.mark.parametrize(("out", "frames"), [("x.gif", 6), ("x.webp", 6)])
def test_an_animation_goes_up_and_down(run, tmp_path, out, frames):
    status, _, _ = run(out, "--factors", "2:16:4")
    assert status == 0
    with Image.open(tmp_path / out) as image:
        assert image.n_frames == frames
        assert image.info.get("loop") == 0
        assert image.size == (2 * WIDEST, WIDEST + LABEL)


@pytest.mark.parametrize(("kind", "most", "advice"), [("WEBP", 16383, ".gif or .html"), ("GIF", 65535, ".html")])
def test_more_faces_than_an_animation_holds_are_one_line(tiny, kind, most, advice):
    found, row = sweep(Restorer.load(tiny), FACE, [2]), WIDEST + LABEL
    count = most // row + 1
    with pytest.raises(GCFSRError, match=f"^{2 * WIDEST}x{count * row} pixels: .* {most} .* write {advice}$"):
        animation([found] * count, 16, kind)
    with Image.open(BytesIO(animation([found] * (16383 // row), 16, kind))) as image:
        assert image.height == 16383 // row * row


def test_a_page_is_self_contained_and_shows_every_step(run, tmp_path):
    (tmp_path / "x.html").write_text("of an earlier run")
    assert run("x.html", "--factors", "2,4,8")[0] == 0
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    HTMLParser().feed(text)
    assert not re.search(r"https?://|src=\"(?!data:)|href=", text)
    assert "a &lt;face&gt;" in text
    images = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(images) == 1 + 3
    for image in images:
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == (32, 32, 3)
    assert 'max="2"' in text
    assert '["2", "4", "8"]' in text


def test_the_default_is_the_checkpoints_range_and_a_message_names_those_left_out(run, tmp_path):
    assert "4 steps" in run("x.png")[1]
    status, out, err = run("x.png", "--factors", "4,8,16,32,64")
    assert (status, "3 steps" in out, "left out factors 32, 64" in err) == (0, True, True)
    assert cv2.imread(str(tmp_path / "x.png")).shape[1] == 4 * WIDEST


@pytest.mark.parametrize(
    ("out", "args", "words"),
    [
        ("x.bmp", (), "must end in"),
        ("x.png", ("--factors", "a,b"), "--factors"),
        ("x.png", ("--factors", "2:16:1"), "--factors"),
        ("x.png", ("--factors", "64"), "serves 2 to 16"),
        ("x.png", ("--factors", "nan"), "serves 2 to 16"),
        ("a <face>.png", (), "output is the input"),
    ],
)
def test_wrong_options_are_named(run, out, args, words):
    status, _, err = run(out, *args)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert words in err


def test_an_image_that_is_not_a_face_is_named(run, tmp_path):
    wide = tmp_path / "wide.png"
    cv2.imwrite(str(wide), np.zeros((20, 60, 3), np.uint8))
    status, _, err = run("x.png", "-i", str(wide))
    assert (status, "wide.png: 60x20 is not the square image" in err) == (2, True)


def test_a_blind_network_cannot_be_swept(tiny_blind):
    with pytest.raises(GCFSRError, match="blind"):
        sweep(Restorer.load(tiny_blind), FACE, [2])


def test_factors_equal_in_octaves():
    assert parse_factors("4:64:5") == [4, 8, 16, 32, 64]
    assert parse_factors("4,6.5") == [4, 6.5]


def test_page_of_a_name_with_markers(tiny):
    found = sweep(Restorer.load(tiny), FACE, [2], name="%FACTORS% LAST")
    text = page([found], 16).decode()
    assert "%FACTORS% LAST" in text
    assert 'const factors = ["2"]' in text
