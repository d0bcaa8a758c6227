"""A video, frame by frame: its times and other streams kept, constant memory, faces and dial smoothed in time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.background import enlarged_size
from gcfsr_inference.photo.detect.detection import Detection, Detector
from gcfsr_inference.photo.detect.face_choice import choose, parse_numbers
from gcfsr_inference.photo.detect.search import search
from gcfsr_inference.photo.photograph import Face, FaceRestorer, PhotoOptions, enlarge_background, restore_into
from gcfsr_inference.photo.video.clip import Frame, open_clip, written_clip
from gcfsr_inference.photo.video.tracking import CutDetector, Track, Tracker

CHOICES = ("all", "largest", "center")  # of faces, other than by their numbers
REACH = 2  # frames before and after over which detections are smoothed


@dataclass(frozen=True)
class VideoReport:
    """What was done.

    Attributes:
        frames: frames written.
        frames_with_faces: those in which at least one face was restored.
        faces: faces followed; each scene counts its own.
        notes: what was converted, left out or missing, each in a few words.
    """

    frames: int
    frames_with_faces: int
    faces: int
    notes: tuple[str, ...] = ()


def restore_video(
    source: str | os.PathLike,
    target: str | os.PathLike,
    restorer: FaceRestorer,
    detector: Detector,
    options: PhotoOptions | None = None,
    reach: int = REACH,
    on_frame: Callable[[int, int | None, Sequence[Face]], None] | None = None,
    metadata: str = "keep",
) -> VideoReport:
    """Restores the faces of a video. Numbers in `options.faces` are faces in the order of their first appearance.

    Args:
        source: a video file; its first video stream is restored, its other streams are copied where that is possible.
        target: .mp4, .mov, .m4v or .mkv with H.264, or 10-bit H.265 where the source has more than 8 bits. Written
            beside and renamed.
        restorer, detector, options: as for `photo.restore_photo`.
        reach: frames before and after over which detections are smoothed (0: not at all).
        on_frame: called after each frame with its number, the count of frames that the header announces, and its faces.
        metadata: what is kept of titles, dates, ...: "keep", "no-gps" (without where it was taken) or "none".

    Raises:
        GCFSRError: PyAV is missing, the source is not a video, is HDR or too large, none of the faces that
            `options.faces` numbers appears among others, or the target cannot be written.
    """
    options = options or PhotoOptions()
    if os.path.realpath(target) == os.path.realpath(source):
        raise GCFSRError(f"{target}: the output is the input; choose another name")
    tracker = Tracker(reach)
    number = with_faces = 0
    seen: set[int] = set()
    with (
        open_clip(source) as clip,
        written_clip(target, clip, enlarged_size(clip.size, options.upscale), metadata) as writer,
    ):
        frames = follow(clip.frames(writer.take), detector, tracker, options.min_face)
        for number, (frame, tracked) in enumerate(frames, start=1):
            faces = choose_tracked(tracked, options, clip.size)
            tracks = {face.number: track for track, face in tracked}
            canvas = enlarge_background(frame.image, options)
            restore_into(
                canvas, frame.image, faces, restorer, options, dial=lambda f, new, t=tracks: t[f.number].dial(new)
            )
            writer.write(canvas, frame.time, frame.duration)
            with_faces += any(face.status == "restored" for face in faces)
            seen |= {face.number for face in faces}
            if on_frame is not None:
                on_frame(number, clip.count, faces)
        clip.notes += missing_faces(clip.path, seen, options)
    return VideoReport(number, with_faces, tracker.count, tuple(clip.notes))


def follow(
    frames: Iterable[Frame], detector: Detector, tracker: Tracker, min_face: float
) -> Iterator[tuple[Frame, list[tuple[Track, Face]]]]:
    """Each frame with its smoothed faces, `tracker.reach` frames later than it is read; holds reach + 1 frames."""
    waiting: deque[Frame] = deque()
    done, is_cut = -1, CutDetector()
    for number, frame in enumerate(frames):
        tracker.add(number, search(frame.image, detector, min_face), is_cut(frame.image))
        waiting.append(frame)
        if len(waiting) > tracker.reach:
            done += 1
            yield waiting.popleft(), list(tracker.faces(done))
    while waiting:
        done += 1
        yield waiting.popleft(), list(tracker.faces(done))


def missing_faces(path: Path, seen: set[int], options: PhotoOptions) -> list[str]:
    """A line where a face that `options.faces` numbers is not among those that were seen; GCFSRError where none is."""
    wanted = [] if options.faces in CHOICES else parse_numbers(options.faces)
    missing = [number for number in wanted if number not in seen]
    if not missing or not seen:
        return []
    numbers = ", ".join(map(str, missing))
    line = f"faces {options.faces}: there is no face {numbers}; {len(seen)} followed, the last is face {max(seen)}"
    if missing == wanted:
        raise GCFSRError(f"{path}: {line}")
    return [line]


def choose_tracked(tracked: Sequence[tuple[Track, Face]], options: PhotoOptions, shape: tuple[int, int]) -> list[Face]:
    """The frame's faces, those that `options.faces` names marked `to restore`."""
    faces = [face for _, face in tracked]
    if options.faces in CHOICES:
        chosen = choose([Detection(face.box, face.landmarks, face.score) for face in faces], options.faces, shape)
        wanted = {faces[index].number for index in chosen}
    else:
        wanted = set(parse_numbers(options.faces))
    for face in [face for face in faces if face.number in wanted][: options.max_faces]:
        face.status = "to restore"
    return faces
