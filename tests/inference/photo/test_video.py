"""Videos made here: a face that moves over a plain ground, with a tone. How clips are read and written: `test_clip`."""

import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError

pytest.importorskip("av")
from gcfsr_inference.photo.detect import build_detector
from gcfsr_inference.photo.detect.detection import Detection
from gcfsr_inference.photo.paste import TEMPLATE
from gcfsr_inference.photo.photograph import PhotoOptions
from gcfsr_inference.photo.video import follow, restore_video
from gcfsr_inference.photo.video.clip import Frame
from gcfsr_inference.photo.video.tracking import CutDetector, Track, Tracker
from gcfsr_inference.restore.runner import FaceInput, FaceRecord, FaceResult

SIZE = (160, 240)  # (H, W)


def position(frame: int) -> np.ndarray:
    """Where the face's corner is in a frame."""
    return np.array([20.0 + 4 * frame, 30.0 + 1.5 * frame])


def face_at(frame: int, side: float = 64) -> Detection:
    corner = position(frame)
    return Detection(np.array([*corner, *(corner + side)]), TEMPLATE * side + corner, 0.9)


class Scripted:
    """Says where the face is, frame after frame, with an error of up to a pixel, and misses some frames."""

    confidence, searches_scales = 0.5, False

    def __init__(self, missed: Sequence[int] = (), noise: float = 1.0) -> None:
        self.frame, self.missed = -1, missed
        self.rng, self.noise = np.random.default_rng(0), noise

    def detect(self, image: np.ndarray) -> list[Detection]:
        self.frame += 1
        if self.frame in self.missed:
            return []
        face, shift = face_at(self.frame), self.rng.uniform(-self.noise, self.noise, 2)
        return [Detection(face.box + np.tile(shift, 2), face.landmarks + shift, 0.9)]


class Brighten:
    """Adds 60 and remembers the factors; estimates that jump between 4 and 16."""

    out_size = 64

    def __init__(self) -> None:
        self.factors: list[float] = []

    def prepare(self, crop: np.ndarray, scale: float = 1.0, factor: float | None = None) -> FaceInput:
        return FaceInput(crop, 4.0, 4.0 if len(self.factors) % 2 else 16.0)

    def restore_faces(self, faces: Sequence[FaceInput]) -> list[FaceResult]:
        self.factors.extend(face.factor for face in faces)
        return [
            FaceResult(np.minimum(face.crop, 195) + np.uint8(60), FaceRecord(face.factor, 4.0, 0, len(faces)))
            for face in faces
        ]


def frames(count: int, size: tuple[int, int] = SIZE) -> Iterator[np.ndarray]:
    for frame in range(count):
        image = np.full((*size, 3), 90, np.uint8)
        x, y = np.rint(position(frame)).astype(int)
        cv2.circle(image, (int(x) + 32, int(y) + 36), 26, (110, 130, 160), -1)
        yield image


def as_frames(images: Iterable[np.ndarray]) -> Iterator[Frame]:
    return (Frame(image, number, 1) for number, image in enumerate(images))


def test_a_clip_is_restored_with_its_audio(write_clip, read_clip, packets, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip with späces.mp4", frames(18), audio=("aac",))
    target, restorer = tmp_path / "out.mp4", Brighten()
    seen: list[tuple[int, int]] = []
    report = restore_video(
        source, target, restorer, Scripted(missed=(5, 6)), PhotoOptions(match_color=False, agreement=0),
        on_frame=lambda n, total, faces: seen.append((n, total)),
    )  # fmt: skip
    assert (report.frames, report.frames_with_faces, report.faces, report.notes) == (18, 18, 1, ())
    assert seen == [(n, 18) for n in range(1, 19)]
    assert packets(target, "audio") == packets(source, "audio")
    (restored, times), (original, same_times) = read_clip(target), read_clip(source)
    assert times == same_times == [Fraction(number, 12) for number in range(18)]
    for number, (after, before) in enumerate(zip(restored, original, strict=True)):
        x, y = np.rint(position(number)).astype(int)
        inside = np.s_[y + 15 : y + 50, x + 15 : x + 50]
        assert np.median(after[inside].astype(int) - before[inside]) == pytest.approx(60, abs=4), number
        outside = after[:10].astype(int) - before[:10]
        assert abs(outside.mean()) < 2, number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip with späces.mp4", "out.mp4"]


def test_the_dial_moves_slowly(write_clip, packets, tmp_path: Path) -> None:
    """Estimates jump by two octaves from frame to frame; the dial that is used by less than a quarter of one."""
    source, restorer = write_clip(tmp_path / "clip.mp4", frames(18)), Brighten()
    restore_video(source, tmp_path / "out.mkv", restorer, Scripted())
    assert len(restorer.factors) == 18
    assert np.abs(np.diff(np.log2(restorer.factors))).max() < 0.25
    assert packets(tmp_path / "out.mkv", "audio") == []


@pytest.mark.parametrize("upscale", [1.0, 2.0])
def test_odd_sides_and_enlarging(upscale: float, write_clip, read_clip, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mov", frames(4, (161, 241)), pix_fmt="yuv444p")
    restore_video(source, tmp_path / "out.mp4", Brighten(), Scripted(), PhotoOptions(upscale=upscale))
    assert [image.shape for image in read_clip(tmp_path / "out.mp4")[0]] == [(161 * upscale, 241 * upscale, 3)] * 4


@pytest.mark.parametrize("count", [1, 2])
def test_a_face_in_the_shortest_clips_is_restored(count: int, write_clip, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", frames(count))
    report = restore_video(source, tmp_path / "out.mp4", Brighten(), Scripted())
    assert (report.frames, report.frames_with_faces, report.faces) == (count, count, 1)


def test_a_cut_ends_every_track(write_clip, tmp_path: Path) -> None:
    """One face in the same place, three scenes of 4, 1 and 3 frames: three faces, restored in all frames."""
    grounds = [40] * 4 + [140] + [220] * 3
    clip = [np.where(image == 90, np.uint8(ground), image) for ground, image in zip(grounds, frames(8), strict=True)]
    numbers: list[list[int]] = []
    report = restore_video(
        write_clip(tmp_path / "clip.mp4", clip), tmp_path / "out.mp4", Brighten(), Scripted(noise=0.0),
        on_frame=lambda _, total, faces: numbers.append([face.number for face in faces]),
    )  # fmt: skip
    assert numbers == [[0]] * 4 + [[1]] + [[2]] * 3
    assert (report.frames_with_faces, report.faces) == (8, 3)


def test_landmarks_are_not_smoothed_over_a_cut() -> None:
    tracker, one, other = Tracker(reach=2), face_at(0), face_at(2)  # 8 pixels apart: the boxes overlap
    for frame in range(8):
        tracker.add(frame, [one if frame < 4 else other], cut=frame == 4)
        if frame >= 2:
            ((_, face),) = tracker.faces(frame - 2)
            expected = one if frame - 2 < 4 else other
            np.testing.assert_allclose(face.landmarks, expected.landmarks, atol=1e-9)


def test_a_part_that_changes_is_not_a_cut() -> None:
    """A caption or a flash over 40% of the image."""
    is_cut, image = CutDetector(), np.full((100, 100, 3), 90, np.uint8)
    flash = image.copy()
    flash[60:] = 255
    assert [is_cut(frame) for frame in (image, flash, image, flash)] == [False] * 4


def test_motion_is_not_a_cut_and_another_photograph_is(shared: Path) -> None:
    """A pan of 2% of the width a frame over each photograph, then the next photograph; 8 and 16 bits alike."""
    images = [cv2.imread(str(path)) for path in sorted((shared / "photos").glob("*.*g"))]
    for scale in (1, 257):
        is_cut, cuts = CutDetector(), []
        for image in images:
            step = image.shape[1] // 50
            for frame in range(3):
                moved = image[:, frame * step : image.shape[1] - (3 - frame) * step]
                cuts.append(is_cut(moved if scale == 1 else moved.astype(np.uint16) * 257))
        assert cuts == ([False] * 3 + [True, False, False] * (len(images) - 1))


def test_smoothing_lowers_the_jitter_and_bridges_gaps() -> None:
    """Detections off by up to 1 pixel on a straight path: the smoothed ones are off by half, and none is missing."""
    tracker = Tracker(reach=3)
    steady = [list(tracked) for _, tracked in follow(as_frames(frames(60)), Scripted(missed=(20, 21, 40)), tracker, 20)]
    assert [len(tracked) for tracked in steady] == [1] * 60
    raw = [Scripted(noise=1.0)]
    errors = [tracked[0][1].landmarks[0] - face_at(n).landmarks[0] for n, tracked in enumerate(steady)]
    rng_errors = [raw[0].detect(np.empty(0))[0].landmarks[0] - face_at(n).landmarks[0] for n in range(60)]
    assert np.std(errors) < 0.7 * np.std(rng_errors)
    assert np.abs(np.mean(errors, axis=0)).max() < 0.2


@given(st.lists(st.integers(-4, 4), min_size=2, unique=True), st.floats(-5, 5), st.floats(-5, 5))
@settings(max_examples=50, deadline=None)
def test_a_steady_motion_is_not_changed(times: list[int], speed: float, start: float) -> None:
    track = Track(0)
    for time in times:
        shift = start + speed * time
        track.seen[time] = Detection(np.arange(4) + shift, np.arange(10.0).reshape(5, 2) + shift, 0.5)
    face = track.at(0, reach=4)
    if min(times) > 0 or max(times) < 0:
        assert face is None
    else:
        np.testing.assert_allclose(face.landmarks, np.arange(10.0).reshape(5, 2) + start, atol=1e-6)


def test_two_faces_keep_their_numbers_and_a_flicker_is_dropped() -> None:
    tracker = Tracker(reach=1)
    for frame in range(6):
        two = [face_at(frame), Detection(np.array([200.0, 10, 230, 40]), TEMPLATE * 30 + [200, 10], 0.8)]
        flicker = [Detection(np.array([10.0, 100, 40, 130]), TEMPLATE * 30, 0.8)] if frame == 3 else []
        tracker.add(frame, (two if frame % 2 else two[::-1]) + flicker)
        if frame:
            assert sorted(face.number for _, face in tracker.faces(frame - 1)) == [0, 1]
            numbers = {face.number: round(face.box[0]) for _, face in tracker.faces(frame - 1)}
            assert numbers[0] == 200
    assert len(tracker.tracks) == 3


def test_memory_does_not_grow_with_the_length() -> None:
    """40 and 160 frames at 720p through detection, tracking and the window: the same peak."""
    peaks = []
    for count in (40, 160):
        tracemalloc.start()
        for _ in follow(as_frames(frames(count, (720, 1280))), Scripted(), Tracker(2), 20):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.05


def test_a_real_face_that_moves(write_clip, tmp_path: Path, shared: Path) -> None:
    """The astronaut moved through the image, found by YuNet in every frame."""
    photo = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[..., ::-1])
    source = write_clip(tmp_path / "clip.mp4", [photo[10:250, 60 + 4 * n : 380 + 4 * n] for n in range(8)], rate=10)
    report = restore_video(source, tmp_path / "out.mp4", Brighten(), build_detector("yunet", shared / "weights"))
    assert (report.frames, report.frames_with_faces, report.faces) == (8, 8, 1)


def test_invalid_targets(write_clip, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", frames(3))
    for target, reason in (("out.gif", "written as"), ("clip.mp4", "output is the input")):
        with pytest.raises(GCFSRError, match=reason):
            restore_video(source, tmp_path / target, Brighten(), Scripted())
    with pytest.raises(GCFSRError, match="no such file"):
        restore_video(tmp_path / "missing.mp4", tmp_path / "out.mp4", Brighten(), Scripted())
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_face_that_never_appears_is_named(write_clip, tmp_path: Path) -> None:
    source, target = write_clip(tmp_path / "clip.mp4", frames(3)), tmp_path / "out.mp4"
    report = restore_video(source, target, Brighten(), Scripted(), PhotoOptions(faces="0,7,8"))
    assert report.notes == ("faces 0,7,8: there is no face 7, 8; 1 followed, the last is face 0",)
    assert report.frames_with_faces == 3
    target.unlink()
    with pytest.raises(GCFSRError, match=r"clip\.mp4: faces 7: there is no face 7"):
        restore_video(source, target, Brighten(), Scripted(), PhotoOptions(faces="7"))
    assert not target.exists()
    report = restore_video(source, target, Brighten(), Scripted(missed=(0, 1, 2)), PhotoOptions(faces="7"))
    assert (report.faces, report.notes) == (0, ())  # as an image without a face


def test_a_failure_in_the_middle_leaves_nothing(write_clip, tmp_path: Path) -> None:
    class Fails(Brighten):
        def restore_faces(self, faces: Sequence[FaceInput]) -> list[FaceResult]:
            if len(self.factors) == 5:
                raise GCFSRError("no more")
            return super().restore_faces(faces)

    source = write_clip(tmp_path / "clip.mp4", frames(18))
    with pytest.raises(GCFSRError, match="no more"):
        restore_video(source, tmp_path / "out.mp4", Fails(), Scripted())
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
