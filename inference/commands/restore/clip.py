"""A video as `gcfsr restore` takes it: the clip, and what is stored of each face that was followed through it."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.commands.restore import sidecar
from gcfsr_inference.commands.restore.context import Restored, RestoreRun, photo_options
from gcfsr_inference.commands.restore.files import Source
from gcfsr_inference.commands.restore.whole import detector_for
from gcfsr_inference.console import counted, note
from gcfsr_inference.photo.photograph import Face
from gcfsr_inference.photo.video import restore_video
from gcfsr_inference.photo.video.clip import WRITTEN
from gcfsr_inference.restore.hashes import file_hash
from gcfsr_inference.restore.runner import FaceRecord


@dataclass
class FollowedFace:
    """Running sums over the frames in which one face was restored, so that memory does not grow with the clip."""

    first: int
    frames: int = 0
    last: int = 0
    octaves: float | None = None
    psnr: float = 0.0
    mean: float = 0.0
    largest: float | None = None

    def add(self, frame: int, record: FaceRecord) -> None:
        """Takes what was done to the face in one more frame."""
        self.frames, self.last = self.frames + 1, frame
        if record.factor is not None:
            self.octaves = (self.octaves or 0.0) + math.log2(record.factor)
        if record.consistency is not None:
            self.psnr, self.mean = self.psnr + record.consistency.psnr, self.mean + record.consistency.mean
            self.largest = max(self.largest or 0.0, record.consistency.largest)

    def as_dict(self, number: int) -> dict[str, Any]:
        """Frames are counted from 1; the factor is the geometric mean, PSNR and mean difference are means of frames."""
        entry: dict[str, Any] = {"number": number, "frames": self.frames, "first": self.first, "last": self.last}
        entry["factor"] = None if self.octaves is None else round(2 ** (self.octaves / self.frames), 3)
        if self.largest is not None:
            means = {"psnr": round(self.psnr / self.frames, 4), "mean": round(self.mean / self.frames, 4)}
            entry["consistency"] = {**means, "largest": self.largest}
        return entry


def restore_clip(run: RestoreRun, source: Source, path: Path) -> Restored:
    """Restores a video frame by frame; its suffix is kept where it can be written, otherwise it becomes .mp4."""
    args, outputs = run.args, run.outputs
    for key in ("draws", "s_map", "embedding"):
        if getattr(args, key):
            raise GCFSRError(f"--{key.replace('_', '-')}: is not for videos; leave it out")
    if outputs.to_stdout:
        raise GCFSRError(f"{source.name}: a video is not written to standard output; name a file or folder with -o")
    detector = detector_for(run, source)
    wanted = run.past or args.sidecar  # only these need the hash of a file that may be long
    digest = file_hash(path) if wanted and path.is_file() else ""
    if run.past:
        sidecar.verify(source.name, "the input", run.past["input"]["sha256"], digest)
    suffix = path.suffix.lower() if path.suffix.lower() in WRITTEN else ".mp4"
    target = outputs.single or outputs.path("restored_imgs", source, ext=suffix)
    outputs.prepare(outputs.check(target).parent)
    followed: dict[int, FollowedFace] = {}

    def on_frame(number: int, total: int | None, faces: Sequence[Face]) -> None:
        for face in faces:
            if face.record is not None:
                followed.setdefault(face.number, FollowedFace(number)).add(number, face.record)
        if sys.stderr.isatty():
            note(f"{source.name}: frame {number} of {total or '?'}", error=True, end="\r")

    found = restore_video(
        path, target, run.runner, detector, photo_options(args), on_frame=on_frame, metadata=args.metadata
    )
    for remark in found.notes:
        run.say(f"{source.name}: {remark}")
    frames, faces = counted(found.frames, "frame"), counted(found.faces, "face")
    restored = f", restored in {counted(found.frames_with_faces, 'frame')}" if found.frames_with_faces else ""
    run.say(f"{source.name}: {frames}, {faces} followed{restored} -> {target}")
    entries = [followed[number].as_dict(number) for number in sorted(followed)]
    for entry in entries:
        run.say(describe(source.name, entry, run.origin))
    return Restored(source, digest, target, file_hash(target) if args.sidecar else "", entries)


def describe(name: str, entry: dict[str, Any], origin: str) -> str:
    """One line about a followed face."""
    line = f"{name} face {entry['number']}: frames {entry['first']} to {entry['last']}"
    if entry["factor"] is not None:
        line += f"; factor {entry['factor']:.3g} on average ({origin})"
    if found := entry.get("consistency"):
        line += (
            f"; consistency {found['psnr']:.1f} dB, mean {found['mean']:.2f}/255, largest {found['largest']:.1f}/255"
        )
    return line
