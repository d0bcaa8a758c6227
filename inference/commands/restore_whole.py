"""A whole photograph as `gcfsr restore` takes it: detector, faces, the files beside the result."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import Picture
from gcfsr_inference.photo.background import TILE
from gcfsr_inference.photo.detect import LandmarkFile, build_detector, find_detector
from gcfsr_inference.photo.detection import Detection, Detector
from gcfsr_inference.photo.photograph import Face, PhotoOptions, enlarge_background, find_faces, restore_into
from gcfsr_inference.restore.runner import FaceResult

if TYPE_CHECKING:
    from gcfsr_inference.commands.restore_files import Source
    from gcfsr_inference.commands.restore_run import Loaded, RestoreRun


class KnownFaces:
    """The faces that a sidecar lists, as a detector."""

    searches_scales = False
    confidence = 0.0

    def __init__(self, faces: list[dict[str, Any]]) -> None:
        self.faces = faces

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The stored faces, whatever the picture is."""
        return [Detection(np.array(f["box"]), np.array(f["landmarks"]), f["score"]) for f in self.faces]


def open_detector(args: Any) -> Detector:
    """The detector that the options name, else the best whose weights are at hand.

    Raises:
        GCFSRError: an unknown one, missing weights, a confidence out of range, or a file without landmarks.
    """
    if args.landmarks:
        if args.detector not in (None, "landmarks"):
            raise GCFSRError("--detector and --landmarks: both say where the faces are; give one of them")
        return LandmarkFile(Path(args.landmarks))
    if args.detector == "landmarks":
        raise GCFSRError("--detector landmarks: name the JSON file that holds them with --landmarks")
    args.detector = args.detector or find_detector(args.weights_dir)  # a video's sidecar must name it
    return build_detector(args.detector, args.weights_dir, args.confidence, args.device)


def detector_for(run: "RestoreRun", source: "Source") -> Detector:
    """Where one input's faces come from."""
    if run.past and not source.is_video:
        return KnownFaces(run.past["faces"])
    if isinstance(run.detector, LandmarkFile):
        run.detector.picture = source.path.name if source.path else None
    return run.detector


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
    strengths = run.strengths(picture)
    faces = find_faces(picture.bgr, detector, options)
    if run.past:
        for face, known in zip(faces, run.past["faces"], strict=True):
            face.factor = known.get("factor")
    if not faces:
        run.say(f"{source.name}: no face found, the image is kept as it is (--aligned takes it as one aligned face)")
    canvas = enlarge_background(picture.bgr, options)
    entries: list[dict[str, Any]] = []

    def on_face(face: Face) -> None:
        entries.append(_write(run, source, face))

    restore_into(canvas, picture.bgr, faces, run.runner, options, on_face, strengths=strengths)
    alpha = None if picture.alpha is None else enlarge_background(picture.alpha, options)
    result = run.outputs.result(source, picture)
    digest = run.outputs.write(result, replace(picture, bgr=canvas, alpha=alpha))
    done = {entry["number"] for entry in entries}
    others = [face for face in faces if face.number not in done]
    if left := [face for face in others if face.status.startswith("left")]:
        run.say(f"{source.name}: {len(left)} further faces {left[0].status.replace('it was', 'they were', 1)}")
    entries += [_entry(face) for face in others]
    entries.sort(key=lambda entry: entry["number"])
    run.finish(source, loaded.digest, result, digest, entries, aligned=False)


def _write(run: "RestoreRun", source: Any, face: Face) -> dict[str, Any]:
    """The files of one face and its entry in the sidecar."""
    entry = _entry(face)
    if face.crop is None or face.restored is None or face.record is None:
        run.say(f"{source.name} face {face.number}: {face.status}")
        return entry
    if not (run.outputs.single or run.outputs.to_stdout):
        plain = Picture(face.restored)
        run.outputs.write(run.outputs.result(source, plain, face.number), plain)
    result = FaceResult(face.restored, face.record, face.draws)
    run.write_face(source, face.number, face.crop, result, run.outputs.single, f"_{face.number:02d}")
    return {**entry, **face.record.as_dict()}


def _entry(face: Face) -> dict[str, Any]:
    return {
        "number": face.number,
        "box": [round(float(v), 2) for v in face.box],
        "landmarks": [[float(x), float(y)] for x, y in face.landmarks],
        "score": float(face.score),
        "status": face.status,
    }
