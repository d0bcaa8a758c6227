"""A whole photograph as `gcfsr restore` takes it: detector, faces, the files beside the result."""

from dataclasses import replace
from typing import Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import ImageData
from gcfsr_inference.commands.restore.aligned import write_beside
from gcfsr_inference.commands.restore.context import Loaded, Restored, RestoreRun, photo_options
from gcfsr_inference.commands.restore.files import Source
from gcfsr_inference.commands.restore.report import describe
from gcfsr_inference.console import counted
from gcfsr_inference.photo.detect import LandmarkFile
from gcfsr_inference.photo.detect.detection import Detection, Detector
from gcfsr_inference.photo.photograph import Face, enlarge_background, find_faces, restore_into
from gcfsr_inference.restore.runner import FaceResult


class KnownFaces:
    """The faces that a sidecar lists, as a detector."""

    searches_scales = False
    confidence = 0.0

    def __init__(self, faces: list[dict[str, Any]]) -> None:
        if any(face[key] is None for face in faces for key in ("box", "landmarks", "score")):
            raise GCFSRError("--from-sidecar: a face in it has no box, landmarks or score, so it cannot be found again")
        self.faces = faces

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The stored faces, for any image."""
        return [Detection(np.array(f["box"]), np.array(f["landmarks"]), f["score"]) for f in self.faces]


def detector_for(run: RestoreRun, source: Source) -> Detector:
    """Where one input's faces come from."""
    if run.past and not source.is_video:
        return KnownFaces(run.past["faces"])
    if isinstance(run.detector, LandmarkFile):
        return run.detector.of_image(source.path.name if source.path else None)
    assert run.detector is not None  # only aligned inputs have none
    return run.detector


def restore_whole(run: RestoreRun, loaded: Loaded) -> Restored:
    """Restores the faces of one photograph and writes the image and the faces."""
    source, image, options = loaded.source, loaded.image, photo_options(run.args)
    strengths = run.strengths(image.bgr)
    faces = find_faces(image.bgr, detector_for(run, source), options)
    if run.past:
        if len(faces) != len(run.past["faces"]):
            listed = counted(len(run.past["faces"]), "face")
            raise GCFSRError(f"the sidecar lists {listed}, and its options choose {len(faces)}")
        for face, known in zip(faces, run.past["faces"], strict=True):
            face.factor = known.get("factor")
            if known.get("status", "restored") not in (None, "restored"):
                face.status = known["status"]
    if not faces:
        run.say(f"{source.name}: no face found, the image is kept unchanged (--aligned takes it as one aligned face)")
    canvas = enlarge_background(image.bgr, options)
    entries: dict[int, dict[str, Any]] = {}

    def on_face(face: Face) -> None:
        entries[face.number] = write_face(run, source, face)

    restore_into(canvas, image.bgr, faces, run.runner, options, on_face, strengths=strengths)
    alpha = None if image.alpha is None else enlarge_background(image.alpha, options)
    result = run.outputs.result(source, image)
    digest = run.outputs.write(result, replace(image, bgr=canvas, alpha=alpha))
    left = [face.status for face in faces if face.number not in entries and face.status.startswith("left")]
    if left:
        run.say(f"{source.name}: {counted(len(left), 'further face')} {left[0]}")
    if result is not None:
        restored = sum(face.status == "restored" for face in faces)
        run.say(f"{source.name}: {counted(restored, 'face')} restored -> {result}")
    return Restored(source, loaded.digest, result, digest, [entries.get(face.number) or _entry(face) for face in faces])


def write_face(run: RestoreRun, source: Source, face: Face) -> dict[str, Any]:
    """Writes the files of one face, or prints why it was left; returns its entry in the sidecar."""
    if face.crop is None or face.restored is None or face.record is None:
        run.say(f"{source.name} face {face.number}: {face.status}")
        return _entry(face)
    if not (run.outputs.single or run.outputs.to_stdout):
        plain = ImageData(face.restored)
        run.outputs.write(run.outputs.result(source, plain, face.number), plain)
    result = FaceResult(face.restored, face.record, face.draws)
    write_beside(run, source, face.number, face.crop, result, run.outputs.single, f"_{face.number:02d}")
    entry = {**_entry(face), **face.record.as_dict(), **run.identity(face.crop, face.restored)}
    run.say(describe(source.name, face.number, face.record, run.origin, entry))
    return entry


def _entry(face: Face) -> dict[str, Any]:
    return {
        "number": face.number,
        "box": [round(float(v), 2) for v in face.box],
        "landmarks": [[float(x), float(y)] for x, y in face.landmarks],
        "score": float(face.score),
        "status": face.status,
    }
