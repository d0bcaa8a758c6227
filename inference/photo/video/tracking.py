"""Faces followed through a video: landmarks smoothed over neighbouring frames, gaps bridged, the dial kept steady."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from gcfsr_inference.photo.detect.detection import Detection, overlap
from gcfsr_inference.photo.photograph import Face

SAME_FACE = 0.3  # overlap (intersection over union) of one face's boxes in neighbouring frames
DIAL_STEP = 0.1  # share of the way to a new frame's factor that the dial goes, in octaves
CUT = 15.0  # 8-bit steps by which half of a thumbnail's pixels change where a scene is cut
THUMBNAIL = (32, 18)  # (W, H)


@dataclass
class Track:
    """One face through a scene. `seen`: its detections by frame, those in the window; `octaves`: its smoothed dial."""

    number: int
    scene: int = 0
    seen: dict[int, Detection] = field(default_factory=dict)
    octaves: float | None = None

    @property
    def last(self) -> Detection:
        """The latest detection."""
        return self.seen[max(self.seen)]

    def dial(self, factor: float) -> float:
        """The factor to use, given this frame's estimate: an exponential mean of log2(factor)."""
        new = math.log2(factor)
        self.octaves = new if self.octaves is None else self.octaves + DIAL_STEP * (new - self.octaves)
        return 2**self.octaves

    def at(self, frame: int, reach: int) -> Face | None:
        """The face at one frame: box and landmarks on a line fitted to the window's detections, nearest weighing most.

        None where the face is not seen at or on both sides of the frame.
        """
        times = np.array(sorted(self.seen))
        if times.size == 0 or times[0] > frame or times[-1] < frame:
            return None
        values = np.stack([np.append(self.seen[t].box, self.seen[t].landmarks) for t in times])  # (T, 14)
        weights = 1 - np.abs(times - frame) / (reach + 1)
        fitted = _line_at(times - frame, values, weights)
        score = max(self.seen[t].score for t in times)
        return Face(self.number, fitted[:4], fitted[4:].reshape(5, 2), score)


class Tracker:
    """Follows faces over a window of 2 * `reach` + 1 frames; its memory does not grow with the video.

    Args:
        reach: frames before and after over which detections are smoothed; 0 does not smooth them.
    """

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.tracks: list[Track] = []
        self.count = 0
        self.scenes: dict[int, int] = {}  # the scene of each frame in the window

    def add(self, frame: int, found: Iterable[Detection], cut: bool = False) -> None:
        """Takes the detections of the next frame: each goes to the track it overlaps most, or starts a new one.

        Args:
            frame: its number.
            found: its faces.
            cut: whether a scene starts with it: no track continues into another scene.
        """
        scene = self.scenes[frame] = self.scenes.get(frame - 1, 0) + cut
        free = list(found)
        for track in sorted(self.tracks, key=lambda track: -max(track.seen)):
            overlaps = [overlap(track.last.box, detection.box) for detection in free]
            if track.scene == scene and overlaps and max(overlaps) >= SAME_FACE:
                track.seen[frame] = free.pop(int(np.argmax(overlaps)))
        for detection in free:
            self.tracks.append(Track(self.count, scene, {frame: detection}))
            self.count += 1

    def faces(self, frame: int) -> Iterator[tuple[Track, Face]]:
        """The smoothed faces of a frame, for which the window's later frames were added; forgets what is too old.

        A face that is seen only once is not a face, unless its scene has no other frame in the window.
        """
        self.scenes = {time: scene for time, scene in self.scenes.items() if time >= frame - self.reach}
        for track in self.tracks:
            track.seen = {time: face for time, face in track.seen.items() if time in self.scenes}
        self.tracks = [track for track in self.tracks if track.seen]
        alone = list(self.scenes.values()).count(self.scenes[frame]) == 1
        for track in self.tracks:
            face = track.at(frame, self.reach)
            if face is not None and (len(track.seen) > 1 or alone):
                yield track, face


class CutDetector:
    """Says of each frame whether a scene starts with it."""

    def __init__(self) -> None:
        self.before: np.ndarray | None = None

    def __call__(self, image: np.ndarray) -> bool:
        """Takes the next frame, (H, W, 3) BGR uint8 or uint16; the first one is not a cut."""
        small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        small *= 255 / np.iinfo(image.dtype).max
        before, self.before = self.before, small
        return before is not None and float(np.median(np.abs(small - before).mean(axis=2))) > CUT


def _line_at(times: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted least-squares line through `values` (T, K) over `times` (T,), at time 0: (K,)."""
    weights = weights / weights.sum()
    mean_time, mean = weights @ times, weights @ values
    spread = weights @ np.square(times - mean_time)
    if spread == 0:
        return mean
    slope = (weights * (times - mean_time)) @ values / spread
    return mean - slope * mean_time
