"""A whole photograph: find faces, align, restore in batches, paste back. Memory stays at the picture plus one batch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.background import TILE, check_enlargement, enlarge
from gcfsr_inference.photo.detect import Detector
from gcfsr_inference.photo.detect_search import search
from gcfsr_inference.photo.face_choice import choose, parse_numbers
from gcfsr_inference.photo.paste import align, crop_face, match_color, paste_face, scale_matrix, scale_of


class FaceRestorer(Protocol):
    """What a photograph needs of a restorer of aligned faces; arrays are BGR, uint8 or uint16, out_size squared."""

    out_size: int

    def estimate(self, crop: np.ndarray, scale: float) -> float:
        """The factor to use for one aligned face that was enlarged `scale` times by its alignment."""
        ...

    def restore_faces(
        self, crops: Sequence[np.ndarray], factors: Sequence[float], maps: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Restores a batch, each face at its own factor, or by its own map of strengths (out_size, out_size)."""
        ...


@dataclass(frozen=True)
class PhotoOptions:
    """How a photograph is restored.

    Attributes:
        faces: `all`, `largest`, `center` or numbers such as `0,2`; faces are numbered from left to right, from 0.
        min_face: least longer side of a face's box in pixels.
        max_faces: the largest ones are restored, the others are left and reported.
        match_color: give each restored face its input's low frequencies.
        keep_detail: keep the detail of a face that has more pixels than the network gives (see `paste.paste_face`).
        upscale: the result's size over the picture's.
        background: how the rest is enlarged, see `background.enlarge`.
        weights: folder of the background network's weights.
        tile: side in pixels of what the background network enlarges at a time.
        batch: faces restored at a time.
        keep_crops: keep every face's pictures in the result (else they only pass through `on_face`).

    Raises:
        GCFSRError: one of them is out of range.
    """

    faces: str = "all"
    min_face: float = 20.0
    max_faces: int = 1000
    match_color: bool = False
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
        if not 0 <= self.min_face < float("inf"):
            raise GCFSRError(f"min-face {self.min_face:g}: pixels, 0 or more")
        if self.batch < 1:
            raise GCFSRError(f"batch {self.batch}: at least 1")
        check_enlargement(self.upscale, self.background, self.tile)


@dataclass
class Face:
    """One face of a photograph.

    Attributes:
        number: its number from left to right.
        box: (4,) left, top, right, bottom and landmarks: (5, 2) x, y in the picture's pixels.
        score: the detector's confidence.
        status: `restored`, `not chosen`, or `left as it was: ...` with the reason.
        factor: the factor used, None unless restored.
        matrix: (2, 3) from the picture's pixels to the aligned face's.
        crop, restored: (S, S, 3) aligned face before and after; only in `on_face` or with `keep_crops`.
    """

    number: int
    box: np.ndarray
    landmarks: np.ndarray
    score: float
    status: str = "not chosen"
    factor: float | None = None
    matrix: np.ndarray | None = None
    crop: np.ndarray | None = field(default=None, repr=False)
    restored: np.ndarray | None = field(default=None, repr=False)


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
    restorer: FaceRestorer,
    detector: Detector,
    options: PhotoOptions | None = None,
    on_face: Callable[[Face], None] | None = None,
    strengths: np.ndarray | None = None,
) -> PhotoResult:
    """Restores the faces of one photograph.

    Args:
        image: (H, W, 3) BGR, uint8 or uint16; not changed.
        restorer: restores aligned faces.
        detector: from `detect.build_detector`.
        options: see `PhotoOptions`.
        on_face: called with each face once it is restored or left, with its crops.
        strengths: (H, W) in [0, 1] over the picture instead of a factor for each face.

    Raises:
        GCFSRError: a face number that does not exist, or strengths of another size.
    """
    options = options or PhotoOptions()
    if strengths is not None and strengths.shape != image.shape[:2]:
        raise GCFSRError(f"s: a map of {strengths.shape}; the picture's height and width are {image.shape[:2]}")
    faces = find_faces(image, detector, options)
    canvas = enlarge_background(image, options)
    restore_into(canvas, image, faces, restorer, options, on_face, strengths=strengths)
    return PhotoResult(canvas, faces)


def enlarge_background(image: np.ndarray, options: PhotoOptions) -> np.ndarray:
    """A copy of the picture, or of its alpha channel, enlarged as the options say."""
    return enlarge(image, options.upscale, options.background, options.weights, options.tile)


def find_faces(image: np.ndarray, detector: Detector, options: PhotoOptions) -> list[Face]:
    """Finds the faces of a picture and marks the chosen ones `to restore`; numbers run from left to right."""
    found = search(image, detector, options.min_face)
    faces = [Face(number, face.box, face.landmarks, face.score) for number, face in enumerate(found)]
    chosen = choose(found, options.faces, image.shape[:2])
    largest_first = sorted(chosen, key=lambda number: -found[number].size)
    for number in largest_first[: options.max_faces]:
        faces[number].status = "to restore"
    for number in largest_first[options.max_faces :]:
        faces[number].status = f"left as it was: more than {options.max_faces} faces"
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
    for batch in _batches((face for face in faces if face.status == "to restore"), options.batch):
        cuts = [cut for face in batch if (cut := _cut(face, image, restorer, dial)) is not None]
        crops, factors = [cut.crop for cut in cuts], [cut.factor for cut in cuts]
        maps = {} if strengths is None else {"maps": [_part(strengths, cut.matrix, restorer.out_size) for cut in cuts]}
        for cut, output in zip(cuts, restorer.restore_faces(crops, factors, **maps) if cuts else [], strict=True):
            restored = match_color(output, cut.crop) if options.match_color else output
            paste_face(canvas, restored, cut.crop, scale_matrix(cut.matrix, ratio), options.keep_detail)
            cut.face.restored, cut.face.status = restored, "restored"
        for face in batch:
            if on_face is not None:
                on_face(face)
            if not options.keep_crops:
                face.crop = face.restored = None


class _Cut(NamedTuple):
    """A face that is ready to be restored; what it holds stands in `face` as well."""

    face: Face
    crop: np.ndarray
    matrix: np.ndarray
    factor: float


def _cut(
    face: Face, image: np.ndarray, restorer: FaceRestorer, dial: Callable[[Face, float], float] | None
) -> _Cut | None:
    """Aligns one face and estimates its factor; a face that cannot be aligned is marked as left and None returned."""
    try:
        matrix = align(face.landmarks, restorer.out_size)
        crop = crop_face(image, matrix, restorer.out_size)
    except GCFSRError as error:
        face.status = f"left as it was: {error}"
        return None
    face.matrix, face.crop = matrix, crop
    if face.factor is None:
        estimate = restorer.estimate(crop, scale_of(matrix))
        face.factor = estimate if dial is None else dial(face, estimate)
    return _Cut(face, crop, matrix, face.factor)


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
