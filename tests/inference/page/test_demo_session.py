"""The demo without its page: faces found once, encoded once, the dial decodes only, what is written."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR
from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import read_image, write_image
from gcfsr_inference.backends.backend import TorchBackend
from gcfsr_inference.page.session import THUMBNAIL, VIEW, DemoSession
from gcfsr_inference.photo.detect import LandmarkFile, build_detector
from gcfsr_inference.photo.paste import TEMPLATE
from gcfsr_inference.restore.restorer import Restorer


class Counting(TorchBackend):
    """Counts encodings and decodings."""

    def __init__(self, net: GCFSR) -> None:
        super().__init__(net)
        self.encoded = self.decoded = 0

    def encode(self, x: torch.Tensor) -> object:
        self.encoded += 1
        return super().encode(x)

    def decode(self, *args: object) -> torch.Tensor:
        self.decoded += 1
        return super().decode(*args)


@pytest.fixture
def restorer() -> Restorer:
    torch.manual_seed(0)
    return Restorer(Counting(GCFSR(32, num_style_feat=32, narrow=1 / 16)), kept=4)


def photograph(path: Path, dtype: type = np.uint8, **extra: object) -> Path:
    y, x = np.mgrid[:300, :400]
    image = np.stack([x * 0.5 + 20, y * 0.7 + 10, (x + y) * 0.3], axis=2)
    write_image(path, (image * (257 if dtype == np.uint16 else 1)).astype(dtype), **extra)
    return path


def two_faces(folder: Path) -> LandmarkFile:
    path = folder / "faces.json"
    path.write_text(str([(TEMPLATE * 100 + [20, 30]).tolist(), (TEMPLATE * 120 + [220, 120]).tolist()]))
    return LandmarkFile(path)


def test_the_dial_only_decodes(restorer: Restorer, tmp_path: Path) -> None:
    session = DemoSession(restorer, two_faces(tmp_path), photograph(tmp_path / "p.png"))
    assert [label.split(":")[0] for label in session.labels()] == ["face 0", "face 1"]
    results = []
    for factor in (4.0, 16.0, 32.0):
        result = session.restore([0, 1], factor)
        assert [face.factor for face in result.faces] == [factor, factor]
        results.append(result.image)
    assert (restorer.backend.encoded, restorer.backend.decoded) == (2, 6)
    assert (results[0] != results[1]).any()
    assert (results[1] != results[2]).any()


def test_chosen_faces_change_and_others_do_not(restorer: Restorer, tmp_path: Path) -> None:
    session = DemoSession(restorer, two_faces(tmp_path), photograph(tmp_path / "p.png"))
    before = session.image.bgr.copy()
    result = session.restore([1], 8.0)
    (face,) = result.faces
    assert face.subject is session.subjects[1]
    assert face.factor == 8.0
    assert face.consistency.psnr > 0
    changed = (result.image != before).any(axis=2)
    assert changed[130:230, 240:330].any()
    assert not changed[:, :200].any()
    none = session.restore([], None)
    assert none.faces == ()
    np.testing.assert_array_equal(none.image, before)


def test_requests_that_overlap_do_not_mix(restorer: Restorer, tmp_path: Path) -> None:
    """Results of two threads on one session are those of each alone."""
    session = DemoSession(restorer, two_faces(tmp_path), photograph(tmp_path / "p.png"))
    settings = [([0], 4.0), ([0, 1], 32.0), ([1], 8.0)] * 3
    alone = [session.restore(*setting).image for setting in settings]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda setting: session.restore(*setting).image, settings))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_thumbnails_and_the_first_view(restorer: Restorer, tmp_path: Path) -> None:
    session = DemoSession(restorer, two_faces(tmp_path), photograph(tmp_path / "p.png"))
    assert [image.shape for image in session.thumbnails()] == [(THUMBNAIL, THUMBNAIL, 3)] * 2
    widths = [one.width for one in session.subjects]
    assert session.first_view() in (None, int(np.argmax(widths)))


def test_the_file_keeps_depth_alpha_and_size(restorer: Restorer, tmp_path: Path) -> None:
    alpha = np.full((300, 400), 30000, np.uint16)
    path = photograph(tmp_path / "photo ü.png", np.uint16, alpha=alpha)
    session = DemoSession(restorer, two_faces(tmp_path), path)
    result = session.restore([0], 8.0)
    written = session.write(result, tmp_path)
    assert written.name == "photo ü_restored.png"
    saved = read_image(written)
    assert saved.bgr.dtype == np.uint16
    np.testing.assert_array_equal(saved.bgr, result.image)
    np.testing.assert_array_equal(saved.alpha, alpha)


def test_views(restorer: Restorer, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), np.zeros((200, 3000, 3), np.uint8))
    session = DemoSession(restorer, two_faces(tmp_path), large)
    for index, shape in ((None, (85, VIEW, 3)), (0, (512, 512, 3))):
        before, after = session.views(session.restore([], None), index)
        assert before.shape == after.shape == shape
        assert before.dtype == np.uint8


def test_faces_that_do_not_gain_are_left_unless_the_dial_is_set(restorer: Restorer, tmp_path: Path) -> None:
    """Noise is as sharp as an image can be: no factor that the network serves."""
    cv2.imwrite(str(tmp_path / "p.png"), np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    session = DemoSession(restorer, two_faces(tmp_path), tmp_path / "p.png")
    result = session.restore([0, 1], None)
    assert set(result.left) == {0, 1}
    assert result.faces == ()
    np.testing.assert_array_equal(result.image, session.image.bgr)
    assert len(session.restore([0, 1], 8.0).faces) == 2


def test_a_face_that_is_not_confirmed_is_left_and_reported(
    restorer: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `gcfsr restore` leaves it."""
    path, detector = photograph(tmp_path / "p.png"), two_faces(tmp_path)
    found = [replace(one, confirmed=one.box[0] > 200) for one in detector.detect(read_image(path).bgr)]
    monkeypatch.setattr("gcfsr_inference.photo.photograph.find", lambda *_: found)
    session = DemoSession(restorer, detector, path)
    assert [one.number for one in session.subjects] == [1]
    result = session.restore([0], 8.0)
    assert [face.subject.number for face in result.faces] == [1]
    assert result.left == {0: "once aligned it is not seen as an upright face"}
    np.testing.assert_array_equal(result.image[:, :200], session.image.bgr[:, :200])
    found.pop()
    with pytest.raises(GCFSRError, match=r"^no face that can be restored: once aligned"):
        DemoSession(restorer, detector, path)


def test_what_cannot_be_opened(restorer: Restorer, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(GCFSRError, match=r"no\.png"):
        DemoSession(restorer, two_faces(tmp_path), tmp_path / "no.png")
    path = photograph(tmp_path / "p.png")
    with pytest.raises(GCFSRError, match="no face found"):
        DemoSession(restorer, build_detector("yunet"), path)


def test_four_dials_start_at_what_the_network_reads_and_only_decode(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = GCFSR(32, num_style_feat=32, narrow=1 / 16, conditions=CONDITIONS, estimator=True)
    torch.nn.init.normal_(net.estimator.out.weight)
    restorer = Restorer(Counting(net), kept=4)
    session = DemoSession(restorer, two_faces(tmp_path), photograph(tmp_path / "p.png"))
    for one in session.subjects:
        read = restorer.backend.estimate(restorer.encode(one.crop)).dials()[0].tolist()
        assert dict(one.dials) == pytest.approx(dict(zip(CONDITIONS[1:], read[1:], strict=True)))
    first = session.subjects[0]
    images = [session.set_to([0], (8.0, *first.dials.values())).image, session.restore([0], 8.0).image]
    np.testing.assert_array_equal(*images)
    turned = [session.set_to([0], (8.0, 0.3, noise, 0.0)).image for noise in (0.0, 0.5, 1.0)]
    assert (turned[0] != turned[1]).any()
    assert (turned[1] != turned[2]).any()
    assert restorer.backend.encoded == 2
