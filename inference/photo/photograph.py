"""A whole photograph: find faces, align, restore in batches, paste back. Memory stays at the image plus one batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.background import TILE, check_enlargement, enlarge
from gcfsr_inference.photo.detect import build_detector, find_detector
from gcfsr_inference.photo.detect.detection import Detector
from gcfsr_inference.photo.detect.face_choice import choose, parse_numbers
from gcfsr_inference.photo.detect.turned import find
from gcfsr_inference.photo.gain import reason_to_leave, share_to_keep
from gcfsr_inference.photo.paste import align, crop_face, neighbours, paste_face, scale_matrix, scale_of
from gcfsr_inference.photo.tone import match_color
from gcfsr_inference.restore.arrays import blended, check_photo
from gcfsr_inference.restore.consistency import agreed, consistency
from gcfsr_inference.restore.dial import as_number, check_agreement, check_blend, check_count, check_strengths
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.runner import Draws, FaceInput, FaceRecord, FaceResult, FaceRunner

LEFT = "left unchanged: "  # how the status of a face begins that was to be restored; the reason follows


class FaceRestorer(Protocol):
    """What a photograph needs of a restorer of aligned faces; arrays are BGR, uint8 or uint16, out_size squared."""

    out_size: int

    def prepare(self, crop: np.ndarray, scale: float = 1.0, factor: float | None = None) -> FaceInput:
        """Estimates one aligned face that was enlarged `scale` times by its alignment; a factor given is kept."""
        ...

    def restore_faces(self, faces: Sequence[FaceInput]) -> list[FaceResult]:
        """Restores a batch, each face at its own factor, or by its own map of strengths (out_size, out_size)."""
        ...


@dataclass(frozen=True)
class PhotoOptions:
    """How a photograph is restored.

    Attributes:
        faces: `all`, `largest`, `center` or numbers such as `0,2`; faces are numbered from left to right, from 0.
        min_face: least longer side of a face's box in pixels.
        max_faces: the largest ones are restored, the others are left and reported.
        match_color: give each restored face its input's low frequencies, and its tone if that is monochrome or sepia.
        agreement: how far each restored face is brought back to what its input shows, 0 to 1 (`consistency.agreed`);
            None lets `gain.share_to_keep` decide.
        only_gains: leave faces unchanged that gain nothing (see `gain.reason_to_leave`); a dial that is given by hand
            is obeyed all the same.
        grain: how much of a photograph's grain stays in the middle of a restored face, 0 to 1; it always fades out
            softly towards it.
        blend: between the photograph (0) and its restored faces (1).
        keep_detail: keep the detail of a face that has more pixels than the network gives (see `paste.paste_face`).
        upscale: the result's size over the image's.
        background: how the rest is enlarged, see `background.enlarge`.
        weights: folder of the background network's weights.
        tile: side in pixels of what the background network enlarges at a time.
        batch: faces restored at a time.
        keep_crops: keep every face's images in the result (else they only pass through `on_face`).

    Raises:
        GCFSRError: one of them is out of range.
    """

    faces: str = "all"
    min_face: float = 20.0
    max_faces: int = 1000
    match_color: bool = True
    agreement: float | None = None
    only_gains: bool = True
    grain: float = 0.0
    blend: float = 1.0
    keep_detail: bool = True
    upscale: float = 1.0
    background: str = "none"
    weights: str | None = None
    tile: int = TILE
    batch: int = 4
    keep_crops: bool = False

    def __post_init__(self) -> None:
        if self.faces not in ("all", "largest", "center"):
            parse_numbers(self.faces)
        if not 0 <= as_number("min-face", self.min_face) < float("inf"):
            raise GCFSRError(f"min-face {self.min_face:g}: pixels, 0 or more")
        check_count("batch", self.batch, 1)
        check_count("max-faces", self.max_faces, 0)
        if not 0 <= as_number("grain", self.grain) <= 1:
            raise GCFSRError(f"grain {self.grain:g}: between 0 (none) and 1 (all of it)")
        if self.agreement is not None:
            check_agreement(self.agreement)
        check_blend(self.blend)
        check_enlargement(self.upscale, self.background, self.tile)


@dataclass
class Face:
    """One face of a photograph.

    Attributes:
        number: its number from left to right.
        box: (4,) left, top, right, bottom and landmarks: (5, 2) x, y in the image's pixels.
        score: the detector's confidence.
        status: `restored`, `not chosen`, or `left unchanged: ...` with the reason.
        factor: the factor used, None unless restored.
        matrix: (2, 3) from the image's pixels to the aligned face's.
        record: what the restorer did, None unless restored.
        crop, restored, draws: (S, S, 3) aligned face before and after, and its noise draws; only in `on_face` or with
            `keep_crops`.
    """

    number: int
    box: np.ndarray
    landmarks: np.ndarray
    score: float
    status: str = "not chosen"
    factor: float | None = None
    matrix: np.ndarray | None = None
    record: FaceRecord | None = None
    crop: np.ndarray | None = field(default=None, repr=False)
    restored: np.ndarray | None = field(default=None, repr=False)
    draws: Draws | None = field(default=None, repr=False)


@dataclass
class PhotoResult:
    """A restored photograph.

    Attributes:
        image: (H, W, 3) BGR of the input's dtype.
        faces: all faces found, from left to right, also those that were not chosen or could not be aligned.
    """

    image: np.ndarray
    faces: list[Face]


def restore_photo(
    image: np.ndarray,
    restorer: Restorer | FaceRestorer,
    detector: Detector | str | None = None,
    options: PhotoOptions | None = None,
    on_face: Callable[[Face], None] | None = None,
    strengths: ArrayLike | None = None,
) -> PhotoResult:
    """Restores the faces of one photograph.

    Args:
        image: (H, W, 3) BGR, uint8 or uint16; not changed.
        restorer: restores aligned faces; `FaceRunner(restorer, Settings(factor=8))` sets the dial.
        detector: one of `detect.DETECTORS` by name, or one made by `detect.build_detector` (from a weights folder, from
            landmarks given by hand); None takes the best whose weights are available.
        options: see `PhotoOptions`.
        on_face: called with each face once it is restored or left, with its crops.
        strengths: (H, W) in [0, 1] over the image instead of a factor for each face.

    Raises:
        GCFSRError: an array that is no photograph, missing weights of the detector that is named, a face number that
            does not exist, or strengths of another size, outside [0, 1], beside a factor or for a blind network.
    """
    check_photo(image)
    options = options or PhotoOptions()
    restorer = FaceRunner(restorer) if isinstance(restorer, Restorer) else restorer
    detector = detector or find_detector()
    detector = build_detector(detector) if isinstance(detector, str) else detector
    by_place = None if strengths is None else check_strengths(strengths)
    if by_place is not None and by_place.shape != image.shape[:2]:
        raise GCFSRError(f"s: a map of {by_place.shape}; the image's height and width are {image.shape[:2]}")
    if by_place is not None and isinstance(restorer, FaceRunner):
        restorer.restorer.strength(image, restorer.factor, by_place)  # raises: a factor too, or a blind network
    faces = find_faces(image, detector, options)
    canvas = enlarge_background(image, options)
    restore_into(canvas, image, faces, restorer, options, on_face, strengths=by_place)
    return PhotoResult(canvas, faces)


def enlarge_background(image: np.ndarray, options: PhotoOptions) -> np.ndarray:
    """A copy of the image, or of its alpha channel, enlarged as the options say."""
    return enlarge(image, options.upscale, options.background, options.weights, options.tile)


def find_faces(image: np.ndarray, detector: Detector, options: PhotoOptions) -> list[Face]:
    """Finds the faces of an image and marks the chosen ones `to restore`; numbers run from left to right."""
    found = find(image, detector, options.min_face)
    faces = [Face(number, face.box, face.landmarks, face.score) for number, face in enumerate(found)]
    chosen = choose(found, options.faces, image.shape[:2])
    largest_first = sorted(chosen, key=lambda number: -found[number].size)
    for number in largest_first[: options.max_faces]:
        faces[number].status = "to restore"
    for number in largest_first[options.max_faces :]:
        faces[number].status = f"{LEFT}more than {options.max_faces} faces"
    for face, detection in zip(faces, found, strict=True):
        if face.status == "to restore" and not detection.confirmed:
            face.status = f"{LEFT}once aligned it is not seen as an upright face"
    return faces


def restore_into(
    canvas: np.ndarray,
    image: np.ndarray,
    faces: Sequence[Face],
    restorer: FaceRestorer,
    options: PhotoOptions,
    on_face: Callable[[Face], None] | None = None,
    dial: Callable[[Face, float], float] | None = None,
    strengths: np.ndarray | None = None,
) -> None:
    """Restores the faces marked `to restore` of `image` and pastes them into `canvas`, its enlarged copy, in place.

    A face whose factor is set keeps it; otherwise it is estimated, and `dial` (face, estimate) may change it. With
    `strengths`, (H, W) float32 in [0, 1] over `image`, each face is restored by its own part of that map instead.
    """
    ratio = np.array([canvas.shape[1] / image.shape[1], canvas.shape[0] / image.shape[0]])
    wanted = [face for face in faces if face.status == "to restore"]
    near = _neighbours(wanted, restorer.out_size, ratio)
    before = canvas.copy() if any(near.values()) else canvas
    for batch in _batches(wanted, options.batch):
        cuts = [cut for face in batch if (cut := cut_face(face, image, restorer, dial, strengths)) is not None]
        restore_cuts(canvas, before, cuts, restorer, options, near, ratio)
        for face in batch:
            if on_face is not None:
                on_face(face)
            if not options.keep_crops:
                face.crop = face.restored = face.draws = None


def restore_cuts(
    canvas: np.ndarray,
    before: np.ndarray,
    cuts: Sequence["Cut"],
    restorer: FaceRestorer,
    options: PhotoOptions,
    near: Mapping[int, Sequence[np.ndarray]],
    ratio: np.ndarray,
) -> None:
    """Restores a batch of faces and pastes those that gain into `canvas`, in place; the others are marked as left.

    Args:
        canvas: the image, or its enlarged copy.
        before: `canvas` before any face was pasted.
        cuts: the faces.
        restorer: of aligned faces.
        options: how.
        near: for each face's number the alignments, in the canvas, of others that may share pixels with it.
        ratio: size of the canvas over the image's, (x, y).
    """
    cuts = [cut for cut in cuts if _gains(cut, options)]
    results = restorer.restore_faces([cut.input for cut in cuts]) if cuts else []
    for cut, (output, record, draws) in zip(cuts, results, strict=True):
        face, crop, matrix = cut.face, cut.input.crop, scale_matrix(cut.matrix, ratio)
        difference = consistency(output, crop, record.shrink).mean
        restored = output
        if record.cost is None:  # a locked face agrees with its input, colours included
            own = share_to_keep(cut.input.input_factor, difference)
            restored = agreed(output, crop, record.shrink, own if options.agreement is None else options.agreement)
            restored = match_color(restored, crop) if options.match_color else restored
        if not _gains(cut, options, restored, difference, record.conditions.get("noise", 0.0)):
            continue
        others, grain, blend = near[face.number], options.grain, options.blend
        paste_face(canvas, restored, crop, matrix, options.keep_detail, others, before, grain, blend)
        restored = blended(restored, crop, blend)
        if record.consistency is not None:  # of the face that is pasted
            record.consistency = consistency(restored, crop, record.shrink)
        face.restored, face.record, face.draws, face.status = restored, record, draws, "restored"


def _gains(
    cut: "Cut",
    options: PhotoOptions,
    restored: np.ndarray | None = None,
    difference: float = np.inf,
    noise: float = 0.0,
) -> bool:
    """Whether a face may gain by being restored, or gained; otherwise it is marked as left."""
    face, given = cut.face, cut.input
    if not options.only_gains or given.least_factor is None:
        return True
    reason = reason_to_leave(given.crop, given.input_factor, given.least_factor, restored, difference, noise)
    if reason is not None:
        face.status, face.factor = f"{LEFT}{reason}", None
    return reason is None


class Cut(NamedTuple):
    """A face that is ready to be restored, and where it lies: (2, 3) from the image's pixels to the aligned face's."""

    face: Face
    matrix: np.ndarray
    input: FaceInput


def cut_face(
    face: Face,
    image: np.ndarray,
    restorer: FaceRestorer,
    dial: Callable[[Face, float], float] | None = None,
    strengths: np.ndarray | None = None,
) -> Cut | None:
    """Aligns one face and estimates its factor; a face that cannot be aligned is marked as left and None returned."""
    try:
        matrix = align(face.landmarks, restorer.out_size)
        crop = crop_face(image, matrix, restorer.out_size)
    except GCFSRError as error:
        face.status = f"{LEFT}{error}"
        return None
    given = restorer.prepare(crop, scale_of(matrix), face.factor)
    if face.factor is None and dial is not None:
        given = given._replace(factor=dial(face, given.factor), least_factor=None)  # a clip must not flicker
    if strengths is not None:
        given = given._replace(strengths=_part(strengths, matrix, restorer.out_size), least_factor=None)
    face.matrix, face.crop, face.factor = matrix, crop, given.factor
    return Cut(face, matrix, given)


def _neighbours(faces: Sequence[Face], out_size: int, ratio: np.ndarray) -> dict[int, list[np.ndarray]]:
    """By a face's number the alignments, in the canvas, of the other faces that may share pixels with it."""
    matrices: dict[int, np.ndarray] = {}
    for face in faces:
        with suppress(GCFSRError):  # it cannot be aligned: `cut_face` reports it
            matrices[face.number] = scale_matrix(align(face.landmarks, out_size), ratio)
    return dict(zip(matrices, neighbours(list(matrices.values()), out_size), strict=True))


def _part(strengths: np.ndarray, matrix: np.ndarray, out_size: int) -> np.ndarray:
    """An aligned face's part of a map of strengths, (out_size, out_size), within the map's own range."""
    part = crop_face(strengths.astype(np.float32), matrix, out_size)
    return part.clip(strengths.min(), strengths.max())  # bicubic overshoots at edges


def _batches(faces: Iterable[Face], size: int) -> Iterable[list[Face]]:
    batch: list[Face] = []
    for face in faces:
        batch.append(face)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
