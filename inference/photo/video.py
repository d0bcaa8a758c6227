"""A video, frame by frame through ffmpeg: audio kept, constant memory, faces and dial smoothed in time."""

import os
import secrets
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.detect import Detection, Detector
from gcfsr_inference.photo.detect_search import search
from gcfsr_inference.photo.face_choice import choose, parse_numbers
from gcfsr_inference.photo.photograph import Face, FaceRestorer, PhotoOptions, enlarge_background, restore_into
from gcfsr_inference.photo.tracking import Track, Tracker

WRITTEN_VIDEOS = (".mp4", ".mov", ".m4v", ".mkv")
REACH = 2  # frames before and after over which detections are smoothed


@dataclass(frozen=True)
class VideoReport:
    """What was done: frames written, frames in which at least one face was restored, and faces followed."""

    frames: int
    frames_with_faces: int
    faces: int


def restore_video(
    source: str | os.PathLike,
    target: str | os.PathLike,
    restorer: FaceRestorer,
    detector: Detector,
    options: PhotoOptions | None = None,
    reach: int = REACH,
    on_frame: Callable[[int, int | None, Sequence[Face]], None] | None = None,
) -> VideoReport:
    """Restores the faces of a video. Numbers in `options.faces` are faces in the order of their first appearance.

    Args:
        source: a file that ffmpeg reads; its first video stream is restored, its audio is copied.
        target: written beside and renamed; H.264 in .mp4, .mov, .m4v or .mkv.
        restorer, detector, options: as for `photo.restore_photo`.
        reach: frames before and after over which detections are smoothed (0: not at all).
        on_frame: called after each frame with its number, the estimated count of frames, and its faces.

    Raises:
        GCFSRError: imageio-ffmpeg is missing, the source is no video, or the target cannot be written.
    """
    options = options or PhotoOptions()
    if Path(target).suffix.lower() not in WRITTEN_VIDEOS:
        raise GCFSRError(f"{target}: videos are written as .mp4, .mov, .m4v or .mkv")
    if Path(target).resolve() == Path(source).resolve():
        raise GCFSRError(f"{target}: the output is the input; choose another name")
    frames, fps, total = read_video(source)
    tracker = Tracker(reach)
    number = with_faces = 0
    with VideoWriter(source, target, fps) as writer:
        for number, (frame, tracked) in enumerate(follow(frames, detector, tracker, options.min_face), start=1):
            faces = choose_tracked(tracked, options, frame.shape[:2])
            tracks = {face.number: track for track, face in tracked}
            canvas = enlarge_background(frame, options)
            restore_into(canvas, frame, faces, restorer, options, dial=lambda f, new, t=tracks: t[f.number].dial(new))
            writer.write(canvas)
            with_faces += any(face.status == "restored" for face in faces)
            if on_frame is not None:
                on_frame(number, total, faces)
        if number == 0:
            raise GCFSRError(f"{source}: holds no video frame")
    return VideoReport(number, with_faces, tracker.count)


def follow(
    frames: Iterator[np.ndarray], detector: Detector, tracker: Tracker, min_face: float
) -> Iterator[tuple[np.ndarray, list[tuple[Track, Face]]]]:
    """Each frame with its smoothed faces, `tracker.reach` frames later than it is read; holds reach + 1 frames."""
    waiting: deque[np.ndarray] = deque()
    done = -1
    for number, frame in enumerate(frames):
        tracker.add(number, search(frame, detector, min_face))
        waiting.append(frame)
        if len(waiting) > tracker.reach:
            done += 1
            yield waiting.popleft(), list(tracker.faces(done))
    while waiting:
        done += 1
        yield waiting.popleft(), list(tracker.faces(done))


def choose_tracked(tracked: Sequence[tuple[Track, Face]], options: PhotoOptions, shape: tuple[int, int]) -> list[Face]:
    """The frame's faces, those that `options.faces` names marked `to restore`."""
    faces = [face for _, face in tracked]
    if options.faces in ("all", "largest", "center"):
        chosen = choose([Detection(face.box, face.landmarks, face.score) for face in faces], options.faces, shape)
        wanted = {faces[index].number for index in chosen}
    else:
        wanted = set(parse_numbers(options.faces))
    for face in [face for face in faces if face.number in wanted][: options.max_faces]:
        face.status = "to restore"
    return faces


def read_video(source: str | os.PathLike) -> tuple[Iterator[np.ndarray], float, int | None]:
    """The frames of a video as they are decoded, (H, W, 3) BGR uint8, upright; frames per second; their rough count.

    Raises:
        GCFSRError: imageio-ffmpeg is missing, or the file is missing or no video.
    """
    if not Path(source).is_file():
        raise GCFSRError(f"{source}: no such file; check the path")
    ffmpeg = _ffmpeg()
    reader = ffmpeg.read_frames(str(source), pix_fmt="bgr24", output_params=["-fps_mode", "cfr"])
    try:
        meta = next(reader)
    except (OSError, RuntimeError, StopIteration, KeyError) as error:
        raise GCFSRError(f"{source}: not a video that ffmpeg can read") from error
    width, height = meta["size"]
    fps = float(meta.get("fps") or 25.0)
    duration = meta.get("duration")
    total = round(duration * fps) if duration else None
    return (np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader), fps, total


class VideoWriter:
    """Encodes frames to H.264 with another file's audio, beside the target, and renames it when all went well.

    Args:
        source: the file whose audio and metadata are taken over.
        target: the file to write.
        fps: frames per second.
    """

    def __init__(self, source: str | os.PathLike, target: str | os.PathLike, fps: float) -> None:
        self.source, self.target, self.fps = Path(source), Path(target), fps
        self.part = self.target.with_name(f".{self.target.stem[:80]}.{secrets.token_hex(4)}{self.target.suffix}")
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the writer
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, frame: np.ndarray) -> None:
        """Adds one (H, W, 3) BGR uint8 frame; all have the first one's size."""
        if self.process is None:
            self.process = subprocess.Popen(
                self._command(frame.shape[0], frame.shape[1]), stdin=subprocess.PIPE, stderr=self.log
            )
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError as error:
            self.process.wait()
            raise GCFSRError(f"{self.target}: cannot be written ({self._reason()})") from error

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish(failed=kind is not None)
        finally:
            self.part.unlink(missing_ok=True)
            self.log.close()

    def _finish(self, failed: bool) -> None:
        if self.process is None:
            return
        if failed:
            self.process.kill()
            self.process.wait()
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise GCFSRError(f"{self.target}: cannot be written ({self._reason()})")
        os.replace(self.part, self.target)

    def _reason(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "ffmpeg ended early"

    def _command(self, height: int, width: int) -> list[str]:
        same_kind = self.source.suffix.lower() == self.target.suffix.lower()
        # Odd sides exist only without chroma subsampling; the colour matrix is written, so that players need not guess.
        pixels = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        color = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
        return [
            _ffmpeg().get_ffmpeg_exe(), "-y", "-v", "error",
            "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r", f"{self.fps:.6f}", "-i", "-",
            "-i", str(self.source), "-map", "0:v:0", "-map", "1:a?", "-map_metadata", "1",
            "-vf", f"scale=out_color_matrix=bt709:out_range=tv,format={pixels}", *color,
            "-c:v", "libx264", "-crf", "17", "-preset", "medium", "-c:a", "copy" if same_kind else "aac",
            str(self.part),
        ]  # fmt: skip


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        raise GCFSRError("video: imageio-ffmpeg is not installed; pip install 'gcfsr[video]'") from error
    return imageio_ffmpeg
