"""Aligned faces as `gcfsr restore --aligned` takes them: restored in batches, and the files of each face."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import ImageData
from gcfsr_inference.commands.restore.context import Loaded, Restored, RestoreRun, load
from gcfsr_inference.commands.restore.files import Source
from gcfsr_inference.commands.restore.report import describe
from gcfsr_inference.photo.detect import build_detector
from gcfsr_inference.photo.detect.turned import find
from gcfsr_inference.photo.paste import align, crop_face, scale_of
from gcfsr_inference.restore.arrays import alpha_at, check_face, network_view
from gcfsr_inference.restore.runner import FaceResult


def load_aligned(run: RestoreRun, source: Source) -> Loaded:
    """Reads one aligned face.

    Raises:
        GCFSRError: as of `load`, or the input cannot be one aligned face.
    """
    if source.is_video:
        raise GCFSRError(f"{source.name}: --aligned: is not for videos; leave it out")
    loaded = load(run, source)
    run.strengths(loaded.image.bgr)  # raises where the mask has another size
    height, width = loaded.image.bgr.shape[:2]
    if height != width and run.mask is None:
        loaded = replace(loaded, image=squared(run, source, loaded.image))
    check_face(loaded.image.bgr, source.name)
    size = run.runner.out_size
    if min(loaded.image.bgr.shape[:2]) > size:
        run.say(f"{source.name}: {width}x{height} is returned at {size}x{size} pixels, this network's size")
    return loaded


def squared(run: RestoreRun, source: Source, image: ImageData) -> ImageData:
    """The FFHQ square around the face of an image that is not square (CelebA's are 178x218), at its own resolution.

    Without it the image would be squeezed; where no face is found it is, and a line says so.
    """
    height, width = image.bgr.shape[:2]
    found = [face for face in find(image.bgr, build_detector("yunet"), min_face=0) if face.confirmed]
    if not found:
        run.say(f"{source.name}: {width}x{height} is not square and no face is found to crop; it is squeezed")
        return image
    landmarks = max(found, key=lambda face: face.size).landmarks
    side = ceil(1 / scale_of(align(landmarks, 1)))
    matrix = align(landmarks, side)
    run.say(f"{source.name}: {width}x{height} is not square; cropped to the {side}x{side} square of an aligned face")
    alpha = None if image.alpha is None else crop_face(image.alpha, matrix, side)
    return replace(image, bgr=crop_face(image.bgr, matrix, side), alpha=alpha)


def restore_together(run: RestoreRun, faces: Sequence[Loaded]) -> list[FaceResult | Exception]:
    """Restores aligned faces in one pass, or one by one where the pass fails; a face that fails gives its exception."""
    past = run.past["faces"][0] if run.past else {"factor": None, "batch": 1}
    try:
        given = [run.runner.prepare(loaded.image.bgr, factor=past["factor"]) for loaded in faces]
        return [*run.runner.restore_faces(given * past["batch"])]  # a sidecar's face: as many in the pass as then
    except Exception as error:  # noqa: BLE001 (raised again where it is one face's)
        return [error] if len(faces) == 1 else [restore_together(run, [loaded])[0] for loaded in faces]


def write_aligned(run: RestoreRun, loaded: Loaded, face: FaceResult) -> Restored:
    """Writes a restored face and what belongs to it."""
    source, image, size = loaded.source, loaded.image, run.runner.out_size
    alpha = None if image.alpha is None else alpha_at(image.alpha, size)
    result = run.outputs.result(source, image, number=0)
    digest = run.outputs.write(result, replace(image, bgr=face.image, alpha=alpha))
    given = network_view(image.bgr, size)
    write_beside(run, source, 0, given, face, result)
    entry = {**face.record.as_dict(), **run.identity(given, face.image)}
    run.say(describe(source.name, 0, face.record, run.origin, entry) + (f" -> {result}" if result else ""))
    return Restored(source, loaded.digest, result, digest, [entry], aligned=True)


def write_beside(
    run: RestoreRun,
    source: Source,
    number: int,
    crop: np.ndarray,
    face: FaceResult,
    result: Path | None,
    mark: str = "",
) -> None:
    """Writes a face's crop, comparison and noise draws.

    `mark` tells the faces of one result apart where there are no sub-folders.
    """
    outputs = run.outputs
    folders = not (outputs.single or outputs.to_stdout)
    if folders:
        outputs.write(outputs.path("cropped_faces", source, number), ImageData(crop))
        outputs.write(outputs.path("cmp", source, number), ImageData(np.hstack([crop, face.image])))
    draws = None if outputs.to_stdout else face.draws
    for part, image in (("_mean", draws.mean), ("_spread", draws.heat)) if draws else ():
        beside = outputs.beside(source, result, f"{mark}{part}.png")
        path = outputs.path("spread", source, number, part=part) if folders else beside
        outputs.write(path, ImageData(image))
