"""A whole photograph as `gcfsr restore` takes it: detector, faces, the files beside the result."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import Picture
from gcfsr_inference.background import TILE
from gcfsr_inference.detect import Detection, Detector, LandmarkFile, build_detector, find_detector, missing_weights
from gcfsr_inference.photo import Face, PhotoOptions, enlarge_background, find_faces, restore_into
from gcfsr_inference.restore_files import make_folder

if TYPE_CHECKING:
    from gcfsr_inference.restore_files import Source
    from gcfsr_inference.restore_run import Loaded, RestoreRun

WRITTEN_VIDEOS = (".mp4", ".mov", ".m4v", ".mkv")


class KnownFaces:
    """The faces that a sidecar lists, as a detector."""

    searches_scales = False
    confidence = 0.0

    def __init__(self, faces: list[dict[str, Any]]) -> None:
        self.faces = faces

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The stored faces, whatever the picture is."""
        return [Detection(np.array(f["box"]), np.array(f["landmarks"]), f["score"]) for f in self.faces]


def choose_detector(run: "RestoreRun", source: "Source") -> Detector | None:
    """The detector that the options name, else the best whose weights are at hand, else None; built once."""
    args = run.args
    if run.past:
        return KnownFaces(run.past["faces"])
    if args.landmarks:
        detector = LandmarkFile(Path(args.landmarks))
        detector.picture = source.path.name if source.path else None
        return detector
    name = args.detector or find_detector(args.weights_dir)
    if name is None:
        return None
    if getattr(run, "detector", None) is None:
        run.detector = build_detector(name, args.weights_dir, args.confidence, args.device)
    return run.detector


def restore_video_file(run: "RestoreRun", source: "Source") -> None:
    """Restores a video frame by frame; its suffix is kept where it can be written, otherwise it becomes .mp4."""
    from gcfsr_inference.video import restore_video

    args, outputs = run.args, run.outputs
    for key in ("report", "sidecar", "draws", "s_map", "aligned"):
        if getattr(args, key):
            raise GCFSRError(f"--{key.replace('_', '-')}: is not for videos; leave it out")
    if outputs.to_stdout:
        raise GCFSRError(f"{source.name}: a video is not written to standard output; name a file or folder with -o")
    detector = choose_detector(run, source)
    if detector is None:
        raise GCFSRError(missing_weights("yunet", args.weights_dir))
    suffix = source.path.suffix.lower() if source.path.suffix.lower() in WRITTEN_VIDEOS else ".mp4"
    target = outputs.single or outputs.path("restored_imgs", source, ext=suffix)
    make_folder(outputs.check(target).parent)

    def on_frame(number: int, total: int | None, faces: Sequence[Face]) -> None:
        run.runner.records.clear()
        if sys.stderr.isatty():
            print(f"\r{source.name}: frame {number} of {total or '?'}", end="", file=sys.stderr, flush=True)

    found = restore_video(source.path, target, run.runner, detector, photo_options(args), on_frame=on_frame)
    run.say(
        f"{source.name}: {found.frames} frames, {found.faces} faces, restored in {found.frames_with_faces} -> {target}"
    )


def photo_options(args: Any) -> PhotoOptions:
    """The command's options as the photograph's."""
    return PhotoOptions(
        faces="center" if args.only_center_face else args.faces,
        min_face=args.min_face,
        match_color=args.match_color,
        upscale=args.upscale,
        background=args.bg_upsampler,
        weights=args.weights_dir,
        tile=args.bg_tile or TILE,
        batch=args.batch,
    )


def restore_whole(run: "RestoreRun", loaded: "Loaded", detector: Detector) -> None:
    """Restores the faces of one photograph and writes the picture, the faces and the sidecar."""
    source, picture, options = loaded.source, loaded.picture, photo_options(run.args)
    if run.mask is not None:
        raise GCFSRError("--s-map belongs to an aligned face; add --aligned")
    faces = find_faces(picture.bgr, detector, options)
    if run.past:
        for face, known in zip(faces, run.past["faces"], strict=True):
            face.factor = known.get("factor")
    if not faces:
        run.say(f"{source.name}: no face found; the picture is kept as it is")
    canvas = enlarge_background(picture.bgr, options)
    entries: list[dict[str, Any]] = []
    run.runner.records.clear()

    def on_face(face: Face) -> None:
        entries.append(_write(run, source, face))

    restore_into(canvas, picture.bgr, faces, run.runner, options, on_face)
    alpha = None if picture.alpha is None else enlarge_background(picture.alpha, options)
    result = run.outputs.result(source, picture)
    digest = run.outputs.write(result, replace(picture, bgr=canvas, alpha=alpha))
    done = {entry["number"] for entry in entries}
    entries += [_entry(face) for face in faces if face.number not in done]
    run.finish(loaded, result, digest, sorted(entries, key=lambda entry: entry["number"]), aligned=False)


def _write(run: "RestoreRun", source: Any, face: Face) -> dict[str, Any]:
    """The files of one face and its entry in the sidecar."""
    entry = _entry(face)
    if face.crop is None or face.restored is None:
        run.say(f"{source.name} face {face.number}: {face.status}")
        return entry
    record = run.runner.records.pop(0)
    if not (run.outputs.single or run.outputs.to_stdout):
        plain = Picture(face.restored)
        run.outputs.write(run.outputs.result(source, plain, face.number), plain)
    run.write_face(source, face.number, face.crop, face.restored, record, run.outputs.single)
    return {**entry, **record.as_dict()}


def _entry(face: Face) -> dict[str, Any]:
    return {
        "number": face.number,
        "box": [round(float(v), 2) for v in face.box],
        "landmarks": [[float(x), float(y)] for x, y in face.landmarks],
        "score": float(face.score),
        "status": face.status,
    }
