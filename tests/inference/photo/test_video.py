"""Videos made here: a face that moves over a plain ground, with a tone; read back through ffmpeg."""

import re
import subprocess
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.detect import Detection, build_detector
from gcfsr_inference.photo.paste import TEMPLATE
from gcfsr_inference.photo.photograph import PhotoOptions
from gcfsr_inference.photo.tracking import Track, Tracker
from gcfsr_inference.photo.video import follow, read_video, restore_video
from gcfsr_inference.restore.runner import FaceInput, FaceRecord, FaceResult

FPS, SIZE = 12.0, (160, 240)  # (H, W)


@pytest.fixture(scope="module")
def ffmpeg() -> str:
    return pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()


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


def make_clip(ffmpeg: str, path: Path, count: int = 18, size: tuple[int, int] = SIZE, audio: bool = True) -> Path:
    """Losslessly coded frames, and a tone of the same length."""
    tone = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={count / FPS}"] if audio else []
    command = [
        ffmpeg, "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{size[1]}x{size[0]}",
        "-r", str(FPS), "-i", "-", *tone, "-c:v", "libx264rgb", "-qp", "0",
        *(["-c:a", "aac"] if audio else []), str(path),
    ]  # fmt: skip
    subprocess.run(command, input=b"".join(f.tobytes() for f in frames(count, size)), check=True)
    return path


def describe(ffmpeg: str, path: Path) -> str:
    return subprocess.run([ffmpeg, "-i", str(path)], capture_output=True, text=True, check=False).stderr


def audio_hash(ffmpeg: str, path: Path) -> str:
    command = [ffmpeg, "-v", "error", "-i", str(path), "-map", "0:a", "-c", "copy", "-f", "md5", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_clip_is_restored_with_its_audio(ffmpeg: str, tmp_path: Path) -> None:
    source, target = make_clip(ffmpeg, tmp_path / "clip with späces.mp4"), tmp_path / "out.mp4"
    restorer = Brighten()
    seen: list[tuple[int, int]] = []
    report = restore_video(
        source, target, restorer, Scripted(missed=(5, 6)), on_frame=lambda n, total, faces: seen.append((n, total))
    )
    assert (report.frames, report.frames_with_faces, report.faces) == (18, 18, 1)
    assert seen == [(n, 18) for n in range(1, 19)]
    assert audio_hash(ffmpeg, target) == audio_hash(ffmpeg, source)
    assert re.search(r"Video: h264.*160.*12 fps|Video: h264.*240x160.*12 fps", describe(ffmpeg, target))
    restored, fps, total = read_video(target)
    assert (fps, total) == (FPS, 18)
    for number, (after, before) in enumerate(zip(restored, frames(18), strict=True)):
        x, y = np.rint(position(number)).astype(int)
        inside = np.s_[y + 15 : y + 50, x + 15 : x + 50]
        assert np.median(after[inside].astype(int) - before[inside]) == pytest.approx(60, abs=4), number
        outside = after[:10].astype(int) - before[:10]
        assert abs(outside.mean()) < 2, number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip with späces.mp4", "out.mp4"]


def test_the_dial_moves_slowly(ffmpeg: str, tmp_path: Path) -> None:
    """Estimates jump by two octaves from frame to frame; the dial that is used by less than a quarter of one."""
    source, restorer = make_clip(ffmpeg, tmp_path / "clip.mp4", audio=False), Brighten()
    restore_video(source, tmp_path / "out.mkv", restorer, Scripted())
    assert len(restorer.factors) == 18
    assert np.abs(np.diff(np.log2(restorer.factors))).max() < 0.25
    assert "Audio" not in describe(ffmpeg, tmp_path / "out.mkv")


@pytest.mark.parametrize("upscale", [1.0, 2.0])
def test_odd_sides_and_enlarging(upscale: float, ffmpeg: str, tmp_path: Path) -> None:
    source = make_clip(ffmpeg, tmp_path / "clip.mov", count=4, size=(161, 241))
    restore_video(source, tmp_path / "out.mp4", Brighten(), Scripted(), PhotoOptions(upscale=upscale))
    result, _, _ = read_video(tmp_path / "out.mp4")
    assert [frame.shape for frame in result] == [(161 * upscale, 241 * upscale, 3)] * 4


def test_smoothing_lowers_the_jitter_and_bridges_gaps() -> None:
    """Detections off by up to 1 pixel on a straight path: the smoothed ones are off by half, and none is missing."""
    tracker = Tracker(reach=3)
    steady = [list(tracked) for _, tracked in follow(frames(60), Scripted(missed=(20, 21, 40)), tracker, 20)]
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
        for _ in follow(frames(count, (720, 1280)), Scripted(), Tracker(2), 20):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.05


def test_a_real_face_that_moves(ffmpeg: str, tmp_path: Path, shared: Path) -> None:
    """The astronaut moved through the picture, found by YuNet in every frame."""
    photo = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[..., ::-1])
    clip = [photo[10:250, 60 + 4 * n : 380 + 4 * n] for n in range(8)]
    source = tmp_path / "clip.mp4"
    command = [
        ffmpeg,
        *["-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", "320x240", "-r", "10", "-i", "-"],
    ]
    command += ["-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", str(source)]
    subprocess.run(command, input=b"".join(np.ascontiguousarray(frame).tobytes() for frame in clip), check=True)
    report = restore_video(source, tmp_path / "out.mp4", Brighten(), build_detector("yunet", shared / "weights"))
    assert (report.frames, report.frames_with_faces, report.faces) == (8, 8, 1)


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_not_a_video(content: bytes, tmp_path: Path, ffmpeg: str) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    source.write_bytes(content)
    with pytest.raises(GCFSRError, match=r"a\.mp4: not a video"):
        restore_video(source, target, Brighten(), Scripted())
    assert not target.exists()


def test_targets_that_cannot_be(ffmpeg: str, tmp_path: Path) -> None:
    source = make_clip(ffmpeg, tmp_path / "clip.mp4", count=3)
    for target, reason in (
        ("out.gif", "written as"),
        ("clip.mp4", "output is the input"),
        ("no/out.mp4", "No such file"),
    ):
        with pytest.raises(GCFSRError, match=reason):
            restore_video(source, tmp_path / target, Brighten(), Scripted())
    with pytest.raises(GCFSRError, match="no such file"):
        restore_video(tmp_path / "missing.mp4", tmp_path / "out.mp4", Brighten(), Scripted())
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_failure_in_the_middle_leaves_nothing(ffmpeg: str, tmp_path: Path) -> None:
    class Fails(Brighten):
        def restore_faces(self, faces: Sequence[FaceInput]) -> list[FaceResult]:
            if len(self.factors) == 5:
                raise GCFSRError("no more")
            return super().restore_faces(faces)

    source = make_clip(ffmpeg, tmp_path / "clip.mp4")
    with pytest.raises(GCFSRError, match="no more"):
        restore_video(source, tmp_path / "out.mp4", Fails(), Scripted())
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_without_imageio_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(GCFSRError, match=r"imageio-ffmpeg is not installed; pip install 'gcfsr\[video\]'"):
        restore_video(tmp_path / "clip.mp4", tmp_path / "out.mp4", Brighten(), Scripted())
